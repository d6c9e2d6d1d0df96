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
    """Between any two moments no more time passes than did, but for the jump that is believed."""
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
        assert later[0] - earlier[0] <= passed_us + passed_us // 1000 + most_us


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
