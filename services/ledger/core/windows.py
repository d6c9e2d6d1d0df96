"""Windows of time. A window is part of a counter's key, so nothing is ever reset: the next window has its own row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from typing import NamedTuple

MICROSECONDS = 1_000_000
HOUR_S = 3600
DAY_S = 86_400
_DECEMBER = 12
# More than a clock that a time server keeps is ever set back by.
MAX_STANDSTILL_S = 60


class Period(IntEnum):
    """Over what time a limit counts; numbers are those of the contract."""

    QUERY = 1
    HOUR = 2
    DAY = 3
    MONTH = 4
    LIFETIME = 5


class Window(NamedTuple):
    """Seconds since 1970, UTC; the end is exclusive and None where there is none."""

    start_s: int
    end_s: int | None


def window_at(period: Period, now_s: int) -> Window:
    """The calendar window, UTC, that contains a moment. QUERY and LIFETIME have one window without an end."""
    if period is Period.HOUR:
        start = now_s - now_s % HOUR_S
        return Window(start, start + HOUR_S)
    if period is Period.DAY:
        start = now_s - now_s % DAY_S
        return Window(start, start + DAY_S)
    if period is Period.MONTH:
        first = datetime.fromtimestamp(now_s, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        year, month = (first.year + 1, 1) if first.month == _DECEMBER else (first.year, first.month + 1)
        return Window(int(first.timestamp()), int(first.replace(year=year, month=month).timestamp()))
    return Window(0, None)


class SteadyClock:
    """The wall clock in microseconds since 1970. A small step backwards stands still until it is caught up.

    A window that was left is thus not entered again, but after a large step: that corrects a clock that was wrong, and
    waiting for it would keep holds and windows as long. Windows have rows of their own, so nothing is spent twice.
    """

    def __init__(self, time_ns: Callable[[], int]) -> None:
        self._time_ns = time_ns
        self._last_us = 0

    def now_us(self) -> int:
        """Microseconds since 1970."""
        now_us = self._time_ns() // 1000
        if now_us >= self._last_us or self._last_us - now_us > MAX_STANDSTILL_S * MICROSECONDS:
            self._last_us = now_us
        return self._last_us
