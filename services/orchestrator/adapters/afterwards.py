"""Work that follows the answer, with deadlines of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import Counter, Gauge

from meshkit.context import detached, enter

DROPPABLE = frozenset({"store", "mark-dispatched", "report"})


class BackgroundWork:
    """The port `Afterwards`: a bounded set of tasks that ends before the process does.

    Money is never dropped: above the limit only cache writes and notes of progress are. A commit that fails is logged
    and counted, and the reservation's expiry books what was known; see unbooked.py for one that was restored away.
    """

    def __init__(self, limit: int, timeout_s: float, pending: Gauge, failures: Counter, logger: logging.Logger) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._pending = pending
        self._failures = failures
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """See Afterwards."""
        if name in DROPPABLE and len(self._tasks) >= self._limit:
            self._failures.labels(name).inc()
            return
        task = asyncio.get_running_loop().create_task(self._do(name, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        # The caller's deadline may have passed; accounting has its own.
        enter(detached(self._timeout_s))
        self._pending.inc()
        try:
            async with asyncio.timeout(self._timeout_s):
                await work()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - there is no caller left to tell; the log and the metric know
            self._failures.labels(name).inc()
            self._logger.warning(
                "work after an answer failed",
                extra={"fields": {"work": name, "reason": getattr(error, "reason", type(error).__name__)}},
            )
        finally:
            self._pending.dec()

    async def stop(self) -> None:
        """Ends what is under way."""
        # A task that is cancelled before its first step does nothing, not even give up: let each begin.
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await self.close()

    async def close(self) -> None:
        """Waits for what is under way; each piece of work has its own time limit."""
        while self._tasks:
            await asyncio.wait(self._tasks)
