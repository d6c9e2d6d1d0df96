from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from services.orchestrator.adapters.memory import MemoryRecords
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.errors import OutputBlocked
from services.orchestrator.core.model import Checked, CheckedOutput, Delta, Progress, Record, Turn
from services.orchestrator.core.policy import Policy
from tests.support.orchestrator_ports import Script, ScriptedServices


class BlockingGuard(ScriptedServices):
    """Blocks after the first piece, without waiting for the model's end."""

    async def check_stream(
        self, turn: Turn, checked: Checked, pieces: AsyncGenerator[object, None], progress: Progress
    ) -> AsyncGenerator[object, None]:
        yield await anext(pieces)
        assert isinstance(self.script.output, CheckedOutput)
        progress.output = replace(self.script.output, blocked=True, detectors=("pii-card",))


async def test_a_block_in_mid_stream_is_a_block_and_not_a_defect() -> None:
    """The model's end was expected before the guard's word: the caller saw INTERNAL."""
    script = Script()
    ports = BlockingGuard(script)
    policy = Policy(guard_required=True, semantic_cache=True, assumed_output_tokens=1000)
    record = Record("q-1", "t" * 32, "acme", 1)
    events = Coordinator(ports.services(MemoryRecords(10)), policy, ports.drains()).stream("request", record)
    shown = []
    with pytest.raises(OutputBlocked):
        async for event in events:
            shown.append(event)
    await ports.settled()
    assert [event.payload for event in shown if isinstance(event, Delta)] == ["a"]
    assert len(script.committed) == 1
    assert script.stored == []
