"""A change of limits: pure functions of (limits, operation, now)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from services.ledger.core.books import Entry
from services.ledger.core.errors import InvalidRequest, NotFound
from services.ledger.core.limits import EVERY_ORGANISATION, CounterKey, Limit, LimitSet, Scope, declare, limit_id_of
from services.ledger.core.operations import LimitAnswer, SetLimit
from services.ledger.core.windows import MICROSECONDS, Period, is_known, window_at


def set_limit(limits: LimitSet, operation: SetLimit, now_us: int, max_limits: int) -> tuple[LimitSet, Entry]:
    """Creates or changes a limit of the organisation. Raises InvalidRequest or NotFound.

    Whether a running window is left is for `refuse_forgetting` to say, which needs to know what is counted.
    """
    wanted = operation.limit
    limit_id = limit_id_of(wanted.organisation, wanted.scope, wanted.subject, wanted.period, wanted.unit)
    before = limits.by_id.get(limit_id)
    _check_limit(limits, wanted, limit_id)
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


def left_windows(before: LimitSet, after: LimitSet, now_us: int) -> tuple[tuple[int, int, int], ...]:
    """Running windows, as (scope, period, start), that a change may leave.

    Those of places where limits come, go or change their zone, and time is cut in several ways.
    """
    old, new = before.by_id, after.by_id
    changed = [old.get(i) or new[i] for i in old.keys() | new.keys() if _zone(old.get(i)) != _zone(new.get(i))]
    places = {(limit.scope, limit.period) for limit in changed}
    if not places:
        return ()
    left, others = _windows(before, places, now_us), _windows(after, places, now_us)
    cuts = Counter(window[:2] for window in left | others)
    return tuple(sorted(window for window in left if cuts[window[:2]] > 1))


def refuse_forgetting(before: LimitSet, after: LimitSet, used: Iterable[CounterKey], now_us: int) -> None:
    """Raises InvalidRequest where a change of limits leaves a window that is used; `used` are counters of such windows.

    Another zone's windows have counters of their own: what is counted in the running one would be forgotten.
    """
    for key, limit, wanted in _forgotten(before, after, used, now_us):
        end_s = window_at(key.period, key.window_start_s, limit.time_zone).end_s or 0
        ends, zone = datetime.fromtimestamp(end_s, UTC).isoformat(), limit.time_zone or "UTC"
        problem = f"would forget what the running window of {zone} counts"
        if limit.subject and not wanted.subject:
            raise InvalidRequest(
                "limit.time_zone", f"{problem} for {limit.subject!r}; set a limit of that subject in {zone} first"
            )
        raise InvalidRequest(
            "limit.time_zone",
            f"{problem}; keep it, or suspend the limit (a cap of 0) and change the zone after {ends}",
        )


def declare_and_keep(
    before: LimitSet, declared: Sequence[Limit], used: Sequence[CounterKey], now_us: int
) -> tuple[LimitSet, int]:
    """The limits of the configuration, but that a limit keeps its zone while its running window is used.

    The rest of it holds at once, for it may suspend somebody; the zone comes with a later declaration, one that finds
    the window unused. A limit that takes the place of another has its own windows from now on: the second result is how
    many counters are asked no more, because those of the other were cut otherwise.
    """
    after = declare(before, declared)
    left = list(_forgotten(before, after, used, now_us))
    zones = {old.limit_id: old.time_zone for _, old, new in left if old.limit_id == new.limit_id}
    if zones:
        kept = [replace(each, time_zone=zones.get(each.limit_id, each.time_zone)) for each in declared]
        after = declare(before, kept)
    return after, sum(old.limit_id != new.limit_id for _, old, new in left)


def _forgotten(
    before: LimitSet, after: LimitSet, used: Iterable[CounterKey], now_us: int
) -> Iterator[tuple[CounterKey, Limit, Limit]]:
    """Counters that are left, with the limit that reads each, and the one that would read another instead."""
    for key in used:
        organisation, scope, subject, period, start_s, unit = key
        old = before.in_force(organisation, scope, subject, period, unit)
        new = after.in_force(organisation, scope, subject, period, unit)
        if old is None or new is None or not (_is_read(old) and _is_read(new)):
            continue
        if _start_s(old, now_us) == start_s != _start_s(new, now_us):
            yield key, old, new


def _zone(limit: Limit | None) -> str | None:
    return None if limit is None else limit.time_zone


def _windows(limits: LimitSet, places: set[tuple[Scope, Period]], now_us: int) -> set[tuple[int, int, int]]:
    cut = {(x.scope, x.period, x.time_zone): x for x in limits.by_id.values() if (x.scope, x.period) in places}
    return {(int(x.scope), int(x.period), _start_s(x, now_us)) for x in cut.values() if _is_read(x)}


def _is_read(limit: Limit) -> bool:
    """Whether its zone is known here, where it needs one.

    It may have been saved where more zones were: it must not keep all from changes, least of all from its own repair.
    Nothing is granted under it meanwhile.
    """
    return is_known(limit.period, limit.time_zone)


def _start_s(limit: Limit, now_us: int) -> int:
    return window_at(limit.period, now_us // MICROSECONDS, limit.time_zone).start_s


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
