"""The simulator's time source."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the simulator reads time."""

    def time(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never jumps."""
        ...


class SystemClock:
    """The machine's clocks; `monotonic` is CLOCK_MONOTONIC, which processes of one machine share."""

    def time(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC in seconds."""
        return time.monotonic()
