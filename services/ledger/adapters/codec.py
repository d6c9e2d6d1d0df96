"""Rows and JSON documents of the SQL store, to and from the core's types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from services.ledger.core.books import Books, Counter, Entry, Reservation, State
from services.ledger.core.errors import ZoneUnknown
from services.ledger.core.events import Event, EventKind, NumberedEvent, events_of
from services.ledger.core.limits import CounterKey, Limit, LimitSet, Mode, Payer, Scope, Unit
from services.ledger.core.operations import (
    AdjustAnswer,
    Alert,
    Allot,
    AllotAnswer,
    Answer,
    Commit,
    CommitAnswer,
    DispatchAnswer,
    ExpireAnswer,
    ExtendAnswer,
    Kind,
    LimitAnswer,
    Operation,
    OperationKey,
    Reserve,
    ReserveAnswer,
    RestoredAnswer,
    Sweep,
    VoidAnswer,
)
from services.ledger.core.ports import UsageQuery
from services.ledger.core.windows import MICROSECONDS, Period

_encode = msgspec.json.Encoder().encode
NOTHING = "[]"
_FIRST_UUID = "00000000-0000-0000-0000-000000000000"


class _CounterRow(NamedTuple):
    counter_id: str
    organisation: str
    scope: Scope
    subject: str
    period: Period
    window_start_s: int
    spent_nano_usd: int
    held_nano_usd: int
    alerted: bool
    tat_ns: int
    unit: Unit


class _AnswerRow(NamedTuple):
    organisation: str
    kind: Kind
    request_id: str
    fingerprint: int
    answer: msgspec.Raw


_decode_counters = msgspec.json.Decoder(list[_CounterRow]).decode
_decode_reservations = msgspec.json.Decoder(list[Reservation]).decode
_decode_answers = msgspec.json.Decoder(list[_AnswerRow]).decode
_ANSWER_DECODERS: Mapping[Kind, msgspec.json.Decoder[Any]] = {
    Kind.RESERVE: msgspec.json.Decoder(ReserveAnswer),
    Kind.EXTEND: msgspec.json.Decoder(ExtendAnswer),
    Kind.COMMIT: msgspec.json.Decoder(CommitAnswer),
    Kind.VOID: msgspec.json.Decoder(VoidAnswer),
    Kind.EXPIRE: msgspec.json.Decoder(ExpireAnswer),
    Kind.SET_LIMIT: msgspec.json.Decoder(LimitAnswer),
    Kind.DISPATCH: msgspec.json.Decoder(DispatchAnswer),
    Kind.ADJUST: msgspec.json.Decoder(AdjustAnswer),
    Kind.ALLOT: msgspec.json.Decoder(AllotAnswer),
    Kind.RESTORED: msgspec.json.Decoder(RestoredAnswer),
}
_decode_alerts = msgspec.json.Decoder(tuple[Alert, ...]).decode


def text(value: object) -> str:
    """JSON text of any of the core's types."""
    return _encode(value).decode()


def decode_answer(kind: Kind, raw: bytes | str | msgspec.Raw) -> Answer:
    """A stored answer."""
    answer: Answer = _ANSWER_DECODERS[kind].decode(raw)
    return answer


def most_expired(batch: Iterable[Operation], max_expired: int) -> int:
    """How many due holds LOAD gives for a batch at most, beside those that it names."""
    return max(max_expired, *(operation.max_reservations for operation in batch if isinstance(operation, Sweep)), 0)


def due_count(books: Books, batch: Iterable[Operation], now_us: int) -> int:
    """How many due holds LOAD gave, beside those that the batch names."""
    named = {o.reservation_id for o in batch if not isinstance(o, (Sweep, Reserve, Allot))}
    due = (i for i, r in books.reservations.items() if r.state is State.HELD and r.expire_us <= now_us)
    return sum(reservation_id not in named for reservation_id in due)


def touch(batch: Sequence[Operation], limits: LimitSet, now_us: int, max_expired: int) -> tuple[Any, ...]:
    """The arguments of LOAD for a batch of operations."""
    counters: dict[str, CounterKey] = {}
    reservation_ids: set[str] = set()
    keys: list[OperationKey] = []
    for operation in batch:
        if isinstance(operation, Sweep):
            continue
        keys.append(operation.key)
        payer = payer_of(operation)
        if payer is not None:
            # Where a zone is not known, whoever decides says so, once the limits were found to be still those.
            with suppress(ZoneUnknown):
                for binding in limits.bindings(payer, now_us // MICROSECONDS):
                    if binding.key is not None:
                        counters[binding.counter_id] = binding.key
        if not isinstance(operation, (Reserve, Allot)):
            reservation_ids.add(operation.reservation_id)
    organisations, scopes, subjects, periods, starts, units = columns(counters.values(), 6)
    return (
        now_us,
        list(reservation_ids),
        list(counters),
        organisations,
        scopes,
        subjects,
        periods,
        starts,
        units,
        *columns(keys, 3),
        most_expired(batch, max_expired),
        any(isinstance(operation, Sweep) for operation in batch),
    )


def payer_of(operation: Operation) -> Payer | None:
    """Whose limits are in force for an operation, if it is not about a reservation that has its own."""
    if isinstance(operation, (Reserve, Allot)):
        return operation.payer
    return operation.orphan if isinstance(operation, Commit) else None


def columns(rows: Iterable[Sequence[Any]], width: int) -> Sequence[Sequence[Any]]:
    """Rows turned into columns; `width` empty ones when there are no rows."""
    return list(zip(*rows, strict=True)) or [()] * width


def loaded_books(limits: LimitSet, reservations: str | None, counters: str | None, answers: str | None) -> Books:
    """The books that LOAD found."""
    books = Books(limits)
    for row in _decode_counters(counters or NOTHING):
        key = CounterKey(row.organisation, row.scope, row.subject, row.period, row.window_start_s, row.unit)
        books.counters[row.counter_id] = Counter(key, row.spent_nano_usd, row.held_nano_usd, row.alerted, row.tat_ns)
    for reservation in _decode_reservations(reservations or NOTHING):
        books.put(reservation)
    for organisation, kind, request_id, fingerprint, answer in _decode_answers(answers or NOTHING):
        books.answers[OperationKey(organisation, kind, request_id)] = (fingerprint, decode_answer(kind, answer))
    return books


def written(books: Books, known: frozenset[str], entries: Sequence[Entry], now_us: int) -> tuple[Any, ...]:
    """The arguments of WRITE: the entries, and what they changed as it stands now.

    `known` are the reservations that exist in the database already.
    """
    touched_reservations: dict[str, Reservation] = {}
    touched_counters: set[str] = set()
    events: list[Event] = []
    for entry in entries:
        if entry.reservation is not None:
            touched_reservations[entry.reservation_id] = books.reservations[entry.reservation_id]
            if entry.meters:
                touched_counters.update(meter.counter_id for meter in entry.meters)
        touched_counters.update(entry.counter_ids)
        events.extend(events_of(entry))
    opened = [_opened_row(r) for i, r in touched_reservations.items() if i not in known]
    changed = [_changed_row(r) for i, r in touched_reservations.items() if i in known]
    counted = [(i, *books.counters[i][1:]) for i in sorted(touched_counters)]
    return (
        now_us,
        text([_entry_row(entry) for entry in entries]),
        text(opened) if opened else NOTHING,
        text(changed) if changed else NOTHING,
        text(counted) if counted else NOTHING,
        text(events) if events else NOTHING,
    )


def _entry_row(entry: Entry) -> tuple[Any, ...]:
    organisation, kind, request_id = entry.key
    return (
        kind,
        organisation,
        request_id,
        entry.fingerprint,
        entry.reservation_id,
        entry.held_delta_nano_usd,
        entry.spent_delta_nano_usd,
        uuid_array(entry.counter_ids),
        entry.postings,
        entry.lines,
        entry.note,
        entry.answer,
        entry.meters,
    )


def _opened_row(r: Reservation) -> tuple[Any, ...]:
    return (r.reservation_id, r.organisation, *_amounts(r), uuid_array(r.counter_ids), r.terms)


def _changed_row(r: Reservation) -> tuple[Any, ...]:
    return (r.reservation_id, *_amounts(r))


def _amounts(r: Reservation) -> tuple[int | str, ...]:
    return (
        r.state,
        r.held_nano_usd,
        r.reserved_nano_usd,
        r.spent_so_far_nano_usd,
        r.booked_nano_usd,
        r.expire_us,
        r.dispatched,
        r.paid_to,
    )


def uuid_array(ids: Iterable[str]) -> str:
    """A literal of PostgreSQL. UUIDs need no quoting."""
    return "{" + ",".join(ids) + "}"


def limit_of(row: Sequence[Any]) -> Limit:
    """A row of LIMITS."""
    limit_id, organisation, scope, subject, period, cap, alert, stop, version, declared, *meter = row
    unit, max_count, burst_count, mode, zone = meter
    return Limit(
        limit_id,
        organisation,
        Scope(scope),
        subject,
        Period(period),
        cap,
        alert,
        stop,
        version,
        declared,
        Unit(unit),
        max_count,
        burst_count,
        Mode(mode),
        zone,
    )


def usage_arguments(query: UsageQuery) -> tuple[Any, ...]:
    """The arguments of USAGE."""
    scopes, periods, starts = columns(query.windows, 3)
    return query.organisation, scopes, periods, starts, query.subject, query.after or _FIRST_UUID, query.size


def limit_row(limit: Limit) -> tuple[Any, ...]:
    """The arguments of SAVE_LIMITS."""
    return tuple(getattr(limit, name) for name in Limit.__slots__)


def key_of(row: Sequence[Any]) -> CounterKey:
    """A row of USED."""
    organisation, scope, subject, period, start, unit = row
    return CounterKey(organisation, Scope(scope), subject, Period(period), start, Unit(unit))


def counter_of(row: Sequence[Any]) -> tuple[str, Counter]:
    """A row of USAGE."""
    counter_id, *key, spent, held, alerted, tat_ns, unit = row
    return counter_id, Counter(key_of((*key, unit)), spent, held, alerted, tat_ns)


def event_of(row: Sequence[Any]) -> NumberedEvent:
    """A row of EVENTS."""
    revision, organisation, kind, at_us, request_id, reservation_id, amount, alerts = row
    event = Event(organisation, EventKind(kind), at_us, request_id, reservation_id, amount, _decode_alerts(alerts))
    return NumberedEvent(revision, event)
