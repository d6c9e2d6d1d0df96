"""A second request beside one that is slow: whichever answers first is kept, the other one is cancelled at once.

After J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013: sent after the 95th
percentile, it takes away most of the tail for a few per cent more calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from services.router.core.attempts import Purpose
from services.router.core.chat import Usage
from services.router.core.errors import RouterError
from services.router.core.failure import Failure, FailureKind
from services.router.core.run import Run
from services.router.core.tries import Try, to_the_end

Kept = TypeVar("Kept")


class Contest(Generic[Kept]):
    """How an answer is asked for (`ask`), and how one is ended that is not needed (`drop`, which says what it used)."""

    def __init__(
        self, run: Run, ask: Callable[[Try], Awaitable[Kept | Failure]], drop: Callable[[Kept], Awaitable[Usage | None]]
    ) -> None:
        self._run = run
        self._ask = ask
        self._drop = drop
        self._running: dict[asyncio.Future[Kept | Failure], Try] = {}

    async def decide(self, first: Try) -> tuple[Try, Kept | Failure]:
        """The answer of `first` or of its hedge, and whose it is; the last failure when neither has one.

        A failure while the other one runs is noted, and the other goes on. Only when `first` learns that the request
        itself is wrong its hedge is stopped, since without a hedge nobody else would be asked; for the same reason the
        word of a hedge stops nobody who was asked before it, and its failure takes no retry away. Whoever cancels this
        cancels both. Raises RouterError.
        """
        delay_s = self._run.hedge_delay_s(first)
        if delay_s is None:
            return first, await self._ask(first)
        try:
            self._enter(first)
            done, _ = await asyncio.wait(self._running, timeout=delay_s)
            if not done and (second := self._run.hedge()) is not None:
                self._enter(second)
            while True:
                done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in self._running if task in done]:
                    settled = await self._settle(task)
                    if settled is not None:
                        return settled
        finally:
            await self._stop()

    def _enter(self, tried: Try) -> None:
        self._running[asyncio.ensure_future(self._ask(tried))] = tried

    async def _settle(self, task: asyncio.Future[Kept | Failure]) -> tuple[Try, Kept | Failure] | None:
        """What a try that ended means: the result, or None when the other one may still answer."""
        tried = self._running.pop(task)
        try:
            outcome = task.result()
        except RouterError as error:
            await self._leave_others()
            raise self._run.with_attempts(error) from None
        except Exception:
            await self._leave_others()
            raise
        if isinstance(outcome, Failure):
            if outcome.kind is FailureKind.REJECTED and tried.purpose is not Purpose.HEDGE:
                await self._leave_others()
            if not self._running:
                return tried, outcome
            self._run.failed_beside(tried, outcome)
            return None
        try:
            await self._leave_others()
        except asyncio.CancelledError:
            await self._drop(outcome)
            raise
        self._run.won(tried)
        return tried, outcome

    async def _leave_others(self) -> None:
        """Cancels whoever still runs, and puts them on record."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        for task, tried in self._running.items():
            outcome = _result(task)
            if isinstance(outcome, Failure):
                self._run.note(tried, outcome)
            else:
                self._run.lost(tried, None if outcome is None else await self._drop(outcome))
        self._running = {}

    async def _stop(self) -> None:
        """Nothing runs on when this is over, whatever ended it."""
        for task in self._running:
            task.cancel()
        if self._running:
            await to_the_end(self._drop_all(tuple(self._running)))

    async def _drop_all(self, tasks: Sequence[asyncio.Future[Kept | Failure]]) -> None:
        await asyncio.wait(tasks)
        for task in tasks:
            outcome = _result(task)
            if outcome is not None and not isinstance(outcome, Failure):
                await self._drop(outcome)


def _result(task: asyncio.Future[Kept | Failure]) -> Kept | Failure | None:
    """How a cancelled task ended after all; None when by its cancellation or by an error."""
    return None if task.cancelled() or task.exception() is not None else task.result()
