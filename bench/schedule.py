"""When requests arrive: decided before the run, so that a slow system cannot slow its own load down."""

from __future__ import annotations

import random
from typing import Literal

Spacing = Literal["poisson", "even"]


def arrivals(rate_per_s: float, duration_s: float, seed: int, spacing: Spacing = "poisson") -> list[float]:
    """Arrival times in seconds from the start, ascending, all below `duration_s`.

    `poisson` draws exponential gaps: independent users. `even` spaces them equally. The same arguments give the
    same times. ValueError for a rate or duration that is not positive.
    """
    if rate_per_s <= 0 or duration_s <= 0:
        raise ValueError("an arrival schedule needs a rate and a duration above zero")
    if spacing == "even":
        count = round(rate_per_s * duration_s)
        return [i / rate_per_s for i in range(count) if i / rate_per_s < duration_s]
    rng = random.Random(seed)
    times, now = [], rng.expovariate(rate_per_s)
    while now < duration_s:
        times.append(now)
        now += rng.expovariate(rate_per_s)
    return times
