"""Group commit without a timer: one writer takes whatever queued while its last flush ran.

Under load the batches grow by themselves, alone a request waits for nobody; a timer would only add latency.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from meshkit.errors import Overloaded, Unavailable

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Batches the items of many callers through one writer, in the order of their arrival.

    `flush` gets at most `max_batch` items and returns one result per item, in order; a result that is an exception
    is raised in its caller alone. What `flush` itself raises is raised in every caller of the batch. It runs in a
    task of its own: a caller that leaves stops waiting, its item is flushed all the same.

    With `ahead_from`, a second flush begins while one runs once so many items wait; they begin in order, and `flush`
    does what is to be done one at a time under a lock of its own. So that there is something to begin with, a batch
    of twice that or more leaves half of what waits to the next.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R | BaseException]]],
        *,
        max_batch: int,
        max_queue: int,
        ahead_from: int | None = None,
    ) -> None:
        if max_batch < 1 or max_queue < 1 or (ahead_from is not None and ahead_from < 1):
            raise ValueError("max_batch, max_queue and ahead_from must be at least 1")
        self._flush = flush
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._ahead_from = ahead_from
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._flushes: set[asyncio.Task[None]] = set()
        self._beginning = False
        self._closed = False

    async def submit(self, item: T) -> R:
        """Queues an item and waits for its result.

        Raises Overloaded when `max_queue` items wait already, Unavailable after `close`.
        """
        if self._closed:
            raise Unavailable("this process is shutting down; try again", reason="SHUTTING_DOWN", retry_after_s=0.1)
        if len(self._queue) >= self._max_queue:
            raise Overloaded(f"{self._max_queue} writes wait already; try again shortly", retry_after_s=0.05)
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        self._begin_soon()
        return await future

    async def close(self) -> None:
        """Refuses new items and returns when every queued one was flushed."""
        self._closed = True
        while self._queue or self._flushes:
            await (asyncio.wait(self._flushes) if self._flushes else asyncio.sleep(0))

    def _begin_soon(self) -> None:
        """Whoever else asks in this round of the event loop comes along."""
        if not self._beginning:
            self._beginning = True
            # An empty context: a flush serves everyone, so it must not carry the first caller's identity or trace.
            asyncio.get_running_loop().call_soon(self._begin, context=contextvars.Context())

    def _begin(self) -> None:
        self._beginning = False
        queue, loop = self._queue, asyncio.get_running_loop()
        while size := self._next_size():
            batch = [queue.popleft() for _ in range(size)]
            task = loop.create_task(self._flush_batch(batch))
            self._flushes.add(task)
            task.add_done_callback(partial(self._ended, batch))

    def _next_size(self) -> int:
        """How many items the next batch takes; 0 where it waits."""
        waiting, ahead = len(self._queue), self._ahead_from
        if not self._flushes:
            return min((waiting + 1) // 2 if ahead and waiting >= 2 * ahead else waiting, self._max_batch)
        return min(waiting, self._max_batch) if ahead and waiting >= ahead and len(self._flushes) == 1 else 0

    def _ended(self, batch: Sequence[tuple[T, asyncio.Future[R]]], task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        if task.cancelled():
            # Also one that never took its first step: nobody may wait for ever.
            for _, future in batch:
                future.cancel()
        if self._queue:
            self._begin_soon()

    async def _flush_batch(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"flush returned {len(results)} results for {len(batch)} items")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - it belongs to the callers, each of whom gets it
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
