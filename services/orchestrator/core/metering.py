"""Watches what a running stream costs: raises its hold in time, reports what was spent, cuts when money has run out.

Nothing here is done per piece but one comparison of numbers: the cost at a later time is a straight line over bytes, so
the byte at which something must happen is known beforehand.
"""

from __future__ import annotations

import asyncio
import math

from services.orchestrator.core.errors import BudgetExhausted, RequestFailed, StreamCut
from services.orchestrator.core.model import Plan, Progress, Reservation, Turn
from services.orchestrator.core.policy import Metering, lines_so_far
from services.orchestrator.core.ports import Afterwards, Ledger

# Over so many bytes the line of costs is drawn: a million tokens by estimate.
_SPAN_BYTES = 3_000_000
# For an answer that costs nothing. Not infinite, which says that no alarm is wanted: a model that goes on with it may
# cost something.
_NEVER_BYTES = 1 << 62
# After a raise that nobody answered, this part of the hold may be used before it is asked for again.
_ASK_AGAIN_SHARE = 0.05


class Meter:
    """One stream's. `open` it before the router is asked, `close` it when the stream has ended in whatever way."""

    def __init__(
        self,
        ledger: Ledger,
        afterwards: Afterwards,
        policy: Metering,
        reservation: Reservation,
        turn: Turn,
        plan: Plan,
        progress: Progress,
        *,
        covered: bool,
    ) -> None:
        """Wires it. `covered` says that the hold covers the longest answer: then it is never raised."""
        self._ledger = ledger
        self._afterwards = afterwards
        self._policy = policy
        self._reservation = reservation
        self._turn = turn
        self._plan = plan
        self._progress = progress
        self._held_nano_usd = reservation.held_nano_usd
        self._covered = covered or reservation.held_nano_usd == 0
        self._refusal: BudgetExhausted | None = None
        self._extensions = 0
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begins to watch."""
        if not self._covered:
            self._progress.alarm, self._progress.alarm_bytes = self._look, 0
        self._arm()

    def close(self) -> None:
        """Ends it. An extension under way may end after the commit: the ledger takes that."""
        self._progress.alarm_bytes = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The alarm. Raises StreamCut when the hold is used up and the ledger gave no more."""
        spent = self._spent()
        if self._refusal is not None:
            if spent >= self._held_nano_usd:
                raise StreamCut(self._refusal)
        elif spent >= self._line():
            self._raise(spent)
            return
        self._progress.alarm_bytes = self._bytes_at(self._line())

    def _line(self) -> int:
        """The amount at which the alarm is due."""
        if self._refusal is not None:
            return self._held_nano_usd
        return math.floor(self._held_nano_usd * self._policy.raise_at)

    def _bytes_at(self, amount_nano_usd: int) -> int:
        """When so much will have been spent; never for an answer that costs nothing."""
        received_bytes, spent = self._progress.received_bytes, self._spent()
        slope = self._cost(received_bytes + _SPAN_BYTES) - spent
        if slope <= 0:
            return _NEVER_BYTES
        return received_bytes + math.ceil((amount_nano_usd - spent) * _SPAN_BYTES / slope)

    def _spent(self) -> int:
        return self._cost(self._progress.received_bytes)

    def _cost(self, received_bytes: int) -> int:
        """By estimate, and with the tries before."""
        lines = lines_so_far(self._progress, self._plan, self._turn, received_bytes)
        return self._ledger.cost_nano_usd(self._reservation, lines)

    def _raise(self, spent_nano_usd: int) -> None:
        """Asks for as much again as was held at first, beside the stream. No alarm until it is answered."""
        self._progress.alarm_bytes = math.inf
        self._afterwards.run("extend", lambda: self._extend(self._reservation.held_nano_usd, spent_nano_usd))

    async def _extend(self, add_nano_usd: int, spent_nano_usd: int) -> None:
        self._extensions += 1
        try:
            self._held_nano_usd = await self._ledger.extend(
                self._reservation, self._extensions, add_nano_usd, spent_nano_usd
            )
        except BudgetExhausted as refusal:
            if not self._policy.cut:
                return
            self._refusal = refusal
        except RequestFailed:
            # Nobody can tell. The stream goes on: its bill is written when the ledger is back.
            self._alarm_at(self._spent() + int(self._held_nano_usd * _ASK_AGAIN_SHARE), add_nano_usd)
            return
        self._alarm_at(self._line(), add_nano_usd)

    def _alarm_at(self, amount_nano_usd: int, raised_nano_usd: int) -> None:
        """Reports set no alarm, and an answer that comes after the stream's end none either."""
        if raised_nano_usd and self._timer is not None:
            self._progress.alarm_bytes = self._bytes_at(amount_nano_usd)

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._policy.report_s, self._report)

    def _report(self) -> None:
        """What expiry charges should this process die, and a sign of life for the hold."""
        spent = self._spent()
        self._afterwards.run("report", lambda: self._extend(0, spent))
        self._arm()
