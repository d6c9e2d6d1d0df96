"""The ledger's limits in the words of a request: which was violated, what is left of the rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from llmops.ledger.v1 import ledger_pb2 as pb

from meshkit.money import format_usd
from services.orchestrator.core.errors import BudgetExhausted, RateLimited, RequestFailed
from services.orchestrator.core.model import Rate

_MONEY = frozenset({pb.LIMIT_UNIT_UNSPECIFIED, pb.LIMIT_UNIT_MONEY})
_RATES = {pb.LIMIT_UNIT_REQUESTS: "requests", pb.LIMIT_UNIT_TOKENS: "tokens"}
_NANO = 1_000_000_000


def refusal(response: pb.ReserveResponse) -> RequestFailed:
    """Why a reservation was denied. A budget before a rate: its window outlasts any minute."""
    retry_after_s = response.retry_after.ToNanoseconds() / _NANO if response.HasField("retry_after") else None
    if not response.violations or any(v.limit.unit in _MONEY for v in response.violations):
        by_size = any(v.limit.period == pb.LIMIT_PERIOD_QUERY for v in response.violations)
        return BudgetExhausted(described(response.violations), retry_after_s, by_size=by_size)
    limited = RateLimited(described(response.violations), retry_after_s)
    for rate in tightest(response.rates):
        limited.metadata |= _headers(rate)
    return limited


def described(violations: Sequence[pb.LimitViolation]) -> list[tuple[str, str]]:
    """Subject and sentence for each violated limit."""
    return [_described(violation) for violation in violations]


def _described(violation: pb.LimitViolation) -> tuple[str, str]:
    limit = violation.limit
    scope = pb.LimitScope.Name(limit.scope).removeprefix("LIMIT_SCOPE_").lower()
    subject = f"{scope}:{limit.subject}" if limit.subject else scope
    period = pb.LimitPeriod.Name(limit.period).removeprefix("LIMIT_PERIOD_").lower()
    if limit.unit in _MONEY:
        asked, left = format_usd(violation.requested_nano_usd), format_usd(violation.remaining_nano_usd)
        return subject, f"{asked} asked, {left} left of {format_usd(limit.cap_nano_usd)} per {period}"
    if limit.unit == pb.LIMIT_UNIT_CONCURRENCY:
        return subject, f"{limit.max_count} calls at once, and all are under way"
    unit = _RATES.get(limit.unit, "units")
    return subject, (
        f"{violation.requested_count} {unit} asked, {violation.remaining_count} left of {limit.max_count} per {period}"
    )


def tightest(rates: Iterable[pb.RateStatus]) -> tuple[Rate, ...]:
    """Per unit the enforced limit with the least left: the one that a caller will meet first."""
    found: dict[str, Rate] = {}
    for status in rates:
        unit = _RATES.get(status.limit.unit)
        if unit is None or status.limit.mode == pb.LIMIT_MODE_SHADOW:
            continue
        reset_after_s = status.reset_after.ToNanoseconds() / _NANO
        rate = Rate(unit, status.limit.max_count, status.remaining_count, reset_after_s)
        if unit not in found or rate.remaining_count < found[unit].remaining_count:
            found[unit] = rate
    return tuple(found[unit] for unit in _RATES.values() if unit in found)


def _headers(rate: Rate) -> dict[str, str]:
    """As the HTTP headers of these names, times in OpenAI's way: the edge passes them on as they are."""
    return {
        f"x-ratelimit-limit-{rate.unit}": str(rate.limit_count),
        f"x-ratelimit-remaining-{rate.unit}": str(max(0, rate.remaining_count)),
        f"x-ratelimit-reset-{rate.unit}": f"{math.ceil(rate.reset_after_s * 1000)}ms",
    }
