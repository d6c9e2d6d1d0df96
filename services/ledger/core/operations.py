"""What the ledger is asked and what it answers.

Named tuples, because each request makes several and they cost a third of a frozen dataclass. Answers are stored in the
journal by position: fields are only ever added, at the end, with defaults.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from services.ledger.core.limits import Limit, Payer
from services.ledger.core.prices import Price, Tokens


class Kind(IntEnum):
    """Kinds of journal entries; stored, so numbers never change."""

    RESERVE = 1
    EXTEND = 2
    COMMIT = 3
    VOID = 4
    EXPIRE = 5
    SET_LIMIT = 6


class OperationKey(NamedTuple):
    """What makes an operation once-only: request ids are the organisation's own, per verb."""

    organisation: str
    kind: Kind
    request_id: str


class Reserve(NamedTuple):
    """Hold `amount_nano_usd` on every limit of the payer, or nothing. `reservation_id` is used if it is granted."""

    key: OperationKey
    fingerprint: int
    payer: Payer
    amount_nano_usd: int
    prices: tuple[Price, ...]
    ttl_us: int
    reservation_id: str


class Extend(NamedTuple):
    """Raise a hold, report what was spent, push the expiry out."""

    key: OperationKey
    fingerprint: int
    reservation_id: str
    add_nano_usd: int
    spent_so_far_nano_usd: int
    ttl_us: int


class Line(NamedTuple):
    """Usage of one attempt. `current_price` is used if the reservation fixed none for the model; None: unknown."""

    provider: str
    model: str
    tokens: Tokens
    attempt: int
    current_price: Price | None


class Commit(NamedTuple):
    """Book what was used and release the rest."""

    key: OperationKey
    fingerprint: int
    reservation_id: str
    lines: tuple[Line, ...]


class Void(NamedTuple):
    """Release a hold whose call was never executed."""

    key: OperationKey
    fingerprint: int
    reservation_id: str
    reason: str


class Sweep(NamedTuple):
    """End at most `max_reservations` holds that are past their time. Not remembered: there is nothing to answer."""

    max_reservations: int


class SetLimit(NamedTuple):
    """Create or change a limit of the organisation. `limit_id` is empty or that of the same scope, subject, period."""

    key: OperationKey
    fingerprint: int
    limit: Limit


class Violation(NamedTuple):
    """A limit that a request does not fit. `remaining_nano_usd` may be negative after an overrun."""

    limit: Limit
    remaining_nano_usd: int
    requested_nano_usd: int
    window_end_s: int | None


class Alert(NamedTuple):
    """A limit whose alert line was passed, once per window."""

    limit: Limit
    used_nano_usd: int


class ReserveAnswer(NamedTuple):
    """Granted with a hold, or denied with every violation. `retry_after_us` is None when waiting does not help."""

    granted: bool
    reservation_id: str
    reserved_nano_usd: int
    violations: tuple[Violation, ...]
    alerts: tuple[Alert, ...]
    retry_after_us: int | None
    prices: tuple[Price, ...]
    expire_us: int


class ExtendAnswer(NamedTuple):
    """The older hold stays when the raise is denied; spending and expiry are taken over either way."""

    granted: bool
    reserved_nano_usd: int
    violations: tuple[Violation, ...]
    alerts: tuple[Alert, ...]
    expire_us: int


class CommitAnswer(NamedTuple):
    """`late`: the hold had expired. `after_void`: it had been released as never executed, and it was."""

    amount_nano_usd: int
    overrun_nano_usd: int
    late: bool
    after_void: bool
    alerts: tuple[Alert, ...]


class VoidAnswer(NamedTuple):
    """Zero when the hold had ended before."""

    released_nano_usd: int


class ExpireAnswer(NamedTuple):
    """What the end of a forgotten hold came to; nobody asked, the observer hears of it."""

    charged_nano_usd: int
    alerts: tuple[Alert, ...]


class SweepAnswer(NamedTuple):
    """How many holds ended, and what their holders had reported as spent."""

    expired: int
    charged_nano_usd: int


class LimitAnswer(NamedTuple):
    """The limit as it stands."""

    limit: Limit


ReservationOperation = Extend | Commit | Void
Operation = Reserve | Extend | Commit | Void | Sweep
Answer = ReserveAnswer | ExtendAnswer | CommitAnswer | VoidAnswer | ExpireAnswer | SweepAnswer | LimitAnswer
