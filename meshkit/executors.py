"""CPU work off the event loop: small thread pools with a bounded queue, and the caller's context carried along."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from meshkit.errors import Overloaded

P = ParamSpec("P")
R = TypeVar("R")


class Executor:
    """A named pool. A full queue refuses at once: waiting work would only miss its deadline later."""

    def __init__(self, name: str, threads: int, max_queue: int, niceness: int = 0) -> None:
        self.name = name
        self._limit = threads + max_queue
        self._pending = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=_be_nice, initargs=(niceness,))

    async def run(self, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Runs `function` in the pool. Raises Overloaded when too much waits.

        A caller that leaves does not stop work that runs; work that still waits is dropped.
        """
        if self._pending >= self._limit:
            raise Overloaded(f"{self.name}: too much work is waiting; try again shortly")
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        work = self._pool.submit(lambda: context.run(function, *arguments, **options))
        self._pending += 1
        work.add_done_callback(self._teller(loop, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            work.cancel()
            raise

    def _teller(self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[R]) -> Callable[[Future[R]], None]:
        """Brings a result to the loop and counts, in one wake-up; `asyncio.wrap_future` takes another for itself."""

        def settle(work: Future[R]) -> None:
            self._pending -= 1
            if answer.done():
                return
            if work.cancelled():
                answer.cancel()
            elif (error := work.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(work.result())

        def tell(work: Future[R]) -> None:
            # The loop may be gone when the process ends while work runs; nobody waits then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, work)

        return tell

    def close(self) -> None:
        """Drops what waits and lets what runs finish in the background."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _be_nice(niceness: int) -> None:
    """Linux keeps niceness per thread: busy workers must not delay the event loop."""
    if niceness and hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
