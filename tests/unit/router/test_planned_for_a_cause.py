"""Those who are named for one cause only, where that cause is known before anybody is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.router.adapters.memory import ManualLoad
from services.router.core.catalogue import Condition, RouteSpec
from services.router.core.chat import Message
from services.router.core.facts import Needs
from services.router.core.planner import Planner
from services.router.core.ports import Shut
from tests.unit.router.test_planning import CALL, FAILED, LIMITED, A, B, C, at, before, callable_names, order, reasons


def test_a_conversation_too_long_for_every_candidate_goes_to_those_who_were_named_for_it() -> None:
    """Nobody would ever say that it is too long."""
    route = RouteSpec("r", (replace(A, context_tokens=5),), 1, context_fallbacks=(B,))
    plan = at(route, replace(CALL, messages=(Message("user", "word " * 100),)))
    assert (order(plan), plan.reasons) == ("b", ("the conversation is too long for the candidates",))
    assert reasons(plan) == {"a": "context-too-small"}


def test_while_every_candidate_is_limited_those_are_asked_who_were_named_for_it() -> None:
    """Nobody would be asked who could say that he is limited: until the limit's end every call failed."""
    route = RouteSpec("r", (A, B), 1, rate_limit_fallbacks=(C,))
    load = ManualLoad()
    load.shut_by = {"a": LIMITED, "b": FAILED}
    plan = at(route, load=load)
    assert order(plan) == "cb", "who failed comes after who is well"
    assert plan.reasons[0] == "the providers of the candidates limit us"
    assert reasons(plan) == {"a": "cooling-down"}
    load.shut_by = {"a": LIMITED, "b": Shut("breaker-open", 50.0)}
    assert order(at(route, load=load)) == "c"
    load.shut_by = {"a": Shut("breaker-open", 50.0), "b": Shut("breaker-open", 50.0)}
    assert order(at(route, load=load)) == "", "nobody is limited"
    keyless = replace(route, candidates=(replace(A, has_credential=False),))
    load.shut_by = {"a": LIMITED}
    assert order(at(keyless, load=load)) == "", "who could not be asked anyway limits nobody"


@pytest.mark.parametrize("limited", [True, False])
def test_of_a_route_that_was_narrowed_to_those_named_for_a_limit_they_are_asked(*, limited: bool) -> None:
    """What was planned without a candidate was called without anybody; the limit may be over when the call comes."""
    route = RouteSpec("r", (A,), 1, context_fallbacks=(B,), rate_limit_fallbacks=(C,))
    planned = before(route, a=LIMITED)
    assert (order(planned), callable_names(planned)) == ("c", {"b", "c"})
    load = ManualLoad()
    load.shut_by = {"a": LIMITED} if limited else {}
    called = Planner().at(route.among(("c", "b")), CALL, load, 10.0, streamed=True, whole=route)
    assert order(called) == "c"


def test_of_a_narrowed_route_nobody_is_left_out_whatever_cause_is_over() -> None:
    """Of two causes one was over by the call, and the other had named nobody: what was planned was not asked."""
    short, large = replace(A, context_tokens=5), replace(B, context_tokens=0)
    route = RouteSpec("r", (short, large), 1, rate_limit_fallbacks=(C,))
    long = replace(CALL, messages=(Message("user", "word " * 100),))
    called = Planner().at(route.among(("c",)), long, ManualLoad(), 10.0, streamed=True, whole=route)
    assert order(called) == "c"
    windows = RouteSpec("r", (short,), 1, context_fallbacks=(B,))
    fits = Planner().at(windows.among(("b",)), CALL, ManualLoad(), 10.0, streamed=True, whole=windows)
    assert order(fits) == "b", "the guard made the conversation shorter"


def test_of_a_narrowed_route_nobody_is_asked_for_a_call_that_no_candidate_is_for() -> None:
    """Whoever planned had not counted, so the condition was open. Without names of models such a call is refused."""
    route = RouteSpec("r", (A,), 1, conditions={"a": Condition(min_input_tokens=400)}, rate_limit_fallbacks=(B,))
    load = ManualLoad()
    load.shut_by = {"a": LIMITED}
    planned = Planner().before(route, CALL.origin, Needs(), load, 10.0)
    assert order(planned) == "b"
    called = Planner().at(route.among(("b",)), CALL, load, 10.0, streamed=True, whole=route)
    assert order(called) == order(Planner().at(route, CALL, load, 10.0, streamed=True)) == ""
