"""The end of the ladder: what the caller gets when no model answers.

An earlier answer past its time where the route allows it, then the route's apology, else the error. Only when nobody
could answer: what the guard, a budget, a provider's refusal or an operator's key is the cause of stays an error.
"""

from __future__ import annotations

from services.orchestrator.core.admission import Admitted, Services, from_cache, look_up
from services.orchestrator.core.errors import ModelFailed
from services.orchestrator.core.model import Answer, Found, Record

# In `degraded`: no model answered, something stands in. Never cached, never kept under an idempotency key.
NO_MODEL = "model"


async def stand_in(services: Services, admitted: Admitted, record: Record, error: ModelFailed) -> Answer:
    """What stands in for an answer. Raises `error` when nothing does. What the failed tries cost stays booked."""
    if not error.nobody_answered:
        raise error
    found = await _earlier(services, admitted, record)
    if found is not None:
        record.degraded.append(NO_MODEL)
        return from_cache(found, record)
    if admitted.plan.apology is None:
        raise error
    record.degraded.append(NO_MODEL)
    record.model, record.output_verdict = "", None
    return Answer(admitted.plan.apology, record)


async def _earlier(services: Services, admitted: Admitted, record: Record) -> Found | None:
    """Who asked for a fresh answer gets no old one."""
    turn, plan = admitted.turn, admitted.plan
    if not plan.allow_stale or not turn.cache.lookup:
        return None
    return await look_up(services, record, "cache-stale", turn, plan, admitted.checked, allow_stale=True)
