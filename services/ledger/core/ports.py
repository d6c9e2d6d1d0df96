"""What the ledger needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from services.ledger.core.books import Counter
from services.ledger.core.decide import Outcome
from services.ledger.core.events import NumberedEvent
from services.ledger.core.limits import Limit, LimitSet
from services.ledger.core.operations import Alert, Operation, ReserveAnswer, SetLimit
from services.ledger.core.prices import Price
from services.ledger.core.seals import Head


class UsageQuery(NamedTuple):
    """Which counters: an organisation's, in any of `windows` (scope, period, start in seconds).

    `subject` empty means all; ids above `after`, at most `size`.
    """

    organisation: str
    windows: tuple[tuple[int, int, int], ...]
    subject: str
    after: str
    size: int


class Decision(NamedTuple):
    """A remembered decision on a reservation."""

    request_id: str
    at_us: int
    answer: ReserveAnswer


class BookedDay(NamedTuple):
    """What was booked for a provider in a day, what of it was estimated, and what expiry charged for nobody known."""

    booked_nano_usd: int
    estimated_nano_usd: int
    unattributed_nano_usd: int


class Store(Protocol):
    """Runs operations on the books, one after the other, durably.

    Every method raises StorageUnavailable when the outcome is unknown.
    """

    async def execute(self, operation: Operation) -> Outcome:
        """Decides and writes. Returns when it is durable; a LedgerError of the decision is in the outcome."""
        ...

    async def set_limit(self, operation: SetLimit) -> Outcome:
        """Creates or changes a limit; usage is kept."""
        ...

    async def declare_limits(self, limits: Sequence[Limit]) -> None:
        """Applies the limits of the configuration, see `limit_changes.declare_and_keep`."""
        ...

    async def limits(self) -> LimitSet:
        """The limits as they stand."""
        ...

    async def usage(self, query: UsageQuery) -> list[tuple[str, Counter]]:
        """Counters by id, in the order of their ids, at most `query.size`."""
        ...

    async def counters(self, counter_ids: Sequence[str]) -> dict[str, Counter]:
        """Those counters that exist, by id; nothing is locked."""
        ...

    async def decision(self, organisation: str, request_id: str) -> Decision | None:
        """How a reservation was decided.

        Where none has the id, the latest that was denied, whose id begins with it and a colon, and that is remembered
        as an event; of an empty id, the latest of all.
        """
        ...

    async def events(self, organisation: str, after_revision: int, size: int) -> list[NumberedEvent]:
        """Events above a revision, in their order, at most `size`."""
        ...

    async def events_head(self, organisation: str) -> int:
        """The revision of the latest event, 0 before the first."""
        ...

    async def booked_by_day(self, organisation: str, provider: str, days: Sequence[tuple[int, int]]) -> list[BookedDay]:
        """What was booked on days of UTC, each its start and end in microseconds, in the order of `days`, not empty.

        A correction counts when the hold was made that it corrects, so that a difference goes away with it.
        """
        ...

    async def forget_events(self, before_us: int, max_rows: int) -> int:
        """Deletes at most `max_rows` events from before a moment; the journal keeps their story."""
        ...

    async def forget_reservations(self, before_id: str, max_rows: int) -> int:
        """Deletes at most `max_rows` ended reservations with ids below one; later commits find nothing."""
        ...


class Witness(Protocol):
    """Remembers outside the database how far the journal was sealed, by the origin of the ledger."""

    def seen(self, origin: bytes) -> Head | None:
        """The newest block that was kept; None for a ledger that was never seen."""
        ...

    def keep(self, origin: bytes, head: Head, accepted_number: int = 0) -> None:
        """Replaces what is known by a block of a higher number; otherwise what is known stays, and `seen` tells it.

        What is known up to `accepted_number` is replaced by any: an operator accepted that it is lost. May block for a
        write to disk.
        """
        ...


class PriceBook(Protocol):
    """What models cost."""

    def price(self, provider: str, model: str, now_us: int, input_tokens: int) -> Price:
        """The price that holds now for a call with about so much input. Raises ModelUnpriced."""
        ...


class Observer(Protocol):
    """Where events go that an operator wants to see. Never content, never amounts with names."""

    def decided(self, verb: str, *, granted: bool) -> None:
        """A Reserve or Extend was decided."""
        ...

    def alert(self, alert: Alert) -> None:
        """A limit passed its alert line for the first time in its window."""
        ...

    def booked(self, amount_nano_usd: int, overrun_nano_usd: int, *, late: bool) -> None:
        """A commit was booked."""
        ...

    def committed_after_void(self, reservation_id: str) -> None:
        """A call that was reported as never executed was executed: a caller voids too early."""
        ...

    def shadow_denied(self, limit: Limit) -> None:
        """A limit in shadow mode would have denied a request."""
        ...

    def orphan(self, reservation_id: str) -> None:
        """Usage of a reservation that is not known was booked: the ledger lost it."""
        ...

    def expired(self, reservations: int, charged_nano_usd: int) -> None:
        """Holds ended by themselves: their holders crashed or forgot them."""
        ...
