"""Copies for shadow models: paid for and compared, never shown, and dropped before they are in anybody's way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.orchestrator.adapters.memory import MemoryRecords, RecordedShadowEvents
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.errors import BudgetExhausted, BudgetUnavailable, ModelFailed, RateLimited
from services.orchestrator.core.model import (
    CacheStatus,
    Candidate,
    Found,
    ModelAnswer,
    Plan,
    Record,
    Shadow,
    Turn,
    Usage,
    UsageLine,
)
from services.orchestrator.core.shadows import ShadowPorts, Shadows
from tests.support.orchestrator_ports import CHEAP, Script, ScriptedServices
from tests.unit.orchestrator.test_coordinator import POLICY

OTHER = Shadow("other", Candidate("acme-ai", "other-1"))
PLAN = Plan((CHEAP,), ("cheap",), 4096, "route#1", shadow=OTHER)
LINE = UsageLine(OTHER.candidate, Usage(10, 9), 1)
SHOWN_NEVER = ModelAnswer("other answer", "acme-ai/other-1", LINE.usage, (LINE,), ("try",), complete=True)
FAILED = ModelFailed("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "away", {})


class Stage:
    """The caller's services, and services of the copies' own."""

    def __init__(self, copies: Script, max_at_once: int = 2, plan: Plan = PLAN, **script: object) -> None:
        self.ports = ScriptedServices(Script(plan=plan, **script))  # type: ignore[arg-type]
        self.copies = ScriptedServices(copies)
        self.events = RecordedShadowEvents()
        self.copied: list[Turn] = []
        ports = ShadowPorts(self.copies, self.copies, self.copies, self.copies, self.copies, self.events, self._copy_of)
        self.shadows = Shadows(ports, POLICY, max_at_once)
        self.coordinator = Coordinator(
            self.ports.services(MemoryRecords(10)), POLICY, self.ports.drains(), self.shadows
        )
        self.record = Record("q-1", "t" * 32, "acme", 1)

    def _copy_of(self, turn: Turn, shadow: Shadow) -> Turn:
        copy = replace(turn, request_id=f"copy for {shadow.name}")
        self.copied.append(copy)
        return copy

    async def complete(self) -> object:
        answer = await self.coordinator.complete("request", self.record)
        await self.ports.settled()
        return answer.completion

    async def settled(self) -> None:
        while pending := [task for task in self.copies.tasks if not task.done()]:
            await asyncio.gather(*pending, return_exceptions=True)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_copy_is_paid_for_compared_and_never_shown(*, streamed: bool) -> None:
    stage = Stage(Script(answer=SHOWN_NEVER))
    if streamed:
        async for _ in stage.coordinator.stream("request", stage.record):
            assert stage.copied == []
    else:
        assert await stage.complete() == "shown"
    before = (stage.record.cost_nano_usd, stage.record.attempts, stage.record.model)
    await stage.settled()
    assert stage.copies.script.log == ["reserve 26+1000", "model"]
    assert stage.copies.script.asked == [("other",)]
    assert (stage.copies.script.committed, stage.copies.script.stored) == ([(LINE,)], [])
    assert stage.copies.script.marked == ["r-1"]
    assert stage.events.outcomes == [("other", "answered")]
    assert [name for name, _, _ in stage.events.comparisons] == ["other"]
    assert before == (stage.record.cost_nano_usd, stage.record.attempts, stage.record.model)
    assert before[0] == 70


async def test_nothing_is_copied_that_no_model_answered() -> None:
    hit = Found(CacheStatus.EXACT, "e-1", "kept", Usage(7, 3), "acme-ai/old", "stored verdict")
    away = ModelFailed("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "away", {})
    away.nobody_answered = True
    sorry = replace(PLAN, apology="sorry")
    stages = [
        Stage(Script(), exact=hit),
        Stage(Script(), plan=sorry, answer=away),
        Stage(Script(), plan=replace(PLAN, shadow=None)),
    ]
    for stage in stages:
        await stage.complete()
        assert (stage.copies.tasks, stage.events.outcomes) == ([], [])


@pytest.mark.parametrize(
    ("refusal", "outcome"),
    [
        (BudgetExhausted([("feature shadow", "0.1 USD")], None), "denied"),
        (RateLimited([], 1.0), "denied"),
        (BudgetUnavailable(outage=True), "failed"),
    ],
)
async def test_what_no_limit_covers_is_dropped(refusal: Exception, outcome: str) -> None:
    stage = Stage(Script(reservation=refusal))
    assert await stage.complete() == "shown"
    await stage.settled()
    assert (stage.events.outcomes, stage.copies.script.asked) == ([("other", outcome)], [])


async def test_a_hold_whose_answer_was_lost_is_withdrawn() -> None:
    lost = BudgetUnavailable()
    lost.unanswered = "reserve"
    stage = Stage(Script(reservation=lost))
    await stage.complete()
    await stage.settled()
    assert stage.copies.script.voided == ["withdrawn reserve"]


@pytest.mark.parametrize(("billed", "booked"), [((), []), ((LINE,), [(LINE,)])])
async def test_a_copy_that_fails_is_booked_as_far_as_it_was_billed(
    billed: tuple[UsageLine, ...], booked: list[tuple[UsageLine, ...]]
) -> None:
    stage = Stage(Script(answer=FAILED, billed=billed))
    assert await stage.complete() == "shown"
    await stage.settled()
    assert stage.copies.script.committed == booked
    assert stage.copies.script.voided == ([] if booked else ["upstream-refused"])
    assert stage.events.outcomes == [("other", "failed")]


async def test_above_the_bound_copies_are_dropped() -> None:
    stage = Stage(Script(answer=SHOWN_NEVER, model_gate=asyncio.Event()), max_at_once=1)
    await stage.complete()
    await stage.complete()
    assert stage.events.outcomes == [("other", "dropped")]
    assert stage.copies.script.model_gate is not None
    stage.copies.script.model_gate.set()
    await stage.settled()
    await stage.complete()
    await stage.settled()
    assert stage.events.outcomes[1:] == [("other", "answered")] * 2


async def test_a_copy_that_is_given_up_is_booked_by_estimate() -> None:
    stage = Stage(Script(model_gate=asyncio.Event()))
    await stage.complete()
    while not stage.copies.script.asked:
        await asyncio.sleep(0)
    stage.copies.tasks[0].cancel()
    await stage.settled()
    ((line,),) = stage.copies.script.committed
    assert (line.candidate, line.usage.estimated, line.usage.input_tokens) == (OTHER.candidate, True, 26)
    assert stage.events.outcomes == [("other", "cancelled")]
