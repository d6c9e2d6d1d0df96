"""Commits of a ledger whose database was restored from an older copy: they wait until an operator accepts it.

That may take longer than any accounting does, and the reservations are gone, so no expiry charges them. They wait in
memory: a crash loses them. Whatever is given up is said with its reservation and amount, for a correction by hand.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge

from meshkit.context import detached, enter
from meshkit.errors import CallError
from services.orchestrator.adapters.failures import is_absent

_TIMEOUT_S = 5.0


class _Kept(NamedTuple):
    amount_nano_usd: int
    send: Callable[[], Awaitable[Any]]
    # Who pays is known from the call that the commit belongs to.
    context: Context


class UnbookedCommits:
    """At most `limit` commits, in the order they came, sent again every `pause_s` until the ledger takes them."""

    def __init__(self, limit: int, pause_s: float, waiting: Gauge, lost: Counter, logger: logging.Logger) -> None:
        self._limit = limit
        self._pause_s = pause_s
        self._waiting = waiting
        self._lost = lost
        self._logger = logger
        self._kept: dict[str, _Kept] = {}

    def keep(self, reservation_id: str, amount_nano_usd: int, send: Callable[[], Awaitable[Any]]) -> None:
        """Takes a commit over, within its call; sending it twice must book it once. One too many is given up."""
        if len(self._kept) >= self._limit:
            self.give_up(reservation_id, amount_nano_usd, "too-many")
            return
        self._kept[reservation_id] = _Kept(amount_nano_usd, send, copy_context())
        self._waiting.set(len(self._kept))

    def give_up(self, reservation_id: str, amount_nano_usd: int, reason: str) -> None:
        """Says that nobody will send a commit any more; it may have been booked without an answer."""
        self._lost.inc()
        fields = {"reservation_id": reservation_id, "amount_nano_usd": amount_nano_usd, "reason": reason}
        self._logger.error("a commit was given up; what it used may not be booked", extra={"fields": fields})

    async def run(self) -> None:
        """Sends what waits, until it is cancelled."""
        while True:
            await asyncio.sleep(self._pause_s)
            await self._send_all()

    async def close(self) -> None:
        """Tries once more; what the ledger does not take is given up."""
        await self._send_all()
        for reservation_id, kept in self._kept.items():
            self.give_up(reservation_id, kept.amount_nano_usd, "shutdown")
        self._kept.clear()
        self._waiting.set(0)

    async def _send_all(self) -> None:
        """Stops at the first that is not heard: the others would not be either."""
        for reservation_id, kept in tuple(self._kept.items()):
            try:
                await asyncio.get_running_loop().create_task(_send(kept), context=kept.context)
            except TimeoutError:
                return
            except CallError as error:
                if is_absent(error):
                    return
                self.give_up(reservation_id, kept.amount_nano_usd, error.reason)
            self._kept.pop(reservation_id, None)
            self._waiting.set(len(self._kept))


async def _send(kept: _Kept) -> None:
    enter(detached(_TIMEOUT_S))
    async with asyncio.timeout(_TIMEOUT_S):
        await kept.send()
