"""What a run leaves behind: the numbers of every round, and what the report derives from them."""

from __future__ import annotations

from collections import Counter

import msgspec

from bench.loadgen import Outcome
from bench.machine import Machine
from bench.statistics import Summary, median, summarise
from bench.tally import Counts

MAX_LOST_SHARE = 0.001
MAX_LATE_SHARE = 0.05
MIN_CACHE_SHARE = 0.95
MAX_OTHERS_BUSY = 0.7
_US_PER_S = 1e6


class OpenRound(msgspec.Struct, frozen=True, kw_only=True):
    """One round on the schedule. `cpu_s` and `rss_bytes` are the system's; None when its processes are unknown."""

    counts: Counts
    latency: Summary
    first_event: Summary
    lateness: Summary
    failures: dict[str, int]
    cache: dict[str, int]
    cpu_s: float | None
    rss_bytes: int | None
    others_busy: float
    events: int = 0
    missing_connections: int = 0

    @classmethod
    def of(cls, outcome: Outcome) -> OpenRound:
        """Summarise what the generator reports."""
        system, others = outcome.usage.get("system"), outcome.usage.get("others")
        return cls(
            counts=outcome.counts,
            latency=_summary(outcome.latency_us),
            first_event=_summary(outcome.first_event_us),
            lateness=_summary(outcome.lateness_us),
            failures=outcome.failures,
            cache=outcome.cache,
            cpu_s=system.cpu_s if system else None,
            rss_bytes=system.rss_bytes if system else None,
            events=outcome.events,
            missing_connections=outcome.missing_connections,
            others_busy=others.cpu_s / outcome.elapsed_s if others else 0.0,
        )


class ClosedRound(msgspec.Struct, frozen=True, kw_only=True):
    """One round at saturation."""

    counts: Counts
    elapsed_s: float
    failures: dict[str, int]
    cache: dict[str, int]
    cpu_s: float | None

    @classmethod
    def of(cls, outcome: Outcome) -> ClosedRound:
        """Summarise what the generator reports."""
        system = outcome.usage.get("system")
        return cls(
            counts=outcome.counts,
            elapsed_s=outcome.elapsed_s,
            failures=outcome.failures,
            cache=outcome.cache,
            cpu_s=system.cpu_s if system else None,
        )

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return self.counts.answered / self.elapsed_s

    @property
    def cpu_us(self) -> float | None:
        """CPU microseconds of the system per good answer."""
        if self.cpu_s is None or not self.counts.answered:
            return None
        return self.cpu_s / self.counts.answered * _US_PER_S


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One target in one scenario, all rounds; `expected_cache` is empty for targets that are not ours."""

    scenario: str
    target: str
    expected_cache: str
    open_rounds: list[OpenRound] = []
    closed_rounds: list[ClosedRound] = []

    def warnings(self) -> list[str]:
        """Why the numbers may not mean what they say; empty for a sound measurement."""
        found = []
        lost = max((entry.counts.lost_share for entry in self.open_rounds), default=0.0)
        if lost > MAX_LOST_SHARE:
            found.append(f"{lost:.1%} of the scheduled requests were dropped, failed or unfinished")
        late = max((entry.counts.late / max(entry.counts.sent, 1) for entry in self.open_rounds), default=0.0)
        if late > MAX_LATE_SHARE:
            found.append(f"{late:.0%} of the requests left more than a millisecond late")
        missing = max((entry.missing_connections for entry in self.open_rounds), default=0)
        if missing:
            found.append(f"{missing} connections were closed by the target and refused when opened again")
        busy = max((entry.others_busy for entry in self.open_rounds), default=0.0)
        if busy > MAX_OTHERS_BUSY:
            found.append(f"provider and PostgreSQL used {busy:.0%} of a core: the latency may be theirs")
        rounds: list[OpenRound | ClosedRound] = [*self.open_rounds, *self.closed_rounds]
        failures: Counter[str] = Counter()
        for one in rounds:
            failures.update(one.failures)
        if failures:
            found.append("failures: " + ", ".join(f"{cause} x {count}" for cause, count in failures.most_common()))
        cache: Counter[str] = Counter()
        for one in rounds:
            cache.update(one.cache)
        share = cache[self.expected_cache] / max(cache.total(), 1)
        if self.expected_cache and share < MIN_CACHE_SHARE:
            found.append(f"only {share:.0%} of the answers say x-cache: {self.expected_cache} ({dict(cache)})")
        return found


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from starting a layout to ready, with an empty database and again; resident bytes when idle."""

    layout: str
    first_s: float
    second_s: float
    idle_rss_bytes: int


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the benchmark."""

    machine: Machine
    rounds: int
    open_s: float
    closed_s: float
    starts: list[Start]
    measurements: list[Measurement]
    skipped: dict[str, str]


def added(measurement: Measurement, baseline: Measurement, field: str, statistic: str) -> float | None:
    """Median over rounds of (target - baseline) of one statistic, in seconds: rounds of one index ran side by side."""
    differences = []
    for one, other in zip(measurement.open_rounds, baseline.open_rounds, strict=False):
        value, reference = getattr(getattr(one, field), statistic), getattr(getattr(other, field), statistic)
        if value is not None and reference is not None:
            differences.append(value - reference)
    return median(differences) if differences else None


def over_rounds(values: list[float | None]) -> float | None:
    """Median of the rounds that have a value."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _summary(values_us: list[int]) -> Summary:
    return summarise(value / _US_PER_S for value in values_us)
