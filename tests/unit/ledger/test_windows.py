"""Windows of time and the clock that never goes back."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.core.limits import Scope
from services.ledger.core.windows import (
    MAX_AHEAD_S,
    MAX_STANDSTILL_S,
    MICROSECONDS,
    Period,
    SteadyClock,
    Window,
    window_at,
)
from tests.unit.ledger.builders import Desk, TurnableClock, limit

MONTH_S = 2_592_000


def at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        (Period.HOUR, at(2026, 11, 24, 13, 59, 59), at(2026, 11, 24, 13), at(2026, 11, 24, 14)),
        (Period.DAY, at(2026, 11, 24), at(2026, 11, 24), at(2026, 11, 25)),
        (Period.MONTH, at(2028, 2, 29, 12), at(2028, 2, 1), at(2028, 3, 1)),
        (Period.MONTH, at(2026, 12, 31, 23, 59, 59), at(2026, 12, 1), at(2027, 1, 1)),
    ],
)
def test_calendar_windows_are_utc(period: Period, now: int, start: int, end: int) -> None:
    assert window_at(period, now) == Window(start, end)


@pytest.mark.parametrize("period", [Period.QUERY, Period.LIFETIME])
def test_some_windows_have_no_end(period: Period) -> None:
    assert window_at(period, at(2026, 11, 24)) == Window(0, None)


@given(st.sampled_from([Period.HOUR, Period.DAY, Period.MONTH]), st.integers(0, 2**33))
def test_windows_follow_each_other_without_gap_or_overlap(period: Period, now: int) -> None:
    start, end = window_at(period, now)
    assert end is not None
    assert start <= now < end
    assert window_at(period, end).start_s == end
    assert window_at(period, start) == Window(start, end)


def test_the_clock_stands_still_when_time_steps_back() -> None:
    times = iter([5_000_000, 3_000_000, 6_000_000])
    clock = SteadyClock(lambda: next(times), lambda: 0)
    assert [clock.now_us() for _ in range(3)] == [5_000, 5_000, 6_000]


def test_a_clock_that_was_far_ahead_is_believed_when_it_is_set_right() -> None:
    """Standing still for a month would keep every hold and every hourly budget for a month."""
    wall = TurnableClock()
    wall.set_by(MONTH_S)
    clock = SteadyClock(wall.time_ns, wall.elapsed_ns)
    wrong_us = clock.now_us()
    wall.set_by(-MONTH_S)
    wall.turn(1)
    assert clock.now_us() == wrong_us + (1 - MONTH_S) * MICROSECONDS


def test_l9_a_jump_ahead_is_told_once_and_time_goes_on_evenly() -> None:
    wall, told = TurnableClock(), list[int]()
    clock = SteadyClock(wall.time_ns, wall.elapsed_ns, told.append)
    start_us = clock.now_us()
    wall.set_by(3600)
    for second in range(1, 4):
        wall.turn(1)
        assert clock.now_us() == start_us + second * MICROSECONDS
        assert clock.ahead_us == 3600 * MICROSECONDS
    assert told == [3600 * MICROSECONDS]
    wall.set_by(-3600)
    wall.turn(1)
    assert clock.now_us() == start_us + 4 * MICROSECONDS
    assert (told, clock.ahead_us) == ([3600 * MICROSECONDS, 0], 0)


def test_a_machine_that_slept_has_not_jumped() -> None:
    wall, told = TurnableClock(), list[int]()
    clock = SteadyClock(wall.time_ns, wall.elapsed_ns, told.append)
    clock.now_us()
    wall.turn(MONTH_S)
    assert (clock.now_us(), told) == (wall.ns // 1000, [])


def test_a_clock_that_is_put_right_by_small_steps_is_believed_for_years() -> None:
    wall, told = TurnableClock(), list[int]()
    clock = SteadyClock(wall.time_ns, wall.elapsed_ns, told.append)
    for _ in range(1000):
        wall.turn(86_400)
        wall.set_by(40)
        assert clock.now_us() == wall.ns // 1000
    assert not told


readings = st.lists(
    st.tuples(st.integers(0, 1000), st.sampled_from([0, 0, 0, 1, 30, 200, 299, 301, 3600, -1, -59, -61, -3600])),
    min_size=2,
    max_size=25,
)


@given(readings)
def test_l9_no_hold_ends_early_however_the_clock_is_set(steps: list[tuple[int, int]]) -> None:
    """Between any two moments no more time passes than did, but for the jump that is believed.

    And but for a return to a time that was believed before: by so much the clock was behind.
    """
    wall = TurnableClock()
    clock = SteadyClock(wall.time_ns, wall.elapsed_ns)
    seen: list[tuple[int, int]] = []
    for passes_s, set_by_s in steps:
        wall.turn(passes_s)
        wall.set_by(set_by_s)
        seen.append((clock.now_us(), wall.elapsed_ns() // 1000))
    most_us = MAX_AHEAD_S * MICROSECONDS
    for earlier, later in combinations(seen, 2):
        passed_us = later[1] - earlier[1]
        behind_us = max(us - elapsed_us for us, elapsed_us in seen[: seen.index(earlier) + 1]) - earlier[0] + earlier[1]
        assert later[0] - earlier[0] <= passed_us + passed_us // 1000 + most_us + behind_us


backwards = st.lists(
    st.tuples(st.integers(0, 600), st.sampled_from([-1, -59, -61, -301, -3600, -86_400])), min_size=1, max_size=20
)


@given(backwards, st.lists(st.integers(0, 600), max_size=5))
def test_a_step_back_that_is_undone_heals_at_once(steps: list[tuple[int, int]], later: list[int]) -> None:
    """It was doubted for as long as the process lived, and every window was late by the step."""
    wall, told = TurnableClock(), list[int]()
    clock = SteadyClock(wall.time_ns, wall.elapsed_ns, told.append)
    clock.now_us()
    for passes_s, set_by_s in steps:
        wall.turn(passes_s)
        wall.set_by(set_by_s)
        clock.now_us()
    wall.set_by(-sum(set_by_s for _, set_by_s in steps))
    for passes_s in (0, *later):
        wall.turn(passes_s)
        assert clock.now_us() == wall.ns // 1000
    assert not told
    # It was a return, and no licence to go further.
    wall.set_by(MAX_AHEAD_S + 1)
    wall.turn(1)
    assert clock.now_us() == wall.ns // 1000 - (MAX_AHEAD_S + 1) * MICROSECONDS
    assert told == [(MAX_AHEAD_S + 1) * MICROSECONDS]


@pytest.mark.parametrize(("days", "doubted"), [(0.9, False), (1.1, True)])
def test_a_time_that_was_left_is_believable_for_a_day(days: float, doubted: bool) -> None:  # noqa: FBT001
    """A process that began an hour ahead and was corrected: later the same hour is a jump like any other."""
    wall, told = TurnableClock(), list[int]()
    wall.set_by(3600)
    clock = SteadyClock(wall.time_ns, wall.elapsed_ns, told.append)
    clock.now_us()
    wall.set_by(-3600)
    for _ in range(100):
        wall.turn(days * 864)
        clock.now_us()
    wall.set_by(3600)
    assert clock.now_us() == wall.ns // 1000 - (3600 * MICROSECONDS if doubted else 0)
    assert told == ([3600 * MICROSECONDS] if doubted else [])


def test_a_clock_that_was_behind_at_the_start_is_believed_by_a_new_process_only() -> None:
    """Nothing tells it from a jump; the log says that a restart confirms it."""
    wall, told = TurnableClock(), list[int]()
    right_us = wall.ns // 1000
    wall.set_by(-3600)
    clock = SteadyClock(wall.time_ns, wall.elapsed_ns, told.append)
    clock.now_us()
    wall.set_by(3600)
    for _ in range(40):
        wall.turn(86_400)
        assert clock.now_us() == wall.ns // 1000 - 3600 * MICROSECONDS
    assert told == [3600 * MICROSECONDS]
    again = SteadyClock(wall.time_ns, wall.elapsed_ns, told.append)
    assert again.now_us() == wall.ns // 1000 == right_us + 40 * 86_400 * MICROSECONDS


@given(readings)
def test_a_clock_is_believed_as_long_as_nobody_sets_it_ahead(steps: list[tuple[int, int]]) -> None:
    wall, told = TurnableClock(), list[int]()
    clock = SteadyClock(wall.time_ns, wall.elapsed_ns, told.append)
    before_us = clock.now_us()
    for passes_s, set_by_s in steps:
        wall.turn(passes_s)
        wall.set_by(min(set_by_s, 0))
        now_us = clock.now_us()
        stands = wall.ns // 1000 < before_us <= wall.ns // 1000 + MAX_STANDSTILL_S * MICROSECONDS
        assert now_us == (before_us if stands else wall.ns // 1000)
        before_us = now_us
    assert not told


def test_l9_a_jump_ends_no_hold() -> None:
    desk = Desk([limit(Scope.USER, Period.LIFETIME, 100)])
    hold = desk.reserve(100)
    desk.clock.set_by(7200)
    assert not desk.reserve(1).granted
    assert desk.sweep() == 0
    # It ends after the minute that it was given.
    desk.clock.turn(61)
    assert desk.sweep() == 1
    assert desk.reserve(100).granted
    assert hold.granted
