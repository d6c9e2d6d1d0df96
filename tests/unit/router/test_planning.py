"""What a plan says: who is tried, in which order and why, and why nobody else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.adapters.memory import DeclaredPrices, ManualLoad
from services.router.core.catalogue import Condition, HedgeRule, ModelSpec, RouteSpec, ShadowRule
from services.router.core.chat import Message, ModelCall, ToolDefinition
from services.router.core.conditions import SIZE_MARGIN, SIZE_MARGIN_TOKENS, check
from services.router.core.facts import Facts, Judged, Needs, Origin
from services.router.core.plan import WINDOW_MARGIN, Plan
from services.router.core.planner import Planner
from services.router.core.ports import Shut
from services.router.core.prices import ModelPrice
from services.router.core.tokens import size_tokens
from services.router.core.vendors import Requirement, Terms, VendorRegister
from tests.unit.router.routes import CLASSES, Day, Verdicts, calls, conditioned_routes, loads, registers, routes

A, B, C = (ModelSpec(name, "north", f"model-{name}") for name in "abc")
ROUTE = RouteSpec("r", (A, B, C), 1)
CALL = ModelCall("r", (Message("user", "hello there"),))
GERMAN = Condition(languages=frozenset({"de"}))
SIMPLE = Judged(0.9, 0.05, simple=True)
COMPLEX = Judged(0.4, 0.05, simple=False)
FAILED = Shut("cooling-down", 50.0, last_resort=True)
LIMITED = Shut("cooling-down", 50.0, rate_limited=True)


def at(
    route: RouteSpec, call: ModelCall = CALL, load: ManualLoad | None = None, planner: Planner | None = None
) -> Plan:
    return (planner or Planner()).at(route, call, load or ManualLoad(), 10.0, streamed=True)


def before(route: RouteSpec, origin: Origin | None = None, **shut: Shut) -> Plan:
    load = ManualLoad()
    load.shut_by = shut
    return Planner().before(route, origin or Origin(), Needs(), load, 10.0)


def order(plan: Plan) -> str:
    return "".join(spec.name for spec in plan.candidates)


def reasons(plan: Plan) -> dict[str, str]:
    return {no.spec.name: no.reason for no in plan.rejected}


def callable_names(plan: Plan) -> set[str]:
    return {spec.name for spec in plan.candidates} | {spec.name for spec, _ in plan.for_a_cause()}


@pytest.mark.parametrize(
    ("condition", "facts", "holds", "reason"),
    [
        (Condition(), Facts(), True, ""),
        (Condition(organisations=frozenset({"acme"})), Facts(Origin("acme")), True, ""),
        (Condition(organisations=frozenset({"acme"})), Facts(Origin("zenith")), False, "other-organisation"),
        (Condition(features=frozenset({"chat"})), Facts(Origin(feature="mail")), False, "other-feature"),
        (Condition(data_classes=frozenset({"health"})), Facts(), True, ""),
        (Condition(data_classes=frozenset({"public"})), Facts(), False, "other-data-class"),
        (Condition(tools=True), Facts(), False, "only-with-tools"),
        (Condition(tools=False), Facts(needs=Needs(tools=True)), False, "only-without-tools"),
        (GERMAN, Facts(Origin(language="de-AT")), True, ""),
        (GERMAN, Facts(Origin(language="fr"), final=True), False, "other-language"),
        (GERMAN, Facts(Origin(language="und")), None, "other-language"),
        (Condition(max_input_tokens=400), Facts(needs=Needs(input_tokens=500), final=True), False, "other-size"),
        (Condition(max_input_tokens=400), Facts(needs=Needs(input_tokens=500)), None, "other-size"),
        (Condition(max_input_tokens=400), Facts(needs=Needs(input_tokens=900)), False, "other-size"),
        (Condition(max_input_tokens=400), Facts(needs=Needs(input_tokens=100)), True, ""),
        (Condition(min_input_tokens=400), Facts(needs=Needs(input_tokens=100)), False, "other-size"),
        (Condition(min_input_tokens=400), Facts(), None, "other-size"),
        (Condition(bands=frozenset({"simple"})), Facts(), None, "other-band"),
        (Condition(bands=frozenset({"simple"})), Facts(complexity=COMPLEX), None, "other-band"),
        (Condition(bands=frozenset({"simple"})), Facts(complexity=SIMPLE, final=True), True, ""),
        (Condition(bands=frozenset({"simple"})), Facts(final=True), False, "other-band"),
        (Condition(bands=frozenset({"complex"})), Facts(final=True), True, ""),
        # One part that fails decides, whatever is not known yet.
        (replace(GERMAN, tools=True), Facts(), False, "only-with-tools"),
        (replace(GERMAN, max_input_tokens=400), Facts(Origin(language="fr")), False, "other-language"),
    ],
)
def test_a_condition_holds_or_not_or_nobody_knows_yet(
    condition: Condition, facts: Facts, *, holds: bool | None, reason: str
) -> None:
    found = check(condition, facts, ("health",))
    assert (found.holds, found.reason) == (holds, reason)


def test_a_plan_explains_every_model() -> None:
    load = ManualLoad()
    load.shut_by = {"b": FAILED}
    route = replace(ROUTE, conditions={"c": GERMAN})
    plan = at(route, replace(CALL, origin=Origin(language="fr")), load)
    assert order(plan) == "a"
    assert plan.reasons == ("ordered: 1 of 3 in the route's list",)
    assert [(no.spec.name, no.reason, no.detail) for no in plan.rejected] == [
        ("b", "cooling-down", "It is left alone for another 40.0 s."),
        ("c", "other-language", "It is for language de."),
    ]


@given(registers(), routes(), loads(), calls())
def test_every_model_is_tried_or_explained_and_never_both(
    made: tuple[VendorRegister, Day], route: RouteSpec, load: ManualLoad, call: ModelCall
) -> None:
    planner = Planner(made[0])
    for plan in (
        planner.before(route, call.origin, Needs(), load, 10.0),
        planner.at(route, call, load, 10.0, streamed=True),
    ):
        rejected = [no.spec.name for no in plan.rejected]
        assert sorted([*callable_names(plan), *rejected]) == sorted(spec.name for spec in route.everyone())
        assert len(plan.reasons) == len(plan.candidates)
        assert all(plan.reasons)
        assert all(no.reason for no in plan.rejected)


def test_before_the_guard_the_plan_names_everyone_who_may_be_called() -> None:
    route = replace(ROUTE, conditions={"a": GERMAN, "b": Condition(bands=frozenset({"simple"}))})
    assert order(before(route)) == "abc"
    assert order(at(route, replace(CALL, origin=Origin(language="de")))) == "ac"
    assert order(at(route, replace(CALL, origin=Origin(language="fr")))) == "c"


def test_those_that_are_shut_are_planned_when_every_other_depends_on_what_is_not_known() -> None:
    """French it turns out to be: then only `b` is left, and money must have been held for it."""
    route = RouteSpec("r", (A, B), 1, conditions={"a": GERMAN})
    load = ManualLoad()
    load.shut_by = {"b": FAILED}
    plan = before(route, b=FAILED)
    assert order(plan) == "ab"
    assert plan.reasons[1] == "tried after all although it is cooling-down, when nobody else is left"
    assert order(at(route, replace(CALL, origin=Origin(language="fr")), load)) == "b"
    assert order(before(route, b=LIMITED)) == "a"


@pytest.mark.parametrize(("counted", "planned"), [(0, "a"), (30, "ab"), (8, "a"), (300, "b")])
def test_those_that_are_shut_are_planned_when_every_other_may_turn_out_too_small(counted: int, planned: str) -> None:
    """The window of `a` takes 80 tokens here; 30 counted before the call may be 124 at it, 300 no fewer than 118."""
    route = RouteSpec("r", (replace(A, context_tokens=20), B), 1)
    load = ManualLoad()
    load.shut_by = {"b": FAILED}
    plan = Planner().before(route, Origin("acme"), Needs(input_tokens=counted), load, 10.0)
    assert order(plan) == planned
    assert order(at(route, replace(CALL, messages=(Message("user", "word " * 100),)), load)) == "b"


def test_a_condition_that_cannot_be_established_stands_aside_but_is_better_than_nobody() -> None:
    """The guard is out: no language. The catch-all answers; without one, whoever might fit does."""
    assert order(at(replace(ROUTE, conditions={"a": GERMAN}))) == "bc"
    assert order(at(replace(ROUTE, conditions=dict.fromkeys("abc", GERMAN)))) == "abc"


@settings(max_examples=200)
@given(
    route=routes() | conditioned_routes(),
    load=loads(),
    call=calls(),
    verdicts=st.permutations((SIMPLE, COMPLEX)),
    counted=st.sampled_from((0.0, 0.6, 1.0, 1.9)),
    guarded=st.booleans(),
)
def test_whoever_is_called_was_in_the_plan(
    route: RouteSpec, load: ManualLoad, call: ModelCall, verdicts: list[Judged], counted: float, *, guarded: bool
) -> None:
    """Money is held for the plan. By the same health, what is learned later only takes models away.

    `counted`: whoever plans counts the tokens otherwise, or not at all, and then no window is promised; `guarded`: the
    guard ran before.
    """
    if not counted:
        ladders = ("candidates", "context_fallbacks", "content_policy_fallbacks", "rate_limit_fallbacks")
        endless = {k: tuple(replace(spec, context_tokens=0) for spec in getattr(route, k)) for k in ladders}
        route = replace(route, **endless)  # type: ignore[arg-type]
    register = VendorRegister({}, {name: Requirement(name) for name in CLASSES})
    planner = Planner(register, scorer=Verdicts(*verdicts))
    needs = Needs(tools=bool(call.tools), input_tokens=int(size_tokens(call) * counted))
    known = call.origin if guarded else replace(call.origin, language="", embedding=None)
    planned = planner.before(route, known, needs, load, 10.0)
    called = planner.at(route, call, load, 10.0, streamed=True)
    assert callable_names(called) <= callable_names(planned)
    if not planned.candidates:
        assert not called.candidates
        return
    narrowed = route.among(tuple(callable_names(planned)))
    bounded = planner.at(narrowed, call, load, 10.0, streamed=True, whole=route)
    assert callable_names(bounded) == callable_names(called), "naming the planned models takes nobody away"
    assert order(bounded) == order(called)


def test_ladders_are_filtered_and_named_with_their_cause() -> None:
    keyless = replace(C, has_credential=False)
    route = RouteSpec("r", (A,), 1, context_fallbacks=(B, keyless), rate_limit_fallbacks=(A, B))
    plan = at(route)
    assert (plan.context_fallbacks, plan.rate_limit_fallbacks) == ((B,), (A, B))
    assert plan.for_a_cause() == ((B, "only when a conversation is too long for the window"),)
    assert reasons(plan) == {"c": "provider-without-key"}


def test_a_ladder_leaves_out_who_is_shut_or_kept_out_by_a_condition() -> None:
    route = RouteSpec("r", (A, B), 1, conditions={"b": GERMAN}, rate_limit_fallbacks=(B, C))
    load = ManualLoad()
    load.shut_by = {"c": FAILED}
    plan = at(route, replace(CALL, origin=Origin(language="fr")), load)
    assert plan.rate_limit_fallbacks == ()
    assert reasons(plan) == {"b": "other-language", "c": "cooling-down"}


@pytest.mark.parametrize("length_tokens", [5 * WINDOW_MARGIN, 5 * WINDOW_MARGIN + 3])
def test_a_window_is_left_to_the_provider_unless_it_is_far_too_small(length_tokens: int) -> None:
    """A count by length is good enough to hold money by, and no reason to refuse what may fit."""
    call = replace(CALL, messages=(Message("user", "abc" * length_tokens),))
    route = replace(ROUTE, candidates=(replace(A, context_tokens=5), B))
    fits = length_tokens == 5 * WINDOW_MARGIN
    assert order(at(route, call)) == ("ab" if fits else "b")
    needs = Needs(input_tokens=length_tokens * SIZE_MARGIN + SIZE_MARGIN_TOKENS)
    plan = Planner().before(route, Origin(), needs, ManualLoad(), 0.0)
    assert order(plan) == ("ab" if fits else "b"), "whoever plans may have counted so many more"
    if not fits:
        assert [(no.spec.name, no.reason, no.detail) for no in plan.rejected] == [
            ("a", "context-too-small", "The window holds 5 tokens, the conversation has about 110."),
        ]


@pytest.mark.parametrize(
    ("changes", "calls_held"),
    [
        ({}, 1),
        ({"hedge": HedgeRule(0.95, 2.0, 0.05)}, 2),
        ({"continue_on_another": True}, 2),
        ({"cascade_min_confidence": 0.7}, 2),
        ({"cascade_min_confidence": 0.7, "continue_on_another": True}, 2),
        ({"hedge": HedgeRule(0.95, 2.0, 0.05), "continue_on_another": True}, 3),
    ],
)
def test_for_how_many_calls_money_is_held(changes: dict[str, object], calls_held: int) -> None:
    assert at(replace(ROUTE, **changes)).max_billed_calls() == calls_held  # type: ignore[arg-type]
    alone = at(replace(ROUTE, candidates=(A,), **changes))  # type: ignore[arg-type]
    assert (alone.max_billed_calls(), alone.cascade_min_confidence()) == (1, None)


def test_a_share_of_the_calls_is_copied_and_the_copy_obeys_the_register() -> None:
    route = replace(ROUTE, shadow=ShadowRule(replace(C, provider="south"), 0.2))
    drawn = [number for number in range(5000) if before(route, Origin(request_id=str(number))).shadow is not None]
    assert 0.18 < len(drawn) / 5000 < 0.22
    call = replace(CALL, origin=Origin(request_id=str(drawn[0])))
    assert at(route, call).shadow == before(route, call.origin).shadow, "the call does as the plan said"
    register = VendorRegister({}, {"health": Requirement("health", dpa=True)}, default_class="health")
    plan = at(route, call, planner=Planner(register))
    assert plan.shadow is None
    assert plan.shadow_refused is not None
    assert plan.shadow_refused.reason == "vendor-without-dpa"


def test_complexity_goes_from_cheap_to_dear_and_in_doubt_from_dear_to_cheap() -> None:
    route = replace(ROUTE, strategy="complexity", complexity_quality=0.9, complexity_threshold=0.3)
    scorer = Verdicts(SIMPLE)
    embedded = Origin(language="en", encoder="e", embedding=np.ones(2, np.float32))
    call = replace(CALL, messages=(*CALL.messages, Message("assistant", "yes?")), origin=embedded)
    plan = at(route, call, planner=Planner(scorer=scorer))
    assert order(plan) == "abc"
    assert plan.reasons[0] == (
        "complexity: simple, 0.90 +- 0.05 that the cheap end suffices; 1 of 3 from cheap to dear"
    )
    assert [(asked.text, asked.encoder) for asked in scorer.asked] == [("hello there", "e")]
    assert order(at(route, call, planner=Planner(scorer=Verdicts(COMPLEX)))) == "cba"
    plan = at(route, call)
    assert order(plan) == "cba"
    assert plan.reasons[0].startswith("complexity: not judged, so as complex")


def test_cheapest_by_what_the_call_would_cost() -> None:
    route = replace(ROUTE, strategy="cheapest")
    prices = DeclaredPrices({"a": ModelPrice(10**9, 10**9), "b": ModelPrice(10**8, 3 * 10**9)})
    planner = Planner(prices=prices)
    plan = planner.before(route, Origin(), Needs(input_tokens=10_000, output_tokens=100), ManualLoad(), 0.0)
    assert order(plan) == "bac", "much to read"
    assert plan.reasons == (
        (
            "cheapest: about 1300000 nano-USD for 10000 input and 100 output tokens, at 100000000 and 3000000000 per "
            "million"
        ),
        (
            "cheapest: about 10100000 nano-USD for 10000 input and 100 output tokens, at 1000000000 and 1000000000 per "
            "million"
        ),
        "cheapest: its price is not known, so it comes last",
    )
    plan = planner.before(route, Origin(), Needs(input_tokens=100, output_tokens=10_000), ManualLoad(), 0.0)
    assert order(plan) == "abc", "much to write"
    brief = replace(route, candidates=(A, replace(B, max_output_tokens=10)))
    plan = planner.before(brief, Origin(), Needs(input_tokens=100, output_tokens=10_000), ManualLoad(), 0.0)
    assert order(plan) == "ba", "nobody writes more than he can"


def test_least_busy_counts_calls_and_spreads_over_equals() -> None:
    route = replace(ROUTE, strategy="least-busy")
    load = ManualLoad()
    load.under_way = {"a": 5, "b": 2}
    plan = at(route, load=load)
    assert (order(plan), plan.reasons[1]) == ("cba", "least busy: 2 calls under way")
    firsts = {order(before(route, Origin(request_id=str(number))))[0] for number in range(50)}
    assert firsts == {"a", "b", "c"}


def test_weights_are_shares_and_zero_is_for_fallback_only() -> None:
    route = replace(ROUTE, strategy="weighted", weights={"a": 3, "b": 1, "c": 0})
    origins = [Origin(request_id=f"request-{number}") for number in range(8000)]
    orders = [order(before(route, origin)) for origin in origins]
    assert 0.73 < sum(found.startswith("a") for found in orders) / 8000 < 0.77
    assert {found[-1] for found in orders} == {"c"}
    assert [order(at(route, replace(CALL, origin=origin))) for origin in origins[:50]] == orders[:50]


def test_a_conversation_stays_and_only_those_of_a_model_that_leaves_move() -> None:
    route = replace(ROUTE, strategy="cheapest", affinity="conversation")
    origins = [Origin("acme", conversation=str(number), request_id="x") for number in range(600)]

    def homes(**shut: Shut) -> list[str]:
        return [order(before(route, origin, **shut))[0] for origin in origins]

    at_home, without_b = homes(), homes(b=FAILED)
    assert set(at_home) == {"a", "b", "c"}
    assert homes() == at_home
    assert [b for a, b in zip(at_home, without_b, strict=True) if a != "b"] == [a for a in at_home if a != "b"]
    assert {b for a, b in zip(at_home, without_b, strict=True) if a == "b"} == {"a", "c"}, "shared by those who stay"
    other = [order(before(route, replace(origin, organisation="zenith")))[0] for origin in origins]
    assert other != at_home, "two organisations' conversations of one name are two"
    nobody = order(before(replace(route, strategy="ordered"), Origin("acme", request_id="x")))
    assert nobody == "abc", "a call without a conversation goes by the strategy"


def test_tools_are_a_fact_of_the_call() -> None:
    route = replace(ROUTE, conditions={"a": Condition(tools=False)})
    assert order(at(route, replace(CALL, tools=(ToolDefinition("t"),)))) == "bc"


def test_the_policy_covers_all_that_chooses() -> None:
    variants = [
        ROUTE,
        replace(ROUTE, strategy="cheapest"),
        replace(ROUTE, strategy="complexity"),
        replace(ROUTE, strategy="complexity", complexity_quality=0.8),
        replace(ROUTE, affinity="user"),
        replace(ROUTE, weights={"a": 2}),
        replace(ROUTE, conditions={"a": GERMAN}),
        replace(ROUTE, conditions={"b": GERMAN}),
        replace(ROUTE, conditions={"a": replace(GERMAN, tools=True)}),
        replace(ROUTE, context_fallbacks=(A,)),
        replace(ROUTE, rate_limit_fallbacks=(A,)),
        replace(ROUTE, hedge=HedgeRule(0.95, 2.0, 0.05)),
        replace(ROUTE, cascade_min_confidence=0.7),
        replace(ROUTE, continue_on_another=True),
    ]
    assert len({route.policy() for route in variants}) == len(variants)
    assert replace(ROUTE, apology="sorry", allow_stale=True, weights={"a": 1}).policy() == ROUTE.policy()


def test_the_policy_is_another_one_under_other_agreements() -> None:
    """An answer that one provider gave for public data is not served where it may not see the question."""

    def policy(register: VendorRegister, label: str) -> str:
        return Planner(register).policy(ROUTE, ROUTE.policy(), register.gate("acme", label))

    plain = VendorRegister({}, {"public": Requirement("public"), "health": Requirement("health", dpa=True)})
    agreed = replace(plain, terms={"north": Terms(dpa=True)})
    found = [policy(plain, ""), policy(plain, "public"), policy(plain, "health"), policy(agreed, "health")]
    assert found[0] == ROUTE.policy()
    assert len(set(found)) == 4
