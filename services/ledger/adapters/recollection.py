"""What the writer remembers of its last batches, so that the next one is decided without reading it first.

A guess, never the truth: the database compares it with the rows when it writes, and a batch that was decided from a
wrong guess changes nothing and is decided again under locks. So it may be forgotten at any time, and a batch may be
decided on what the batch before it is still writing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from services.ledger.adapters.codec import columns, written
from services.ledger.adapters.expiries import Expiries
from services.ledger.core import decide
from services.ledger.core.books import Books, Counter, Reservation, State
from services.ledger.core.ending import CostFunction
from services.ledger.core.errors import LedgerError
from services.ledger.core.limits import LimitSet
from services.ledger.core.operations import Allot, Dispatch, Operation, Reserve, Sweep
from services.ledger.core.windows import MICROSECONDS

# Counters and live holds. A counter takes about 500 bytes, a hold 1.5 KB.
_MAX_REMEMBERED = 50_000
# While replicas write the same rows in turn, a guess is wrong each time: then it is made more and more rarely.
_MAX_PAUSE = 63


class Believed(NamedTuple):
    """The rows that a decision rests on, in columns: reservations with their amounts, counters with theirs."""

    reservations: Sequence[Sequence[object]]
    counters: Sequence[Sequence[object]]


@dataclass(slots=True)
class Guess:
    """A batch decided from memory, with the arguments of WRITE_IF_UNCHANGED. Settled once the database judged it."""

    outcomes: list[decide.Outcome]
    arguments: tuple[Any, ...]
    books: Books
    after_wrong: int
    settled: bool = False


class Recollection:
    """Counters and live holds as this process last read them or will have written them."""

    def __init__(self, max_remembered: int = _MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._wrong = 0
        self._counters: dict[str, Counter] = {}
        self._held: OrderedDict[str, Reservation] = OrderedDict()
        self._expiries = Expiries()
        self._pause = 0
        self._batches_to_skip = 0

    def guess(self, batch: Sequence[Operation], limits: LimitSet, now_us: int, cost: CostFunction) -> Guess | None:
        """Decides a batch and takes over what it will write; None where memory does not do, and nothing is changed."""
        books = self.recall(batch, limits, now_us)
        if books is None:
            return None
        rows, known = believed(books), frozenset(books.reservations)
        outcomes = [decide.run(books, operation, now_us, cost) for operation in batch]
        entries = [entry for outcome in outcomes for entry in outcome.entries]
        if not entries or any(isinstance(outcome.answer, LedgerError) for outcome in outcomes):
            # An error leaves no entry that the database could judge; it is found again under locks, or it is none.
            return None
        believes = (*columns(rows.reservations, 8), *columns(rows.counters, 5))
        arguments = (limits.version, *believes, *written(books, known, entries, now_us))
        self.learn(books)
        return Guess(outcomes, arguments, books, self._wrong)

    def stands(self, guess: Guess) -> bool:
        """Whether no guess that it may rest on has proved wrong since."""
        return guess.after_wrong == self._wrong

    def settle(self, guess: Guess, *, right: bool) -> None:
        """What the database said of a guess, once. What a wrong one took over is forgotten.

        While others write the same rows, guesses are made more and more rarely.
        """
        if guess.settled:
            return
        guess.settled = True
        if right:
            self._pause = 0
            return
        for counter_id in guess.books.counters:
            self._counters.pop(counter_id, None)
        for reservation_id in guess.books.reservations:
            self._drop(reservation_id)
        if self.stands(guess):
            self._pause = min(2 * self._pause + 1, _MAX_PAUSE)
            self._batches_to_skip = self._pause
        self._wrong += 1

    def recall(self, batch: Sequence[Operation], limits: LimitSet, now_us: int) -> Books | None:
        """The books that a batch needs; None when something is not known, is due to expire, or guesses fail."""
        if self._has_due(now_us):
            return None
        if self._batches_to_skip:
            self._batches_to_skip -= 1
            return None
        books = Books(limits)
        for operation in batch:
            if isinstance(operation, Sweep) or not self._recall_one(books, operation, now_us):
                return None
        return books

    def _recall_one(self, books: Books, operation: Operation, now_us: int) -> bool:
        counter_ids: Sequence[str]
        if isinstance(operation, (Reserve, Allot)):
            bindings = books.limits.bindings(operation.payer, now_us // MICROSECONDS)
            counter_ids = [binding.counter_id for binding in bindings if binding.key is not None]
        elif isinstance(operation, Sweep):
            return False
        else:
            held = self._held.get(operation.reservation_id)
            if held is None:
                return False
            books.put(held)
            # That a call was sent changes no counter: it waits for nobody who holds one.
            counter_ids = () if isinstance(operation, Dispatch) else held.counter_ids
        for counter_id in counter_ids:
            if counter_id not in books.counters:
                counter = self._counters.get(counter_id)
                if counter is None:
                    return False
                books.counters[counter_id] = counter
        return True

    def learn(self, books: Books) -> None:
        """Takes over what was written, or read under locks. Old holds give way to new ones, and counters start over."""
        if len(self._counters) > self._max_remembered // 2:
            self._counters.clear()
        self._counters.update(books.counters)
        for reservation_id, reservation in books.reservations.items():
            self._drop(reservation_id)
            if reservation.state is State.HELD:
                self._held[reservation_id] = reservation
                self._expiries.put(reservation_id, reservation.expire_us)
        while self._held and len(self._counters) + len(self._held) > self._max_remembered:
            reservation_id, reservation = self._held.popitem(last=False)
            self._expiries.drop(reservation_id, reservation.expire_us)

    def forget(self) -> None:
        """Starts over."""
        self._counters.clear()
        self._held.clear()
        self._expiries = Expiries()

    def _drop(self, reservation_id: str) -> None:
        held = self._held.pop(reservation_id, None)
        if held is not None:
            self._expiries.drop(reservation_id, held.expire_us)

    def _has_due(self, now_us: int) -> bool:
        """Whether a hold has come to its end. It is forgotten here: who ends it reads it under locks."""
        due = self._expiries.take_due(now_us)
        for reservation_id in due:
            del self._held[reservation_id]
        return bool(due)


def believed(books: Books) -> Believed:
    """Everything in recalled books, before anything is decided."""
    reservations = [
        (
            r.reservation_id,
            r.state,
            r.held_nano_usd,
            r.reserved_nano_usd,
            r.spent_so_far_nano_usd,
            r.booked_nano_usd,
            r.expire_us,
            r.dispatched,
        )
        for r in books.reservations.values()
    ]
    counters = [(i, c.spent_nano_usd, c.held_nano_usd, c.alerted, c.tat_ns) for i, c in books.counters.items()]
    return Believed(reservations, counters)
