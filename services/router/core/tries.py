"""What a call has tried, told while it still tries: whoever gives it up accounts for what was begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.router.core.attempts import Attempt, Purpose
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import ModelCall
from services.router.core.deployments import Permit

Result = TypeVar("Result")
# The event loop itself keeps no task alive.
_ENDING: set[asyncio.Task[None]] = set()


@dataclass(slots=True, eq=False)
class Try:
    """One try of one model. `delivered` is what came of its answer; `plain` while that is text alone.

    `limit_s` is the model's own limit on the running wait, `given_s` what this call had for it. While it is `waiting`
    for a connection of ours nothing was sent.
    """

    spec: ModelSpec
    purpose: Purpose
    call: ModelCall
    permit: Permit
    limit_s: float = 0.0
    given_s: float = 0.0
    delivered: list[str] = field(default_factory=list)
    plain: bool = True
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """Every try until now, those that ended first; who has no outcome is running."""

    attempts: tuple[Attempt, ...]


class Tries:
    """Only the latest word counts, for each holds all before it."""

    def __init__(self) -> None:
        self._latest: Tried | None = None
        self._changed = asyncio.Event()

    def tell(self, attempts: tuple[Attempt, ...]) -> None:
        """Something began or ended."""
        self._latest = Tried(attempts)
        self._changed.set()

    async def until(self, task: asyncio.Future[Any]) -> AsyncGenerator[Tried, None]:
        """What is told from now on until the task ends. Leaving this leaves the task alone."""
        self._take()
        task.add_done_callback(lambda _: self._changed.set())
        while True:
            await self._changed.wait()
            latest = self._take()
            if task.done():
                return
            if latest is not None:
                yield latest

    def _take(self) -> Tried | None:
        self._changed.clear()
        latest, self._latest = self._latest, None
        return latest


@asynccontextmanager
async def beside(
    work: Coroutine[Any, Any, Result], drop: Callable[[Result], Awaitable[object]]
) -> AsyncGenerator[asyncio.Task[Result], None]:
    """Work in a task of its own, for whoever tells meanwhile what was tried. Who leaves early ends it first.

    `drop` ends a result that came when nobody was there any more to take it.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield task
    except BaseException:
        task.cancel()
        await to_the_end(_dropped(task, drop))
        raise


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Waits for work that goes on when this is cancelled: who leaves may be told so twice, by his deadline as well."""
    task = asyncio.get_running_loop().create_task(work)
    _ENDING.add(task)
    task.add_done_callback(_ENDING.discard)
    await asyncio.shield(task)


async def _dropped(task: asyncio.Task[Result], drop: Callable[[Result], Awaitable[object]]) -> None:
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        await drop(task.result())
