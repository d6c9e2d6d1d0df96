"""Twins in memory: the reference model of the contract tests, and a ledger without a database for tests of others."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from services.ledger.core import decide, limit_changes
from services.ledger.core.books import UNATTRIBUTED, Books, Counter, Entry, State, provider_account
from services.ledger.core.ending import CostFunction
from services.ledger.core.errors import LedgerError, ModelUnpriced, ZoneUnknown
from services.ledger.core.events import EventKind, NumberedEvent, events_of
from services.ledger.core.identities import id_bound
from services.ledger.core.limits import CounterKey, Limit, LimitSet, declare
from services.ledger.core.operations import (
    Alert,
    Allot,
    Commit,
    Kind,
    Operation,
    OperationKey,
    Reserve,
    ReserveAnswer,
    SetLimit,
)
from services.ledger.core.ports import BookedDay, Decision, UsageQuery
from services.ledger.core.prices import Price
from services.ledger.core.seals import Head, newer
from services.ledger.core.windows import MICROSECONDS, SteadyClock


class MemoryStore:
    """The whole books in dictionaries. Nothing awaits inside a method, so each is atomic on its event loop."""

    def __init__(self, clock: SteadyClock, cost: CostFunction, max_limits: int = 1000) -> None:
        self.books = Books(LimitSet(0, ()))
        self.journal: list[Entry] = []
        self.told: dict[str, list[NumberedEvent]] = {}
        self._clock = clock
        self._cost = cost
        self._max_limits = max_limits

    async def execute(self, operation: Operation) -> decide.Outcome:
        """See Store."""
        now_us = self._clock.now_us()
        payer = operation.orphan if isinstance(operation, Commit) else None
        if isinstance(operation, (Reserve, Allot)):
            payer = operation.payer
        if payer is not None:
            # Where a zone is not known, the decision says so.
            with suppress(ZoneUnknown):
                bindings = self.books.limits.bindings(payer, now_us // MICROSECONDS)
                self.books.open_counters((b.counter_id, b.key) for b in bindings if b.key is not None)
        outcome = decide.run(self.books, operation, now_us, self._cost)
        self.journal.extend(outcome.entries)
        for entry in outcome.entries:
            for event in events_of(entry):
                told = self.told.setdefault(event.organisation, [])
                told.append(NumberedEvent(told[-1].revision + 1 if told else 1, event))
        return outcome

    async def set_limit(self, operation: SetLimit) -> decide.Outcome:
        """See Store."""
        remembered = self.books.answers.get(operation.key)
        if remembered is not None:
            return decide.replay(remembered, operation.fingerprint)
        before, wanted, now_us = self.books.limits, operation.limit, self._clock.now_us()
        try:
            limits, entry = limit_changes.set_limit(before, operation, now_us, self._max_limits)
            used = self._used(wanted.organisation, limit_changes.left_windows(before, limits, now_us))
            limit_changes.refuse_forgetting(before, limits, used, now_us)
        except LedgerError as error:
            return decide.Outcome(error)
        self.books.limits = limits
        self.books.apply(entry)
        self.journal.append(entry)
        return decide.Outcome(entry.answer, (entry,))

    async def declare_limits(self, limits: Sequence[Limit]) -> None:
        """See Store."""
        before, now_us = self.books.limits, self._clock.now_us()
        used = self._used("", limit_changes.left_windows(before, declare(before, limits), now_us))
        self.books.limits, _ = limit_changes.declare_and_keep(before, limits, used, now_us)

    def _used(self, organisation: str, windows: Container[tuple[int, int, int]]) -> list[CounterKey]:
        """Keys of what is counted in any of these windows, of one organisation or, unnamed, of all."""
        return [
            counter.key
            for counter in self.books.counters.values()
            if (counter.key.scope, counter.key.period, counter.key.window_start_s) in windows
            and organisation in ("", counter.key.organisation)
            and counter.used_nano_usd
        ]

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

    async def counters(self, counter_ids: Sequence[str]) -> dict[str, Counter]:
        """See Store."""
        return {i: self.books.counters[i] for i in counter_ids if i in self.books.counters}

    async def decision(self, organisation: str, request_id: str) -> Decision | None:
        """See Store."""
        key = OperationKey(organisation, Kind.RESERVE, request_id)
        if key not in self.books.answers:
            denials = [e.event for e in self.told.get(organisation, ()) if e.event.kind is EventKind.DENIED]
            found = (e.request_id for e in reversed(denials) if not e.reservation_id)
            begins = f"{request_id}:" if request_id else ""
            request_id = next((denied for denied in found if denied.startswith(begins)), "")
            key = key._replace(request_id=request_id)
        for entry in self.journal:
            if entry.key == key and isinstance(entry.answer, ReserveAnswer):
                return Decision(request_id, entry.at_us, entry.answer)
        return None

    async def events(self, organisation: str, after_revision: int, size: int) -> list[NumberedEvent]:
        """See Store."""
        return [e for e in self.told.get(organisation, ()) if e.revision > after_revision][:size]

    async def events_head(self, organisation: str) -> int:
        """See Store."""
        told = self.told.get(organisation)
        return told[-1].revision if told else 0

    async def booked_by_day(self, organisation: str, provider: str, days: Sequence[tuple[int, int]]) -> list[BookedDay]:
        """See Store."""
        own = [entry for entry in self.journal if entry.key.organisation == organisation]
        account = provider_account(provider)

        def day(start_us: int, end_us: int) -> BookedDay:
            entries = [entry for entry in own if _counts_between(entry, start_us, end_us)]
            postings = [posting for entry in entries for posting in entry.postings]
            lines = [line for entry in entries for line in entry.lines if line.provider == provider]
            return BookedDay(
                -sum(p.amount_nano_usd for p in postings if p.account == account),
                sum(line.amount_nano_usd for line in lines if line.tokens.estimated),
                -sum(p.amount_nano_usd for p in postings if p.account == UNATTRIBUTED),
            )

        return [day(start_us, end_us) for start_us, end_us in days]

    async def forget_events(self, before_us: int, max_rows: int) -> int:
        """See Store. The newest stays: revisions go on from it."""
        forgotten = 0
        for told in self.told.values():
            while len(told) > 1 and told[0].event.at_us < before_us and forgotten < max_rows:
                told.pop(0)
                forgotten += 1
        return forgotten

    async def forget_reservations(self, before_id: str, max_rows: int) -> int:
        """See Store."""
        ended = (i for i, r in self.books.reservations.items() if r.state is not State.HELD and i < before_id)
        old = sorted(ended)[:max_rows]
        for reservation_id in old:
            del self.books.reservations[reservation_id]
        return len(old)


class MemoryWitness:
    """See Witness: as long as the process lives."""

    def __init__(self) -> None:
        self._seen: dict[bytes, Head] = {}

    def seen(self, origin: bytes) -> Head | None:
        """See Witness."""
        return self._seen.get(origin)

    def keep(self, origin: bytes, head: Head, accepted_number: int = 0) -> None:
        """See Witness."""
        self._seen[origin] = newer(self._seen.get(origin), head, accepted_number)


def _counts_between(entry: Entry, start_us: int, end_us: int) -> bool:
    if entry.key.kind is Kind.ADJUST:
        return id_bound(start_us) <= entry.reservation_id < id_bound(end_us)
    return start_us <= entry.at_us < end_us


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
    shadow_denials: list[Limit] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)

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

    def shadow_denied(self, limit: Limit) -> None:
        """See Observer."""
        self.shadow_denials.append(limit)

    def orphan(self, reservation_id: str) -> None:
        """See Observer."""
        self.orphans.append(reservation_id)
