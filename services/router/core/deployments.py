"""What this process saw of each configured model: calls under way, how fast, how healthy, and whether it is shut.

In memory, bounded by the number of models. Times are seconds of one monotonic clock that callers pass in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from services.router.core.breaker import Breaker, BreakerPolicy, BreakerState, Pass
from services.router.core.catalogue import ModelSpec
from services.router.core.cooldown import Cooldown, Cooldowns
from services.router.core.failure import FailureKind

# Weight of the newest time in the moving average: the last ten make up nine tenths of it.
_NEWEST = 0.2
_KEPT_DURATIONS = 512
# Sorting is spared for so many new durations: on 512 they move a percentile by less than 4 points of rank.
_STALE_AFTER = 16
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


class Durations:
    """The last 512 durations, and percentiles of them.

    Calls that were given up count with the time that they had: leaving the slow ones out would make each percentile
    creep down, and more and more calls look slow.
    """

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=_KEPT_DURATIONS)
        self._sorted: list[float] = []
        self._new = 0

    def add(self, duration_s: float) -> None:
        """One more; the oldest goes."""
        self._kept.append(duration_s)
        self._new += 1

    def percentile_s(self, share: float, min_count: int, doubt: float = 0.0) -> float | None:
        """The duration that `share` of the calls did not exceed; None while there are fewer than `min_count`.

        With `doubt` it is the lower end of what that may be: so many standard errors of the share below it.
        """
        count = len(self._kept)
        if count < min_count:
            return None
        share = max(0.0, share - doubt * math.sqrt(share * (1 - share) / count))
        if self._new >= _STALE_AFTER or not self._sorted:
            self._sorted, self._new = sorted(self._kept), 0
        return self._sorted[min(int(share * len(self._sorted)), len(self._sorted) - 1)]


@dataclass(slots=True)
class Permit:
    """One call under way."""

    model: str
    began_s: float
    passed: Pass
    ended: bool = False
    begun: bool = False


class _Deployment:
    def __init__(self, spec: ModelSpec, policy: BreakerPolicy) -> None:
        self.spec = spec
        self.quota = f"quota {spec.quota or f'{spec.provider} {spec.model}'}"
        self.waits = [_key(key, asked=asked) for key in (spec.name, self.quota) for asked in (True, False)]
        self.breaker = Breaker(policy)
        self.under_way = 0
        self.first_token_s: float | None = None
        self.tried_s: float | None = None
        self.whole, self.first = Durations(), Durations()

    def took(self, duration_s: float) -> None:
        known = self.first_token_s
        self.first_token_s = duration_s if known is None else known + _NEWEST * (duration_s - known)


class Deployments:
    """Every configured model by its name. Unknown names are a fault of the caller: KeyError."""

    def __init__(
        self, specs: Iterable[ModelSpec], policy: BreakerPolicy, quarantined: Container[str] = frozenset()
    ) -> None:
        """`quarantined` names models that nobody may ask; whoever owns it changes it meanwhile."""
        self._all = {spec.name: _Deployment(spec, policy) for spec in specs}
        self._cooldowns = Cooldowns()
        self._quarantined = quarantined

    def take_over(self, before: Deployments, names: Iterable[str]) -> None:
        """What was seen of models that are the same under a new configuration; the others begin anew.

        Calls that are under way there go on counting there.
        """
        for name in names:
            old, new = before._all[name], self._all[name]
            new.breaker.take_over(old.breaker)
            new.first_token_s, new.whole, new.first = old.first_token_s, old.whole, old.first
            self._cooldowns.take_over(before._cooldowns, new.waits)

    def names(self) -> tuple[str, ...]:
        """Every model."""
        return tuple(self._all)

    # What planning reads.

    def calls_under_way(self, model: str) -> int:
        """Tries that have not ended."""
        return self._all[model].under_way

    def first_token_s(self, model: str) -> float | None:
        """Moving average of the time to the first token, or to the whole answer of unary calls; None before any."""
        return self._all[model].first_token_s

    def tried_s(self, model: str) -> float | None:
        """When a try last ended, in whatever way; None before any."""
        return self._all[model].tried_s

    def shut(self, model: str, now_s: float) -> Shut | None:
        """Why a model may not be called; None when it may. A probe that may be made is no reason."""
        known = self._all[model]
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
        running = self._cooldowns.running(self._all[model].waits, now_s)
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
        known = self._all[model]
        shut, state = self.shut(model, now_s), ModelState.LIVE
        breaker = known.breaker.state(now_s)
        if not known.spec.has_credential:
            state = ModelState.WITHOUT_KEY
        elif breaker is not BreakerState.CLOSED:
            state = ModelState.BREAKER_OPEN if breaker is BreakerState.OPEN else ModelState.HALF_OPEN
        elif shut is not None:
            state = ModelState.COOLING
        until_s = shut.until_s if shut is not None else None
        return Health(
            state,
            None if until_s is None else until_s - now_s,
            known.under_way,
            known.first_token_s,
            known.breaker.failure_rate(now_s),
        )

    def slow_after_s(self, model: str, share: float, min_count: int, *, streamed: bool) -> float | None:
        """The time within which `share` of the recent calls began (streams) or answered, at its lower end.

        Where the share of slow calls is near the percentile, the percentile itself is now a quick call and now a slow
        one, and a slow one would never be found slow. Sending too early is bounded by the rate of hedges.
        """
        known = self._all[model]
        return (known.first if streamed else known.whole).percentile_s(share, min_count, _DOUBT)

    # What running calls tell.

    def begin(self, model: str, now_s: float) -> Permit | None:
        """A try begins, and must end by `ended`; None when the breaker is shut or its probe is under way."""
        known = self._all[model]
        passed = known.breaker.begin(now_s)
        if passed is None:
            return None
        known.under_way += 1
        return Permit(model, now_s, passed)

    def began_answer(self, permit: Permit, now_s: float) -> None:
        """The first token of a stream. A probe has passed with it: a long answer must not keep the others out."""
        known = self._all[permit.model]
        permit.begun = True
        known.took(now_s - permit.began_s)
        known.first.add(now_s - permit.began_s)
        if permit.passed.probe:
            known.breaker.ended(permit.passed, healthy=True, now_s=now_s)
            permit.passed = known.breaker.begin(now_s) or permit.passed

    def answered(self, permit: Permit, now_s: float, *, streamed: bool) -> None:
        """A try gave its answer."""
        known = self._all[permit.model]
        if not streamed:
            known.took(now_s - permit.began_s)
            known.whole.add(now_s - permit.began_s)
        self.ended(permit, now_s, healthy=True)

    def given_up(self, permit: Permit, now_s: float, *, streamed: bool) -> None:
        """A try was left because it was slow; what it had taken by then is the least that it would have taken."""
        known = self._all[permit.model]
        if not permit.begun:
            known.took(max(now_s - permit.began_s, known.first_token_s or 0.0))
            (known.first if streamed else known.whole).add(now_s - permit.began_s)

    def ended(self, permit: Permit, now_s: float, *, healthy: bool | None) -> None:
        """A try ended: well, badly, or in a way that says nothing about the model (None). Once is enough."""
        if permit.ended:
            return
        permit.ended = True
        known = self._all[permit.model]
        known.under_way -= 1
        known.tried_s = now_s
        known.breaker.ended(permit.passed, healthy=healthy, now_s=now_s)

    def rest(self, model: str, cooldown: Cooldown, *, shared: bool) -> None:
        """Leaves a model alone for a while, or, when `shared`, all models of its quota. The longer wait is kept."""
        key = self._all[model].quota if shared else model
        self._cooldowns.note(_key(key, asked=cooldown.asked), cooldown)


def _key(name: str, *, asked: bool) -> str:
    """A longer pause after a failure must not hide that the provider asked for a shorter one."""
    return f"asked {name}" if asked else f"failed {name}"
