"""Windows of time and the clock that never goes back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.core.windows import Period, SteadyClock, Window, window_at


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
    clock = SteadyClock(lambda: next(times))
    assert [clock.now_us() for _ in range(3)] == [5_000, 5_000, 6_000]


def test_a_clock_that_was_far_ahead_is_believed_when_it_is_set_right() -> None:
    """Standing still for a month would keep every hold and every hourly budget for a month."""
    times = iter([10**15, 10**15 + 2_592_000 * 10**9, 10**15 + 10**9])
    clock = SteadyClock(lambda: next(times))
    assert [clock.now_us() for _ in range(3)] == [10**12, 10**12 + 2_592_000 * 10**6, 10**12 + 10**6]
