"""The end of the ladder: an earlier answer, an apology, or the error, and what is never said in their place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.orchestrator.core.errors import (
    BudgetExhausted,
    GuardUnavailable,
    InputBlocked,
    ModelFailed,
    RequestFailed,
)
from services.orchestrator.core.model import (
    CacheStatus,
    CacheWish,
    Delta,
    Finished,
    Found,
    Plan,
    Started,
    Usage,
    UsageLine,
)
from services.orchestrator.core.ports import CacheUnavailable
from tests.support.orchestrator_ports import CHEAP, Script
from tests.unit.orchestrator.test_coordinator import Case

STALE = Found(CacheStatus.STALE, "e-9", "kept too long", Usage(7, 3), "acme-ai/old", "stored verdict")
PLAN = Plan((CHEAP,), ("cheap",), 4096, "route#1", allow_stale=True, apology="sorry")
TRIED = UsageLine(CHEAP, Usage(20, 0), 1)


def failed(reason: str = "UPSTREAM_UNAVAILABLE", *, nobody: bool = True) -> ModelFailed:
    error = ModelFailed("UNAVAILABLE", reason, "every candidate failed", {})
    error.nobody_answered = nobody
    return error


def shut(plan: Plan = PLAN) -> Plan:
    return replace(plan, candidates=(), model_names=(), refusal=failed())


async def both_ways(script: Script) -> list[tuple[Case, object]]:
    whole = Case(replace(script, log=[], committed=[], voided=[], stored=[]))
    completion = await whole.complete()
    streamed = Case(replace(script, log=[], committed=[], voided=[], stored=[]))
    events = await streamed.stream()
    assert [type(event) for event in events] == [Started, Delta, Finished]
    assert isinstance(events[1], Delta)
    return [(whole, completion), (streamed, events[1].payload)]


async def test_an_earlier_answer_past_its_time_stands_in_and_the_tries_are_booked() -> None:
    for case, completion in await both_ways(Script(plan=PLAN, answer=failed(), billed=(TRIED,), stale=STALE)):
        assert completion == "kept too long"
        record = case.record
        assert (record.cache_status, record.degraded) == (CacheStatus.STALE, ["model"])
        assert (record.cache_entry_id, record.model, record.output_verdict) == ("e-9", "acme-ai/old", "stored verdict")
        assert record.cost_nano_usd == 40
        assert case.script.committed == [(TRIED,)]
        assert case.script.stored == []


async def test_without_one_the_apology_stands_in_and_is_never_kept() -> None:
    for case, completion in await both_ways(Script(plan=PLAN, answer=failed(), billed=(TRIED,))):
        assert completion == "sorry"
        assert (case.record.cache_status, case.record.degraded) == (CacheStatus.MISS, ["model"])
        assert (case.record.model, case.record.output_verdict, case.record.status) == ("", None, "OK")
        assert (case.record.cost_nano_usd, case.script.committed) == (40, [(TRIED,)])
        assert case.script.stored == []
        assert case.script.log.index("model") < case.script.log.index("stale")


async def test_an_absent_cache_leaves_the_apology() -> None:
    for case, completion in await both_ways(Script(plan=PLAN, answer=failed(), stale=CacheUnavailable())):
        assert (completion, case.record.degraded) == ("sorry", ["cache", "model"])


async def test_who_wants_a_fresh_answer_gets_no_old_one() -> None:
    wish = CacheWish(lookup=False, store=True, semantic=True)
    for case, completion in await both_ways(Script(plan=PLAN, answer=failed(), stale=STALE, wish=wish)):
        assert completion == "sorry"
        assert "stale" not in case.script.log


@pytest.mark.parametrize("plan", [replace(PLAN, allow_stale=False, apology=None), replace(PLAN, apology=None)])
async def test_where_nothing_stands_in_it_is_the_error(plan: Plan) -> None:
    for run in ("complete", "stream"):
        case = Case(Script(plan=plan, answer=failed(), billed=(TRIED,)))
        with pytest.raises(ModelFailed):
            await getattr(case, run)()
        assert case.record.reason == "UPSTREAM_UNAVAILABLE"
        assert case.script.committed == [(TRIED,)]
        assert ("stale" in case.script.log) == plan.allow_stale


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": failed("UPSTREAM_REJECTED", nobody=False)},
        {"checked": GuardUnavailable()},
        {"checked": replace(Script().checked, blocked=True)},  # type: ignore[type-var]
        {"reservation": BudgetExhausted([], None)},
        {"output": replace(Script().output, blocked=True)},  # type: ignore[type-var]
        {"output": GuardUnavailable()},
    ],
)
async def test_what_somebody_said_no_to_gets_no_stand_in(changes: dict[str, object]) -> None:
    for run in ("complete", "stream"):
        case = Case(Script(plan=PLAN, stale=STALE, **changes))  # type: ignore[arg-type]
        with pytest.raises(RequestFailed):
            await getattr(case, run)()
        assert "stale" not in case.script.log
        assert "model" not in case.record.degraded


async def test_after_the_first_piece_a_stream_fails_as_it_did() -> None:
    case = Case(Script(plan=PLAN, stale=STALE, pieces=("a", failed("SERVICE_UNAVAILABLE"))))
    shown = []
    with pytest.raises(ModelFailed):
        async for event in case.coordinator.stream("request", case.record):
            shown.append(type(event))
    await case.ports.settled()
    assert shown == [Started, Delta]
    assert "stale" not in case.script.log


async def test_when_everybody_is_shut_no_money_is_held_and_the_guard_is_asked_all_the_same() -> None:
    for case, completion in await both_ways(Script(plan=shut(), stale=STALE)):
        assert completion == "kept too long"
        assert case.script.log == ["exact", "check_input embed=True", "semantic", "stale"]
        assert (case.script.committed, case.script.voided, case.record.cost_nano_usd) == ([], [], 0)
    blocked = Case(Script(plan=shut(), stale=STALE, checked=replace(Script().checked, blocked=True)))  # type: ignore[type-var]
    with pytest.raises(InputBlocked):
        await blocked.complete()


async def test_when_everybody_is_shut_a_hit_is_a_hit() -> None:
    exact = Found(CacheStatus.EXACT, "e-1", "kept", Usage(7, 3), "acme-ai/old", "stored verdict")
    case = Case(Script(plan=shut(replace(PLAN, allow_stale=False, apology=None)), exact=exact))
    assert (await case.complete(), case.record.degraded) == ("kept", [])
    without = Case(Script(plan=shut(replace(PLAN, allow_stale=False, apology=None))))
    with pytest.raises(ModelFailed):
        await without.complete()
    assert without.script.log == ["exact"]


async def test_a_plan_that_nobody_will_ever_serve_is_the_error_at_once() -> None:
    plan = replace(shut(), refusal=failed(nobody=False))
    case = Case(Script(plan=plan, stale=STALE))
    with pytest.raises(ModelFailed):
        await case.complete()
    assert case.script.log == []
