"""What the ledger is asked and what it answers.

Named tuples, because each request makes several and they cost a third of a frozen dataclass. Answers are stored in the
journal by position: fields are only ever added, at the end, with defaults.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from services.ledger.core.limits import Limit, Payer, Unit
from services.ledger.core.prices import Price, Tokens


class Kind(IntEnum):
    """Kinds of journal entries; stored, so numbers never change."""

    RESERVE = 1
    EXTEND = 2
    COMMIT = 3
    VOID = 4
    EXPIRE = 5
    SET_LIMIT = 6
    DISPATCH = 7
    ADJUST = 8
    ALLOT = 9
    RESTORED = 10


class OnExpiry(IntEnum):
    """What the end of a dispatched hold charges when nobody says what was used; stored."""

    CHARGE_KNOWN = 1
    CHARGE_ALL = 2
    RELEASE = 3


class OperationKey(NamedTuple):
    """What makes an operation once-only: request ids are the organisation's own, per verb."""

    organisation: str
    kind: Kind
    request_id: str


class Reserve(NamedTuple):
    """Hold `amount_nano_usd` on every limit of the payer, or nothing. `reservation_id` is used if it is granted.

    `tokens` are input and output, for limits on tokens; `input_nano_usd` is what a dispatched call costs at least.
    `free`: no token of any of the models costs anything, which an amount of 0 does not say.
    """

    key: OperationKey
    fingerprint: int
    payer: Payer
    amount_nano_usd: int
    prices: tuple[Price, ...]
    ttl_us: int
    reservation_id: str
    tokens: int = 0
    input_nano_usd: int = 0
    on_expiry: OnExpiry = OnExpiry.CHARGE_KNOWN
    covered_output_tokens: int = 0
    free: bool = False


class Dispatch(NamedTuple):
    """Note that the call left for a provider."""

    key: OperationKey
    fingerprint: int
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


class Kept(NamedTuple):
    """What a part of an allotment's return leaves held: at most so much, for so long from now at least."""

    amount_nano_usd: int
    keep_us: int


class Commit(NamedTuple):
    """Book what was used and release the rest. With `orphan`, an unknown reservation is booked for that payer.

    `lent`: an allotment comes back; with `kept` a part of it, and calls under it still run.
    """

    key: OperationKey
    fingerprint: int
    reservation_id: str
    lines: tuple[Line, ...]
    orphan: Payer | None = None
    lent: bool = False
    kept: Kept | None = None


class Adjust(NamedTuple):
    """Add to what was booked, or give back. `provider` is the other side; empty: whom the first line paid."""

    key: OperationKey
    fingerprint: int
    reservation_id: str
    delta_nano_usd: int
    provider: str
    reason: str


class LeaseTerms(NamedTuple):
    """What a replica wants fixed: prices of (provider, model) at up to so much input, and time to settle after it."""

    models: tuple[tuple[str, str], ...] = ()
    max_input_tokens: int = 0
    settle_us: int = 0


NOTHING_FIXED = LeaseTerms()


class Allot(NamedTuple):
    """Lend a part of what every money limit of the payer has left, at most `wanted_nano_usd`.

    Nothing is lent that makes more than `max_lent_basis_points` of a limit held.

    The replica decides for `lease_us`; for `settle_us` more the money stays held, for calls that run on.
    """

    key: OperationKey
    fingerprint: int
    payer: Payer
    wanted_nano_usd: int
    lease_us: int
    reservation_id: str
    replica: str
    prices: tuple[Price, ...] = ()
    settle_us: int = 0
    max_lent_basis_points: int = 2_000


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
    """A limit that a request does not fit, in the limit's unit. `remaining` may be negative after an overrun.

    `retry_after_us` is when the request would fit this limit; None when waiting does not help.
    """

    limit: Limit
    remaining: int
    requested: int
    window_end_s: int | None
    retry_after_us: int | None = None


class RateLeft(NamedTuple):
    """What is left of a limit on requests or tokens."""

    limit: Limit
    remaining: int
    reset_us: int


class Asked(NamedTuple):
    """What a denied request asked for, so that it can be explained later."""

    payer: Payer
    amount_nano_usd: int
    tokens: int
    free: bool = False


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
    shadow_violations: tuple[Violation, ...] = ()
    rates: tuple[RateLeft, ...] = ()
    covered_output_tokens: int = 0
    asked: Asked | None = None


class DispatchAnswer(NamedTuple):
    """False when the reservation had ended before."""

    noted: bool


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
    orphan: bool = False


class AdjustAnswer(NamedTuple):
    """What is booked after the correction."""

    booked_nano_usd: int
    alerts: tuple[Alert, ...]


class AllotAnswer(NamedTuple):
    """Nothing was lent where `allotment_id` is empty.

    `expire_us` ends the lease. A call may cost `most_per_call_nano_usd`, None for no such limit; `not_lent` are limits
    in force on anything but money.
    """

    allotment_id: str
    granted_nano_usd: int
    expire_us: int
    alerts: tuple[Alert, ...]
    prices: tuple[Price, ...] = ()
    most_per_call_nano_usd: int | None = None
    not_lent: tuple[Limit, ...] = ()


class VoidAnswer(NamedTuple):
    """Of a hold that had ended before: what its end had charged and is taken back."""

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


class RestoredAnswer(NamedTuple):
    """Blocks of the journal up to this one were lost, and an operator accepted it; `hash` in hex."""

    number: int
    hash: str


ReservationOperation = Extend | Commit | Void | Dispatch | Adjust
Operation = Reserve | Extend | Commit | Void | Dispatch | Adjust | Allot | Sweep
Answer = (
    ReserveAnswer
    | ExtendAnswer
    | CommitAnswer
    | VoidAnswer
    | DispatchAnswer
    | AdjustAnswer
    | AllotAnswer
    | ExpireAnswer
    | SweepAnswer
    | LimitAnswer
    | RestoredAnswer
)


class Meter(NamedTuple):
    """A movement of a counter that is not money: calls under way, or nanoseconds of a rate's TAT.

    `per_minute` is the rate at which it was counted: what is given back later is given back at the same rate. `tat_ns`
    is the TAT right after it, which tells how much of it has drained.
    """

    counter_id: str
    unit: Unit
    amount: int
    per_minute: int = 0
    tat_ns: int = 0
