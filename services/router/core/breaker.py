"""A breaker for each model: shut after too many failures, opened again by one probe that passes. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# Outcomes are counted in so many parts of the window, so that memory does not grow with traffic.
_PARTS = 10


class BreakerState(Enum):
    """Whether calls pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """It opens when at least `min_calls` calls ended within `window_s` and `failure_share` of them failed.

    After `wait_s` one probe may pass; each probe that fails doubles the wait up to `max_wait_s`. A try that timed out
    counts only when it was given its model's own limit, or `patient_s`: a caller in a hurry must not shut a model
    for all others.
    """

    failure_share: float = 0.5
    min_calls: int = 5
    window_s: float = 30.0
    wait_s: float = 5.0
    max_wait_s: float = 120.0
    patient_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to make one call. `period` tells calls apart that began before the breaker last changed."""

    period: int
    probe: bool


class Breaker:
    """Counts how calls ended. Every pass must be given back exactly once, also when the caller left."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._period = 0
        self._until_s: float | None = None
        self._wait_s = policy.wait_s
        self._probing = False
        # Rows of [part of the window, calls, failures], oldest first.
        self._counts: list[list[int]] = []

    def follow(self, policy: BreakerPolicy) -> None:
        """Goes on under another policy. A wait that runs stays as it is; counts of another window are begun anew."""
        if policy.window_s != self._policy.window_s:
            self._counts = []
        self._policy = policy

    def state(self, now_s: float) -> BreakerState:
        """Open until the wait is over, then half open until a probe decides."""
        if self._until_s is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now_s < self._until_s else BreakerState.HALF_OPEN

    def until_s(self, now_s: float) -> float | None:
        """When a probe may pass; None when one is under way, for nobody knows how long, or when it is closed."""
        return self._until_s if self.state(now_s) is BreakerState.OPEN else None

    def admits(self, now_s: float) -> bool:
        """Whether `begin` would give a pass."""
        state = self.state(now_s)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not self._probing)

    def begin(self, now_s: float) -> Pass | None:
        """A pass for one call; None when it is shut, or a probe is under way already."""
        if not self.admits(now_s):
            return None
        self._probing = self._until_s is not None
        return Pass(self._period, self._probing)

    def ended(self, passed: Pass, *, healthy: bool | None, now_s: float) -> None:
        """How the call ended; None says nothing about the model. Calls from before the last change do not count."""
        if passed.period != self._period:
            return
        if passed.probe:
            self._probing = False
            if healthy:
                self._change(None)
            elif healthy is False:
                self._wait_s = min(self._wait_s * 2, self._policy.max_wait_s)
                self._change(now_s + self._wait_s)
        elif healthy is not None:
            self._count(now_s, failed=not healthy)

    def failure_rate(self, now_s: float) -> float:
        """Share of failed calls in the window, 0 when there were none. May be asked from another thread."""
        calls, failures = self._totals(now_s)
        return failures / calls if calls else 0.0

    def _count(self, now_s: float, *, failed: bool) -> None:
        part = self._part(now_s)
        if not self._counts or self._counts[-1][0] != part:
            self._counts = [row for row in self._counts if row[0] > part - _PARTS]
            self._counts.append([part, 0, 0])
        self._counts[-1][1] += 1
        self._counts[-1][2] += failed
        if failed and self._too_many(now_s):
            self._wait_s = self._policy.wait_s
            self._change(now_s + self._wait_s)

    def _too_many(self, now_s: float) -> bool:
        calls, failures = self._totals(now_s)
        return calls >= self._policy.min_calls and failures >= self._policy.failure_share * calls

    def _change(self, until_s: float | None) -> None:
        self._period += 1
        self._until_s = until_s
        self._counts = []

    def _part(self, now_s: float) -> int:
        return int(now_s * _PARTS / self._policy.window_s)

    def _totals(self, now_s: float) -> tuple[int, int]:
        oldest = self._part(now_s) - _PARTS
        rows = [row for row in tuple(self._counts) if row[0] > oldest]
        return sum(row[1] for row in rows), sum(row[2] for row in rows)
