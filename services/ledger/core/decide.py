"""Decisions on money: pure functions of (books, operation, now). One function per verb gives the entry to apply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from services.ledger.core.books import Books, Entry, Reservation, State, Terms
from services.ledger.core.ending import CostFunction, adjust, check_room, commit, expire, reservation_of, void
from services.ledger.core.errors import LedgerError, RequestIdReused, ReservationEnded
from services.ledger.core.fitting import Fit, crossed, extension_violations, fit, retry_after_us
from services.ledger.core.lending import allot, return_part
from services.ledger.core.operations import (
    Adjust,
    Allot,
    Answer,
    Asked,
    Commit,
    Dispatch,
    DispatchAnswer,
    Extend,
    ExtendAnswer,
    Operation,
    RateLeft,
    Reserve,
    ReserveAnswer,
    Sweep,
    SweepAnswer,
    Void,
)


class Outcome(NamedTuple):
    """What an operation came to. `replayed`: the answer was given before, nothing changed now."""

    answer: Answer | LedgerError
    entries: tuple[Entry, ...] = ()
    replayed: bool = False


def run(books: Books, operation: Operation, now_us: int, cost: CostFunction) -> Outcome:
    """Decides one operation and applies it to the books.

    A known request id gets its first answer. Otherwise holds that are past their time end first, so that a decision
    depends on the moment it is made and never on whether a sweeper ran.
    """
    if isinstance(operation, Sweep):
        return _sweep(books, operation, now_us)
    remembered = books.answers.get(operation.key)
    if remembered is not None:
        return replay(remembered, operation.fingerprint)
    ended = tuple(_expire_due(books, now_us))
    try:
        entry = _entry(books, operation, now_us, cost)
    except LedgerError as error:
        return Outcome(error, ended)
    books.apply(entry)
    return Outcome(entry.answer, (*ended, entry))


def _entry(  # noqa: PLR0911 - one line per verb
    books: Books,
    operation: Reserve | Extend | Commit | Void | Dispatch | Adjust | Allot,
    now_us: int,
    cost: CostFunction,
) -> Entry:
    if isinstance(operation, Reserve):
        return _reserve(books, operation, now_us)
    if isinstance(operation, Commit):
        if operation.kept is not None:
            return return_part(books, operation, operation.kept, now_us, cost)
        return commit(books, operation, now_us, cost)
    if isinstance(operation, Dispatch):
        return _dispatch(books, operation, now_us)
    if isinstance(operation, Extend):
        return _extend(books, operation, now_us)
    if isinstance(operation, Adjust):
        return adjust(books, operation, now_us)
    if isinstance(operation, Allot):
        return allot(books, operation, now_us)
    return void(books, operation, now_us)


def replay(remembered: tuple[int, Answer], fingerprint: int) -> Outcome:
    """The first answer again, a denial included; another payload under the same id is an error."""
    if remembered[0] != fingerprint:
        return Outcome(RequestIdReused(), replayed=True)
    return Outcome(remembered[1], replayed=True)


def _expire_due(books: Books, now_us: int) -> Iterable[Entry]:
    while (reservation := books.next_due(now_us)) is not None:
        entry = expire(books, reservation, now_us)
        books.apply(entry)
        yield entry


def _sweep(books: Books, sweep: Sweep, now_us: int) -> Outcome:
    entries = []
    for entry in _expire_due(books, now_us):
        entries.append(entry)
        if len(entries) >= sweep.max_reservations:
            break
    return Outcome(SweepAnswer(len(entries), sum(e.spent_delta_nano_usd for e in entries)), tuple(entries))


def _reserve(books: Books, operation: Reserve, now_us: int) -> Entry:
    key, fingerprint, payer, amount, prices, ttl_us, reservation_id, tokens, input_cost, *_ = operation
    covered, fitted = operation.covered_output_tokens, fit(books, operation, now_us)
    money_ids, violations, shadow, alerted, alerts, meters, pending = fitted
    rates = fitted.rates_left(now_us) if pending else ()
    if violations:
        return _denied(books, operation, fitted, rates, now_us)
    check_room(books, money_ids, amount, amount, "max_output_tokens")
    expire_us = now_us + ttl_us
    return Entry(
        key,
        fingerprint,
        now_us,
        ReserveAnswer(True, reservation_id, amount, (), alerts, None, prices, expire_us, shadow, rates, covered),
        reservation_id,
        amount,
        0,
        money_ids,
        alerted,
        reservation=Reservation(
            reservation_id,
            payer.organisation,
            State.HELD,
            amount,
            amount,
            0,
            0,
            expire_us,
            (*money_ids, *[meter.counter_id for meter in meters]) if meters else money_ids,
            Terms(payer, prices, operation.on_expiry, input_cost, tokens, meters),
        ),
        meters=meters,
    )


def _denied(books: Books, operation: Reserve, fitted: Fit, rates: tuple[RateLeft, ...], now_us: int) -> Entry:
    wait = retry_after_us(fitted.violations)
    asked = Asked(operation.payer, operation.amount_nano_usd, operation.tokens, operation.free)
    # Where a cap was lowered below what is used, nothing that is added raises the alert any more.
    alerted, alerts = crossed(books, fitted.money_ids, 0, standing=True)
    violations, shadow = fitted.violations, fitted.shadow_violations
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        ReserveAnswer(False, "", 0, violations, alerts, wait, (), 0, shadow, rates, 0, asked),
        counter_ids=alerted,
        alerted=alerted,
    )


def _dispatch(books: Books, operation: Dispatch, now_us: int) -> Entry:
    """Touches the reservation only: what its end will mean changes, no counter does."""
    held = reservation_of(books, operation)
    noted = held.state is State.HELD
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        DispatchAnswer(noted),
        held.reservation_id,
        reservation=held._replace(dispatched=True) if noted else None,
    )


def _extend(books: Books, operation: Extend, now_us: int) -> Entry:
    held = reservation_of(books, operation)
    if held.state is not State.HELD:
        raise ReservationEnded(held.state.name.lower(), "extend")
    add, money_ids = operation.add_nano_usd, held.money_ids
    check_room(books, money_ids, add, held.reserved_nano_usd + add, "add_nano_usd")
    violations = tuple(extension_violations(books, held, add, now_us)) if add else ()
    granted = 0 if violations else add
    alerted, alerts = crossed(books, money_ids, granted, standing=bool(violations))
    reservation = held._replace(
        held_nano_usd=held.held_nano_usd + granted,
        reserved_nano_usd=held.reserved_nano_usd + granted,
        spent_so_far_nano_usd=max(held.spent_so_far_nano_usd, operation.spent_so_far_nano_usd),
        expire_us=max(held.expire_us, now_us + operation.ttl_us),
        # Who reports that something was spent has sent the call.
        dispatched=held.dispatched or operation.spent_so_far_nano_usd > 0,
    )
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        ExtendAnswer(not violations, reservation.held_nano_usd, violations, alerts, reservation.expire_us),
        held.reservation_id,
        granted,
        0,
        money_ids,
        alerted,
        reservation=reservation,
    )
