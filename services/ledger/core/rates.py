"""Rates by GCRA: one 64-bit integer per counter, the theoretical arrival time (TAT) in nanoseconds.

The TAT is the moment at which everything that was used will have drained. A minute's cap drains in a minute, so using
`n` of `per_minute` moves it by `n / per_minute` minutes. All functions are pure.
"""

from __future__ import annotations

from typing import NamedTuple

MINUTE_NS = 60 * 10**9
NANOSECONDS_PER_MICROSECOND = 1000
# A report of absurd usage, or a clock that was set back, shuts a subject out for no longer than this.
MAX_DEBT_NS = 10 * MINUTE_NS
# Clocks of replicas differ: to one that is behind, a full debt lies further ahead.
MAX_SKEW_NS = MINUTE_NS


class Rate(NamedTuple):
    """A minute's cap, and how much of it may come at once. Both are above zero, `burst` at most `per_minute`."""

    per_minute: int
    burst: int

    @property
    def tolerance_ns(self) -> int:
        """How far the TAT may lie ahead."""
        return cost_ns(self.burst, self.per_minute)


def cost_ns(count: int, per_minute: int) -> int:
    """How far a count moves the TAT, rounded up: never more than the rate is admitted."""
    return -(-count * MINUTE_NS // per_minute)


def pending_ns(tat_ns: int, now_ns: int) -> int:
    """What has not drained yet.

    No movement leads further ahead than MAX_DEBT_NS: a TAT that lies beyond what clocks differ is of a clock that was
    wrong, and forgotten.
    """
    ahead = tat_ns - now_ns
    return min(ahead, MAX_DEBT_NS) if 0 < ahead <= MAX_DEBT_NS + MAX_SKEW_NS else 0


def fits(tat_ns: int, now_ns: int, count: int, rate: Rate) -> bool:
    """Whether a count may come now."""
    return pending_ns(tat_ns, now_ns) + cost_ns(count, rate.per_minute) <= rate.tolerance_ns


def move(tat_ns: int, now_ns: int, by_ns: int) -> int:
    """The TAT after using, or after giving back (negative). What is given back never makes credit beyond the burst."""
    return now_ns + min(max(pending_ns(tat_ns, now_ns) + by_ns, 0), MAX_DEBT_NS)


def refundable(amount_ns: int, tat_after_ns: int, now_ns: int) -> int:
    """What may be given back of a charge that led to `tat_after_ns`: what has drained is used, whoever used it.

    Giving it back all the same would erase what others took later.
    """
    return max(min(amount_ns, tat_after_ns - now_ns), 0)


def remaining(tat_ns: int, now_ns: int, rate: Rate) -> int:
    """The largest count that fits now."""
    return max(rate.tolerance_ns - pending_ns(tat_ns, now_ns), 0) * rate.per_minute // MINUTE_NS


def retry_after_ns(tat_ns: int, now_ns: int, count: int, rate: Rate) -> int | None:
    """The shortest wait after which a count fits if nothing else comes; None when it never fits."""
    if count > rate.burst:
        return None
    return max(pending_ns(tat_ns, now_ns) + cost_ns(count, rate.per_minute) - rate.tolerance_ns, 0)
