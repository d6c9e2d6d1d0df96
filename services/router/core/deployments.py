"""What this process saw of each configured model: calls under way, how fast, how healthy, and whether it is shut.

In memory, bounded by the number of models. Times are seconds of one monotonic clock that callers pass in.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from services.router.core.breaker import Breaker, BreakerPolicy, BreakerState, Pass
from services.router.core.catalogue import ModelSpec
from services.router.core.cooldown import Cooldown, Waits
from services.router.core.failure import FailureKind
from services.router.core.speed import Speed

# Standard errors: one time in forty the true percentile is below.
_DOUBT = 2.0
# Why a model is shut that rests, unlike one whose breaker is open or that is quarantined.
COOLING = "cooling-down"


@dataclass(frozen=True, slots=True)
class Shut:
    """Why a model may not be called now, and until when; None when nobody knows.

    `rate_limited`: its provider limits us. `last_resort`: it may be asked all the same when nobody else is left.
    `needs_action`: what an operator must heal, and waiting will not.
    """

    reason: str
    until_s: float | None
    rate_limited: bool = False
    last_resort: bool = False
    needs_action: FailureKind | None = None


class ModelState(Enum):
    """As in the contract, without its prefix; QUARANTINED is not seen from here."""

    LIVE = "LIVE"
    HALF_OPEN = "HALF_OPEN"
    COOLING = "COOLING"
    BREAKER_OPEN = "BREAKER_OPEN"
    WITHOUT_KEY = "WITHOUT_KEY"


@dataclass(frozen=True, slots=True)
class Health:
    """How a model does. `shut_for_s` and `first_token_s` are None when there is nothing to tell."""

    state: ModelState
    shut_for_s: float | None
    calls_under_way: int
    first_token_s: float | None
    failure_rate: float


# From the best to the worst.
_RANKS = tuple(ModelState)


def healthiest(healths: Sequence[Health]) -> Health:
    """How a route does: as well as the best of its candidates, and of equal ones as the quickest."""
    return min(
        healths,
        key=lambda health: (_RANKS.index(health.state), health.shut_for_s or 0.0, health.first_token_s or 0.0),
    )


@dataclass(slots=True)
class Permit:
    """One call under way; `speed` is what it measures."""

    model: str
    began_s: float
    passed: Pass
    speed: Speed
    streamed: bool
    ended: bool = False
    begun: bool = False


class _Seen:
    """What was seen of one model."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.waits = Waits()
        self.breaker = Breaker(policy)
        self.streams, self.whole_answers = Speed(), Speed()

    def speed(self, *, streamed: bool) -> Speed:
        return self.streams if streamed else self.whole_answers

    def under_way(self) -> int:
        return self.streams.under_way + self.whole_answers.under_way


class Deployments:
    """Every configured model by its name. Unknown names are a fault of the caller: KeyError."""

    def __init__(
        self, specs: Iterable[ModelSpec], policy: BreakerPolicy, quarantined: Container[str] = frozenset()
    ) -> None:
        """`quarantined` names models that nobody may ask; whoever owns it changes it meanwhile."""
        self._specs = {spec.name: spec for spec in specs}
        self._seen = {name: _Seen(policy) for name in self._specs}
        self._quotas = {name: spec.quota or f"{spec.provider} {spec.model}" for name, spec in self._specs.items()}
        self._quota_waits = {quota: Waits() for quota in self._quotas.values()}
        self._policy = policy
        self._quarantined = quarantined

    def take_over(self, before: Deployments, names: Iterable[str]) -> None:
        """What is seen of models that are the same under a new configuration; the others begin anew.

        Calls that are under way there go on counting, here as well.
        """
        for name in names:
            self._seen[name] = before._seen[name]
            self._seen[name].breaker.follow(self._policy)
            quota = self._quotas[name]
            self._quota_waits[quota] = before._quota_waits.get(quota, self._quota_waits[quota])

    def names(self) -> tuple[str, ...]:
        """Every model."""
        return tuple(self._specs)

    # What planning reads.

    def calls_under_way(self, model: str) -> int:
        """Tries that have not ended."""
        return self._seen[model].under_way()

    def speed(self, model: str, *, streamed: bool) -> Speed:
        """How fast it begins streams, or gives whole answers."""
        return self._seen[model].speed(streamed=streamed)

    def shut(self, model: str, now_s: float) -> Shut | None:
        """Why a model may not be called; None when it may. A probe that may be made is no reason."""
        known = self._seen[model]
        if model in self._quarantined:
            return Shut("quarantined", None)
        if not known.breaker.admits(now_s):
            return Shut("breaker-open", known.breaker.until_s(now_s))
        cooling = self.cooling(model, now_s)
        if cooling is None:
            return None
        return Shut(COOLING, cooling.until_s, cooling.rate_limited, not cooling.asked, cooling.needs_action)

    def cooling(self, model: str, now_s: float) -> Cooldown | None:
        """The waits of a model and of its quota as one: the longest, with all that any of them is, and the cause."""
        running = self._seen[model].waits.running(now_s) + self._quota_waits[self._quotas[model]].running(now_s)
        if not running:
            return None
        causes = {wait.needs_action for wait in running}
        return Cooldown(
            max(wait.until_s for wait in running),
            any(wait.rate_limited for wait in running),
            causes.pop() if len(causes) == 1 else None,
            any(wait.named for wait in running),
        )

    def health(self, model: str, now_s: float) -> Health:
        """All of it. Changes nothing, and may be asked from another thread."""
        known = self._seen[model]
        shut, state = self.shut(model, now_s), ModelState.LIVE
        breaker = known.breaker.state(now_s)
        if not self._specs[model].has_credential:
            state = ModelState.WITHOUT_KEY
        elif breaker is not BreakerState.CLOSED:
            state = ModelState.BREAKER_OPEN if breaker is BreakerState.OPEN else ModelState.HALF_OPEN
        elif shut is not None:
            state = ModelState.COOLING
        until_s = shut.until_s if shut is not None else None
        return Health(
            state,
            None if until_s is None else until_s - now_s,
            known.under_way(),
            known.whole_answers.average_s if known.streams.average_s is None else known.streams.average_s,
            known.breaker.failure_rate(now_s),
        )

    def slow_after_s(self, model: str, share: float, min_count: int, *, streamed: bool) -> float | None:
        """The time within which `share` of the recent calls began (streams) or answered, at its lower end.

        Where the share of slow calls is near the percentile, the percentile itself is now a quick call and now a slow
        one, and a slow one would never be found slow. Sending too early is bounded by the rate of hedges.
        """
        return self.speed(model, streamed=streamed).durations.percentile_s(share, min_count, _DOUBT)

    # What running calls tell.

    def begin(self, model: str, now_s: float, *, streamed: bool) -> Permit | None:
        """A try begins, and must end by `ended`; None when the breaker is shut or its probe is under way."""
        known = self._seen[model]
        passed = known.breaker.begin(now_s)
        if passed is None:
            return None
        speed = known.speed(streamed=streamed)
        speed.under_way += 1
        return Permit(model, now_s, passed, speed, streamed)

    def began_answer(self, permit: Permit, now_s: float) -> None:
        """The first token of a stream. A probe has passed with it: a long answer must not keep the others out."""
        permit.begun = True
        permit.speed.took(now_s - permit.began_s)
        if permit.passed.probe:
            known = self._seen[permit.model]
            known.breaker.ended(permit.passed, healthy=True, now_s=now_s)
            permit.passed = known.breaker.begin(now_s) or permit.passed

    def answered(self, permit: Permit, now_s: float) -> None:
        """A try gave its answer."""
        if not permit.streamed:
            permit.speed.took(now_s - permit.began_s)
        self.ended(permit, now_s, healthy=True)

    def given_up(self, permit: Permit, now_s: float) -> None:
        """A try was left because it was slow; a stream that had begun was measured then."""
        if not permit.begun:
            permit.speed.given_up(now_s - permit.began_s)

    def ended(self, permit: Permit, now_s: float, *, healthy: bool | None) -> None:
        """A try ended: well, badly, or in a way that says nothing about the model (None). Once is enough."""
        if permit.ended:
            return
        permit.ended = True
        permit.speed.under_way -= 1
        permit.speed.tried_s = now_s
        self._seen[permit.model].breaker.ended(permit.passed, healthy=healthy, now_s=now_s)

    def rest(self, model: str, cooldown: Cooldown, *, shared: bool) -> None:
        """Leaves a model alone for a while, or, when `shared`, all models of its quota. The longer wait is kept."""
        waits = self._quota_waits[self._quotas[model]] if shared else self._seen[model].waits
        waits.note(cooldown)
