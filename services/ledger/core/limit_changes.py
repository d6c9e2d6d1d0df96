"""A change of limits: pure functions of (limits, operation, now)."""

from __future__ import annotations

from dataclasses import replace

from services.ledger.core.books import Entry
from services.ledger.core.errors import InvalidRequest, NotFound
from services.ledger.core.limits import EVERY_ORGANISATION, Limit, LimitSet, limit_id_of
from services.ledger.core.operations import LimitAnswer, SetLimit


def set_limit(limits: LimitSet, operation: SetLimit, now_us: int, max_limits: int) -> tuple[LimitSet, Entry]:
    """Creates or changes a limit of the organisation. Raises InvalidRequest or NotFound."""
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
