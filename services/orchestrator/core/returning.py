"""Gives leases back that grant nothing any more: what has ended at once, the rest when the last of their calls ends.

A long stream must not keep what other calls of its lease spent from being booked; and while it runs, the ledger is told
so, that its hold does not end before the stream does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.orchestrator.core.errors import BudgetUnavailable, RequestFailed
from services.orchestrator.core.leases import CostFunction, Lease, Part, booked, cut, unbooked_nano_usd
from services.orchestrator.core.ports import Lender, LendingEvents


@dataclass(slots=True)
class _Closing:
    """Where a return stands: `asked` is a part whose answer never came, `due_s` when one without lines is sent."""

    due_s: float
    number: int = 0
    asked: Part | None = None


class Returns:
    """The leases that are on their way back. `leases` is shared with whoever settles their calls."""

    def __init__(
        self,
        lender: Lender,
        leases: dict[str, Lease],
        settle_within_s: float,
        now_s: Callable[[], float],
        cost: CostFunction,
        events: LendingEvents,
    ) -> None:
        self._lender = lender
        self._leases = leases
        self._settle_within_s = settle_within_s
        self._now_s = now_s
        self._cost = cost
        self._events = events
        self._closing: dict[str, _Closing] = {}

    def __len__(self) -> int:
        return len(self._closing)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._closing))

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._closing

    def add(self, lease_id: str) -> None:
        """From now on it is to be given back."""
        lease = self._leases.get(lease_id)
        if lease is not None and lease_id not in self._closing:
            self._closing[lease_id] = _Closing(lease.end_s)

    async def give_back(self, lease_id: str) -> bool:
        """Returns whether the ledger answered, if there was anything to tell it. Raises BudgetUnavailable.

        Whatever was asked and not answered is asked again first: other lines under its number would be refused.
        """
        closing = self._closing.get(lease_id)
        if closing is None or lease_id not in self._leases:
            self._closing.pop(lease_id, None)
            return False
        lease = self._leases[lease_id]
        if closing.asked is None and lease.holds and not lease.lines and self._now_s() < closing.due_s:
            return False
        if closing.asked is not None or lease.holds:
            await self._give_back_part(lease_id, closing)
            lease = self._leases[lease_id]
        if not lease.holds and lease_id in self._closing:
            await self._give_back_rest(lease_id)
        return True

    async def _give_back_part(self, lease_id: str, closing: _Closing) -> None:
        if closing.asked is None:
            closing.number += 1
            closing.asked = cut(self._leases[lease_id], closing.number, self._settle_within_s, self._now_s())
        part = closing.asked
        try:
            await self._lender.give_back_part(part)
        except BudgetUnavailable:
            raise
        except RequestFailed as refused:
            self._events.refused(refused.reason)
            if closing.asked is part:
                self._lost(part.lease)
        # Two may have asked the same at once: it is booked once.
        if closing.asked is part:
            now_s = self._now_s()
            closing.asked = None
            closing.due_s = self._next_s(part.lease.end_s, now_s)
            self._leases[lease_id] = booked(self._leases[lease_id], part)

    def _next_s(self, end_s: float, now_s: float) -> float:
        """When the lease ends, to free what no call needs; then often enough that the hold goes on."""
        if now_s < end_s:
            return end_s
        return now_s + self._settle_within_s / 2 if self._settle_within_s else math.inf

    async def _give_back_rest(self, lease_id: str) -> None:
        lease = self._leases[lease_id]
        try:
            await self._lender.give_back(lease)
        except BudgetUnavailable:
            if not lease.lines and self._now_s() >= lease.end_s + self._settle_within_s:
                # Its hold has ended, or ends by itself, and there is nothing to book.
                self.forget(lease_id)
            raise
        except RequestFailed as refused:
            self._events.refused(refused.reason)
            self.forget(lease_id)
        self._leases.pop(lease_id, None)
        self._closing.pop(lease_id, None)

    def forget(self, lease_id: str) -> None:
        """Gives up on a lease, and says what is lost with it."""
        lease = self._leases.pop(lease_id, None)
        self._closing.pop(lease_id, None)
        if lease is not None and lease.used:
            self._lost(lease)

    def _lost(self, lease: Lease) -> None:
        self._events.lost(lease.allotment_id, unbooked_nano_usd(lease, self._cost))
