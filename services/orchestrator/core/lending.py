"""Keeps leases warm while the ledger answers, and decides from them while it does not.

One event loop uses it, so it needs no lock. Nothing here outlives the process. What a crash takes with it are the
bookings of calls granted from leases that were under way, or ended since the ledger was last heard; no more than their
leases were lent. The holds end by themselves at the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import count

from services.orchestrator.core.errors import BudgetUnavailable, RequestFailed
from services.orchestrator.core.leases import (
    Ask,
    CostFunction,
    Granted,
    Lease,
    Payer,
    Refusal,
    Step,
    due,
    extend,
    grant,
    settle,
    shares,
)
from services.orchestrator.core.model import Candidate, UsageLine
from services.orchestrator.core.ports import Clock, Lender, LendingEvents, Loan, Wish
from services.orchestrator.core.returning import Returns

# A lease fixes prices of the models that the payer used last.
_MAX_MODELS = 32
# How soon an absent ledger is asked again.
_PAUSES_S = (0.25, 0.5, 1.0, 2.0, 5.0)
# Where limits are in force that a lease does not keep, it is looked again after so many leases.
_QUIET_LEASES = 10
# However quiet it is, what is due is looked at.
_MAX_WAIT_S = 1.0
# A denial gives back so many leases at most, and waits so long for one that is being taken.
_MAX_RELEASED = 32
_MAX_ASKING_S = 2.0


@dataclass(frozen=True, slots=True)
class LendingPolicy:
    """What the operator decides; see settings."""

    amount_nano_usd: int
    lease_s: float
    settle_within_s: float
    max_payers: int
    max_input_tokens: int
    without_rates: bool = False
    max_payers_per_organisation: int = 100


@dataclass(slots=True)
class _Tenant:
    """A payer that is served: its lease, and a question to the ledger whose answer did not come yet, or never.

    `asking` is set once the question that is under way has ended.
    """

    models: OrderedDict[Candidate, None] = field(default_factory=OrderedDict)
    active_s: float = 0.0
    lease_id: str = ""
    asked: tuple[Wish, float] | None = None
    asking: asyncio.Event | None = None
    quiet_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """A call that was granted here. `lease` is as it was then."""

    hold_id: str
    amount_nano_usd: int
    lease: Lease


class Leases:
    """One lease per payer, of the payers that were served last."""

    def __init__(
        self,
        lender: Lender,
        policy: LendingPolicy,
        clock: Clock,
        cost: CostFunction,
        new_id: Callable[[], str],
        events: LendingEvents,
    ) -> None:
        self._lender = lender
        self._policy = policy
        self._now_s = clock.monotonic
        self._cost = cost
        self._new_id = new_id
        self._events = events
        self._tenants: OrderedDict[Payer, _Tenant] = OrderedDict()
        self._payers_of: Counter[str] = Counter()
        self._leases: dict[str, Lease] = {}
        # Leases that grant nothing any more, until the ledger has taken them back.
        self._closing = Returns(lender, self._leases, policy.settle_within_s, self._now_s, cost, events)
        self._numbers = count(1)
        self._away = False
        self._failures = 0
        self._resume_s = 0.0
        self._wake = asyncio.Event()

    # What requests do

    def served(self, payer: Payer, candidates: Sequence[Candidate]) -> None:
        """The ledger granted a call: its payer is worth a lease."""
        tenant = self._tenants.get(payer)
        if tenant is None:
            tenant = self._tenants[payer] = _Tenant()
            self._payers_of[payer.organisation] += 1
            self._make_room(payer.organisation)
        else:
            self._tenants.move_to_end(payer)
        tenant.active_s = self._now_s()
        news = not tenant.lease_id and tenant.active_s >= tenant.quiet_until_s
        for candidate in candidates:
            news = news or candidate not in tenant.models
            tenant.models[candidate] = None
            tenant.models.move_to_end(candidate)
        while len(tenant.models) > _MAX_MODELS:
            tenant.models.popitem(last=False)
        if news:
            self._wake.set()

    def answered(self) -> None:
        """The ledger has said something, whatever it was."""
        if self._away:
            self._away, self._failures, self._resume_s = False, 0, 0.0
            self._wake.set()

    def grant(self, payer: Payer, ask: Ask) -> Held | None:
        """Decides a call that the ledger did not; None when no lease covers it."""
        self._away = True
        tenant = self._tenants.get(payer)
        lease = self._leases.get(tenant.lease_id) if tenant is not None else None
        if tenant is None or lease is None:
            self._events.decided(Refusal.NO_LEASE.value)
            return None
        hold_id = f"{lease.allotment_id}/{next(self._numbers)}"
        decided = grant(lease, hold_id, ask, self._now_s(), self._cost)
        if isinstance(decided, Refusal):
            self._events.decided(decided.value)
            return None
        tenant.active_s = self._now_s()
        self._tenants.move_to_end(payer)
        self._leases[lease.allotment_id] = decided.lease
        self._events.decided("granted")
        return Held(hold_id, decided.held_nano_usd, decided.lease)

    def extend(self, hold_id: str, add_nano_usd: int) -> int | Refusal:
        """Raises the hold of a call that was granted here. Returns what it holds now."""
        lease = self._leases.get(_lease_of(hold_id))
        if lease is None or hold_id not in lease.holds:
            return Refusal.ENDED
        decided = extend(lease, hold_id, add_nano_usd, self._now_s()) if add_nano_usd else None
        if isinstance(decided, Granted):
            lease = self._leases[lease.allotment_id] = decided.lease
        return decided if isinstance(decided, Refusal) else lease.holds[hold_id]

    def settle(self, hold_id: str, lines: Sequence[UsageLine]) -> None:
        """Ends a call that was granted here. A lease is given back when the last one has ended."""
        lease = self._leases.get(_lease_of(hold_id))
        if lease is not None:
            self._leases[lease.allotment_id] = settle(lease, hold_id, lines, self._cost)
            if lease.allotment_id in self._closing:
                self._wake.set()

    async def release(self, payer: Payer, scopes: Collection[str]) -> bool:
        """Gives leases back now, so that the ledger may decide about all of its money: a limit of `scopes` denied.

        The payer's own and, bounded, those that count on the same limits. Returns whether that has changed anything.
        For one lease no other is taken: near a limit every call would.
        """
        own, lent = self._tenants.get(payer), [x for x in self._tenants.items() if x[1].lease_id or x[1].asked]
        sharing = [tenant for other, tenant in lent if tenant is own or shares(scopes, payer, other)]
        released = sorted(sharing, key=lambda tenant: tenant is not own)[:_MAX_RELEASED]
        lent_ids = [tenant.lease_id for tenant in released if tenant.lease_id]
        asking = [tenant.asking for tenant in released if tenant.asking is not None]
        for tenant in released:
            tenant.quiet_until_s = self._now_s() + self._policy.lease_s
            self._close(tenant)
        await _ended(asking)
        closing = [i for i in self._closing if i in self._leases and not self._leases[i].holds]
        mine = [i for i in closing if self._leases[i].payer == payer or shares(scopes, payer, self._leases[i].payer)]
        await asyncio.gather(*(self._give_back(lease_id) for lease_id in mine[:_MAX_RELEASED]))
        gone = any(lease_id not in self._leases for lease_id in (*lent_ids, *mine))
        return gone or any(event.is_set() for event in asking)

    # What goes on beside them

    async def run(self) -> None:
        """Keeps leases warm and gives them back, until it is cancelled."""
        while True:
            await self.tend()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._wake.wait()
            self._wake.clear()

    async def tend(self) -> None:
        """Does what is due now. Stops at the first sign that the ledger is away."""
        if self._now_s() < self._resume_s:
            self._close_ended()
            return
        for payer in tuple(self._tenants):
            tenant = self._tenants.get(payer)
            if tenant is not None and not await self._tend_one(payer, tenant):
                break
        self._close_ended()
        for lease_id in self._closing:
            if not await self._give_back(lease_id):
                return

    async def close(self, within_s: float) -> None:
        """Gives everything back. What the ledger does not take in time is lost, and said to be."""
        for tenant in self._tenants.values():
            self._close(tenant)
        self._tenants.clear()
        self._payers_of.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._closing:
                    for lease_id in self._closing:
                        await self._give_back(lease_id)
                    if self._closing:
                        await asyncio.sleep(_PAUSES_S[0])
        for lease_id in self._closing:
            self._closing.forget(lease_id)

    async def _tend_one(self, payer: Payer, tenant: _Tenant) -> bool:
        """Returns whether the ledger answered, if it was asked."""
        now_s = self._now_s()
        lease = self._leases.get(tenant.lease_id)
        step = due(lease, tenant.models, tenant.active_s, now_s, away=self._away)
        if step is Step.GIVE_BACK:
            self._close(tenant)
        if not tenant.lease_id and tenant.active_s < (lease.begin_s if lease else now_s - self._policy.lease_s):
            self._drop(payer, tenant)
            return True
        # Above that many, what is not booked yet comes first.
        full = len(self._closing) > self._policy.max_payers
        nothing = step is Step.KEEP or now_s < tenant.quiet_until_s or not tenant.models or full
        # What was asked for may be held: it is asked about until that is known, wanted or not.
        if nothing and tenant.asked is None:
            return True
        tenant.asking = asyncio.Event()
        try:
            return await self._take(payer, tenant)
        finally:
            tenant.asking.set()
            tenant.asking = None

    async def _take(self, payer: Payer, tenant: _Tenant) -> bool:
        wish, sent_s = tenant.asked or (self._wish(payer, tenant), self._now_s())
        # Until it is answered, the same question is asked: another one could hold the money twice.
        tenant.asked = (wish, sent_s)
        try:
            loan = await self._lender.take(wish)
        except BudgetUnavailable:
            self._failed()
            return False
        except RequestFailed as refused:
            # Its word concerns what was asked for, such as a model that has no price any more.
            self._events.refused(refused.reason)
            tenant.models.clear()
            loan = None
        tenant.asked = None
        self.answered()
        self._close(tenant)
        if loan is None:
            tenant.quiet_until_s = max(tenant.quiet_until_s, self._now_s() + self._policy.lease_s)
        else:
            self._begin(payer, tenant, loan, sent_s)
        return True

    def _begin(self, payer: Payer, tenant: _Tenant, loan: Loan, sent_s: float) -> None:
        lease = Lease(
            loan.allotment_id,
            payer,
            loan.amount_nano_usd,
            sent_s,
            sent_s + self._policy.lease_s,
            loan.prices,
            self._policy.max_input_tokens,
            loan.most_per_call_nano_usd,
        )
        self._leases[lease.allotment_id] = lease
        tenant.lease_id = lease.allotment_id
        if loan.other_limits and not self._policy.without_rates:
            tenant.quiet_until_s = self._now_s() + _QUIET_LEASES * self._policy.lease_s
        # Meanwhile a denial may have said that none is to be taken.
        if tenant.quiet_until_s > self._now_s() or self._tenants.get(payer) is not tenant:
            self._close(tenant)

    def _wish(self, payer: Payer, tenant: _Tenant) -> Wish:
        policy = self._policy
        return Wish(
            self._new_id(),
            payer,
            tuple(tenant.models),
            policy.amount_nano_usd,
            policy.lease_s,
            policy.settle_within_s,
            policy.max_input_tokens,
        )

    async def _give_back(self, lease_id: str) -> bool:
        """Returns whether the ledger answered, if it was asked."""
        try:
            if await self._closing.give_back(lease_id):
                self.answered()
        except BudgetUnavailable:
            self._failed()
            return False
        return True

    def _make_room(self, organisation: str) -> None:
        """The payer that was served longest ago goes, of the organisation that has too many or the most."""
        if self._payers_of[organisation] <= self._policy.max_payers_per_organisation:
            if len(self._tenants) <= self._policy.max_payers:
                return
            organisation = self._payers_of.most_common(1)[0][0]
        oldest = next(payer for payer in self._tenants if payer.organisation == organisation)
        self._drop(oldest, self._tenants[oldest])

    def _drop(self, payer: Payer, tenant: _Tenant) -> None:
        self._close(tenant)
        if self._tenants.get(payer) is tenant:
            del self._tenants[payer]
            self._payers_of[payer.organisation] -= 1
            if not self._payers_of[payer.organisation]:
                del self._payers_of[payer.organisation]

    def _close_ended(self) -> None:
        now_s = self._now_s()
        for tenant in self._tenants.values():
            lease = self._leases.get(tenant.lease_id)
            if lease is not None and now_s >= lease.end_s:
                self._close(tenant)

    def _close(self, tenant: _Tenant) -> None:
        if tenant.lease_id:
            self._closing.add(tenant.lease_id)
            tenant.lease_id = ""
            self._wake.set()

    def _failed(self) -> None:
        self._away = True
        self._resume_s = self._now_s() + _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
        self._failures += 1

    def _wait_s(self) -> float:
        """Until the next lease is due, or the ledger is asked again."""
        now_s = self._now_s()
        if now_s < self._resume_s:
            return self._resume_s - now_s
        moments = [self._leases[t.lease_id].half_s for t in self._tenants.values() if t.lease_id in self._leases]
        return min(max(min(moments, default=now_s + _MAX_WAIT_S) - now_s, _PAUSES_S[0]), _MAX_WAIT_S)


def _lease_of(hold_id: str) -> str:
    return hold_id.rpartition("/")[0]


async def _ended(asking: Sequence[asyncio.Event]) -> None:
    """Waits for questions under way, not for ever: whoever is denied waits with us."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_MAX_ASKING_S):
            for event in asking:
                await event.wait()
