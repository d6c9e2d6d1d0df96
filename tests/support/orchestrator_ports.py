"""Scripted services for the coordinator: each says what the test tells it, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from services.orchestrator.adapters.memory import MemoryRecords
from services.orchestrator.core.admission import Services
from services.orchestrator.core.draining import Drains
from services.orchestrator.core.model import (
    CacheStatus,
    CacheWish,
    Candidate,
    Checked,
    CheckedOutput,
    Found,
    ModelAnswer,
    Plan,
    Progress,
    Reservation,
    Turn,
    Usage,
    UsageLine,
)

CHEAP = Candidate("acme-ai", "cheap-1")
USED = Usage(input_tokens=10, output_tokens=5)


@dataclass
class Script:
    """What the services answer. An exception is raised instead."""

    wish: CacheWish = CacheWish(lookup=True, store=True, semantic=True)
    plan: Plan | Exception = Plan((CHEAP,), ("cheap",), 4096, "route#1")
    exact: Found | Exception = Found(CacheStatus.MISS)
    stale: Found | Exception = Found(CacheStatus.MISS)
    semantic: Found | Exception = Found(CacheStatus.MISS)
    checked: Checked | Exception = Checked(
        blocked=False, detectors=(), masked=False, can_embed=True, verdict="in", payload=None
    )
    # In a list: one after the other, for calls that go on.
    output: CheckedOutput | Exception | list[CheckedOutput | Exception] = CheckedOutput(
        blocked=False, detectors=(), schema_violations=(), completion="shown", verdict="out", grounding_score=None
    )
    reservation: Reservation | Exception = Reservation("r-1", None)
    answer: ModelAnswer | Exception | list[ModelAnswer | Exception] = ModelAnswer(
        "raw", "acme-ai/cheap-1", USED, (UsageLine(CHEAP, USED, 1),), ("attempt",), complete=True
    )
    pieces: tuple[str | Exception, ...] = ("a", "b")
    piece_bytes: int = 30
    pace: Callable[[], Awaitable[None]] | None = None
    extended: list[tuple[int, int]] = field(default_factory=list)
    extension: Exception | None = None
    marked: list[str] = field(default_factory=list)
    mark: Exception | None = None
    billed: tuple[UsageLine, ...] | None = ()
    failed_attempts: tuple[str, ...] = ()
    asked: list[tuple[str, ...]] = field(default_factory=list)
    earlier: tuple[UsageLine, ...] = ()
    stream_guard: Exception | None = None
    guard_gate: asyncio.Event | None = None
    reserve_gate: asyncio.Event | None = None
    model_gate: asyncio.Event | None = None
    log: list[str] = field(default_factory=list)
    committed: list[Sequence[UsageLine]] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)
    stored: list[object] = field(default_factory=list)
    drained: list[str] = field(default_factory=list)


def said(value: object) -> object:
    if isinstance(value, list):
        value = value.pop(0)
    if isinstance(value, Exception):
        raise value
    return value


class ScriptedServices:
    """All ports in one."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.now_s = 0.0
        self.held_nano_usd = script.reservation.held_nano_usd if isinstance(script.reservation, Reservation) else 0
        self.tasks: list[asyncio.Task[None]] = []
        self.progress = Progress()
        self.stored_with: list[Checked] = []

    def resolve(self, request: object, request_id: str) -> Turn:
        return Turn(request_id, request, "default", 30, None, "summarize/v1.0", "active", self.script.wish)

    async def plan(self, turn: Turn) -> Plan:
        return said(self.script.plan)  # type: ignore[return-value]

    async def check_input(self, turn: Turn, *, embed: bool) -> Checked:
        self.script.log.append(f"check_input embed={embed}")
        if self.script.guard_gate is not None:
            await self.script.guard_gate.wait()
        return said(self.script.checked)  # type: ignore[return-value]

    async def check_output(self, turn: Turn, checked: Checked, completion: object) -> CheckedOutput:
        self.script.log.append("check_output")
        return said(self.script.output)  # type: ignore[return-value]

    async def check_stream(
        self, turn: Turn, checked: Checked, pieces: AsyncGenerator[object, None], progress: Progress
    ) -> AsyncGenerator[object, None]:
        said(self.script.stream_guard)
        async for piece in pieces:
            yield piece
        progress.output = said(self.script.output)  # type: ignore[assignment]

    async def lookup(self, turn: Turn, plan: Plan, checked: Checked | None, *, allow_stale: bool = False) -> Found:
        if allow_stale:
            self.script.log.append("stale")
            return said(self.script.stale)  # type: ignore[return-value]
        self.script.log.append("exact" if checked is None else "semantic")
        return said(self.script.exact if checked is None else self.script.semantic)  # type: ignore[return-value]

    async def store(self, turn: Turn, plan: Plan, checked: Checked, answer: ModelAnswer, output: CheckedOutput) -> None:
        self.script.stored.append(output.completion)
        self.stored_with.append(checked)

    async def complete(self, turn: Turn, plan: Plan, checked: Checked, progress: Progress) -> ModelAnswer:
        self.script.log.append("model")
        self.script.asked.append(plan.model_names)
        self.progress = progress
        if self.script.model_gate is not None:
            await self.script.model_gate.wait()
        return said(self.script.answer)  # type: ignore[return-value]

    async def stream(
        self, turn: Turn, plan: Plan, checked: Checked, progress: Progress
    ) -> AsyncGenerator[object, None]:
        self.script.log.append("model")
        self.progress = progress
        progress.asked = True
        if self.script.model_gate is not None:
            await self.script.model_gate.wait()
        answer = said(self.script.answer)
        progress.model, progress.running, progress.lines = "acme-ai/cheap-1", (CHEAP,), self.script.earlier
        progress.ended = len(self.script.earlier)
        for piece in self.script.pieces:
            said(piece)
            progress.received_bytes += self.script.piece_bytes
            yield piece
            if progress.received_bytes >= progress.alarm_bytes:
                progress.alarm()
            if self.script.pace is not None:
                await self.script.pace()
        progress.answer = answer  # type: ignore[assignment]

    def billed_lines(self, error: Exception) -> tuple[UsageLine, ...] | None:
        return self.script.billed

    def attempts(self, error: Exception) -> Sequence[object]:
        return self.script.failed_attempts

    async def reserve(self, turn: Turn, plan: Plan, input_tokens: int, max_output_tokens: int) -> Reservation:
        self.script.log.append(f"reserve {input_tokens}+{max_output_tokens}")
        if self.script.reserve_gate is not None:
            await self.script.reserve_gate.wait()
        return said(self.script.reservation)  # type: ignore[return-value]

    def cost_nano_usd(self, reservation: Reservation, lines: Sequence[UsageLine]) -> int:
        return sum(line.usage.input_tokens * 2 + line.usage.output_tokens * 10 for line in lines)

    async def mark_dispatched(self, reservation: Reservation) -> None:
        self.script.marked.append(reservation.reservation_id)
        said(self.script.mark)

    async def extend(self, reservation: Reservation, number: int, add_nano_usd: int, spent_nano_usd: int) -> int:
        assert number == len(self.script.extended) + 1
        self.script.extended.append((add_nano_usd, spent_nano_usd))
        if isinstance(self.script.extension, Exception):
            raise self.script.extension
        self.held_nano_usd += add_nano_usd
        return self.held_nano_usd

    async def commit(self, reservation: Reservation, lines: Sequence[UsageLine]) -> None:
        self.script.committed.append(tuple(lines))

    async def withdraw(self, unanswered: object) -> None:
        self.script.voided.append(f"withdrawn {unanswered}")

    async def void(self, reservation: Reservation, reason: str) -> None:
        self.script.voided.append(reason)

    def run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def do() -> None:
            await work()

        self.tasks.append(asyncio.get_running_loop().create_task(do()))

    def monotonic(self) -> float:
        self.now_s += 0.001
        return self.now_s

    def time_ns(self) -> int:
        return 1

    def drained(self, outcome: str) -> None:
        self.script.drained.append(outcome)

    def drains(self, max_at_once: int = 8) -> Drains:
        return Drains(self, self, max_at_once)

    async def settled(self) -> None:
        await asyncio.gather(*self.tasks)

    def services(self, records: MemoryRecords) -> Services:
        return Services(self, self, self, self, self, records, self, self)
