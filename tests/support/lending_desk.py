"""A scripted ledger, a lender in memory and the leases between them: what the tests of outages begin with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from meshkit.money import cost_nano_usd
from services.orchestrator.adapters.memory import MemoryLender, RecordedLendingEvents
from services.orchestrator.core.errors import BudgetUnavailable
from services.orchestrator.core.leased_ledger import LeasedLedger
from services.orchestrator.core.leases import Lease, Part, Payer, Price
from services.orchestrator.core.lending import Leases, LendingPolicy
from services.orchestrator.core.model import Candidate, Plan, Reservation, Turn, Usage, UsageLine
from services.orchestrator.core.ports import Loan, Wish
from tests.support.orchestrator_ports import CHEAP, Script, ScriptedServices

ADA, BOB = Payer("acme", "", "ada", "key-1", ""), Payer("acme", "", "bob", "key-2", "")
DEAR = Candidate("acme-ai", "dear-1")
# One token of output costs one nano-USD, or three; input is free.
PRICES = [Price("acme-ai", "cheap-1", 0, 10**6, 0, 0), Price("acme-ai", "dear-1", 0, 3 * 10**6, 0, 0)]
AWAY = BudgetUnavailable(outage=True)
HOLD = Reservation("r-1", {})
TURN = Turn("q-1", "request", "default", 30, 10, "", "", Script().wish)


def line(output_tokens: int) -> UsageLine:
    return UsageLine(CHEAP, Usage(output_tokens=output_tokens), 1)


class SlowLender(MemoryLender):
    """Loses the answers of what it does, as often as `losses` says."""

    losses = 0
    wishes: Sequence[Wish] = ()

    async def take(self, wish: Wish) -> Loan | None:
        self.wishes = (*self.wishes, wish)
        answer = await super().take(wish)
        self._lose()
        return answer

    async def give_back(self, lease: Lease) -> int:
        answer = await super().give_back(lease)
        self._lose()
        return answer

    async def give_back_part(self, part: Part) -> int:
        answer = await super().give_back_part(part)
        self._lose()
        return answer

    def _lose(self) -> None:
        if self.losses:
            self.losses -= 1
            raise BudgetUnavailable(outage=True)


class Desk:
    """A ledger that answers what the script says, and leases of a thousand nano-USD's budget."""

    def __init__(
        self, cap: int = 1000, amount: int = 100, max_payers: int = 10, *, without_rates: bool = False, of_one: int = 10
    ) -> None:
        self.now_s = 1000.0
        self.script = Script(reservation=HOLD)
        self.ports = ScriptedServices(self.script)
        self.lender = SlowLender(cap, PRICES, cost_nano_usd)
        self.events = RecordedLendingEvents()
        ids = count(1)
        policy = LendingPolicy(amount, 60.0, 30.0, max_payers, 1000, without_rates, of_one)
        self.leases = Leases(self.lender, policy, self, cost_nano_usd, lambda: f"id-{next(ids)}", self.events)
        self.payer = ADA
        self.ledger = LeasedLedger(self.ports, self.leases, self.ports, lambda _: self.payer)

    def monotonic(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return 1

    def away(self, *, away: bool = True) -> None:
        self.script.reservation = AWAY if away else HOLD
        self.lender.away = away

    async def reserve(self, output_tokens: int = 10, *candidates: Candidate, calls: int = 1) -> Reservation:
        plan = Plan(candidates or (CHEAP,), ("cheap",), 4096, "route#1", max_billed_calls=calls)
        return await self.ledger.reserve(TURN, plan, 0, output_tokens)

    async def warm(self, *candidates: Candidate) -> None:
        await self.reserve(10, *candidates)
        await self.leases.tend()

    async def tend_after(self, seconds: float) -> None:
        self.now_s += seconds
        await self.leases.tend()
