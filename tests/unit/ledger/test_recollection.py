"""What is recalled, and when nothing is."""

from __future__ import annotations

import pytest

from meshkit.money import cost_nano_usd
from services.ledger.adapters.recollection import Recollection
from services.ledger.core.books import Books, Counter, Reservation, State, Terms
from services.ledger.core.limits import LimitSet, Scope
from services.ledger.core.operations import Kind, Operation, OperationKey, Reserve, Sweep, Void
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, START, UNIT, limit

NOW_US = int(START.timestamp()) * MICROSECONDS
LIMITS = LimitSet(1, [limit(Scope.ORGANISATION, Period.DAY, 1000)])
(BINDING,) = LIMITS.bindings(ADA, NOW_US // MICROSECONDS)
RESERVE = Reserve(OperationKey("acme", Kind.RESERVE, "r"), 1, ADA, 10, (UNIT,), MICROSECONDS, "hold-2")
VOID = Void(OperationKey("acme", Kind.VOID, "v"), 1, "hold-1", "not-sent")


def held(expire_us: int = NOW_US + 1) -> Reservation:
    counter_ids, terms = (BINDING.counter_id,), Terms(ADA, (UNIT,))
    return Reservation("hold-1", "acme", State.HELD, 10, 10, 0, 0, expire_us, counter_ids, terms)


def books(reservation: Reservation | None = None) -> Books:
    assert BINDING.key is not None
    known = Books(LIMITS)
    known.counters[BINDING.counter_id] = Counter(BINDING.key, 0, 10)
    if reservation is not None:
        known.put(reservation)
    return known


def learned(reservation: Reservation | None = None, max_remembered: int = 100) -> Recollection:
    recollection = Recollection(max_remembered)
    recollection.learn(books(reservation))
    return recollection


def test_what_was_written_is_recalled() -> None:
    recalled = learned(held()).recall([RESERVE, VOID], LIMITS, NOW_US)
    assert recalled is not None
    assert recalled.counters == books().counters
    assert recalled.reservations == {"hold-1": held()}


@pytest.mark.parametrize("batch", [[VOID], [RESERVE, VOID], [Sweep(10)], [RESERVE, Sweep(10)]])
def test_what_is_not_known_is_not_guessed(batch: list[Operation]) -> None:
    assert learned().recall(batch, LIMITS, NOW_US) is None
    assert Recollection().recall([RESERVE], LIMITS, NOW_US) is None


def test_an_ended_hold_is_forgotten() -> None:
    recollection = learned(held())
    recollection.learn(books(held()._replace(state=State.COMMITTED)))
    assert recollection.recall([VOID], LIMITS, NOW_US) is None


def test_a_hold_that_is_due_sends_one_batch_to_the_database() -> None:
    recollection = learned(held(NOW_US))
    assert recollection.recall([RESERVE], LIMITS, NOW_US) is None
    assert recollection.recall([RESERVE], LIMITS, NOW_US) is not None


def test_a_raised_hold_is_due_at_its_new_time_only() -> None:
    recollection = learned(held(NOW_US + 1))
    recollection.learn(books(held(NOW_US + 10)))
    assert recollection.recall([VOID], LIMITS, NOW_US + 5) is not None
    assert recollection.recall([VOID], LIMITS, NOW_US + 10) is None


def test_holds_that_end_at_once_leave_nothing_that_grows() -> None:
    recollection = Recollection(max_remembered=100)
    for number in range(1000):
        hold = held(NOW_US + 900 * MICROSECONDS)._replace(reservation_id=f"hold-{number}")
        recollection.learn(books(hold))
        recollection.learn(books(hold._replace(state=State.COMMITTED)))
    assert len(recollection._expiries) == len(recollection._held) == 0
    assert recollection.recall([RESERVE], LIMITS, NOW_US) is not None


def test_memory_is_bounded() -> None:
    recollection = Recollection(max_remembered=4)
    for number in range(1, 6):
        recollection.learn(books(held(NOW_US + MICROSECONDS)._replace(reservation_id=f"hold-{number}")))
    assert len(recollection._held) == len(recollection._expiries) == 3
    # The oldest gave way, without the newer ones and the counters.
    assert recollection.recall([VOID], LIMITS, NOW_US) is None
    assert recollection.recall([VOID._replace(reservation_id="hold-5"), RESERVE], LIMITS, NOW_US) is not None


def test_what_is_guessed_next_rests_on_the_guess_before_it() -> None:
    recollection = learned()
    first = recollection.guess([RESERVE], LIMITS, NOW_US, cost_nano_usd)
    second = recollection.guess([RESERVE._replace(reservation_id="hold-3")], LIMITS, NOW_US, cost_nano_usd)
    assert first is not None
    assert second is not None
    held = [guess.books.counters[BINDING.counter_id].held_nano_usd for guess in (first, second)]
    assert held == [20, 30]
    # What the database compares the row with: the amount that the first is to have written.
    assert [20] in [list(column) for column in second.arguments[1:] if isinstance(column, tuple)]


def test_what_a_wrong_guess_took_over_is_forgotten_and_what_rests_on_it_does_not_stand() -> None:
    recollection = learned(held())
    wrong = recollection.guess([RESERVE], LIMITS, NOW_US, cost_nano_usd)
    after = recollection.guess([VOID], LIMITS, NOW_US, cost_nano_usd)
    assert wrong is not None
    assert after is not None
    assert recollection.stands(after)
    recollection.settle(wrong, right=False)
    assert not recollection.stands(after)
    assert [recollection.recall([RESERVE], LIMITS, NOW_US) for _ in range(2)] == [None, None]
    # One that falls with it says nothing new, and a guess is settled once.
    recollection.settle(after, right=False)
    recollection.learn(books())
    recollection.settle(after, right=False)
    assert recollection.recall([RESERVE], LIMITS, NOW_US) is not None


def test_a_batch_with_an_error_is_not_guessed_and_changes_nothing() -> None:
    recollection = learned(held())
    dear = VOID._replace(key=VOID.key._replace(organisation="other"))
    assert recollection.guess([RESERVE, dear], LIMITS, NOW_US, cost_nano_usd) is None
    recalled = recollection.recall([RESERVE], LIMITS, NOW_US)
    assert recalled is not None
    assert recalled.counters == books().counters


def test_guesses_that_fail_are_made_more_and_more_rarely() -> None:
    recollection = learned()
    tried = []
    for number in range(12):
        guess = recollection.guess([RESERVE._replace(reservation_id=f"hold-{number}")], LIMITS, NOW_US, cost_nano_usd)
        tried.append(guess is not None)
        if guess is not None:
            recollection.settle(guess, right=False)
            recollection.learn(books())
    assert tried == [True, False, True, False, False, False, True, *[False] * 5]
    for number, is_right in enumerate((True, False)):
        while (guess := recollection.guess([RESERVE], LIMITS, NOW_US, cost_nano_usd)) is None:
            assert number == 0
        recollection.settle(guess, right=is_right)
        recollection.learn(books())
    # What was right in between is made good: after the next wrong one, one batch is decided by the database, not many.
    assert [recollection.recall([RESERVE], LIMITS, NOW_US) is not None for _ in range(2)] == [False, True]
