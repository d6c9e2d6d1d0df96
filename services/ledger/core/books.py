"""The books: counters, reservations, remembered answers, and the journal entries that change them.

An entry is the only way to change anything. Counters are therefore a projection of the journal: `recount` rebuilds
them from entries alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from services.ledger.core import rates
from services.ledger.core.limits import CounterKey, LimitSet, Payer, Unit
from services.ledger.core.operations import Answer, Meter, OnExpiry, OperationKey
from services.ledger.core.prices import Price, Tokens

# Credited when expiry charges what was reported: whom it was paid to is known only by a late commit.
UNATTRIBUTED = "provider:unattributed"


class State(IntEnum):
    """Where a reservation stands; stored, so numbers never change."""

    HELD = 1
    COMMITTED = 2
    VOIDED = 3
    EXPIRED = 4


class Counter(NamedTuple):
    """What one subject used in one window. `alerted`: the alert of this window was raised.

    Of a limit on concurrency `held_nano_usd` counts live holds; of a rate only `tat_ns` moves.
    """

    key: CounterKey
    spent_nano_usd: int = 0
    held_nano_usd: int = 0
    alerted: bool = False
    tat_ns: int = 0

    @property
    def used_nano_usd(self) -> int:
        """What limits are compared with."""
        return self.spent_nano_usd + self.held_nano_usd


class Terms(NamedTuple):
    """What was fixed when a hold was made, whatever changes later. `meters` are what rates were charged."""

    payer: Payer
    prices: tuple[Price, ...]
    on_expiry: OnExpiry = OnExpiry.CHARGE_KNOWN
    input_nano_usd: int = 0
    tokens: int = 0
    meters: tuple[Meter, ...] = ()


class Reservation(NamedTuple):
    """A hold, and after its end the memory of it.

    `held` is what it holds now, `reserved` the most it held, `booked` what the counters carry as spent for it.
    `counter_ids` are those of money, then those of `terms.meters`. `paid_to` is the provider of the first line.
    """

    reservation_id: str
    organisation: str
    state: State
    held_nano_usd: int
    reserved_nano_usd: int
    spent_so_far_nano_usd: int
    booked_nano_usd: int
    expire_us: int
    counter_ids: tuple[str, ...]
    terms: Terms
    dispatched: bool = False
    paid_to: str = ""

    @property
    def money_ids(self) -> tuple[str, ...]:
        """The counters that carry the amounts."""
        meters = self.terms.meters
        return self.counter_ids[: -len(meters)] if meters else self.counter_ids


class Posting(NamedTuple):
    """One side of a double entry; the postings of an entry sum to zero."""

    account: str
    amount_nano_usd: int


class BookedLine(NamedTuple):
    """A usage line as it was booked."""

    provider: str
    model: str
    attempt: int
    tokens: Tokens
    amount_nano_usd: int
    price_version: str


class Entry(NamedTuple):
    """One event. Both deltas apply to each of `counter_ids`; `reservation` is the hold as it stands afterwards."""

    key: OperationKey
    fingerprint: int
    at_us: int
    answer: Answer
    reservation_id: str = ""
    held_delta_nano_usd: int = 0
    spent_delta_nano_usd: int = 0
    counter_ids: tuple[str, ...] = ()
    alerted: tuple[str, ...] = ()
    postings: tuple[Posting, ...] = ()
    lines: tuple[BookedLine, ...] = ()
    note: str = ""
    reservation: Reservation | None = None
    meters: tuple[Meter, ...] = ()


class Books:
    """The part of the ledger that is in memory: everything for the memory store, what a batch touches for SQL."""

    def __init__(self, limits: LimitSet) -> None:
        self.limits = limits
        self.counters: dict[str, Counter] = {}
        self.reservations: dict[str, Reservation] = {}
        self.answers: dict[OperationKey, tuple[int, Answer]] = {}
        self._expiries: list[tuple[int, str]] = []

    def put(self, reservation: Reservation) -> None:
        """Takes over a reservation as it stands."""
        self.reservations[reservation.reservation_id] = reservation
        if reservation.state is State.HELD:
            heapq.heappush(self._expiries, (reservation.expire_us, reservation.reservation_id))

    def next_due(self, now_us: int) -> Reservation | None:
        """The hold that is longest past its time, or None. It is returned again until an entry ends it."""
        expiries = self._expiries
        while expiries and expiries[0][0] <= now_us:
            expire_us, reservation_id = expiries[0]
            reservation = self.reservations.get(reservation_id)
            # A hold that was extended stands here twice; only its newest time counts, or holds would end out of order.
            if reservation is not None and reservation.state is State.HELD and reservation.expire_us == expire_us:
                return reservation
            heapq.heappop(expiries)
        return None

    def open_counters(self, keys: Iterable[tuple[str, CounterKey]]) -> None:
        """Makes sure that counters exist: a first use then locks and counts like any other use."""
        for counter_id, key in keys:
            if counter_id not in self.counters:
                self.counters[counter_id] = Counter(key)

    def apply(self, entry: Entry) -> None:
        """Changes the books by one entry."""
        counters = self.counters
        for counter_id in entry.counter_ids:
            key, spent, held, alerted, tat_ns = counters[counter_id]
            counters[counter_id] = Counter(
                key,
                spent + entry.spent_delta_nano_usd,
                held + entry.held_delta_nano_usd,
                alerted or counter_id in entry.alerted,
                tat_ns,
            )
        for meter in entry.meters:
            counters[meter.counter_id] = metered(counters[meter.counter_id], meter, entry.at_us)
        if entry.reservation is not None:
            self.put(entry.reservation)
        self.answers[entry.key] = (entry.fingerprint, entry.answer)


def metered(counter: Counter, meter: Meter, at_us: int) -> Counter:
    """A counter after a movement that is not money."""
    if meter.unit is Unit.CONCURRENCY:
        return counter._replace(held_nano_usd=counter.held_nano_usd + meter.amount)
    now_ns = at_us * rates.NANOSECONDS_PER_MICROSECOND
    return counter._replace(tat_ns=rates.move(counter.tat_ns, now_ns, meter.amount))


def provider_account(provider: str) -> str:
    """The account that is credited with what a provider charges."""
    return f"provider:{provider}"


def key_account(payer: Payer) -> str:
    """The account that is debited: the key's, within its organisation, so that invoices can be split to the leaf."""
    return f"key:{payer.key_id}"


class Movement(NamedTuple):
    """What the journal keeps of an entry's effect on counters."""

    counter_ids: tuple[str, ...]
    spent_delta_nano_usd: int
    held_delta_nano_usd: int


def recount(movements: Iterable[Movement]) -> dict[str, tuple[int, int]]:
    """Rebuilds (spent, held) of every counter from the journal alone."""
    totals: dict[str, tuple[int, int]] = {}
    for movement in movements:
        for counter_id in movement.counter_ids:
            spent, held = totals.get(counter_id, (0, 0))
            totals[counter_id] = (spent + movement.spent_delta_nano_usd, held + movement.held_delta_nano_usd)
    return totals
