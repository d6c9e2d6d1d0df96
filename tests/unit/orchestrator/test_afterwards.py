"""Work beside answers: what ends it, and what is told of it."""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import CollectorRegistry, Counter, Gauge

from meshkit.testing import call_context
from services.orchestrator.adapters.afterwards import BackgroundWork


async def test_copies_end_with_the_process_and_not_at_their_own_pace() -> None:
    """A shutdown waited a minute for a model that nobody looks at."""
    registry = CollectorRegistry()
    failures = Counter("failures", "Failures", ("work",), registry=registry)
    work = BackgroundWork(1, 60.0, Gauge("pending", "Pending", registry=registry), failures, logging.getLogger())
    settled: list[str] = []

    async def copy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            settled.append("booked")

    with call_context():
        work.run("shadow", copy)
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await work.stop()
    assert settled == ["booked"]
    assert registry.get_sample_value("pending") == 0
