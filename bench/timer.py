"""A timer with microsecond resolution. Event loops round to milliseconds, which is what is to be measured."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_TFD_TIMER_ABSTIME: Final = 1
_PR_SET_TIMERSLACK: Final = 29
_TIMERSLACK_NS: Final = 1000
_NS_PER_S: Final = 1_000_000_000


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: interval, then first expiry, each in seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class KernelTimer:
    """timerfd_create(2) on CLOCK_MONOTONIC, read by the running loop. Linux only; OSError when it cannot be made."""

    def __init__(self, fired: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(_PR_SET_TIMERSLACK, _TIMERSLACK_NS, 0, 0, 0)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._fired = fired
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def now(self) -> float:
        """Seconds of the clock the timer runs on."""
        return time.monotonic()

    def arm(self, at_s: float) -> None:
        """Call back once at this time; a time that has passed calls back at once."""
        ns = max(round(at_s * _NS_PER_S), 1)  # zero would disarm
        spec = _TimerSpec(0, 0, ns // _NS_PER_S, ns % _NS_PER_S)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def close(self) -> None:
        """Stop and free the descriptor."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _read(self) -> None:
        os.read(self._fd, 8)
        self._fired()
