"""What the books remember of time."""

from __future__ import annotations

from services.ledger.core.books import Books, Reservation, State, Terms
from services.ledger.core.limits import LimitSet
from services.ledger.core.operations import OnExpiry
from tests.unit.ledger.builders import ADA, UNIT


def held(name: str, expire_us: int) -> Reservation:
    return Reservation(name, "acme", State.HELD, 1, 1, 0, 0, expire_us, (), Terms(ADA, (UNIT,), OnExpiry.RELEASE))


def test_an_extended_hold_ends_at_its_newest_time_and_no_earlier_than_others() -> None:
    """A million random steps found it: alerts depended on holds that ended in the order of their first times."""
    books = Books(LimitSet(0, ()))
    books.put(held("extended", 10))
    books.put(held("extended", 100))
    books.put(held("other", 50))
    first = books.next_due(200)
    assert first is not None
    assert first.reservation_id == "other"
    books.put(first._replace(state=State.EXPIRED))
    second = books.next_due(200)
    assert second is not None
    assert second.reservation_id == "extended"
