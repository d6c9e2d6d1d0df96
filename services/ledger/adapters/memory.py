"""Twins in memory: the reference model of the contract tests, and a ledger without a database for tests of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.ledger.core import decide
from services.ledger.core.books import Books, Counter, Entry, State
from services.ledger.core.errors import LedgerError, ModelUnpriced
from services.ledger.core.limits import Limit, LimitSet, declare
from services.ledger.core.operations import Alert, Operation, Reserve, SetLimit
from services.ledger.core.ports import UsageQuery
from services.ledger.core.prices import Price
from services.ledger.core.windows import MICROSECONDS, SteadyClock


class MemoryStore:
    """The whole books in dictionaries. Nothing awaits inside a method, so each is atomic on its event loop."""

    def __init__(self, clock: SteadyClock, cost: decide.CostFunction, max_limits: int = 1000) -> None:
        self.books = Books(LimitSet(0, ()))
        self.journal: list[Entry] = []
        self._clock = clock
        self._cost = cost
        self._max_limits = max_limits

    async def execute(self, operation: Operation) -> decide.Outcome:
        """See Store."""
        now_us = self._clock.now_us()
        if isinstance(operation, Reserve):
            bindings = self.books.limits.bindings(operation.payer, now_us // MICROSECONDS)
            self.books.open_counters((b.counter_id, b.key) for b in bindings if b.key is not None)
        outcome = decide.run(self.books, operation, now_us, self._cost)
        self.journal.extend(outcome.entries)
        return outcome

    async def set_limit(self, operation: SetLimit) -> decide.Outcome:
        """See Store."""
        remembered = self.books.answers.get(operation.key)
        if remembered is not None:
            return decide.replay(remembered, operation.fingerprint)
        try:
            limits, entry = decide.set_limit(self.books.limits, operation, self._clock.now_us(), self._max_limits)
        except LedgerError as error:
            return decide.Outcome(error)
        self.books.limits = limits
        self.books.apply(entry)
        self.journal.append(entry)
        return decide.Outcome(entry.answer, (entry,))

    async def declare_limits(self, limits: Sequence[Limit]) -> None:
        """See Store."""
        self.books.limits = declare(self.books.limits, limits)

    async def limits(self) -> LimitSet:
        """See Store."""
        return self.books.limits

    async def usage(self, query: UsageQuery) -> list[tuple[str, Counter]]:
        """See Store."""
        found = [
            (counter_id, counter)
            for counter_id, counter in sorted(self.books.counters.items())
            if counter_id > query.after
            and counter.key.organisation == query.organisation
            and (counter.key.scope, counter.key.period, counter.key.window_start_s) in query.windows
            and query.subject in ("", counter.key.subject)
        ]
        return found[: query.size]

    async def forget_reservations(self, before_id: str, max_rows: int) -> int:
        """See Store."""
        ended = (i for i, r in self.books.reservations.items() if r.state is not State.HELD and i < before_id)
        old = sorted(ended)[:max_rows]
        for reservation_id in old:
            del self.books.reservations[reservation_id]
        return len(old)


class DeclaredPrices:
    """Prices that an operator declared, by "provider/model". Alone it is the price book of tests."""

    def __init__(self, prices: Mapping[tuple[str, str], Price]) -> None:
        self._prices = dict(prices)

    def price(self, provider: str, model: str, now_us: int, input_tokens: int) -> Price:
        """See PriceBook; declared prices hold at any time."""
        del now_us
        price = self._prices.get((provider, model))
        if price is None:
            raise ModelUnpriced(provider, model, "none is declared")
        return price


@dataclass(slots=True)
class RecordedEvents:
    """An observer that remembers what it was told."""

    decisions: list[tuple[str, bool]] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    bookings: list[tuple[int, int, bool]] = field(default_factory=list)
    committed_after_voids: list[str] = field(default_factory=list)
    expiries: list[tuple[int, int]] = field(default_factory=list)

    def decided(self, verb: str, *, granted: bool) -> None:
        """See Observer."""
        self.decisions.append((verb, granted))

    def alert(self, alert: Alert) -> None:
        """See Observer."""
        self.alerts.append(alert)

    def booked(self, amount_nano_usd: int, overrun_nano_usd: int, *, late: bool) -> None:
        """See Observer."""
        self.bookings.append((amount_nano_usd, overrun_nano_usd, late))

    def committed_after_void(self, reservation_id: str) -> None:
        """See Observer."""
        self.committed_after_voids.append(reservation_id)

    def expired(self, reservations: int, charged_nano_usd: int) -> None:
        """See Observer."""
        self.expiries.append((reservations, charged_nano_usd))
