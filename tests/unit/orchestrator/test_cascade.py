"""A cheap model first: whose answer the caller gets, and that both are paid for, once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.core.cascade import PROBE_S, Raters, first_and_others, is_trusted, others_may_answer
from services.orchestrator.core.errors import GuardUnavailable, ModelFailed, OutputBlocked
from services.orchestrator.core.model import Candidate, CheckedOutput, ModelAnswer, Plan, Usage, UsageLine
from tests.support.orchestrator_ports import CHEAP, Script
from tests.unit.orchestrator.test_coordinator import LENIENT, Case

DEAR = Candidate("acme-ai", "dear-1")
PLAN = Plan((CHEAP, DEAR), ("cheap", "dear"), 4096, "route#1", max_billed_calls=2, min_confidence=0.7)
# 2 and 10 nano-USD a token: 70 the first, 260 the second.
FIRST = ModelAnswer(
    "raw", "acme-ai/cheap-1", Usage(10, 5), (UsageLine(CHEAP, Usage(10, 5), 1),), ("cheap try",), complete=True
)
SECOND = ModelAnswer(
    "better", "acme-ai/dear-1", Usage(30, 20), (UsageLine(DEAR, Usage(30, 20), 2),), ("lost", "dear try"), complete=True
)
ALLOWED = CheckedOutput(
    blocked=False, detectors=(), schema_violations=(), completion="shown", verdict="out", grounding_score=None
)
DOUBTED, RATED = replace(ALLOWED, confidence=0.69), replace(ALLOWED, confidence=0.7)
BETTER = replace(ALLOWED, completion="shown better", verdict="out 2")
BLOCKED = replace(ALLOWED, blocked=True, detectors=("leak",), completion=None)
BROKEN = replace(BLOCKED, schema_violations=("/city type",))
AWAY = ModelFailed("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "every candidate failed", {})


def case_of(answers: list[ModelAnswer | Exception], outputs: list[CheckedOutput | Exception]) -> Case:
    return Case(Script(plan=PLAN, answer=list(answers), output=list(outputs)))


async def test_a_trusted_answer_is_the_callers_and_nobody_else_is_asked() -> None:
    case = case_of([FIRST], [RATED])
    assert await case.complete() == "shown"
    assert case.script.asked == [("cheap",)]
    assert case.record.cost_nano_usd == 70
    assert (case.record.degraded, case.script.stored) == ([], ["shown"])


@pytest.mark.parametrize("first", [DOUBTED, ALLOWED, BLOCKED, BROKEN, replace(ALLOWED, grounding_score=0.5)])
async def test_an_answer_that_is_not_trusted_is_paid_for_and_another_model_asked(first: CheckedOutput) -> None:
    case = case_of([FIRST, SECOND], [first, BETTER])
    assert await case.complete() == "shown better"
    assert case.script.asked == [("cheap",), ("dear",)]
    assert case.script.committed == [(UsageLine(CHEAP, Usage(10, 5), 1), UsageLine(DEAR, Usage(30, 20), 3))]
    assert case.record.cost_nano_usd == 70 + 260
    record = case.record
    assert record.attempts == ("cheap try", "lost", "dear try")
    assert (record.model, record.usage, record.output_verdict) == ("acme-ai/dear-1", Usage(30, 20), "out 2")
    assert (record.degraded, case.script.stored) == ([], ["shown better"])


async def test_when_the_others_fail_the_first_answer_is_given_marked_and_not_kept() -> None:
    case = case_of([FIRST, AWAY], [DOUBTED])
    case.script.billed = (UsageLine(DEAR, Usage(3, 0), 1),)
    assert await case.complete() == "shown"
    assert case.record.degraded == ["cascade"]
    assert case.record.model == "acme-ai/cheap-1"
    assert case.record.cost_nano_usd == 70 + 6
    assert case.script.committed == [(UsageLine(CHEAP, Usage(10, 5), 1), UsageLine(DEAR, Usage(3, 0), 2))]
    assert case.script.stored == []


async def test_a_blocked_answer_is_never_fallen_back_to() -> None:
    case = case_of([FIRST, AWAY], [BLOCKED])
    with pytest.raises(ModelFailed):
        await case.complete()
    assert case.record.cost_nano_usd == 70
    both = case_of([FIRST, SECOND], [DOUBTED, BLOCKED])
    with pytest.raises(OutputBlocked):
        await both.complete()
    assert both.record.cost_nano_usd == 70 + 260


async def test_a_first_model_that_fails_leaves_the_others() -> None:
    case = case_of([AWAY, SECOND], [BETTER])
    case.script.failed_attempts = ("cheap try",)
    assert await case.complete() == "shown better"
    assert case.record.attempts == ("cheap try", "lost", "dear try")
    assert case.script.committed == [(UsageLine(DEAR, Usage(30, 20), 3),)]
    lost = case_of([ModelFailed("UNAVAILABLE", "SERVICE_UNAVAILABLE", "the router died", {})], [])
    lost.script.billed = None
    with pytest.raises(ModelFailed):
        await lost.complete()
    assert lost.script.asked == [("cheap",)]
    assert [line.candidate for line in lost.script.committed[0]] == [CHEAP]


async def test_without_anyone_who_rates_one_call_a_minute_tries_and_the_others_go_to_the_dear_model() -> None:
    case = case_of([FIRST, SECOND, SECOND, FIRST, SECOND], [ALLOWED, BETTER, BETTER, ALLOWED, BETTER])
    await case.complete()
    await case.complete()
    assert case.script.asked == [("cheap",), ("dear",), ("dear",)]
    assert case.record.degraded == ["confidence"]
    assert case.script.committed[1] == (UsageLine(DEAR, Usage(30, 20), 2),)
    case.ports.now_s += PROBE_S
    await case.complete()
    assert case.script.asked[3:] == [("cheap",), ("dear",)]


async def test_without_the_guard_nobody_is_paid_twice() -> None:
    case = Case(Script(plan=PLAN, answer=[SECOND], checked=GuardUnavailable(), output=GuardUnavailable()), LENIENT)
    assert await case.complete() == "better"
    assert case.script.asked == [("dear",)]
    assert case.record.degraded == ["guard", "confidence"]


async def test_streams_leave_the_cascade_out() -> None:
    case = Case(Script(plan=PLAN))
    await case.stream()
    assert case.script.log.count("model") == 1
    assert len(case.script.committed) == 1


@given(
    st.booleans(),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1),
    st.floats(0.01, 0.99),
)
def test_who_is_trusted(blocked: bool, confidence: float | None, grounding: float | None, least: float) -> None:  # noqa: FBT001
    output = replace(ALLOWED, blocked=blocked, confidence=confidence, grounding_score=grounding)
    trusted = is_trusted(output, least)
    if trusted:
        assert not blocked
        assert max(confidence or 0.0, grounding or 0.0) >= least
    if confidence is not None:
        assert trusted == (not blocked and confidence >= least), "confidence goes before grounding"
    if confidence is None and grounding is None:
        assert not trusted


@given(st.lists(st.integers(0, 40), max_size=30))
def test_a_guard_that_rates_nothing_is_tried_once_a_minute_at_most(waits_s: list[int]) -> None:
    raters, now_s, tried_s = Raters(), 0.0, list[float]()
    for wait_s in waits_s:
        now_s += wait_s
        if raters.may_try("default", now_s):
            raters.note("default", ALLOWED, now_s)
            tried_s.append(now_s)
    assert all(later - earlier >= PROBE_S for earlier, later in pairwise(tried_s))
    raters.note("default", RATED, now_s)
    assert raters.may_try("default", now_s)
    assert raters.may_try("default", now_s + PROBE_S - 1)
    assert raters.may_try("other", now_s)


def test_the_plan_in_two() -> None:
    first, others = first_and_others(PLAN)
    assert (first.candidates, first.model_names, first.time_share) == ((CHEAP,), ("cheap",), 0.5)
    assert (others.candidates, others.model_names, others.time_share) == ((DEAR,), ("dear",), 1.0)


@pytest.mark.parametrize(
    ("reason", "in_time", "go_on"),
    [
        ("UPSTREAM_UNAVAILABLE", True, True),
        ("UPSTREAM_CREDENTIAL", False, True),
        ("CONTEXT_TOO_LONG", False, True),
        ("UNSUPPORTED", False, True),
        ("DEADLINE_EXCEEDED", True, True),
        ("DEADLINE_EXCEEDED", False, False),
        ("SERVICE_UNAVAILABLE", True, False),
        ("MODEL_NOT_FOUND", False, False),
        ("PERMISSION_DENIED", False, False),
    ],
)
def test_after_which_failures_the_others_are_asked(reason: str, *, in_time: bool, go_on: bool) -> None:
    error = ModelFailed("DEADLINE_EXCEEDED" if "DEADLINE" in reason else "UNAVAILABLE", reason, "failed", {})
    error.nobody_answered = in_time
    assert others_may_answer(error) == go_on
