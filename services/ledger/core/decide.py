"""Decisions on money: pure functions of (books, operation, now). One function per verb gives the entry to apply."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from services.ledger.core.books import (
    UNATTRIBUTED,
    BookedLine,
    Books,
    Counter,
    Entry,
    Posting,
    Reservation,
    State,
    key_account,
    provider_account,
)
from services.ledger.core.errors import InvalidRequest, LedgerError, NotFound, RequestIdReused, ReservationEnded
from services.ledger.core.limits import EVERY_ORGANISATION, Limit, LimitSet, Scope, limit_id_of
from services.ledger.core.operations import (
    Alert,
    Answer,
    Commit,
    CommitAnswer,
    ExpireAnswer,
    Extend,
    ExtendAnswer,
    Kind,
    LimitAnswer,
    Operation,
    OperationKey,
    Reserve,
    ReserveAnswer,
    SetLimit,
    Sweep,
    SweepAnswer,
    Violation,
    Void,
    VoidAnswer,
)
from services.ledger.core.prices import Price, Tokens, dearest
from services.ledger.core.windows import MICROSECONDS, window_at

INT64_MAX = 2**63 - 1
CostFunction = Callable[[Tokens, Price], int]


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
        if isinstance(operation, Reserve):
            entry = _reserve(books, operation, now_us)
        elif isinstance(operation, Commit):
            entry = _commit(books, operation, now_us, cost)
        elif isinstance(operation, Extend):
            entry = _extend(books, operation, now_us)
        else:
            entry = _void(books, operation, now_us)
    except LedgerError as error:
        return Outcome(error, ended)
    books.apply(entry)
    return Outcome(entry.answer, (*ended, entry))


def replay(remembered: tuple[int, Answer], fingerprint: int) -> Outcome:
    """The first answer again, a denial included; another payload under the same id is an error."""
    if remembered[0] != fingerprint:
        return Outcome(RequestIdReused(), replayed=True)
    return Outcome(remembered[1], replayed=True)


def _expire_due(books: Books, now_us: int) -> Iterable[Entry]:
    while (reservation := books.next_due(now_us)) is not None:
        entry = _expire(books, reservation, now_us)
        books.apply(entry)
        yield entry


def _expire(books: Books, held: Reservation, now_us: int) -> Entry:
    """Ends a hold that is past its time: what its holder reported is charged, the rest is free again."""
    # An absurd report must not overflow a counter: it would keep every later batch from being written.
    used = max((books.counters[i].used_nano_usd for i in held.counter_ids), default=0)
    charge = min(held.spent_so_far_nano_usd, INT64_MAX - (used - held.held_nano_usd))
    alerted, alerts = _crossed(books, held.counter_ids, charge - held.held_nano_usd)
    return Entry(
        OperationKey(held.organisation, Kind.EXPIRE, held.reservation_id),
        0,
        now_us,
        ExpireAnswer(charge, alerts),
        held.reservation_id,
        -held.held_nano_usd,
        charge,
        held.counter_ids,
        alerted,
        (Posting(key_account(held.payer), charge), Posting(UNATTRIBUTED, -charge)) if charge else (),
        reservation=held._replace(state=State.EXPIRED, held_nano_usd=0, booked_nano_usd=charge),
    )


def _sweep(books: Books, sweep: Sweep, now_us: int) -> Outcome:
    entries = []
    for entry in _expire_due(books, now_us):
        entries.append(entry)
        if len(entries) >= sweep.max_reservations:
            break
    return Outcome(SweepAnswer(len(entries), sum(e.spent_delta_nano_usd for e in entries)), tuple(entries))


class _Fit(NamedTuple):
    """How an amount fits the limits of a payer: the counters to hold it on, and what stands against it."""

    counter_ids: tuple[str, ...]
    violations: tuple[Violation, ...]
    alerted: tuple[str, ...]
    alerts: tuple[Alert, ...]


def _fit(books: Books, operation: Reserve, now_us: int) -> _Fit:
    amount = operation.amount_nano_usd
    counter_ids: list[str] = []
    violations: list[Violation] = []
    alerted: list[str] = []
    alerts: list[Alert] = []
    for limit, counter_id, key, window_end_s in books.limits.bindings(operation.payer, now_us // MICROSECONDS):
        if key is None:
            if not limit.fits(0, amount):
                violations.append(Violation(limit, limit.stop_line_nano_usd, amount, None))
            continue
        counter = books.counters[counter_id]
        counter_ids.append(counter_id)
        used = counter.used_nano_usd
        if not limit.fits(used, amount):
            violations.append(Violation(limit, limit.stop_line_nano_usd - used, amount, window_end_s))
        elif _alerts(limit, counter, used + amount):
            alerts.append(Alert(limit, used + amount))
            alerted.append(counter_id)
    return _Fit(tuple(counter_ids), tuple(violations), tuple(alerted), tuple(alerts))


def _reserve(books: Books, operation: Reserve, now_us: int) -> Entry:
    key, fingerprint, payer, amount, prices, ttl_us, reservation_id = operation
    counter_ids, violations, alerted, alerts = _fit(books, operation, now_us)
    if violations:
        denied = ReserveAnswer(False, "", 0, violations, (), _retry_after_us(violations, now_us), (), 0)
        return Entry(key, fingerprint, now_us, denied)
    _check_room(books, counter_ids, amount, amount, "max_output_tokens")
    expire_us = now_us + ttl_us
    return Entry(
        key,
        fingerprint,
        now_us,
        ReserveAnswer(True, reservation_id, amount, (), alerts, None, prices, expire_us),
        reservation_id,
        amount,
        0,
        counter_ids,
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
            counter_ids,
            payer,
            prices,
        ),
    )


def _extend(books: Books, operation: Extend, now_us: int) -> Entry:
    held = _reservation(books, operation)
    if held.state is not State.HELD:
        raise ReservationEnded(held.state.name.lower(), "extend")
    add = operation.add_nano_usd
    _check_room(books, held.counter_ids, add, held.reserved_nano_usd + add, "add_nano_usd")
    violations = tuple(_extension_violations(books, held, add, now_us)) if add else ()
    granted = 0 if violations else add
    alerted, alerts = _crossed(books, held.counter_ids, granted)
    reservation = held._replace(
        held_nano_usd=held.held_nano_usd + granted,
        reserved_nano_usd=held.reserved_nano_usd + granted,
        spent_so_far_nano_usd=max(held.spent_so_far_nano_usd, operation.spent_so_far_nano_usd),
        expire_us=max(held.expire_us, now_us + operation.ttl_us),
    )
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        ExtendAnswer(not violations, reservation.held_nano_usd, violations, alerts, reservation.expire_us),
        held.reservation_id,
        granted,
        0,
        held.counter_ids,
        alerted,
        reservation=reservation,
    )


def _commit(books: Books, operation: Commit, now_us: int, cost: CostFunction) -> Entry:
    held = _reservation(books, operation)
    if held.state is State.COMMITTED:
        raise ReservationEnded("committed", "commit")
    lines = tuple(_booked_lines(operation, held, cost))
    amount = sum(line.amount_nano_usd for line in lines)
    spent = amount - held.booked_nano_usd
    _check_room(books, held.counter_ids, max(spent - held.held_nano_usd, 0), amount, "lines")
    alerted, alerts = _crossed(books, held.counter_ids, spent - held.held_nano_usd)
    after_void, late = held.state is State.VOIDED, held.state is State.EXPIRED
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        CommitAnswer(amount, max(amount - held.reserved_nano_usd, 0), late, after_void, alerts),
        held.reservation_id,
        -held.held_nano_usd,
        spent,
        held.counter_ids,
        alerted,
        _postings(held, lines),
        lines,
        "after-void" if after_void else "late" if late else "",
        held._replace(state=State.COMMITTED, held_nano_usd=0, booked_nano_usd=amount),
    )


def _void(books: Books, operation: Void, now_us: int) -> Entry:
    held = _reservation(books, operation)
    if held.state is State.COMMITTED:
        raise ReservationEnded("committed", "void")
    ended = held.state is not State.HELD
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        VoidAnswer(held.held_nano_usd),
        held.reservation_id,
        -held.held_nano_usd,
        0,
        held.counter_ids,
        note=operation.reason,
        reservation=held if ended else held._replace(state=State.VOIDED, held_nano_usd=0),
    )


def _reservation(books: Books, operation: Extend | Commit | Void) -> Reservation:
    reservation = books.reservations.get(operation.reservation_id)
    if reservation is None or reservation.organisation != operation.key.organisation:
        raise NotFound("reservation", operation.reservation_id)
    return reservation


def _extension_violations(books: Books, held: Reservation, add: int, now_us: int) -> Iterable[Violation]:
    for limit, _, key, _ in books.limits.bindings(held.payer, now_us // MICROSECONDS):
        if key is None and not limit.fits(held.reserved_nano_usd, add):
            yield Violation(limit, limit.stop_line_nano_usd - held.reserved_nano_usd, add, None)
    for counter_id in held.counter_ids:
        counter = books.counters[counter_id]
        limit_now = _limit_of(books, counter)
        if limit_now is not None and not limit_now.fits(counter.used_nano_usd, add):
            end_s = window_at(counter.key.period, counter.key.window_start_s).end_s
            yield Violation(limit_now, limit_now.stop_line_nano_usd - counter.used_nano_usd, add, end_s)


def _limit_of(books: Books, counter: Counter) -> Limit | None:
    organisation, scope, subject, period, _ = counter.key
    return books.limits.in_force(organisation, scope, subject, period)


def _crossed(books: Books, counter_ids: Iterable[str], added: int) -> tuple[tuple[str, ...], tuple[Alert, ...]]:
    """Counters whose alert line an addition passes for the first time, and the alerts to raise."""
    if added <= 0:
        return (), ()
    found = []
    for counter_id in counter_ids:
        counter = books.counters[counter_id]
        limit = _limit_of(books, counter)
        used = counter.used_nano_usd + added
        if limit is not None and _alerts(limit, counter, used):
            found.append((counter_id, Alert(limit, used)))
    return tuple(i for i, _ in found), tuple(a for _, a in found)


def _alerts(limit: Limit, counter: Counter, used: int) -> bool:
    return not counter.alerted and limit.cap_nano_usd > 0 and used >= limit.alert_line_nano_usd


def _retry_after_us(violations: Iterable[Violation], now_us: int) -> int | None:
    """When every violated window has ended; None if one never ends or the request does not fit an empty one."""
    latest = 0
    for violation in violations:
        end_s = violation.window_end_s
        if end_s is None or not violation.limit.fits(0, violation.requested_nano_usd):
            return None
        latest = max(latest, end_s * MICROSECONDS - now_us)
    return latest


def _check_room(books: Books, counter_ids: Iterable[str], added: int, total: int, field: str) -> None:
    """Amounts are int64: a sum that cannot be booked is refused before it reaches a database.

    `added` goes onto the counters; `total` is what the entry itself carries, limited or not.
    """
    if max(total, added + max((books.counters[i].used_nano_usd for i in counter_ids), default=0)) > INT64_MAX:
        raise InvalidRequest(field, "the amount does not fit into 64 bits of nano-USD")


def _booked_lines(operation: Commit, held: Reservation, cost: CostFunction) -> Iterable[BookedLine]:
    for index, line in enumerate(operation.lines):
        price = _price_of(held, line.provider, line.model) or line.current_price or dearest(held.prices)
        try:
            amount = cost(line.tokens, price)
        except (ValueError, OverflowError) as error:
            raise InvalidRequest(f"lines[{index}].usage", str(error)) from None
        yield BookedLine(line.provider, line.model, line.attempt, line.tokens, amount, price.version)


def _price_of(held: Reservation, provider: str, model: str) -> Price | None:
    for price in held.prices:
        if price.model == model and price.provider == provider:
            return price
    return None


def _postings(held: Reservation, lines: Iterable[BookedLine]) -> tuple[Posting, ...]:
    """Debits the key, credits the providers; what expiry charged without knowing whom is taken back."""
    owed: dict[str, int] = {UNATTRIBUTED: -held.booked_nano_usd} if held.booked_nano_usd else {}
    for line in lines:
        if line.amount_nano_usd:
            account = provider_account(line.provider)
            owed[account] = owed.get(account, 0) + line.amount_nano_usd
    if not owed:
        return ()
    debit = Posting(key_account(held.payer), sum(owed.values()))
    return (debit, *(Posting(account, -amount) for account, amount in owed.items()))


def set_limit(limits: LimitSet, operation: SetLimit, now_us: int, max_limits: int) -> tuple[LimitSet, Entry]:
    """Creates or changes a limit of the organisation. Raises InvalidRequest or NotFound."""
    wanted = operation.limit
    limit_id = limit_id_of(wanted.organisation, wanted.scope, wanted.subject, wanted.period)
    before = limits.by_id.get(limit_id)
    _check_limit(limits, wanted, limit_id)
    if before is None:
        own = sum(1 for limit in limits.by_id.values() if limit.organisation == wanted.organisation)
        if own >= max_limits:
            raise InvalidRequest("limit", f"an organisation has at most {max_limits} limits")
        after = replace(wanted, limit_id=limit_id, version=1, declared=False)
    else:
        after = replace(wanted, limit_id=limit_id, version=before.version, declared=before.declared)
        if after != before:
            after = replace(after, version=before.version + 1)
    entry = Entry(operation.key, operation.fingerprint, now_us, LimitAnswer(after))
    return (limits if after == before else limits.replaced_with(after)), entry


def _check_limit(limits: LimitSet, wanted: Limit, limit_id: str) -> None:
    if wanted.scope is Scope.ORGANISATION and wanted.subject:
        raise InvalidRequest("limit.subject", "must be empty with scope ORGANISATION")
    if wanted.alert_basis_points > wanted.stop_basis_points:
        raise InvalidRequest("limit.alert_basis_points", "must not be above stop_basis_points: it would never be seen")
    if not wanted.limit_id:
        return
    named = limits.by_id.get(wanted.limit_id)
    if named is not None and named.organisation == EVERY_ORGANISATION:
        raise InvalidRequest("limit.limit_id", "holds for every organisation; leave it empty to set your own instead")
    if named is None or named.organisation != wanted.organisation:
        raise NotFound("limit", wanted.limit_id)
    if wanted.limit_id != limit_id:
        raise InvalidRequest("limit.limit_id", "names a limit of another scope, subject or period; these never change")
