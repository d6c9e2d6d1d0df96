"""The ledger, and while it is away what it has lent: the port `Ledger` before either."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.orchestrator.core.errors import BudgetExhausted, BudgetUnavailable, RequestFailed
from services.orchestrator.core.leases import Ask, Payer, Refusal
from services.orchestrator.core.lending import Leases
from services.orchestrator.core.model import Plan, Reservation, Turn, UsageLine
from services.orchestrator.core.ports import Afterwards, Ledger


class LeasedLedger:
    """While the ledger answers, every decision is its own. A call that was granted here never goes to it."""

    def __init__(
        self, ledger: Ledger, leases: Leases, afterwards: Afterwards, payer_of: Callable[[Turn], Payer]
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._afterwards = afterwards
        self._payer_of = payer_of

    async def reserve(self, turn: Turn, plan: Plan, input_tokens: int, max_output_tokens: int) -> Reservation:
        """See Ledger. What is lent to us must deny nobody: before a denial stands, leases that count there go back."""
        payer = self._payer_of(turn)
        try:
            reservation = await self._ask(turn, plan, input_tokens, max_output_tokens)
        except BudgetUnavailable as failed:
            if not failed.outage:
                raise
            ask = Ask(plan.candidates, input_tokens, max_output_tokens, plan.max_billed_calls)
            return self._from_lease(payer, ask, failed)
        except BudgetExhausted as denied:
            if denied.by_size or not await self._leases.release(payer, denied.scopes):
                raise
            reservation = await self._ask(turn, plan, input_tokens, max_output_tokens)
        self._leases.served(payer, plan.candidates)
        return reservation

    async def _ask(self, turn: Turn, plan: Plan, input_tokens: int, max_output_tokens: int) -> Reservation:
        try:
            reservation = await self._ledger.reserve(turn, plan, input_tokens, max_output_tokens)
        except BudgetUnavailable:
            raise
        except RequestFailed:
            self._leases.answered()
            raise
        self._leases.answered()
        return reservation

    def _from_lease(self, payer: Payer, ask: Ask, failed: BudgetUnavailable) -> Reservation:
        held = self._leases.grant(payer, ask)
        if held is None:
            raise failed
        if failed.unanswered is not None:
            # The ledger may have granted it after all; its hold is undispatched, so that it ends without a charge.
            unanswered = failed.unanswered
            self._afterwards.run("void", lambda: self._ledger.withdraw(unanswered))
        return Reservation(
            held.hold_id,
            {(price.provider, price.model): price for price in held.lease.prices},
            held.amount_nano_usd,
            ask.max_output_tokens,
            lent=True,
        )

    def cost_nano_usd(self, reservation: Reservation, lines: Sequence[UsageLine]) -> int:
        """See Ledger."""
        return self._ledger.cost_nano_usd(reservation, lines)

    async def mark_dispatched(self, reservation: Reservation) -> None:
        """See Ledger."""
        if not reservation.lent:
            await self._ledger.mark_dispatched(reservation)

    async def extend(self, reservation: Reservation, number: int, add_nano_usd: int, spent_nano_usd: int) -> int:
        """See Ledger. A lease that does not cover a raise refuses it, as a limit would: nobody lent the rest."""
        if not reservation.lent:
            return await self._ledger.extend(reservation, number, add_nano_usd, spent_nano_usd)
        held = self._leases.extend(reservation.reservation_id, add_nano_usd)
        if isinstance(held, Refusal):
            why = f"the ledger is away and its lease does not cover {add_nano_usd} nano-USD more ({held.value})"
            raise BudgetExhausted([("lease", why)], None)
        return held

    async def commit(self, reservation: Reservation, lines: Sequence[UsageLine]) -> None:
        """See Ledger."""
        if reservation.lent:
            self._leases.settle(reservation.reservation_id, lines)
        else:
            await self._ledger.commit(reservation, lines)

    async def void(self, reservation: Reservation, reason: str) -> None:
        """See Ledger."""
        if reservation.lent:
            self._leases.settle(reservation.reservation_id, ())
        else:
            await self._ledger.void(reservation, reason)

    async def withdraw(self, unanswered: object) -> None:
        """See Ledger."""
        await self._ledger.withdraw(unanswered)
