"""Requests whose caller leaves before their end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing

import pytest

from services.orchestrator.adapters.memory import MemoryRecords
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.errors import ModelFailed
from services.orchestrator.core.model import (
    Candidate,
    Delta,
    Plan,
    Record,
    Started,
    Usage,
    UsageLine,
)
from services.orchestrator.core.policy import UNREAD_TOKENS, Metering, Policy
from tests.support.orchestrator_ports import CHEAP, USED, Script, ScriptedServices

POLICY = Policy(
    guard_required=True, semantic_cache=False, assumed_output_tokens=1000, metering=Metering(report_s=3600.0)
)
OTHER = Candidate("other-ai", "big-1")
MARKED = Plan((CHEAP,), ("cheap",), 0, "route#1", drained=frozenset({CHEAP}))
COUNTED = (UsageLine(CHEAP, USED, 1),)
COUNTED_NANO_USD = 2 * USED.input_tokens + 10 * USED.output_tokens
LOST = ModelFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "cut", {})


class Case:
    """`more` lets the model write its next pieces; `closed` says that its call was ended before its end."""

    def __init__(self, script: Script, max_at_once: int = 8) -> None:
        self.script = script
        self.more = asyncio.Event()
        self.closed = asyncio.Event()
        self.read = 0
        script.pace = self._pace
        self.ports = ScriptedServices(script)
        self.records = MemoryRecords(10)
        self.record = Record("q-1", "t" * 32, "acme", 1)
        self.drains = self.ports.drains(max_at_once=max_at_once)
        self.coordinator = Coordinator(self.ports.services(self.records), POLICY, self.drains)

    async def _pace(self) -> None:
        self.read += 1
        try:
            await self.more.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.closed.set()
            raise

    async def leave(self) -> None:
        """After the first piece."""
        async with aclosing(self.coordinator.stream("request", self.record)) as events:
            assert isinstance(await anext(events), Started)
            assert isinstance(await anext(events), Delta)
        for _ in range(5):
            await asyncio.sleep(0)

    async def left_call(self) -> None:
        """A whole answer whose caller leaves while the model works on it."""
        await self._left(self.coordinator.complete("request", self.record))

    async def left_stream(self) -> None:
        """A stream that is left before its first piece."""
        self.more.set()
        await self._left(anext(self.coordinator.stream("request", self.record)))

    async def _left(self, answer: Awaitable[object]) -> None:
        self.script.model_gate = asyncio.Event()
        asking = asyncio.ensure_future(answer)
        while "model" not in self.script.log:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    async def answered(self) -> None:
        """The model ends its work, and everything is booked."""
        assert self.script.model_gate is not None
        self.script.model_gate.set()
        await self.ports.settled()

    async def given_up(self) -> None:
        """What reads on is cancelled, and everything is booked."""
        [drain] = [task for task in self.ports.tasks if not task.done()]
        drain.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drain
        self.ports.tasks.remove(drain)
        await self.ports.settled()


def estimated(pieces: int) -> Usage:
    """What is booked of a call that was left after so many pieces: nothing was on its way before the first."""
    return Usage(26, 10 * pieces + UNREAD_TOKENS if pieces else 0, estimated=True)
