"""What an organisation is told of, apart from answers: alerts, overruns, denials. Derived from journal entries."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from services.ledger.core.books import Entry
from services.ledger.core.operations import (
    AdjustAnswer,
    Alert,
    AllotAnswer,
    Answer,
    CommitAnswer,
    ExpireAnswer,
    ExtendAnswer,
    ReserveAnswer,
)


class EventKind(IntEnum):
    """Numbers are those of the contract; stored."""

    ALERT = 1
    OVERRUN = 2
    COMMIT_AFTER_VOID = 3
    ORPHAN_COMMIT = 4
    EXPIRED_CHARGED = 5
    DENIED = 6


class Event(NamedTuple):
    """One event. `request_id` is that of the request that was decided."""

    organisation: str
    kind: EventKind
    at_us: int
    request_id: str
    reservation_id: str
    amount_nano_usd: int
    alerts: tuple[Alert, ...] = ()


class NumberedEvent(NamedTuple):
    """An event with its place in the order of its organisation; revisions grow by one."""

    revision: int
    event: Event


_Told = (ReserveAnswer, ExtendAnswer, CommitAnswer, ExpireAnswer, AdjustAnswer, AllotAnswer)


def events_of(entry: Entry) -> tuple[Event, ...]:
    """The events of an entry; most have none."""
    answer = entry.answer
    # First what nearly every entry is: this runs once per entry.
    if isinstance(answer, ReserveAnswer):
        if answer.granted and not answer.alerts:
            return ()
    elif isinstance(answer, CommitAnswer):
        if not (answer.overrun_nano_usd or answer.alerts or answer.after_void or answer.orphan):
            return ()
    elif not isinstance(answer, _Told):
        return ()
    found = tuple(_event(entry, kind, amount) for kind, amount in _amounts(answer))
    if not answer.alerts:
        return found
    return (*found, _event(entry, EventKind.ALERT, max(a.used_nano_usd for a in answer.alerts), answer.alerts))


def _amounts(answer: Answer) -> Iterator[tuple[EventKind, int]]:
    if isinstance(answer, (ReserveAnswer, ExtendAnswer)):
        if not answer.granted:
            yield EventKind.DENIED, _asked(answer)
    elif isinstance(answer, CommitAnswer):
        if answer.after_void:
            yield EventKind.COMMIT_AFTER_VOID, answer.amount_nano_usd
        if answer.orphan:
            yield EventKind.ORPHAN_COMMIT, answer.amount_nano_usd
        elif answer.overrun_nano_usd:
            yield EventKind.OVERRUN, answer.overrun_nano_usd
    elif isinstance(answer, ExpireAnswer) and answer.charged_nano_usd:
        yield EventKind.EXPIRED_CHARGED, answer.charged_nano_usd


def _asked(answer: ReserveAnswer | ExtendAnswer) -> int:
    if isinstance(answer, ReserveAnswer):
        return 0 if answer.asked is None else answer.asked.amount_nano_usd
    return max(violation.requested for violation in answer.violations)


def _event(entry: Entry, kind: EventKind, amount: int, alerts: tuple[Alert, ...] = ()) -> Event:
    organisation, _, request_id = entry.key
    return Event(organisation, kind, entry.at_us, request_id, entry.reservation_id, amount, alerts)
