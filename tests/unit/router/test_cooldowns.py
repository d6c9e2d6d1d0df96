"""Who is left alone after a failure, for how long, and who else with it."""

from __future__ import annotations

import pytest

from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import RouteSpec
from services.router.core.cooldown import Cooldown, Waits
from services.router.core.deployments import Deployments, Shut
from services.router.core.facts import Needs
from services.router.core.failure import Failure, FailureKind
from services.router.core.fallback import cooldown_after, healthy_after, is_shared
from tests.unit.router.test_fallback import LARGE, POLICY, SMALL, planned


def test_cooldowns_follow_the_provider_and_are_capped() -> None:
    limited = Failure(FailureKind.RATE_LIMITED, "http-429", retry_after_s=17.0)
    absurd = Failure(FailureKind.RATE_LIMITED, "http-429", retry_after_s=1e9)
    down = Failure(FailureKind.UNAVAILABLE, "http-503")
    assert cooldown_after(limited, 100.0, POLICY) == Cooldown(117.0, rate_limited=True)
    assert cooldown_after(absurd, 100.0, POLICY) == Cooldown(400.0, rate_limited=True)
    assert cooldown_after(down, 100.0, POLICY) == Cooldown(105.0, rate_limited=False)
    assert cooldown_after(Failure(FailureKind.REJECTED, "http-400"), 100.0, POLICY) is None


@pytest.mark.parametrize(("wait_s", "asked"), [(17.0, True), (0.0, False), (None, False)])
def test_a_pause_that_a_failing_provider_names_is_its_wish_and_no_limit(wait_s: float | None, asked: bool) -> None:  # noqa: FBT001
    cooldown = cooldown_after(Failure(FailureKind.UNAVAILABLE, "http-503", retry_after_s=wait_s), 100.0, POLICY)
    assert cooldown is not None
    assert (cooldown.asked, cooldown.rate_limited) == (asked, False)
    if asked:
        load = Deployments((SMALL, LARGE), BreakerPolicy())
        load.rest("small", Cooldown(200.0, rate_limited=False), shared=False)
        load.rest("small", cooldown, shared=True)
        assert load.shut("small", 100.0) == Shut("cooling-down", 200.0), "a longer pause hides no wish"
        assert load.shut("small", 118.0) == Shut("cooling-down", 200.0, last_resort=True)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(FailureKind.CREDENTIAL, "http-401", 401),
        Failure(FailureKind.CREDENTIAL, "http-429", 429, provider_code="insufficient_quota"),
        Failure(FailureKind.UNKNOWN_MODEL, "http-404", 404),
        Failure(FailureKind.UNKNOWN_MODEL, "http-404", 404, provider_code="DeploymentNotFound"),
        Failure(FailureKind.UNREACHABLE, "certificate"),
    ],
)
def test_what_an_operator_must_heal_rests_and_is_no_illness(failure: Failure) -> None:
    assert cooldown_after(failure, 100.0, POLICY) == Cooldown(105.0, rate_limited=False, needs_action=failure.kind)
    assert healthy_after(failure, 10.0, 10.0, 10.0) is None


@pytest.mark.parametrize(
    "failure",
    [
        Failure(FailureKind.CREDENTIAL, "http-403", 403),
        Failure(FailureKind.CREDENTIAL, "http-402", 402, provider_code="402"),
        Failure(FailureKind.UNKNOWN_MODEL, "http-404", 404, provider_code="no_endpoint_for_tools"),
    ],
)
def test_what_may_be_about_one_request_alone_rests_nobody(failure: Failure) -> None:
    """One caller could have sent all others elsewhere."""
    assert cooldown_after(failure, 100.0, POLICY) is None


def test_a_wrong_name_is_no_matter_of_the_quota() -> None:
    assert not is_shared(Failure(FailureKind.UNKNOWN_MODEL, "http-404", 404, retry_after_s=60.0))
    assert is_shared(Failure(FailureKind.CREDENTIAL, "http-401", 401, retry_after_s=60.0))


def test_one_cause_for_all_waits_of_a_model_is_known() -> None:
    load = Deployments((SMALL, LARGE), BreakerPolicy())
    unknown = Cooldown(50.0, rate_limited=False, needs_action=FailureKind.UNKNOWN_MODEL)
    load.rest("small", unknown, shared=False)
    assert load.cooling("small", 0.0) == unknown
    load.rest("small", Cooldown(40.0, rate_limited=True), shared=False)
    assert load.cooling("small", 0.0) == Cooldown(50.0, rate_limited=True)


def test_a_second_failure_never_shortens_a_cooldown() -> None:
    """BerriAI/litellm#40130: of two cooldowns the shorter one was kept."""
    waits, longer = Waits(), Cooldown(50.0, rate_limited=True)
    waits.note(longer)
    waits.note(Cooldown(10.0, rate_limited=True))
    waits.note(Cooldown(10.0, rate_limited=False))
    assert waits.running(9.0) == [longer, Cooldown(10.0, rate_limited=False)]
    assert waits.running(49.0) == [longer]
    assert waits.running(50.0) == []


def test_cooling_candidates_stand_aside_until_nobody_else_is_left() -> None:
    route = RouteSpec("r", (SMALL, LARGE), 1)
    load = Deployments((SMALL, LARGE), BreakerPolicy())
    load.rest("small", Cooldown(50.0, rate_limited=False), shared=False)
    plan = planned(route, Needs(), load, 10.0)
    assert plan.candidates == (LARGE,)
    assert [(no.spec.name, no.reason) for no in plan.rejected] == [("small", "cooling-down")]
    load.rest("large", Cooldown(50.0, rate_limited=True), shared=False)
    plan = planned(route, Needs(), load, 10.0)
    assert plan.candidates == (SMALL,), "it merely failed: better asked than refused"
    assert [no.spec.name for no in plan.rejected] == ["large"], "its provider asked for peace"
