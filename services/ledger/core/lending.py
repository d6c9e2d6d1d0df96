"""What is lent to a replica, which then decides by itself while the ledger is away: an allotment is a hold."""

from __future__ import annotations

from collections.abc import Iterable

from services.ledger.core.books import Books, Entry, Reservation, State, Terms
from services.ledger.core.ending import (
    CostFunction,
    booked_lines,
    check_room,
    orphan,
    overrun,
    paid_to,
    postings,
    reservation_of,
    returned_before,
)
from services.ledger.core.errors import ReservationEnded
from services.ledger.core.fitting import crossed
from services.ledger.core.limits import BASIS_POINTS, Binding, Limit, Mode, Unit
from services.ledger.core.operations import Allot, AllotAnswer, Commit, CommitAnswer, Kept, OnExpiry
from services.ledger.core.windows import MICROSECONDS

# Below this part of what a limit allows nothing is lent: the rest is decided centrally.
_LENT_BELOW_PARTS = 10


def allot(books: Books, operation: Allot, now_us: int) -> Entry:
    """An allotment is a hold on every money limit of a payer, which a replica spends without asking.

    It raises no alert: nobody has spent anything. What is spent of it does, when it comes back.
    """
    key, fingerprint, payer, wanted, lease_us, reservation_id, replica, prices, settle_us, part = operation
    bindings = books.limits.bindings(payer, now_us // MICROSECONDS)
    counted = [b for b in bindings if b.key is not None and b.limit.unit is Unit.MONEY]
    money_ids = tuple(b.counter_id for b in counted)
    # Where a limit of any kind is suspended, a replica must not spend on its own what every call would be refused.
    lent = 0 if any(b.limit.suspends for b in bindings) else _lendable(books, counted, wanted, part)
    if lent <= 0:
        return Entry(key, fingerprint, now_us, AllotAnswer("", 0, 0, ()), note=replica)
    lease_end_us = now_us + lease_us
    return Entry(
        key,
        fingerprint,
        now_us,
        AllotAnswer(reservation_id, lent, lease_end_us, (), prices, _most_per_call(bindings), _not_lent(bindings)),
        reservation_id,
        lent,
        0,
        money_ids,
        note=replica,
        reservation=Reservation(
            reservation_id,
            payer.organisation,
            State.HELD,
            lent,
            lent,
            0,
            0,
            # Calls that were granted at the lease's end run on and are returned later: until then nobody else may
            # have the money, or their return would overrun the limit.
            lease_end_us + settle_us,
            money_ids,
            Terms(payer, prices, OnExpiry.RELEASE),
        ),
    )


def return_part(books: Books, operation: Commit, kept: Kept, now_us: int, cost: CostFunction) -> Entry:
    """Books what calls of an allotment used that have ended; the rest stays held for those that still run.

    Once the hold has ended nothing is held again: a part is then booked beyond it, like a late return.
    """
    if operation.orphan is not None and operation.reservation_id not in books.reservations:
        return orphan(books, operation, operation.orphan, now_us, cost)
    held = reservation_of(books, operation)
    if held.state is State.COMMITTED:
        raise ReservationEnded("committed", "commit")
    live = held.state is State.HELD
    lines = tuple(booked_lines(operation, held.terms.prices, cost))
    amount, before = sum(line.amount_nano_usd for line in lines), returned_before(held)
    rest = min(max(held.held_nano_usd - amount, 0), kept.amount_nano_usd) if live else 0
    freed, late, money_ids = held.held_nano_usd - rest, held.state is State.EXPIRED, held.money_ids
    check_room(books, money_ids, max(amount - freed, 0), held.booked_nano_usd + amount, "lines")
    alerted, alerts = crossed(books, money_ids, amount - freed, standing=amount > 0)
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        CommitAnswer(
            amount, overrun(books, held, before, amount, amount - freed), late, after_void=False, alerts=alerts
        ),
        held.reservation_id,
        -freed,
        amount,
        money_ids,
        alerted,
        postings(held.terms.payer, 0, lines),
        lines,
        "part",
        held._replace(
            held_nano_usd=rest,
            booked_nano_usd=held.booked_nano_usd + amount,
            expire_us=max(held.expire_us, now_us + kept.keep_us) if live else held.expire_us,
            paid_to=held.paid_to or paid_to(lines),
        ),
    )


def _lendable(books: Books, counted: Iterable[Binding], wanted: int, max_lent_basis_points: int) -> int:
    for limit, counter_id, _, _ in counted:
        if limit.mode is Mode.SHADOW:
            continue
        line, counter = limit.stop_line_nano_usd, books.counters[counter_id]
        left = line - counter.used_nano_usd
        # What is lent to others is not known apart from what calls hold: the bound is on both together, so idle leases
        # never keep more than their part from those who are denied.
        room = line * max_lent_basis_points // BASIS_POINTS - counter.held_nano_usd
        # Half at most: several replicas ask, and none may find that another has everything.
        wanted = min(wanted, room, left // 2 if left * _LENT_BELOW_PARTS > line else 0)
    return wanted


def _most_per_call(bindings: Iterable[Binding]) -> int | None:
    """The tightest of the limits on one query: they are about each call of a lease, as about any other."""
    lines = [b.limit.stop_line_nano_usd for b in bindings if b.key is None and b.limit.mode is not Mode.SHADOW]
    return min(lines, default=None)


def _not_lent(bindings: Iterable[Binding]) -> tuple[Limit, ...]:
    """Limits on rates and on calls at once: no replica can keep them without asking."""
    return tuple(b.limit for b in bindings if b.limit.unit is not Unit.MONEY and b.limit.mode is not Mode.SHADOW)
