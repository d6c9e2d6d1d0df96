"""Ledgers with one defect each, of the kind that peers shipped. The state machine must tell each from the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.ledger.adapters.memory import MemoryStore
from services.ledger.core.books import Books, Entry, Reservation, State
from services.ledger.core.limits import CounterKey, LimitSet
from services.ledger.core.operations import Answer, Kind, OperationKey
from services.ledger.core.windows import Period


class Forgetful(dict[OperationKey, tuple[int, Answer]]):
    """Remembers no answer."""

    def get(self, key: Any, default: Any = None) -> Any:
        return default


class SkipsTheIdempotencyCheck(Books):
    """lago-api#5870, #3618: a repeated request is decided again."""

    def __init__(self, limits: LimitSet) -> None:
        super().__init__(limits)
        self.answers = Forgetful()


class ForgetsToEndHolds(Books):
    """litellm#27639, #30522: what nobody ends is held for ever."""

    def next_due(self, now_us: int) -> Reservation | None:
        return None


class ForgetsAHold(Books):
    """litellm#34732: what is under way does not count."""

    def apply(self, entry: Entry) -> None:
        super().apply(entry._replace(held_delta_nano_usd=0))


class ResetsEarly(Books):
    """litellm#38938, #24675: a window's usage is gone before the window is."""

    opened: int = 0

    def open_counters(self, keys: Iterable[tuple[str, CounterKey]]) -> None:
        keys = tuple(keys)
        super().open_counters(keys)
        self.opened += 1
        for counter_id, key in keys:
            if self.opened % 40 == 0 and key.period is Period.DAY:
                self.counters[counter_id] = self.counters[counter_id]._replace(spent_nano_usd=0)


class ReleasesTwice(Books):
    """litellm#35569: a failed clean-up is done again."""

    def apply(self, entry: Entry) -> None:
        super().apply(entry)
        if entry.key.kind is Kind.VOID and entry.held_delta_nano_usd:
            for counter_id in entry.counter_ids:
                counter = self.counters[counter_id]
                self.counters[counter_id] = counter._replace(
                    held_nano_usd=max(counter.held_nano_usd + entry.held_delta_nano_usd, 0)
                )


class ForgetsWhatExpiryCharged(Books):
    """litellm#35570: a late commit is booked on top of what was charged."""

    def put(self, reservation: Reservation) -> None:
        if reservation.state is State.EXPIRED:
            reservation = reservation._replace(booked_nano_usd=0)
        super().put(reservation)


class AlertsAgainAndAgain(Books):
    """An alert per request instead of one per window."""

    def apply(self, entry: Entry) -> None:
        super().apply(entry._replace(alerted=()))


class LosesSlots(Books):
    """litellm#20256, shenyu#6646: a counter of calls under way that nobody takes back."""

    def apply(self, entry: Entry) -> None:
        super().apply(entry._replace(meters=tuple(m for m in entry.meters if m.amount > 0)))


class ForgetsThatACallWasSent(Books):
    """etalab-ia/OpenGateLLM#1148: an interrupted call is not charged."""

    def put(self, reservation: Reservation) -> None:
        super().put(reservation._replace(dispatched=False))


class ChecksTheFirstLimitOnly(LimitSet):
    """litellm#40095: the limits of somebody are not looked at."""

    def bindings(self, payer: Any, now_s: int) -> Any:
        return super().bindings(payer, now_s)[:1]


class DenialsBurn(Books):
    """litellm#39309: a request that one limit denies is counted by the others."""

    def apply(self, entry: Entry) -> None:
        super().apply(entry)
        if entry.key.kind is Kind.RESERVE and entry.reservation is None:
            for counter_id, counter in self.counters.items():
                if counter.key.period is Period.MINUTE:
                    self.counters[counter_id] = counter._replace(tat_ns=max(counter.tat_ns, entry.at_us * 1000) + 10**9)


BOOKS: tuple[type[Books], ...] = (
    SkipsTheIdempotencyCheck,
    ForgetsToEndHolds,
    ForgetsAHold,
    ResetsEarly,
    ReleasesTwice,
    ForgetsWhatExpiryCharged,
    AlertsAgainAndAgain,
    LosesSlots,
    ForgetsThatACallWasSent,
    DenialsBurn,
)


def store_of(books: type[Books]) -> Callable[[Any, Any], MemoryStore]:
    """Makes stores whose books have a defect."""

    def make(clock: Any, cost: Any) -> MemoryStore:
        store = MemoryStore(clock, cost)
        store.books = books(LimitSet(0, ()))
        return store

    return make


class FirstLimitStore(MemoryStore):
    """Its sets of limits show one limit per payer."""

    async def execute(self, operation: Any) -> Any:
        """As the original, with fewer limits."""
        if not isinstance(self.books.limits, ChecksTheFirstLimitOnly):
            limits = self.books.limits
            self.books.limits = ChecksTheFirstLimitOnly(limits.version, limits.by_id.values())
        return await super().execute(operation)
