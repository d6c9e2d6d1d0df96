"""Who is asked after which failure, how often, and who is left alone: ladders, budgets, breakers, quotas, the gate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from services.router.adapters.memory import ManualClock
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import HedgeRule, ModelSpec, RouteSpec
from services.router.core.cooldown import Cooldown
from services.router.core.deployments import ModelState
from services.router.core.errors import Unsupported, UpstreamRateLimited, UpstreamRejected, UpstreamUnavailable
from services.router.core.failure import Failure, FailureKind, Outcome
from services.router.core.fallback import RetryPolicy
from services.router.core.plan import Plan
from services.router.core.ranking import Ranked
from services.router.core.run import Run
from tests.support.router_engine import ANSWER, CALL, Engine, Timed, failing, real_time

CAUSES = {
    "context_fallbacks": FailureKind.CONTEXT_TOO_LONG,
    "content_policy_fallbacks": FailureKind.CONTENT_POLICY,
    "rate_limit_fallbacks": FailureKind.RATE_LIMITED,
}


@pytest.mark.parametrize("ladder", CAUSES)
@pytest.mark.parametrize("cause", CAUSES.values())
async def test_each_cause_has_a_ladder_of_its_own(ladder: str, cause: FailureKind) -> None:
    engine = Engine(
        {"first": [failing(cause)], "second": [ANSWER], "special": [ANSWER]},
        candidates=("first", "second"),
        route={ladder: ["special"]},
    )
    answer = await engine.complete()
    expected = "special" if CAUSES[ladder] is cause else "second"
    assert [attempt.model_name for attempt in answer.attempts] == ["first", expected]


async def test_after_its_own_ladder_the_rest_of_the_route_is_asked_and_nobody_twice() -> None:
    refusing = [failing(FailureKind.CONTENT_POLICY)]
    engine = Engine(
        {"first": refusing, "second": refusing, "special": refusing, "third": [ANSWER]},
        candidates=("first", "second", "third"),
        route={"content_policy_fallbacks": ["special", "first"]},
    )
    answer = await engine.complete()
    assert [attempt.model_name for attempt in answer.attempts] == ["first", "special", "second", "third"]


async def test_a_refusal_for_content_reaches_the_caller_when_everyone_refuses() -> None:
    refusing = [failing(FailureKind.CONTENT_POLICY)]
    with pytest.raises(UpstreamRejected, match="content rules"):
        await Engine({"first": refusing, "second": refusing}).complete()


async def test_purposes() -> None:
    engine = Engine({"first": [failing(FailureKind.UNAVAILABLE)], "second": [ANSWER]}, retries=1)
    await engine.complete()
    assert engine.tries() == [
        ("first", "FIRST", Outcome.REFUSED),
        ("first", "RETRY", Outcome.REFUSED),
        ("second", "FALLBACK", Outcome.SUCCEEDED),
    ]


@pytest.mark.parametrize(("share", "at_most"), [(0.2, 1.2), (1.0, 2.1)])
async def test_an_outage_multiplies_no_calls(share: float, at_most: float) -> None:
    """Retries of everyone at once are what keeps a provider down. The second row is the same without a budget."""
    never_open = BreakerPolicy(min_calls=10_000)
    provider = Timed(failing(FailureKind.NOT_CONNECTED))
    engine = Engine({"only": provider}, retries=3, policy=RetryPolicy(retry_share=share), breaker=never_open)
    calls = 400
    for _ in range(calls):
        with pytest.raises(UpstreamUnavailable):
            await engine.complete()
    amplification = len(provider.requests) / calls
    assert amplification <= at_most + 5 / calls
    assert amplification > at_most - 0.15
    assert engine.log.events["retry-refused default"] > 0


async def test_without_budget_the_next_model_is_asked_at_once() -> None:
    engine = Engine(
        {"first": [failing(FailureKind.NOT_CONNECTED)], "second": [ANSWER]},
        retries=1,
        policy=RetryPolicy(retry_share=0.001),
        breaker=BreakerPolicy(min_calls=10_000),
    )
    for _ in range(6):
        await engine.complete()
    purposes = [purpose for _, purpose, _ in engine.tries()]
    assert purposes.count("RETRY") == 5, "what was saved up"
    assert purposes[-2:] == ["FIRST", "FALLBACK"]


async def test_a_breaker_opens_and_only_one_probe_goes_there() -> None:
    provider = Timed(failing(FailureKind.NOT_CONNECTED))
    engine = Engine({"only": provider}, breaker=BreakerPolicy(min_calls=3, wait_s=7.0))
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable) as caught:
            await engine.complete()
    assert len(provider.requests) == 3
    assert caught.value.retry_after_s == 7.0
    assert [model.health.state for model in engine.router.models()] == [ModelState.BREAKER_OPEN] * 2
    engine.clock.advance(7.0)  # type: ignore[attr-defined]
    provider.step = ANSWER
    await engine.complete()
    assert [model.health.state for model in engine.router.models()] == [ModelState.LIVE] * 2


async def test_the_breaker_is_asked_again_before_a_retry() -> None:
    """The try that opens it would be repeated at once."""
    provider = Timed(failing(FailureKind.NOT_CONNECTED))
    engine = Engine({"only": provider, "second": [ANSWER]}, retries=5, breaker=BreakerPolicy(min_calls=2))
    answer = await engine.complete()
    assert len(provider.requests) == 2
    assert [attempt.model_name for attempt in answer.attempts] == ["only", "only", "second"]


@pytest.mark.parametrize(
    "kind", [FailureKind.REJECTED, FailureKind.CONTENT_POLICY, FailureKind.CONTEXT_TOO_LONG, FailureKind.CREDENTIAL]
)
async def test_what_is_no_illness_opens_no_breaker(kind: FailureKind) -> None:
    provider = Timed(failing(kind))
    engine = Engine({"only": provider}, breaker=BreakerPolicy(min_calls=2))
    for _ in range(6):
        with pytest.raises(Exception, match=r"content rules|fits|refused"):
            await engine.complete()
    assert len(provider.requests) == 6


async def test_a_probe_that_is_refused_as_malformed_has_shown_that_the_model_is_back() -> None:
    provider = Timed(failing(FailureKind.NOT_CONNECTED))
    engine = Engine({"only": provider}, breaker=BreakerPolicy(min_calls=1, wait_s=7.0))
    with pytest.raises(UpstreamUnavailable):
        await engine.complete()
    engine.clock.advance(7.0)  # type: ignore[attr-defined]
    provider.step = failing(FailureKind.REJECTED)
    with pytest.raises(UpstreamRejected):
        await engine.complete()
    assert [model.health.state for model in engine.router.models()] == [ModelState.LIVE] * 2


@pytest.mark.parametrize(("budget_s", "opens"), [(0.06, False), (5.0, True)])
async def test_callers_in_a_hurry_shut_no_model_for_the_others(budget_s: float, opens: bool) -> None:  # noqa: FBT001
    engine = Engine(
        {"slow": Timed(ANSWER, after_s=30.0)},
        specs={"slow": {"timeout_s": 0.1}},
        breaker=BreakerPolicy(min_calls=2),
        clock=real_time(),
    )
    for _ in range(2):
        with pytest.raises(Exception, match=r"No model|time"):
            await engine.complete(budget_s=budget_s)
    states = {model.route.name: model.health.state for model in engine.router.models()}
    assert states["slow"] is (ModelState.BREAKER_OPEN if opens else ModelState.LIVE)
    known_s = engine.router.deployments.slow_after_s("slow", 0.95, 1, streamed=False)
    assert (known_s is not None) == opens, "nor do they make it look quick"


@pytest.mark.parametrize(("quotas", "asked"), [(("a", "a"), 0), (("a", "b"), 1)])
async def test_a_limit_met_on_the_way_is_kept_for_all_who_share_it(quotas: tuple[str, str], asked: int) -> None:
    """deltawi/deltallm#247: the same account was asked again under another name."""
    sibling = Timed(ANSWER)
    engine = Engine(
        {"first": [failing(FailureKind.RATE_LIMITED, 60.0)], "sibling": sibling, "other": [ANSWER]},
        specs={"first": {"quota": quotas[0]}, "sibling": {"quota": quotas[1]}},
    )
    await engine.complete()
    assert len(sibling.requests) == asked


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE])
async def test_a_short_limit_is_waited_for_and_then_the_same_model_asked(kind: FailureKind) -> None:
    engine = Engine({"only": [failing(kind, 2.0), ANSWER]}, retries=1)
    await engine.complete()
    assert [purpose for _, purpose, _ in engine.tries()] == ["FIRST", "RETRY"]
    assert engine.clock.slept_s == [pytest.approx(2.1)]  # type: ignore[attr-defined]


class Told(ManualClock):
    """While somebody waits, another call learns something."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None

    async def sleep(self, delay_s: float) -> None:
        await super().sleep(delay_s)
        self.meanwhile()


async def test_a_limit_that_another_call_lengthened_stops_the_retry() -> None:
    """Without Retry-After the retry comes before the pause is over; what others learned meanwhile is kept."""
    clock = Told()
    engine = Engine({"only": [failing(FailureKind.RATE_LIMITED), ANSWER]}, retries=1, clock=clock)
    longer = Cooldown(clock.monotonic() + 60.0, rate_limited=True)
    clock.meanwhile = lambda: engine.router.deployments.rest("only", longer, shared=True)
    with pytest.raises(UpstreamRateLimited) as caught:
        await engine.complete()
    assert len(engine.log.attempts) == 1
    assert caught.value.retry_after_s == pytest.approx(59.9)


class Flipping:
    """Allows everyone but the one refused until it has been asked `times` times."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.refused = ""

    def allowed(self, spec: ModelSpec, now: datetime) -> str:
        self.left -= 1
        return "" if self.left >= 0 and spec.name != self.refused else "vendor-expired"


def gated(times: int) -> Run:
    """A run with three candidates, two tries of each, and a hedge."""
    engine = Engine({"first": [ANSWER], "second": [ANSWER], "third": [ANSWER]})
    route = RouteSpec("default", tuple(engine.specs.values()), 1, hedge=HedgeRule(0.95, 1.0, 1.0))
    ranked = tuple(Ranked(spec, "") for spec in route.candidates)
    plan = Plan(route, ranked, (), Flipping(times))  # type: ignore[arg-type]
    return Run(CALL, plan, engine.clock.monotonic() + 60.0, engine.router.shared["default"], streamed=True)


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_the_gate_is_asked_again_before_every_try(times: int) -> None:
    """An agreement that ends between the plan and a retry or a fallback ends at once."""
    run, down = gated(times), Failure(FailureKind.UNAVAILABLE, "http-503")

    def tried_in_turn() -> None:
        while True:
            run.failed(run.start(), down, 0.5)

    with pytest.raises((Unsupported, UpstreamUnavailable)):
        tried_in_turn()
    assert [(a.model_name, a.purpose.name) for a in run.attempts] == [
        ("first", "FIRST"),
        ("first", "RETRY"),
        ("second", "FALLBACK"),
    ][:times]


def test_a_hedge_goes_to_the_first_who_is_fit_now() -> None:
    """What happened since the plan counts: a pause of any kind, and the gate."""
    for why in ("pause", "gate"):
        run = gated(9)
        run.start()
        if why == "pause":
            run._shared.deployments.rest("second", Cooldown(9e9, rate_limited=False), shared=False)
        else:
            run._plan.gate.refused = "second"  # type: ignore[attr-defined]
        tried = run.hedge()
        assert tried is not None
        assert tried.spec.name == "third"


@pytest.mark.parametrize(("times", "allowed"), [(1, False), (9, True)])
def test_the_gate_is_asked_before_a_hedge_and_a_continuation(times: int, allowed: bool) -> None:  # noqa: FBT001
    run = gated(times)
    run.start()
    assert (run.hedge() is not None) == allowed
    assert (run.continuation(CALL) is not None) == allowed
