"""What the ledger's tests build from: a clock to turn, prices, limits, a ledger on a store in memory."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

from meshkit.money import cost_nano_usd
from services.ledger.adapters.memory import DeclaredPrices, MemoryStore, RecordedEvents
from services.ledger.core.ending import CostFunction
from services.ledger.core.limits import BASIS_POINTS, EVERY_ORGANISATION, Limit, Mode, Payer, Scope, Unit, limit_id_of
from services.ledger.core.operations import CommitAnswer, ReserveAnswer
from services.ledger.core.ports import Store
from services.ledger.core.prices import Price, Tokens
from services.ledger.core.service import Ledger, Model, Rules, UsedTokens
from services.ledger.core.windows import MICROSECONDS, Period, SteadyClock

T = TypeVar("T")
# Most tests lend more than a ledger does by default: half of what is left.
LENDING = Rules(max_lent_basis_points=BASIS_POINTS)
# 13:20:00 UTC on a Tuesday: 40 minutes to the hour, 10 h 40 min to midnight.
START = datetime(2026, 11, 24, 13, 20, tzinfo=UTC)
NANO = 10**9
# One output token costs one nano-USD, one input token nothing: amounts in tests are token counts.
UNIT = Price("acme-ai", "unit", "test/1", 0, 10**6, 0, 0)
# An input token costs one nano-USD as well.
READ = Price("acme-ai", "read", "test/1", 10**6, 10**6, 10**6, 10**6)
OTHER = Price("other-ai", "double", "test/1", 0, 2 * 10**6, 0, 0)
FREE = Price("local", "free", "test/free", 0, 0, 0, 0)
PRICES = DeclaredPrices({(p.provider, p.model): p for p in (UNIT, READ, OTHER, FREE)})
ADA = Payer("acme", "search", "ada", "key-1", "")


class TurnableClock:
    """Stands still until a test turns it."""

    def __init__(self, at: datetime = START) -> None:
        self.ns = int(at.timestamp()) * NANO
        self._set_by_ns = 0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.ns / NANO, UTC)

    def time_ns(self) -> int:
        return self.ns

    def monotonic(self) -> float:
        return self.ns / NANO

    def elapsed_ns(self) -> int:
        return self.ns - self._set_by_ns

    def turn(self, seconds: float) -> None:
        """Lets time pass."""
        self.ns += int(seconds * NANO)

    def set_by(self, seconds: float) -> None:
        """Sets the wall clock, while no time passes."""
        self.ns += int(seconds * NANO)
        self._set_by_ns += int(seconds * NANO)


def limit(
    scope: Scope,
    period: Period,
    cap: int,
    *,
    subject: str = "",
    organisation: str = EVERY_ORGANISATION,
    alert: int = 8000,
    stop: int = 10_000,
) -> Limit:
    limit_id = limit_id_of(organisation, scope, subject, period)
    return Limit(limit_id, organisation, scope, subject, period, cap, alert, stop, declared=True)


def count_limit(
    unit: Unit, most: int, *, scope: Scope = Scope.ORGANISATION, burst: int = 0, mode: Mode = Mode.ENFORCE
) -> Limit:
    """A limit on requests or tokens per minute, or on calls under way."""
    period = Period.MOMENT if unit is Unit.CONCURRENCY else Period.MINUTE
    limit_id = limit_id_of(EVERY_ORGANISATION, scope, "", period, unit)
    meter = {"unit": unit, "max_count": most, "burst_count": burst, "mode": mode}
    return Limit(limit_id, EVERY_ORGANISATION, scope, "", period, 0, declared=True, **meter)  # type: ignore[arg-type]


class Desk:
    """A ledger with short verbs. Amounts are nano-USD and tokens at once, see UNIT."""

    def __init__(
        self,
        limits: Sequence[Limit] = (),
        *,
        clock: TurnableClock | None = None,
        rules: Rules | None = None,
        make_store: Callable[[SteadyClock, CostFunction], MemoryStore] = MemoryStore,
    ) -> None:
        self.clock = clock or TurnableClock()
        steady = SteadyClock(self.clock.time_ns, self.clock.elapsed_ns)
        self.memory = make_store(steady, cost_nano_usd)
        done(self.memory.declare_limits(limits))
        self.events = RecordedEvents()
        self.ledger = desk_ledger(self.memory, steady, self.events, rules)
        self._ids = count(1)

    def reserve(self, amount: int, payer: Payer = ADA, request_id: str = "", ttl_s: float = 60) -> ReserveAnswer:
        request_id = request_id or f"reserve-{next(self._ids)}"
        ttl_us = int(ttl_s * MICROSECONDS)
        return done(self.ledger.reserve(payer, request_id, [Model("acme-ai", "unit")], 0, amount, ttl_us))

    def commit(self, reservation_id: str, *amounts: int, request_id: str = "", payer: Payer = ADA) -> CommitAnswer:
        request_id = request_id or f"commit-{next(self._ids)}"
        used = [used_tokens(amount, attempt) for attempt, amount in enumerate(amounts, 1)]
        return done(self.ledger.commit(payer, request_id, reservation_id, used))

    def void(self, reservation_id: str, request_id: str = "") -> int:
        request_id = request_id or f"void-{next(self._ids)}"
        return done(self.ledger.void(ADA, request_id, reservation_id, "cache-hit")).released_nano_usd

    def dispatch(self, reservation_id: str, request_id: str = "") -> bool:
        request_id = request_id or f"dispatch-{next(self._ids)}"
        return done(self.ledger.mark_dispatched(ADA, request_id, reservation_id)).noted

    def adjust(self, reservation_id: str, delta: int, provider: str = "", request_id: str = "") -> int:
        request_id = request_id or f"adjust-{next(self._ids)}"
        adjusted = self.ledger.adjust(ADA, request_id, reservation_id, delta, provider, "credit-note")
        return done(adjusted).booked_nano_usd

    def sweep(self) -> int:
        return done(self.ledger.sweep(1000))

    def told(self) -> list[tuple[str, int]]:
        """Kinds and amounts of all events of the organisation."""
        found = done(self.memory.events("acme", 0, 1000))
        return [(event.kind.name, event.amount_nano_usd) for _, event in found]

    def used(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(spent, held) by scope and subject."""
        return {
            (c.key.scope.name, c.key.subject): (c.spent_nano_usd, c.held_nano_usd)
            for c in self.memory.books.counters.values()
        }


def desk_ledger(store: Store, clock: SteadyClock, events: RecordedEvents, rules: Rules | None = None) -> Ledger:
    numbers = count(1)
    return Ledger(store, PRICES, clock, cost_nano_usd, lambda: f"-{next(numbers):06d}", events, rules or LENDING)


def used_tokens(
    amount: int, attempt: int = 1, model: str = "unit", provider: str = "acme-ai", *, estimated: bool = False
) -> UsedTokens:
    return UsedTokens(Model(provider, model), Tokens(0, amount, estimated=estimated), attempt)


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that never waits; in memory nothing does."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("this coroutine waits for something")
