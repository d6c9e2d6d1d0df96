"""Group commit without a timer: one writer takes whatever queued while its last flush ran.

Under load the batches grow by themselves, alone a request waits for nobody; a timer would only add latency.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from meshkit.errors import Overloaded, Unavailable

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Batches the items of many callers through one writer, in the order of their arrival.

    `flush` gets at most `max_batch` items and returns one result per item, in order; a result that is an exception
    is raised in its caller alone. What `flush` itself raises is raised in every caller of the batch. It runs in a
    task of its own: a caller that leaves stops waiting, its item is flushed all the same.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R | BaseException]]],
        *,
        max_batch: int,
        max_queue: int,
    ) -> None:
        if max_batch < 1 or max_queue < 1:
            raise ValueError("max_batch and max_queue must be at least 1")
        self._flush = flush
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._closed = False

    async def submit(self, item: T) -> R:
        """Queues an item and waits for its result.

        Raises Overloaded when `max_queue` items wait already, Unavailable after `close`.
        """
        if self._closed:
            raise Unavailable("this process is shutting down; try again", reason="SHUTTING_DOWN", retry_after_s=0.1)
        if len(self._queue) >= self._max_queue:
            raise Overloaded(f"{self._max_queue} writes wait already; try again shortly", retry_after_s=0.05)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._queue.append((item, future))
        if self._writer is None or self._writer.done():
            # An empty context: the writer serves everyone, so it must not carry the first caller's identity or trace.
            self._writer = loop.create_task(self._write(loop), context=contextvars.Context())
        self._rouse()
        return await future

    async def close(self) -> None:
        """Refuses new items and returns when every queued one was flushed."""
        self._closed = True
        self._rouse()
        if self._writer is not None:
            await asyncio.shield(self._writer)

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        queue = self._queue
        try:
            while queue or not self._closed:
                if not queue:
                    self._wake = loop.create_future()
                    await self._wake
                    continue
                batch = [queue.popleft() for _ in range(min(len(queue), self._max_batch))]
                await self._flush_batch(batch)
        finally:
            # Only reached with items when the writer itself is cancelled: nobody may wait for ever.
            while queue:
                queue.popleft()[1].cancel()

    async def _flush_batch(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"flush returned {len(results)} results for {len(batch)} items")  # noqa: TRY301
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to the callers, each of whom gets it
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
