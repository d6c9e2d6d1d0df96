"""The first half of a request: what it is, whether it is known, whether it may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import TypeVar

from services.orchestrator.core.errors import GuardUnavailable, InputBlocked, ModelFailed, RequestFailed
from services.orchestrator.core.model import (
    UNCHECKED,
    Answer,
    CacheStatus,
    Checked,
    Found,
    Plan,
    Record,
    Reservation,
    Turn,
)
from services.orchestrator.core.policy import Policy, tokens_to_hold
from services.orchestrator.core.ports import (
    Afterwards,
    Cache,
    CacheUnavailable,
    Clock,
    Guard,
    Ledger,
    Prompts,
    Records,
    Router,
)

T = TypeVar("T")
_HITS = (CacheStatus.EXACT, CacheStatus.SEMANTIC, CacheStatus.STALE)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the coordinator calls."""

    prompts: Prompts
    guard: Guard
    cache: Cache
    router: Router
    ledger: Ledger
    records: Records
    afterwards: Afterwards
    clock: Clock


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may be answered: from `found` when it is set, else by a model under `reservation`.

    With neither, the plan has no models: all there is is what may stand in for an answer.
    """

    turn: Turn
    plan: Plan
    checked: Checked
    found: Found | None
    reservation: Reservation | None


async def timed(services: Services, record: Record, step: str, work: Awaitable[T]) -> T:
    """Awaits a step and notes how long it took, also when it fails."""
    started_s = services.clock.monotonic()
    try:
        return await work
    finally:
        record.steps.append((step, services.clock.monotonic() - started_s))


async def admit(services: Services, policy: Policy, request: object, record: Record) -> Admitted:
    """Steps 2 to 5 of a request. Raises RequestFailed; nothing stays held when it does."""
    turn = services.prompts.resolve(request, record.request_id)
    record.prompt_version, record.prompt_arm = turn.prompt_version, turn.prompt_arm
    plan = await timed(services, record, "plan", services.router.plan(turn))
    raise_unless_it_may_stand_in(plan.refusal)
    if turn.cache.lookup:
        found = await look_up(services, record, "cache-exact", turn, plan, None)
        if found is not None:
            return Admitted(turn, plan, UNCHECKED, found, None)
    if plan.refusal is not None:
        return await _admit_without_models(services, policy, turn, plan, record)
    checked, reservation = await guard_and_reserve(services, policy, turn, plan, record)
    step = _second_look(policy, turn, record, checked)
    if step:
        try:
            found = await look_up(services, record, step, turn, plan, checked)
        except BaseException:
            services.afterwards.run("void", lambda: services.ledger.void(reservation, "not-sent"))
            raise
        if found is not None:
            services.afterwards.run("void", lambda: services.ledger.void(reservation, "cache-hit"))
            return Admitted(turn, plan, checked, found, None)
    return Admitted(turn, plan, checked, None, reservation)


def raise_unless_it_may_stand_in(error: Exception | None) -> None:
    """A failure that no earlier answer and no apology can stand in for is the caller's at once."""
    if error is not None and not (isinstance(error, ModelFailed) and error.nobody_answered):
        raise error


async def _admit_without_models(services: Services, policy: Policy, turn: Turn, plan: Plan, record: Record) -> Admitted:
    """Everybody is shut: no money is needed, but the guard must allow the request; the cache may know its answer."""
    assert plan.refusal is not None
    if not plan.allow_stale and plan.apology is None:
        raise plan.refusal
    checked = await _check(services, policy, turn, plan, record)
    record.input_verdict = checked.verdict
    if checked.blocked:
        raise InputBlocked(checked.detectors)
    step = _second_look(policy, turn, record, checked)
    found = await look_up(services, record, step, turn, plan, checked) if step else None
    return Admitted(turn, plan, checked, found, None)


def from_cache(found: Found, record: Record) -> Answer:
    """An earlier answer, with the verdict that it was kept with."""
    record.cache_entry_id = found.entry_id
    record.usage = found.usage
    record.model = found.model
    record.output_verdict = found.verdict
    return Answer(found.completion, record)


def _second_look(policy: Policy, turn: Turn, record: Record, checked: Checked) -> str:
    """The step to note when the cache is asked again, now that the guard has spoken; empty when it is not.

    It is, to search by meaning, and when the exact tier could not be asked: the policy's digest was not known yet.
    """
    if not turn.cache.lookup or checked.verdict is None:
        return ""
    if policy.semantic_cache and turn.cache.semantic and checked.can_embed:
        return "cache-semantic"
    not_asked = record.cache_status is CacheStatus.BYPASS and "cache" not in record.degraded
    return "cache-exact" if not_asked else ""


async def look_up(
    services: Services,
    record: Record,
    step: str,
    turn: Turn,
    plan: Plan,
    checked: Checked | None,
    *,
    allow_stale: bool = False,
) -> Found | None:
    """A hit, or None. An absent cache is a miss that the record shows."""
    looking = services.cache.lookup(turn, plan, checked, allow_stale=allow_stale)
    try:
        found = await timed(services, record, step, looking)
    except CacheUnavailable:
        if "cache" not in record.degraded:
            record.degraded.append("cache")
        record.cache_status = CacheStatus.BYPASS
        return None
    record.cache_status = found.status
    return found if found.status in _HITS else None


async def guard_and_reserve(
    services: Services, policy: Policy, turn: Turn, plan: Plan, record: Record
) -> tuple[Checked, Reservation]:
    """Step 4, which is all that calls without prompt and cache need. Raises RequestFailed; nothing stays held then."""
    checked, reservation = await _guard_and_reserve(services, policy, turn, plan, record)
    record.rates = reservation.rates
    if reservation.lent:
        record.degraded.append("ledger")
    return checked, reservation


async def _guard_and_reserve(
    services: Services, policy: Policy, turn: Turn, plan: Plan, record: Record
) -> tuple[Checked, Reservation]:
    """Both at once. When one says no, what the other holds is given back."""
    hold = services.ledger.reserve(turn, plan, *tokens_to_hold(policy, turn, plan))
    reserving = asyncio.ensure_future(timed(services, record, "reserve", hold))
    try:
        checked = await _check(services, policy, turn, plan, record)
        record.input_verdict = checked.verdict
        if checked.blocked:
            raise InputBlocked(checked.detectors)  # noqa: TRY301 - a block is given back like any other failure
        # Shielded: a caller who leaves now must not leave a hold that nobody knows.
        return checked, await asyncio.shield(reserving)
    except BaseException:
        services.afterwards.run("void", lambda: _give_back(services, reserving))
        raise


async def _check(services: Services, policy: Policy, turn: Turn, plan: Plan, record: Record) -> Checked:
    for_cache = policy.semantic_cache and turn.cache.semantic and (turn.cache.lookup or turn.cache.store)
    checking = services.guard.check_input(turn, embed=for_cache or plan.wants_embedding)
    try:
        checked = await timed(services, record, "guard-input", checking)
        # What was embedded for the router alone is neither searched for nor stored.
        return checked if for_cache else replace(checked, can_embed=False)
    except GuardUnavailable:
        if policy.guard_required:
            raise
        record.degraded.append("guard")
        return UNCHECKED


async def _give_back(services: Services, reserving: asyncio.Future[Reservation]) -> None:
    try:
        reservation = await reserving
    except RequestFailed as error:
        if error.unanswered is not None:
            await services.ledger.withdraw(error.unanswered)
        return
    await services.ledger.void(reservation, "not-sent")
