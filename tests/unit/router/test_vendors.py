"""The vendor register: who may see what, on which day, in every list of a plan and at every step."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.adapters.memory import AttemptLog, ManualClock, ManualLoad, ScriptedProvider
from services.router.adapters.tokens import CharacterTokenCounter
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import Catalogue, ModelSpec, RouteSpec
from services.router.core.chat import Completion, Message, ModelCall
from services.router.core.errors import InvalidRequest, RouterError, Unsupported
from services.router.core.facts import Needs, Origin
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.fallback import RetryPolicy
from services.router.core.plan import Plan
from services.router.core.planner import Planner
from services.router.core.ports import ProviderAnswer, ProviderRequest
from services.router.core.router import Router
from services.router.core.vendors import Refusal, Requirement, Terms, VendorRegister, refusal
from tests.unit.router.routes import (
    CLASSES,
    ORGANISATIONS,
    PROVIDERS,
    TODAY,
    Day,
    calls,
    days,
    loads,
    registers,
    routes,
)

AGREED = Terms(dpa=True, regions=frozenset({"eu"}), retention_days=0, trains=False)
STRICT = Requirement("health", dpa=True, regions=frozenset({"eu"}), max_retention_days=0, no_training=True)


def allowed(register: VendorRegister, origin: Origin, provider: str, day: dt.date) -> bool:
    """The rules once more, written differently: the oracle of the property tests."""
    own = register.by_organisation.get(origin.organisation, "")
    names = {origin.data_class, own, register.default_class} - {""}
    found = register.terms.get(provider, Terms())
    if found.expires is not None and found.expires < day:
        found = Terms()
    return all(
        (found.dpa or not asked.dpa)
        and (not asked.regions or bool(found.regions and not found.regions - asked.regions))
        and (asked.max_retention_days < 0 or found.retention_days in range(asked.max_retention_days + 1))
        and not (asked.no_training and found.trains)
        for asked in (register.classes[name] for name in names)
    )


def everyone(plan: Plan) -> list[ModelSpec]:
    shadow = () if plan.shadow is None else (plan.shadow,)
    ladders = (*plan.context_fallbacks, *plan.content_policy_fallbacks, *plan.rate_limit_fallbacks)
    return [*plan.candidates, *ladders, *shadow]


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (AGREED, ""),
        (Terms(in_process=True), ""),
        (replace(AGREED, expires=TODAY), ""),
        (Terms(), "vendor-without-dpa"),
        (replace(AGREED, regions=frozenset({"eu", "us"})), "vendor-region"),
        (replace(AGREED, regions=frozenset()), "vendor-region"),
        (replace(AGREED, retention_days=30), "vendor-retention"),
        (replace(AGREED, retention_days=-1), "vendor-retention"),
        (replace(AGREED, trains=True), "vendor-trains"),
        (replace(AGREED, expires=TODAY - dt.timedelta(days=1)), "vendor-expired"),
    ],
)
def test_a_provider_is_refused_for_what_it_did_not_agree_to(terms: Terms, reason: str) -> None:
    found = refusal(terms, STRICT, "north", TODAY)
    assert (found.reason if found else "") == reason
    assert refusal(terms, Requirement("public"), "north", TODAY) is None, "a class that asks nothing"


def test_the_sentence_names_both_sides() -> None:
    found = refusal(replace(AGREED, retention_days=30), STRICT, "north", TODAY)
    assert found == Refusal("vendor-retention", "Data class 'health' is kept 0 days at most; 'north' keeps it 30 days.")


@pytest.mark.parametrize(
    ("organisation", "label", "classes"),
    [
        ("acme", "", ("health",)),
        ("acme", "public", ("public", "health")),
        ("acme", "health", ("health",)),
        ("zenith", "", ("personal",)),
        ("zenith", "public", ("public",)),
    ],
)
def test_what_conditions_see_of_the_data(organisation: str, label: str, classes: tuple[str, ...]) -> None:
    """acme has a class of its own, zenith has the default's."""
    known = {name: Requirement(name) for name in ("public", "personal", "health")}
    register = VendorRegister({}, known, {"acme": "health"}, "personal")
    assert register.gate(organisation, label).classes == classes


@given(registers(), st.sampled_from((*ORGANISATIONS, "nobody")), st.sampled_from(CLASSES), days)
def test_a_label_narrows_and_never_widens(
    made: tuple[VendorRegister, Day], organisation: str, label: str, day: dt.date
) -> None:
    register, calendar = made
    calendar.day = day
    specs = [ModelSpec(name, name, "m") for name in PROVIDERS]
    labelled, plain = register.gate(organisation, label), register.gate(organisation, "")
    for spec in specs:
        assert labelled.refusal(spec) is not None or plain.refusal(spec) is None


def test_what_agreements_cover_tells_the_data_of_two_calls_apart() -> None:
    """They ask the same, but a condition may send them elsewhere: no answer of the one is kept for the other."""
    known = {name: Requirement(name) for name in ("personal", "health")}
    register = VendorRegister({}, known, {"acme": "personal"}, "personal")
    assert register.gate("acme", "health").agreements(()) != register.gate("zenith", "health").agreements(())


def test_a_gate_answers_for_the_time_that_it_is_asked_about() -> None:
    terms = {"north": replace(AGREED, expires=TODAY)}
    gate = VendorRegister(terms, {"health": STRICT}, default_class="health", now=Day().now).gate("acme", "")
    spec = ModelSpec("a", "north", "m")
    midnight = dt.datetime.combine(TODAY + dt.timedelta(days=1), dt.time(0), dt.UTC)
    assert gate.allowed(spec, midnight - dt.timedelta(seconds=1)) == ""
    assert gate.allowed(spec, midnight) == "vendor-expired"
    assert gate.refusal(spec) is None


def test_gates_are_as_many_as_classes_not_as_organisations() -> None:
    register = VendorRegister({}, {"health": STRICT}, {"acme": "health"}, "health")
    assert register.gate("zenith", "health") is register.gate("nobody knows", "health")
    assert register.gate("acme", "health") is not register.gate("zenith", "health")


def test_an_unknown_class_is_refused_and_the_known_ones_are_named() -> None:
    register = VendorRegister({}, {"public": Requirement("public"), "health": STRICT})
    with pytest.raises(InvalidRequest, match="known are health, public"):
        register.gate("acme", "helth")
    with pytest.raises(InvalidRequest, match=r"router\.data_classes"):
        VendorRegister().gate("acme", "health")


@given(registers(), routes(), loads(), calls(), days)
def test_no_list_of_any_plan_leaves_the_allowed_set(
    made: tuple[VendorRegister, Day], route: RouteSpec, load: ManualLoad, call: ModelCall, day: dt.date
) -> None:
    """Whatever failed before, whoever is shut, slow or busy: candidates, ladders and the shadow alike."""
    register, calendar = made
    calendar.day = day
    planner = Planner(register)
    for plan in (
        planner.before(route, call.origin, Needs(), load, 10.0),
        planner.at(route, call, load, 10.0, streamed=True),
    ):
        for spec in everyone(plan):
            assert allowed(register, call.origin, spec.provider, day), spec
        refused = {no.spec.name for no in plan.rejected if no.reason.startswith("vendor-")}
        wanted = {
            spec.name
            for spec in route.everyone()
            if not allowed(register, call.origin, spec.provider, day)
            and spec.has_credential
            and (spec.supports_tools or not call.tools)
            and not spec.context_tokens
        }
        # Only the call itself says that it brings tools, and how long it is; whoever cannot take that is out for it.
        assert refused >= wanted


@given(registers(), routes(), loads(), calls(), days, st.lists(days, min_size=1, max_size=8))
def test_a_step_after_midnight_is_judged_by_the_new_day(
    made: tuple[VendorRegister, Day],
    route: RouteSpec,
    load: ManualLoad,
    call: ModelCall,
    first: dt.date,
    later: list[dt.date],
) -> None:
    """An entry that ends while a call is under way: the plan's gate says so from then on."""
    register, calendar = made
    calendar.day = first
    plan = Planner(register).at(route, call, load, 10.0, streamed=True)
    for day in later:
        calendar.day = day
        for spec in everyone(plan):
            assert (plan.gate.refusal(spec) is None) == allowed(register, call.origin, spec.provider, day)
            at_first = plan.gate.allowed(spec, dt.datetime.combine(first, dt.time(1), dt.UTC))
            assert at_first == "", "it passed on that day"
            then = dt.datetime.combine(TODAY, dt.time(1), dt.UTC)
            assert (plan.gate.allowed(spec, then) == "") == allowed(register, call.origin, spec.provider, TODAY)


FAILURES = st.sampled_from([kind for kind in FailureKind if kind != FailureKind.REJECTED]).map(
    lambda kind: ProviderError(Failure(kind, kind.value))
)
STEPS = st.lists(st.none() | FAILURES, min_size=1, max_size=6)


@settings(max_examples=60)
@given(
    registers(),
    routes(),
    st.lists(calls(), min_size=1, max_size=4),
    st.fixed_dictionaries(dict.fromkeys(PROVIDERS, STEPS)),
)
def test_no_history_of_failures_reaches_a_provider_that_may_not_see_the_data(
    made: tuple[VendorRegister, Day],
    route: RouteSpec,
    asked: list[ModelCall],
    scripts: dict[str, list[ProviderError | None]],
) -> None:
    """The engine itself, call after call, with the cooldowns that the failures leave behind."""
    register, calendar = made
    answer = ProviderAnswer(Completion("hi"))
    providers = {name: ScriptedProvider(*(step or answer for step in steps)) for name, steps in scripts.items()}
    router = Router(
        Catalogue({"r": route}, "r"),
        providers,
        policy=RetryPolicy(),
        breaker=BreakerPolicy(),
        clock=ManualClock(),
        wall_now=calendar.now,
        jitter=lambda: 0.0,
        observer=AttemptLog(),
        counter=CharacterTokenCounter(),
        planner=Planner(register),
    )

    async def ask() -> None:
        for call in asked:
            before = {name: len(provider.requests) for name, provider in providers.items()}
            try:
                await router.complete(call, call.origin.request_id, 60.0)
            except RouterError as error:
                assert error.reason != "INTERNAL"  # noqa: PT017 - whether it answers is not the question here
            for name, provider in providers.items():
                if len(provider.requests) > before[name]:
                    assert allowed(register, call.origin, name, calendar.day)

    asyncio.run(ask())


async def test_a_call_that_nobody_may_see_says_so() -> None:
    register = VendorRegister({"north": AGREED}, {"health": replace(STRICT, regions=frozenset({"ch"}))})
    router = Router(
        Catalogue({"r": RouteSpec("r", (ModelSpec("a", "north", "m"),), 0)}, "r"),
        {"north": ScriptedProvider(ProviderAnswer(Completion("hi")))},
        policy=RetryPolicy(),
        breaker=BreakerPolicy(),
        clock=ManualClock(),
        wall_now=register.now,
        jitter=lambda: 0.0,
        observer=AttemptLog(),
        counter=CharacterTokenCounter(),
        planner=Planner(register),
    )
    call = ModelCall("", (Message("user", "hello"),), origin=Origin("acme", data_class="health"))
    with pytest.raises(Unsupported, match="a: vendor-region") as caught:
        await router.complete(call, "q", 10.0)
    assert caught.value.metadata == {"feature": "vendor-register", "attempts_json": "[]"}


async def test_an_agreement_that_ends_in_mid_call_ends_there() -> None:
    """The first provider fails at midnight; the second was allowed when the call was planned."""
    calendar = Day()
    register = VendorRegister(
        {"north": AGREED, "south": replace(AGREED, expires=calendar.day)},
        {"health": STRICT},
        now=calendar.now,
    )
    south = ScriptedProvider(ProviderAnswer(Completion("hi")))

    class Midnight(ScriptedProvider):
        async def complete(self, request: ProviderRequest) -> ProviderAnswer:
            calendar.day += dt.timedelta(days=self.days)
            return await super().complete(request)

        days = 1

    north = Midnight(ProviderError(Failure(FailureKind.BROKEN, "cut-mid-answer")))
    specs = tuple(ModelSpec(name, name, "m") for name in ("north", "south"))
    router = Router(
        Catalogue({"r": RouteSpec("r", specs, 0)}, "r"),
        {"north": north, "south": south},
        policy=RetryPolicy(),
        breaker=BreakerPolicy(),
        clock=ManualClock(),
        wall_now=calendar.now,
        jitter=lambda: 0.0,
        observer=AttemptLog(),
        counter=CharacterTokenCounter(),
        planner=Planner(register),
    )
    call = ModelCall("", (Message("user", "hello"),), origin=Origin("acme", data_class="health"))
    with pytest.raises(RouterError):
        await router.complete(call, "q", 10.0)
    assert south.requests == []
    calendar.day, north.days = TODAY, 0
    assert (await router.complete(call, "q", 10.0)).completion.content == "hi", "the same without the midnight"
