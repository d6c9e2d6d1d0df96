"""Windows of time. A window is part of a counter's key, so nothing is ever reset: the next window has its own row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

MICROSECONDS = 1_000_000
HOUR_S = 3600
_DECEMBER = 12
# More than a clock that a time server keeps is ever set back by.
MAX_STANDSTILL_S = 60
# How far the clock may be set forward before it is doubted.
MAX_AHEAD_S = 300
# A clock that is put right by steps gains less than a thousandth.
_FORGIVEN_PART = 1000
# How long a time that the clock left backwards may be returned to. A mistake is noticed sooner; what was wrong at the
# start of a process is not to be believed for ever.
RETURN_S = 86_400


class Period(IntEnum):
    """Over what time a limit counts; numbers are those of the contract."""

    QUERY = 1
    HOUR = 2
    DAY = 3
    MONTH = 4
    LIFETIME = 5
    MINUTE = 6
    MOMENT = 7


class Window(NamedTuple):
    """Seconds since 1970, UTC; the end is exclusive and None where there is none."""

    start_s: int
    end_s: int | None


@lru_cache(maxsize=256)
def zone_of(name: str) -> tzinfo:
    """The zone of an IANA name, UTC for the empty one. Raises ValueError where it is not known."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found, not a name, or the name of a folder
        raise ValueError(f"time zone {name!r} is not known here; write it like Europe/Berlin") from None


def is_known(period: Period, zone: str) -> bool:
    """Whether `window_at` can tell the windows: those of days and months need the zone, no others."""
    try:
        window_at(period, 0, zone)
    except ValueError:
        return False
    return True


def window_at(period: Period, now_s: int, zone: str = "") -> Window:
    """The window that contains a moment: hours of UTC, days and months of the calendar of `zone`.

    A day on which clocks change has 23 or 25 hours. Other periods have one window without an end.
    """
    if period is Period.HOUR:
        start = now_s - now_s % HOUR_S
        return Window(start, start + HOUR_S)
    if period is Period.DAY:
        today = _midnight(now_s, zone)
        return Window(_seconds(today), _seconds(today + timedelta(days=1)))
    if period is Period.MONTH:
        first = _midnight(now_s, zone).replace(day=1)
        year, month = (first.year + 1, 1) if first.month == _DECEMBER else (first.year, first.month + 1)
        return Window(_seconds(first), _seconds(first.replace(year=year, month=month)))
    return Window(0, None)


def _midnight(now_s: int, zone: str) -> datetime:
    # fold=0: the first of two midnights; of one that clocks skip, the moment of the change.
    return datetime.fromtimestamp(now_s, zone_of(zone)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _nobody(_: int) -> None:
    """Who is told where nobody wants to know."""


class SteadyClock:
    """The wall clock in microseconds since 1970, as far as it can be believed.

    A small step backwards stands still until it is caught up: a window that was left is thus not entered again. After a
    large one time goes back: that corrects a clock that was wrong, and waiting for it would keep holds and windows as
    long. Windows have rows of their own, so nothing is spent twice.

    A clock that is more than MAX_AHEAD_S ahead of the time that really passed is not believed, or every hold would end
    at once: time then goes on evenly from the last moment that was believed, until the clock is back or the process
    begins anew. So no hold ends earlier than that, however the clock is set.

    A clock that was set back by mistake returns to where it was, up to RETURN_S later, and is believed at once: holds
    that were made while it was behind end early by the step. Nothing tells a clock that was behind at the start and is
    put right from one that jumps: it needs a new process.
    """

    def __init__(
        self, time_ns: Callable[[], int], elapsed_ns: Callable[[], int], tell: Callable[[int], None] = _nobody
    ) -> None:
        """`elapsed_ns` passes evenly whatever is done to the clock, also while the machine sleeps.

        `tell` hears once by how many microseconds a clock is ahead that is not believed, and 0 when it is again.
        """
        self._time_ns = time_ns
        self._elapsed_ns = elapsed_ns
        self._tell = tell
        self._last_us = 0
        self._believed_us = 0
        self._believed_elapsed_us = 0
        # What the wall clock shows beyond the time that has elapsed, when it goes right.
        self._offset_us: int | None = None
        # The most that it showed within RETURN_S, and when.
        self._most_offset_us = 0
        self._most_elapsed_us = 0
        self.ahead_us = 0

    def now_us(self) -> int:
        """Microseconds since 1970."""
        now_us = self._believable(self._time_ns() // 1000, self._elapsed_ns() // 1000)
        if now_us >= self._last_us or self._last_us - now_us > MAX_STANDSTILL_S * MICROSECONDS:
            self._last_us = now_us
        return self._last_us

    def _believable(self, wall_us: int, elapsed_us: int) -> int:
        offset_us = wall_us - elapsed_us
        if self._offset_us is None:
            self._offset_us = self._most_offset_us = offset_us
        else:
            if elapsed_us - self._most_elapsed_us > RETURN_S * MICROSECONDS:
                self._most_offset_us = self._offset_us
            ahead_us = offset_us - self._most_offset_us
            if ahead_us > MAX_AHEAD_S * MICROSECONDS:
                self._is_ahead(ahead_us)
                return self._believed_us + elapsed_us - self._believed_elapsed_us
            # Some clocks are put right by steps, for months: those are forgiven as time passes, a jump is not.
            forgiven_us = (elapsed_us - self._believed_elapsed_us) // _FORGIVEN_PART
            self._offset_us = min(offset_us, max(self._offset_us + forgiven_us, self._most_offset_us))
        if self._offset_us >= self._most_offset_us:
            self._most_offset_us, self._most_elapsed_us = self._offset_us, elapsed_us
        if self.ahead_us:
            self._is_ahead(0)
        self._believed_us, self._believed_elapsed_us = wall_us, elapsed_us
        return wall_us

    def _is_ahead(self, ahead_us: int) -> None:
        told = bool(self.ahead_us) == bool(ahead_us)
        self.ahead_us = ahead_us
        if not told:
            self._tell(ahead_us)
