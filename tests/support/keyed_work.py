"""Keyed work without a mesh: jobs that end when a test says so, over one store and any number of replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from services.orchestrator.adapters.memory import MemoryAnswers
from services.orchestrator.core.errors import AnswersUnavailable, BudgetUnavailable
from services.orchestrator.core.idempotency import KeyLimits, OncePerKey, Pauses
from services.orchestrator.core.ports import Claim, Outcome, RequestName
from services.orchestrator.core.request_names import name_of

NAME = name_of("acme", "key-1", "Complete", "k", b"request")
OTHER = name_of("acme", "key-1", "Complete", "k", b"another request")


@dataclass
class Clock:
    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return 0


@dataclass
class Job:
    """Work that ends when the test says so."""

    answer: bytes = b"answer"
    error: Exception | None = None
    spent: bool = True
    worth_keeping: bool = True
    runs: int = 0
    cancelled: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> bytes:
        self.runs += 1
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error is not None:
            raise self.error
        return self.answer

    def failure(self, error: BaseException) -> bytes:
        return f"failed: {type(error).__name__}".encode()


@dataclass
class Pieces:
    """A streamed job: pieces, the last of which is "end"."""

    pieces: tuple[str | Exception, ...] = ("a", "b", "end")
    spent: bool = True
    worth_keeping: bool = True
    runs: int = 0
    shown: list[str] = field(default_factory=list)

    async def run(self) -> AsyncGenerator[str, None]:
        self.runs += 1
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            self.shown.append(piece)
            yield piece

    def is_last(self, event: str) -> bool:
        return event == "end"

    def delivered(self) -> bytes:
        return "".join(self.shown).encode()

    async def replay(self, outcome: Outcome) -> AsyncGenerator[str, None]:
        yield f"again {outcome.answer.decode()}"
        if outcome.failure:
            raise BudgetUnavailable

    def failure(self, error: BaseException) -> bytes:
        return type(error).__name__.encode()


class World:
    """Replicas over one store. `run` is their work after answers."""

    def __init__(self, max_in_flight: int = 10, max_answer_bytes: int = 100) -> None:
        self.clock = Clock()
        self.store = MemoryAnswers(self.clock, lock_s=60, retention_s=600, max_answers=100)
        self.limits = KeyLimits(max_in_flight, max_answer_bytes, storage_timeout_s=5)
        self.tasks: list[asyncio.Task[None]] = []
        self.pauses = 0
        self.owners = iter(range(1000))
        self.once = self.replica()

    def replica(self) -> OncePerKey:
        return OncePerKey(
            self.store, self, Pauses(self.pause, self.pause), lambda: f"owner-{next(self.owners)}", self.limits
        )

    def run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def do() -> None:
            await work()

        self.tasks.append(asyncio.ensure_future(do()))

    async def pause(self) -> None:
        self.pauses += 1
        await asyncio.sleep(0)

    async def settled(self) -> None:
        await asyncio.gather(*self.tasks)

    async def kept(self, name: RequestName = NAME) -> Outcome | None:
        claim = await self.store.claim(name, "a look")
        if claim.granted:
            await self.store.release(name, "a look")
        return claim.outcome


class AwayStore(MemoryAnswers):
    """Says nothing while it is away."""

    away = False

    async def claim(self, name: RequestName, owner: str) -> Claim:
        claim = await super().claim(name, owner)
        if self.away:
            raise AnswersUnavailable
        return claim

    async def renew(self, held: Sequence[tuple[RequestName, str]]) -> frozenset[str]:
        if self.away:
            raise AnswersUnavailable
        return await super().renew(held)

    async def keep(self, name: RequestName, owner: str, outcome: Outcome) -> Outcome | None:
        if self.away:
            raise AnswersUnavailable
        return await super().keep(name, owner, outcome)

    async def release(self, name: RequestName, owner: str) -> None:
        if self.away:
            raise AnswersUnavailable
        await super().release(name, owner)


def away_world() -> tuple[World, AwayStore]:
    world = World()
    world.store = store = AwayStore(world.clock, 60, 600, 100)
    world.once = world.replica()
    return world, store


async def read(events: AsyncGenerator[str, None]) -> list[str]:
    async with aclosing(events):
        return [event async for event in events]
