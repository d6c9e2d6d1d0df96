"""How holds end: what is booked, what is released, and what their end means for rates and concurrency."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from services.ledger.core import rates
from services.ledger.core.books import (
    UNATTRIBUTED,
    BookedLine,
    Books,
    Entry,
    Posting,
    Reservation,
    State,
    Terms,
    key_account,
    provider_account,
)
from services.ledger.core.errors import InvalidRequest, ModelUnpriced, NotFound, NothingToCorrect, ReservationEnded
from services.ledger.core.fitting import crossed, limit_of
from services.ledger.core.limits import Binding, Mode, Payer, Unit
from services.ledger.core.operations import (
    Adjust,
    AdjustAnswer,
    Commit,
    CommitAnswer,
    ExpireAnswer,
    Kind,
    Meter,
    OnExpiry,
    OperationKey,
    ReservationOperation,
    Void,
    VoidAnswer,
)
from services.ledger.core.prices import Price, Tokens, dearest
from services.ledger.core.windows import MICROSECONDS

INT64_MAX = 2**63 - 1
CostFunction = Callable[[Tokens, Price], int]


def expire(books: Books, held: Reservation, now_us: int) -> Entry:
    """Ends a hold that is past its time: what is known of a dispatched call is charged, the rest is free again."""
    money_ids = held.money_ids
    # An absurd report must not overflow a counter: it would keep every later batch from being written.
    used = max((books.counters[i].used_nano_usd for i in money_ids), default=0)
    charge = min(_charge(held), INT64_MAX - (used - held.held_nano_usd))
    alerted, alerts = crossed(books, money_ids, charge - held.held_nano_usd)
    return Entry(
        OperationKey(held.organisation, Kind.EXPIRE, held.reservation_id),
        0,
        now_us,
        ExpireAnswer(charge, alerts),
        held.reservation_id,
        -held.held_nano_usd,
        charge,
        money_ids,
        alerted,
        (Posting(key_account(held.terms.payer), charge), Posting(UNATTRIBUTED, -charge)) if charge else (),
        reservation=held._replace(state=State.EXPIRED, held_nano_usd=0, booked_nano_usd=held.booked_nano_usd + charge),
        # As of its time, whenever it is noticed: nobody decided on its counters meanwhile.
        meters=_given_back(held, held.expire_us, rates_too=not held.dispatched) if held.terms.meters else (),
    )


def _charge(held: Reservation) -> int:
    if not held.dispatched or held.terms.on_expiry is OnExpiry.RELEASE:
        return 0
    known = max(held.spent_so_far_nano_usd, held.terms.input_nano_usd)
    return max(known, held.held_nano_usd) if held.terms.on_expiry is OnExpiry.CHARGE_ALL else known


def commit(books: Books, operation: Commit, now_us: int, cost: CostFunction) -> Entry:
    """Books usage, whatever became of the hold meanwhile."""
    if operation.orphan is not None and operation.reservation_id not in books.reservations:
        return orphan(books, operation, operation.orphan, now_us, cost)
    held = reservation_of(books, operation)
    if held.state is State.COMMITTED:
        raise ReservationEnded("committed", "commit")
    lines = tuple(booked_lines(operation, held.terms.prices, cost))
    amount = sum(line.amount_nano_usd for line in lines)
    before = returned_before(held)
    charged, total, money_ids = held.booked_nano_usd - before, before + amount, held.money_ids
    spent = amount - charged
    check_room(books, money_ids, max(spent - held.held_nano_usd, 0), total, "lines")
    alerted, alerts = crossed(books, money_ids, spent - held.held_nano_usd, standing=operation.lent and amount > 0)
    after_void, late = held.state is State.VOIDED, held.state is State.EXPIRED
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        CommitAnswer(
            amount, overrun(books, held, before, amount, spent - held.held_nano_usd), late, after_void, alerts
        ),
        held.reservation_id,
        -held.held_nano_usd,
        spent,
        money_ids,
        alerted,
        postings(held.terms.payer, charged, lines),
        lines,
        "after-void" if after_void else "late" if late else "",
        held._replace(
            state=State.COMMITTED, held_nano_usd=0, booked_nano_usd=total, paid_to=held.paid_to or paid_to(lines)
        ),
        _moving(_settled(held, lines, now_us)) if held.terms.meters else (),
    )


def returned_before(held: Reservation) -> int:
    """What parts of an allotment's return have booked: until its last return, only they say who was paid."""
    return held.booked_nano_usd if held.paid_to and held.state is not State.COMMITTED else 0


def overrun(books: Books, held: Reservation, before: int, amount: int, added: int) -> int:
    """What an amount, after what was booked before, comes to beyond the most that was held.

    Others may have what a hold gave back, at its end or with a part of a loan: then what passes a limit in force counts
    too, of what is `added` to the counters.
    """
    beyond = max(before + amount - held.reserved_nano_usd, 0) - max(before - held.reserved_nano_usd, 0)
    if added <= 0:
        return beyond
    return max(beyond, *(min(_passed(books, counter_id, added), added) for counter_id in held.money_ids), 0)


def _passed(books: Books, counter_id: str, added: int) -> int:
    counter = books.counters[counter_id]
    limit = limit_of(books, counter)
    if limit is None or limit.mode is Mode.SHADOW:
        return 0
    return counter.used_nano_usd + added - limit.stop_line_nano_usd


def orphan(books: Books, operation: Commit, payer: Payer, now_us: int, cost: CostFunction) -> Entry:
    """Books usage that was lost on the counters of the moment, all beyond any hold. After a part more may follow."""
    bindings = books.limits.bindings(payer, now_us // MICROSECONDS)
    money_ids = tuple(b.counter_id for b in bindings if b.key is not None and b.limit.unit is Unit.MONEY)
    lines = tuple(booked_lines(operation, (), cost))
    amount = sum(line.amount_nano_usd for line in lines)
    check_room(books, money_ids, amount, amount, "lines")
    alerted, alerts = crossed(books, money_ids, amount)
    meters = tuple(_metered_late(bindings, lines))
    counter_ids = (*money_ids, *(meter.counter_id for meter in meters))
    reservation = Reservation(
        operation.reservation_id,
        payer.organisation,
        State.EXPIRED if operation.kept is not None else State.COMMITTED,
        0,
        0,
        0,
        amount,
        now_us,
        counter_ids,
        Terms(payer, (), meters=meters),
        dispatched=True,
        paid_to=paid_to(lines),
    )
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        CommitAnswer(amount, amount, late=False, after_void=False, alerts=alerts, orphan=True),
        operation.reservation_id,
        0,
        amount,
        money_ids,
        alerted,
        postings(payer, 0, lines),
        lines,
        "orphan",
        reservation,
        _moving(meters),
    )


def _metered_late(bindings: Iterable[Binding], lines: Iterable[BookedLine]) -> Iterable[Meter]:
    """What a call that nobody reserved takes of rates, though it is over."""
    counts = {Unit.REQUESTS: 1, Unit.TOKENS: _tokens(lines)}
    for limit, counter_id, _, _ in bindings:
        if limit.unit in counts and limit.max_count:
            yield Meter(counter_id, limit.unit, _bounded_ns(counts[limit.unit], limit.max_count), limit.max_count)


def void(books: Books, operation: Void, now_us: int) -> Entry:
    """Releases everything. A hold that ended by itself has nothing to release, but what its end charged comes back."""
    held = reservation_of(books, operation)
    if held.state is State.COMMITTED:
        raise ReservationEnded("committed", "void")
    if held.state is State.EXPIRED and held.dispatched and not held.paid_to:
        return _void_late(operation, held, now_us)
    if held.state is not State.HELD:
        return Entry(operation.key, operation.fingerprint, now_us, VoidAnswer(0), held.reservation_id)
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        VoidAnswer(held.held_nano_usd),
        held.reservation_id,
        -held.held_nano_usd,
        0,
        held.money_ids,
        note=operation.reason,
        reservation=held._replace(state=State.VOIDED, held_nano_usd=0),
        meters=_given_back(held, now_us, rates_too=True) if held.terms.meters else (),
    )


def _void_late(operation: Void, held: Reservation, now_us: int) -> Entry:
    """A call that was sent and then known to be not executed, after its hold had ended: it costs nothing after all."""
    charged = held.booked_nano_usd
    # A place among calls under way came back with the hold's end.
    kept = (meter for meter in held.terms.meters if meter.unit is not Unit.CONCURRENCY)
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        VoidAnswer(charged),
        held.reservation_id,
        0,
        -charged,
        held.money_ids,
        postings=postings(held.terms.payer, charged, ()),
        note=operation.reason,
        reservation=held._replace(state=State.VOIDED, booked_nano_usd=0),
        meters=_moving(meter._replace(amount=-_refundable(meter, meter.amount, now_us)) for meter in kept),
    )


def adjust(books: Books, operation: Adjust, now_us: int) -> Entry:
    """Corrects what was booked, on the counters that carry it."""
    held = reservation_of(books, operation)
    state, delta, booked = held.state, operation.delta_nano_usd, held.booked_nano_usd + operation.delta_nano_usd
    if state not in (State.COMMITTED, State.EXPIRED):
        raise NothingToCorrect(state.name.lower(), f"the reservation is {state.name.lower()}; nothing was booked")
    if booked < 0:
        message = f"{held.booked_nano_usd} nano-USD are booked; no more can be given back"
        raise NothingToCorrect(state.name.lower(), message)
    check_room(books, held.money_ids, max(delta, 0), booked, "delta_nano_usd")
    alerted, alerts = crossed(books, held.money_ids, delta)
    # What expiry charged is nobody's until a late commit says whose it is, and takes it back from there.
    provider = operation.provider or held.paid_to
    known = state is State.COMMITTED or held.paid_to
    account = provider_account(provider) if known and provider else UNATTRIBUTED
    return Entry(
        operation.key,
        operation.fingerprint,
        now_us,
        AdjustAnswer(booked, alerts),
        held.reservation_id,
        0,
        delta,
        held.money_ids,
        alerted,
        (Posting(key_account(held.terms.payer), delta), Posting(account, -delta)),
        note=operation.reason,
        reservation=held._replace(booked_nano_usd=booked),
    )


def reservation_of(books: Books, operation: ReservationOperation) -> Reservation:
    """The caller's reservation. Raises NotFound, also for another organisation's."""
    held = books.reservations.get(operation.reservation_id)
    if held is None or held.organisation != operation.key.organisation:
        raise NotFound("reservation", operation.reservation_id)
    return held


def check_room(books: Books, counter_ids: Iterable[str], added: int, total: int, field: str) -> None:
    """Amounts are int64: a sum that cannot be booked is refused before it reaches a database.

    `added` goes onto the counters; `total` is what the entry itself carries, limited or not.
    """
    if max(total, added + max((books.counters[i].used_nano_usd for i in counter_ids), default=0)) > INT64_MAX:
        raise InvalidRequest(field, "the amount does not fit into 64 bits of nano-USD")


def _given_back(held: Reservation, at_us: int, *, rates_too: bool) -> tuple[Meter, ...]:
    return _moving(
        meter._replace(amount=-_refundable(meter, meter.amount, at_us))
        for meter in held.terms.meters
        if rates_too or meter.unit is Unit.CONCURRENCY
    )


def _moving(meters: Iterable[Meter]) -> tuple[Meter, ...]:
    """A rate that nothing moves is not brought up to now: it would stand ahead of a clock that is set back later."""
    return tuple(meter for meter in meters if meter.amount)


def _refundable(meter: Meter, amount: int, at_us: int) -> int:
    if meter.unit is Unit.CONCURRENCY:
        return amount
    return rates.refundable(amount, meter.tat_ns, at_us * rates.NANOSECONDS_PER_MICROSECOND)


def _settled(held: Reservation, lines: tuple[BookedLine, ...], now_us: int) -> Iterable[Meter]:
    """Puts rates right: tokens as they were used, and the call itself where its hold had been taken for unsent."""
    live = held.state is State.HELD
    charged = live or (held.state is State.EXPIRED and held.dispatched)
    exact = not any(line.tokens.estimated for line in lines)
    for meter in held.terms.meters:
        if meter.unit is Unit.CONCURRENCY:
            if live:
                yield meter._replace(amount=-meter.amount)
        elif meter.unit is Unit.REQUESTS:
            if not charged:
                yield meter
        else:
            by_ns = _bounded_ns(_tokens(lines), meter.per_minute) - (meter.amount if charged else 0)
            # An estimate may be too low: on its word nothing is given back.
            if by_ns > 0:
                yield meter._replace(amount=by_ns)
            elif by_ns < 0 and exact:
                yield meter._replace(amount=-_refundable(meter, -by_ns, now_us))


def _tokens(lines: Iterable[BookedLine]) -> int:
    return sum(line.tokens.input_tokens + line.tokens.output_tokens for line in lines)


def _bounded_ns(count: int, per_minute: int) -> int:
    return min(rates.cost_ns(count, per_minute), rates.MAX_DEBT_NS)


def booked_lines(operation: Commit, prices: tuple[Price, ...], cost: CostFunction) -> Iterable[BookedLine]:
    """The lines at their prices. Raises ModelUnpriced where nothing has one, InvalidRequest."""
    for index, line in enumerate(operation.lines):
        price = _price_of(prices, line.provider, line.model) or line.current_price
        if price is None:
            if not prices:
                raise ModelUnpriced(line.provider, line.model, "and no reservation fixed one")
            price = dearest(prices)
        try:
            amount = cost(line.tokens, price)
        except (ValueError, OverflowError) as error:
            raise InvalidRequest(f"lines[{index}].usage", str(error)) from None
        yield BookedLine(line.provider, line.model, line.attempt, line.tokens, amount, price.version)


def _price_of(prices: tuple[Price, ...], provider: str, model: str) -> Price | None:
    for price in prices:
        if price.model == model and price.provider == provider:
            return price
    return None


def paid_to(lines: tuple[BookedLine, ...]) -> str:
    """The provider of the first line."""
    return lines[0].provider if lines else ""


def postings(payer: Payer, charged: int, lines: Iterable[BookedLine]) -> tuple[Posting, ...]:
    """Debits the key, credits the providers; what expiry charged without knowing whom is taken back."""
    owed: dict[str, int] = {UNATTRIBUTED: -charged} if charged else {}
    for line in lines:
        if line.amount_nano_usd:
            account = provider_account(line.provider)
            owed[account] = owed.get(account, 0) + line.amount_nano_usd
    if not owed:
        return ()
    debit = Posting(key_account(payer), sum(owed.values()))
    return (debit, *(Posting(account, -amount) for account, amount in owed.items()))
