"""Latency statistics: exact, from all samples, because a run has thousands of them and not millions."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence

import msgspec

MAX_SAMPLES = 5_000_000


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles of one set of samples, in seconds; all None for an empty set."""

    count: int
    mean_s: float | None = None
    p50_s: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None
    max_s: float | None = None


class Samples:
    """Durations in seconds, in order of arrival; OverflowError beyond `max_samples`."""

    def __init__(self, values: Iterable[float] = (), max_samples: int = MAX_SAMPLES) -> None:
        self._values = array("d", values)
        self._max_samples = max_samples

    def add(self, value_s: float) -> None:
        """Record one duration."""
        if len(self._values) >= self._max_samples:
            raise OverflowError(f"a run keeps at most {self._max_samples} samples; shorten it or lower the rate")
        self._values.append(value_s)

    def __len__(self) -> int:
        """How many were recorded."""
        return len(self._values)

    def microseconds(self) -> list[int]:
        """The samples, rounded, for transport between processes."""
        return [round(value * 1e6) for value in self._values]

    def summary(self) -> Summary:
        """Percentiles of everything recorded."""
        return summarise(self._values)


def summarise(values_s: Iterable[float]) -> Summary:
    """Percentiles of a set of durations in seconds."""
    ordered = sorted(values_s)
    if not ordered:
        return Summary(count=0)
    return Summary(
        count=len(ordered),
        mean_s=math.fsum(ordered) / len(ordered),
        p50_s=percentile(ordered, 50),
        p90_s=percentile(ordered, 90),
        p99_s=percentile(ordered, 99),
        max_s=ordered[-1],
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest sample that at least `percent` of all samples do not exceed.

    `ordered` is ascending and not empty (ValueError). No interpolation: the answer is a time that was measured.
    """
    if not ordered:
        raise ValueError("a percentile of nothing is undefined")
    if not 0 < percent <= 100:
        raise ValueError(f"a percentile lies above 0 and at most at 100, not at {percent}")
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def median(values: Sequence[float]) -> float:
    """The middle of a few rounds; the mean of the two middle ones when their number is even."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
