"""A bound on the calls that run at once per service, and on those that wait.

grpc's own limit is checked after the interceptors ran and counts health probes; this one is ours, and refuses with
RESOURCE_EXHAUSTED OVERLOADED and the time after which a retry makes sense.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field

from meshkit.calls import ServerCall, Step
from meshkit.errors import Overloaded


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """Limits per service of a process."""

    max_in_flight: int = 1024
    max_waiting: int = 1024
    max_wait_s: float = 1.0

    def validate(self) -> None:
        """Raises ValueError when a limit admits nothing."""
        if self.max_in_flight < 1 or self.max_waiting < 0 or self.max_wait_s <= 0:
            raise ValueError("max_in_flight and max_wait_s must be positive, max_waiting must not be negative")


@dataclass(slots=True)
class _Gate:
    running: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Admission(Step):
    """First come, first served. Streams hold their place until they end."""

    name = "admission"

    def __init__(self, settings: AdmissionSettings) -> None:
        self._settings = settings
        self._gates: dict[str, _Gate] = {}

    def on_start(self, call: ServerCall) -> Awaitable[None] | None:
        """Takes a place, waits for one, or refuses."""
        gate = self._gates.get(call.method.service)
        if gate is None:
            gate = self._gates[call.method.service] = _Gate()
        call.gate = gate
        if gate.running < self._settings.max_in_flight:
            gate.running += 1
            return None
        if len(gate.waiting) >= self._settings.max_waiting:
            raise Overloaded(f"{call.method.service} has too much to do; try again shortly")
        return self._wait(gate, call)

    async def _wait(self, gate: _Gate, call: ServerCall) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gate.waiting.append(place)
        try:
            async with asyncio.timeout(self._settings.max_wait_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._release(gate)
            else:
                gate.waiting.remove(place)
            if isinstance(error, TimeoutError):
                raise Overloaded(f"{call.method.service} has too much to do; try again shortly") from None
            raise

    def on_end(self, call: ServerCall, error: BaseException | None) -> BaseException | None:
        """Hands the place on."""
        gate: _Gate = call.gate
        if gate.waiting:
            self._release(gate)
        else:
            gate.running -= 1
        return error

    def _release(self, gate: _Gate) -> None:
        while gate.waiting:
            place = gate.waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        gate.running -= 1
