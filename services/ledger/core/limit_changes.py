"""A change of limits: pure functions of (limits, operation, now)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from services.ledger.core.books import Entry
from services.ledger.core.errors import InvalidRequest, NotFound
from services.ledger.core.limits import EVERY_ORGANISATION, Limit, LimitSet, limit_id_of
from services.ledger.core.operations import LimitAnswer, SetLimit
from services.ledger.core.windows import MICROSECONDS, Window, window_at


def set_limit(
    limits: LimitSet, operation: SetLimit, now_us: int, max_limits: int, *, counted: bool
) -> tuple[LimitSet, Entry]:
    """Creates or changes a limit of the organisation. Raises InvalidRequest or NotFound.

    `counted` says whether anything is counted in the window that `left_window` names.
    """
    wanted = operation.limit
    limit_id = limit_id_of(wanted.organisation, wanted.scope, wanted.subject, wanted.period, wanted.unit)
    before = limits.by_id.get(limit_id)
    _check_limit(limits, wanted, limit_id)
    if counted:
        _check_zone(limits, wanted, now_us)
    if before is None:
        own = sum(1 for limit in limits.by_id.values() if limit.organisation == wanted.organisation)
        if own >= max_limits:
            raise InvalidRequest("limit", f"an organisation has at most {max_limits} limits")
        after = replace(wanted, limit_id=limit_id, version=1, declared=False)
    else:
        after = replace(wanted, limit_id=limit_id, version=before.version, declared=before.declared)
        if after != before:
            after = replace(after, version=before.version + 1)
    entry = Entry(operation.key, operation.fingerprint, now_us, LimitAnswer(after))
    return (limits if after == before else limits.replaced_with(after)), entry


def left_window(limits: LimitSet, wanted: Limit, now_us: int) -> Window | None:
    """The running window that a change of the time zone would leave; None where the change leaves none."""
    before = _in_force(limits, wanted)
    if before is None or before.time_zone == wanted.time_zone or wanted.objection() is not None:
        return None
    window = window_at(wanted.period, now_us // MICROSECONDS, before.time_zone)
    return None if window.end_s is None else window


def _check_zone(limits: LimitSet, wanted: Limit, now_us: int) -> None:
    """Another zone's windows have counters of their own: what is counted in the running one would be forgotten."""
    before, window = _in_force(limits, wanted), left_window(limits, wanted, now_us)
    if before is None or window is None or window.end_s is None:
        return
    ends, zone = datetime.fromtimestamp(window.end_s, UTC).isoformat(), before.time_zone or "UTC"
    raise InvalidRequest(
        "limit.time_zone",
        f"would forget what the running window of {zone} counts; keep it, or suspend the limit (a cap of 0) and"
        f" change the zone after {ends}, before the next call",
    )


def _in_force(limits: LimitSet, wanted: Limit) -> Limit | None:
    scope, subject, period, unit = wanted.place
    return limits.in_force(wanted.organisation, scope, subject, period, unit)


def _check_limit(limits: LimitSet, wanted: Limit, limit_id: str) -> None:
    objection = wanted.objection()
    if objection is not None:
        raise InvalidRequest(f"limit.{objection[0]}", objection[1])
    if not wanted.limit_id:
        return
    named = limits.by_id.get(wanted.limit_id)
    if named is not None and named.organisation == EVERY_ORGANISATION:
        raise InvalidRequest("limit.limit_id", "holds for every organisation; leave it empty to set your own instead")
    if named is None or named.organisation != wanted.organisation:
        raise NotFound("limit", wanted.limit_id)
    if wanted.limit_id != limit_id:
        raise InvalidRequest(
            "limit.limit_id", "names a limit of another scope, subject, period or unit; these never change"
        )
