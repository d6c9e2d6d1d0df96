"""Time as a port, so that decisions can be tested at any moment."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

# Linux stops CLOCK_MONOTONIC while the machine sleeps; others, macOS among them, do not.
_EVEN = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """What a service may know of time."""

    def now(self) -> datetime:
        """The wall clock, UTC, aware."""
        ...

    def time_ns(self) -> int:
        """The wall clock in nanoseconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def elapsed_ns(self) -> int:
        """Nanoseconds that pass evenly whatever is done to the wall clock, also while the machine sleeps."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """See Clock."""
        return datetime.now(UTC)

    def time_ns(self) -> int:
        """See Clock."""
        return time.time_ns()

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def elapsed_ns(self) -> int:
        """See Clock."""
        return time.clock_gettime_ns(_EVEN)
