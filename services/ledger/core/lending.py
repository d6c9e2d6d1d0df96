"""What is lent to a replica, which then decides by itself while the ledger is away: an allotment is a hold."""

from __future__ import annotations

from collections.abc import Iterable

from services.ledger.core.books import Books, Entry, Reservation, State, Terms
from services.ledger.core.fitting import crossed
from services.ledger.core.limits import Binding, Limit, Mode, Unit
from services.ledger.core.operations import Allot, AllotAnswer, OnExpiry
from services.ledger.core.windows import MICROSECONDS

# Below this part of what a limit allows nothing is lent: the rest is decided centrally.
_LENT_BELOW_PARTS = 10


def allot(books: Books, operation: Allot, now_us: int) -> Entry:
    """An allotment is a hold on every money limit of a payer, which a replica spends without asking."""
    key, fingerprint, payer, wanted, lease_us, reservation_id, replica, prices, settle_us = operation
    bindings = books.limits.bindings(payer, now_us // MICROSECONDS)
    counted = [b for b in bindings if b.key is not None and b.limit.unit is Unit.MONEY]
    money_ids = tuple(b.counter_id for b in counted)
    # Where a limit of any kind is suspended, a replica must not spend on its own what every call would be refused.
    lent = 0 if any(b.limit.suspends for b in bindings) else _lendable(books, counted, wanted)
    if lent <= 0:
        return Entry(key, fingerprint, now_us, AllotAnswer("", 0, 0, ()), note=replica)
    alerted, alerts = crossed(books, money_ids, lent)
    lease_end_us = now_us + lease_us
    return Entry(
        key,
        fingerprint,
        now_us,
        AllotAnswer(reservation_id, lent, lease_end_us, alerts, prices, _most_per_call(bindings), _not_lent(bindings)),
        reservation_id,
        lent,
        0,
        money_ids,
        alerted,
        note=replica,
        reservation=Reservation(
            reservation_id,
            payer.organisation,
            State.HELD,
            lent,
            lent,
            0,
            0,
            # Calls that were granted at the lease's end run on and are returned later: until then nobody else may
            # have the money, or their return would overrun the limit.
            lease_end_us + settle_us,
            money_ids,
            Terms(payer, prices, OnExpiry.RELEASE),
        ),
    )


def _lendable(books: Books, counted: Iterable[Binding], wanted: int) -> int:
    for limit, counter_id, _, _ in counted:
        line = limit.stop_line_nano_usd
        left = line - books.counters[counter_id].used_nano_usd
        # Half at most: several replicas ask, and none may find that another has everything.
        wanted = min(wanted, left // 2 if left * _LENT_BELOW_PARTS > line else 0)
    return wanted


def _most_per_call(bindings: Iterable[Binding]) -> int | None:
    """The tightest of the limits on one query: they are about each call of a lease, as about any other."""
    lines = [b.limit.stop_line_nano_usd for b in bindings if b.key is None and b.limit.mode is not Mode.SHADOW]
    return min(lines, default=None)


def _not_lent(bindings: Iterable[Binding]) -> tuple[Limit, ...]:
    """Limits on rates and on calls at once: no replica can keep them without asking."""
    return tuple(b.limit for b in bindings if b.limit.unit is not Unit.MONEY and b.limit.mode is not Mode.SHADOW)
