from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from typing import Any

from llmops.registry.v1 import registry_pb2

from meshkit.errors import CallError, Failure
from services.orchestrator.adapters.prompts import RegistryWatch, SnapshotPrompts


class FlakyRegistry:
    """A channel whose stream fails twice, then gives revision 3 and stays silent."""

    def __init__(self) -> None:
        self.calls = 0

    def __getattr__(self, arity: str) -> Callable[..., Callable[..., AsyncIterator[Any]]]:
        return lambda *_, **__: self._watch

    async def _watch(self, *_: object) -> AsyncIterator[registry_pb2.WatchResponse]:
        self.calls += 1
        if self.calls <= 2:
            raise CallError(Failure("UNAVAILABLE", "SERVICE_UNAVAILABLE", "away"))
        yield registry_pb2.WatchResponse(revision=3)
        await asyncio.Event().wait()


async def test_an_absent_registry_is_asked_again_at_the_same_pace(caplog: Any) -> None:
    """Its absence was treated as a crash: ever longer pauses up to 10 s, and a stack trace for each."""
    registry, prompts, pauses = FlakyRegistry(), SnapshotPrompts(), []

    async def pause() -> None:
        pauses.append(None)
        await asyncio.sleep(0)

    watch = RegistryWatch(registry, prompts, nullcontext, pause, logging.getLogger("test"))
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(5):
        while prompts.snapshot is None:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert prompts.snapshot.revision == 3
    assert len(pauses) == 2
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
