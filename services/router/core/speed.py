"""How fast a model answers: an average to compare models by, and percentiles to call an answer slow by."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

# Weight of the newest time in the moving average: the last ten make up nine tenths of it.
_NEWEST = 0.2
_KEPT_DURATIONS = 512
# Sorting is spared for so many new durations: on 512 they move a percentile by less than 4 points of rank.
_STALE_AFTER = 16


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
class Speed:
    """Of one model, asked in one way: for a stream, until its first token, or for a whole answer.

    `average_s` is None before any answer. `tried_s` is when a try last ended, in whatever way, None before any, and
    `under_way` counts those that have not.
    """

    average_s: float | None = None
    tried_s: float | None = None
    under_way: int = 0
    durations: Durations = field(default_factory=Durations)

    def took(self, duration_s: float) -> None:
        """An answer came after so long."""
        self._average(duration_s)
        self.durations.add(duration_s)

    def given_up(self, duration_s: float) -> None:
        """No answer came within that time: it is the least that one would have taken, and makes nothing look faster."""
        self._average(max(duration_s, self.average_s or 0.0))
        self.durations.add(duration_s)

    def _average(self, duration_s: float) -> None:
        known = self.average_s
        self.average_s = duration_s if known is None else known + _NEWEST * (duration_s - known)
