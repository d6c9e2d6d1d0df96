"""The sequence of a request: who is asked, in which order, and what is booked however it ends."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.orchestrator.adapters.memory import MemoryRecords
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.errors import (
    BudgetExhausted,
    BudgetUnavailable,
    GuardUnavailable,
    InputBlocked,
    ModelFailed,
    OutputBlocked,
    RecordNotFound,
    SchemaMismatch,
)
from services.orchestrator.core.model import (
    CacheStatus,
    CacheWish,
    Delta,
    Finished,
    Found,
    Plan,
    Rate,
    Record,
    Reservation,
    Started,
    Usage,
    UsageLine,
)
from services.orchestrator.core.policy import Policy, abandoned_lines
from services.orchestrator.core.ports import CacheUnavailable
from tests.support.orchestrator_ports import CHEAP, USED, Script, ScriptedServices

POLICY = Policy(guard_required=True, semantic_cache=True, assumed_output_tokens=1000)
LENIENT = replace(POLICY, guard_required=False)
EXACT_HIT = Found(CacheStatus.EXACT, "e-1", "kept", Usage(7, 3), "acme-ai/old", "stored verdict")
FAILED = ModelFailed("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "every candidate failed", {})
TURN = ScriptedServices(Script()).resolve("request", "q-1")


class Case:
    def __init__(self, script: Script, policy: Policy = POLICY) -> None:
        self.script = script
        self.ports = ScriptedServices(script)
        self.records = MemoryRecords(10)
        self.record = Record("q-1", "t" * 32, "acme", 1)
        self.coordinator = Coordinator(self.ports.services(self.records), policy, self.ports.drains())

    async def complete(self) -> object:
        try:
            return (await self.coordinator.complete("request", self.record)).completion
        finally:
            await self.ports.settled()

    async def stream(self) -> list[object]:
        events: list[object] = []
        try:
            async for event in self.coordinator.stream("request", self.record):
                events.append(event)
        finally:
            await self.ports.settled()
            self.events = events
        return events


async def test_a_miss_asks_everyone_in_order_and_books_the_answer() -> None:
    case = Case(Script())
    assert await case.complete() == "shown"
    assert case.script.log[0] == "exact"
    assert set(case.script.log[1:3]) == {"check_input embed=True", "reserve 26+1000"}
    assert case.script.log[3:] == ["semantic", "model", "check_output"]
    assert case.script.committed == [(UsageLine(CHEAP, USED, 1),)]
    assert case.script.stored == ["shown"]
    assert case.script.voided == []
    assert case.record.cost_nano_usd == 10 * 2 + 5 * 10
    assert [step for step, _ in case.record.steps].count("model") == 1


@pytest.mark.parametrize("policy", [POLICY, replace(POLICY, semantic_cache=False)])
async def test_a_route_that_chooses_by_the_embedding_gets_one_and_the_cache_does_not(policy: Policy) -> None:
    """Without the semantic cache the router never saw one, and called every request complex."""
    wish = CacheWish(lookup=True, store=True, semantic=policy.semantic_cache)
    script = Script(plan=Plan((CHEAP,), ("cheap",), 4096, "route#1", wants_embedding=True), wish=wish)
    case = Case(script, policy)
    await case.complete()
    assert "check_input embed=True" in case.script.log
    assert ("semantic" in case.script.log) == policy.semantic_cache
    assert [checked.can_embed for checked in case.ports.stored_with] == [policy.semantic_cache]
    never = Case(Script(), replace(POLICY, semantic_cache=False))
    await never.complete()
    assert "check_input embed=False" in never.script.log


async def test_a_call_that_left_is_marked_beside_it() -> None:
    case = Case(Script(model_gate=asyncio.Event()))
    running = asyncio.ensure_future(case.complete())
    while not case.script.marked:
        await asyncio.sleep(0)
    assert not running.done(), "while the model works"
    assert case.script.model_gate is not None
    case.script.model_gate.set()
    await running
    streamed = Case(Script())
    await streamed.stream()
    assert case.script.marked == streamed.script.marked == ["r-1"]
    refused = Case(Script(checked=GuardUnavailable()))
    with pytest.raises(GuardUnavailable):
        await refused.complete()
    assert refused.script.marked == []


async def test_what_is_left_of_the_rates_is_in_the_record() -> None:
    rates = (Rate("requests", 60, 59, 1.0),)
    case = Case(Script(reservation=Reservation("r-1", None, rates=rates)))
    await case.complete()
    assert case.record.rates == rates


async def test_a_mark_that_fails_fails_nothing() -> None:
    case = Case(Script(mark=BudgetUnavailable()))
    answer = await case.coordinator.complete("request", case.record)
    assert answer.completion == "shown"
    await asyncio.gather(*case.ports.tasks, return_exceptions=True)
    assert len(case.script.committed) == 1


async def test_an_exact_hit_asks_no_guard_no_ledger_and_no_model() -> None:
    case = Case(Script(exact=EXACT_HIT))
    assert await case.complete() == "kept"
    assert case.script.log == ["exact"]
    assert (case.record.cache_status, case.record.cost_nano_usd) == (CacheStatus.EXACT, 0)
    assert (case.record.model, case.record.output_verdict) == ("acme-ai/old", "stored verdict")


async def test_a_semantic_hit_gives_the_hold_back() -> None:
    case = Case(Script(semantic=replace(EXACT_HIT, status=CacheStatus.SEMANTIC)))
    assert await case.complete() == "kept"
    assert "model" not in case.script.log
    assert case.script.voided == ["cache-hit"]
    assert case.script.committed == []


@pytest.mark.parametrize(
    ("wish", "asked", "stored"),
    [
        (CacheWish(lookup=False, store=False, semantic=True), [], []),
        (CacheWish(lookup=False, store=True, semantic=True), [], ["shown"]),
        (CacheWish(lookup=True, store=False, semantic=False), ["exact"], []),
    ],
)
async def test_cache_wishes(wish: CacheWish, asked: list[str], stored: list[str]) -> None:
    case = Case(Script(wish=wish))
    await case.complete()
    assert [entry for entry in case.script.log if entry in {"exact", "semantic"}] == asked
    assert case.script.stored == stored


async def test_an_absent_cache_is_a_marked_miss() -> None:
    case = Case(Script(exact=CacheUnavailable(), semantic=CacheUnavailable()))
    assert await case.complete() == "shown"
    assert case.record.degraded == ["cache"]
    assert case.record.cache_status is CacheStatus.BYPASS


async def test_blocked_input_gives_the_hold_back_and_calls_no_model() -> None:
    """BerriAI/litellm#27639: phantom reservations of refused requests filled the budget."""
    blocked = replace(Script().checked, blocked=True, detectors=("secret-aws-access-key",))  # type: ignore[type-var]
    case = Case(Script(checked=blocked))
    with pytest.raises(InputBlocked) as caught:
        await case.complete()
    assert caught.value.metadata == {"detectors": "secret-aws-access-key"}
    assert "model" not in case.script.log
    assert case.script.voided == ["not-sent"]
    assert case.records.get("acme", "q-1").reason == "GUARD_BLOCKED"


async def test_a_denied_budget_calls_no_model_and_leaves_nothing() -> None:
    case = Case(Script(reservation=BudgetExhausted([("organisation", "spent")], 60)))
    with pytest.raises(BudgetExhausted):
        await case.complete()
    assert "model" not in case.script.log
    assert case.script.voided == []


async def test_blocked_and_denied_reports_the_block() -> None:
    blocked = replace(Script().checked, blocked=True, detectors=("x",))  # type: ignore[type-var]
    case = Case(Script(checked=blocked, reservation=BudgetUnavailable()))
    with pytest.raises(InputBlocked):
        await case.complete()


async def test_an_absent_guard_closes_by_default() -> None:
    case = Case(Script(checked=GuardUnavailable()))
    with pytest.raises(GuardUnavailable):
        await case.complete()
    assert case.script.voided == ["not-sent"]


async def test_an_absent_guard_may_be_tolerated_and_is_marked() -> None:
    case = Case(Script(checked=GuardUnavailable(), output=GuardUnavailable()), LENIENT)
    assert await case.complete() == "raw"
    assert case.record.degraded == ["guard"]


async def test_what_passed_unguarded_is_not_kept() -> None:
    """It was stored, and served as checked after the guard had come back."""
    for script in (Script(checked=GuardUnavailable()), Script(output=GuardUnavailable())):
        await Case(script, LENIENT).complete()
        assert script.stored == []


async def test_an_unrestorable_masked_answer_is_never_shown() -> None:
    masked = replace(Script().checked, masked=True)  # type: ignore[type-var]
    case = Case(Script(checked=masked, output=GuardUnavailable()), LENIENT)
    with pytest.raises(GuardUnavailable):
        await case.complete()
    assert len(case.script.committed) == 1


async def test_blocked_output_is_booked_and_not_kept() -> None:
    blocked = replace(Script().output, blocked=True, detectors=("pii-card",))  # type: ignore[type-var]
    case = Case(Script(output=blocked))
    with pytest.raises(OutputBlocked):
        await case.complete()
    assert len(case.script.committed) == 1
    assert case.script.stored == []


async def test_a_broken_schema_has_a_reason_of_its_own() -> None:
    broken = replace(Script().output, blocked=True, schema_violations=("/a type",))  # type: ignore[type-var]
    case = Case(Script(output=broken))
    with pytest.raises(SchemaMismatch, match="/a type"):
        await case.complete()


async def test_masked_and_cut_answers_are_not_kept() -> None:
    masked = replace(Script().checked, masked=True)  # type: ignore[type-var]
    cut = replace(Script().answer, complete=False)  # type: ignore[type-var]
    for script in (Script(checked=masked), Script(answer=cut)):
        case = Case(script)
        await case.complete()
        assert script.stored == []


async def test_a_failed_model_without_billed_tries_gives_the_hold_back() -> None:
    case = Case(Script(answer=FAILED))
    with pytest.raises(ModelFailed):
        await case.complete()
    assert case.script.voided == ["upstream-refused"]
    assert case.script.committed == []


async def test_a_failed_model_with_billed_tries_is_booked() -> None:
    line = UsageLine(CHEAP, Usage(10, 0, estimated=True), 1)
    case = Case(Script(answer=FAILED, billed=(line,)))
    with pytest.raises(ModelFailed):
        await case.complete()
    assert case.script.committed == [(line,)]
    assert case.record.cost_nano_usd == 20


async def test_a_call_whose_outcome_nobody_knows_is_booked_by_estimate() -> None:
    """The router died with a provider at work: giving the hold back made the call free."""
    case = Case(Script(answer=FAILED, billed=None))
    with pytest.raises(ModelFailed):
        await case.complete()
    assert (case.script.committed, case.script.voided) == ([abandoned_lines(CHEAP, TURN)], [])
    streamed = Case(Script(answer=FAILED, billed=None))
    with pytest.raises(ModelFailed):
        await streamed.stream()
    assert (streamed.script.committed, streamed.script.voided) == ([abandoned_lines(CHEAP, TURN)], [])


async def test_an_abandoned_stream_is_booked_with_the_tries_before_it() -> None:
    tried = UsageLine(CHEAP, Usage(7, 0, estimated=True), 1)
    case = Case(Script(earlier=(tried,)))
    async with aclosing(case.coordinator.stream("request", case.record)) as events:
        await anext(events)
        await anext(events)
    await case.ports.settled()
    [[first, second]] = case.script.committed
    assert (first, second.attempt) == (tried, 2)


async def test_a_stream_that_the_router_never_saw_costs_nothing() -> None:
    case = Case(Script(billed=None, stream_guard=GuardUnavailable()))
    with pytest.raises(GuardUnavailable):
        await case.stream()
    assert (case.script.committed, case.script.voided) == ([], ["upstream-refused"])


async def test_a_caller_who_leaves_during_the_call_is_booked_by_estimate() -> None:
    case = Case(Script(model_gate=asyncio.Event()))
    running = asyncio.ensure_future(case.coordinator.complete("request", case.record))
    while "model" not in case.script.log:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await case.ports.settled()
    [[line]] = case.script.committed
    assert line.usage == Usage(input_tokens=26, output_tokens=0, estimated=True)
    assert case.records.get("acme", "q-1").status == "CANCELLED"


async def test_a_caller_who_leaves_while_money_is_held_gets_it_back() -> None:
    """BerriAI/litellm#30522: a cancellation is no Exception, and left the reservation behind."""
    gate = asyncio.Event()
    case = Case(Script(reserve_gate=gate))
    running = asyncio.ensure_future(case.coordinator.complete("request", case.record))
    while len(case.script.log) < 3:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.set()
    await case.ports.settled()
    assert case.script.voided == ["not-sent"]


async def test_guard_and_ledger_are_asked_at_once() -> None:
    gate = asyncio.Event()
    case = Case(Script(guard_gate=gate, reserve_gate=gate))
    running = asyncio.ensure_future(case.complete())
    while len(case.script.log) < 3:
        await asyncio.sleep(0)
    assert "model" not in case.script.log
    gate.set()
    assert await running == "shown"


async def test_a_stream_starts_delivers_finishes_and_is_kept() -> None:
    case = Case(Script())
    events = await case.stream()
    assert [type(e) for e in events] == [Started, Delta, Delta, Finished]
    assert case.script.committed == [(UsageLine(CHEAP, USED, 1),)]
    assert case.script.stored == ["shown"]
    assert case.record.model == "acme-ai/cheap-1"


async def test_an_unexpected_error_is_recorded_without_its_text() -> None:
    case = Case(Script(answer=ValueError("secret prompt text")))
    with pytest.raises(ValueError, match="secret"):
        await case.complete()
    record = case.records.get("acme", "q-1")
    assert (record.reason, record.message) == ("INTERNAL", "internal error")


def test_records_belong_to_their_organisation_and_are_bounded() -> None:
    records = MemoryRecords(2)
    for number in range(3):
        records.put(Record(f"q-{number}", "", "acme", 1))
    for organisation, request_id in (("acme", "q-0"), ("other", "q-2")):
        with pytest.raises(RecordNotFound):
            records.get(organisation, request_id)
    assert records.get("acme", "q-2").request_id == "q-2"
