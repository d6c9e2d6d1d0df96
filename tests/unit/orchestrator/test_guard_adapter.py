"""The guard behind its port: what it thinks of an answer."""

from __future__ import annotations

from typing import Any

import pytest
from llmops.common.v1 import chat_pb2
from llmops.guard.v1 import guard_pb2

from services.orchestrator.adapters.guard import PolicyDigests, RemoteGuard
from services.orchestrator.core.model import UNCHECKED
from tests.support.keyed_work import Clock
from tests.unit.orchestrator.test_cache_adapter import turn


class Rating:
    """A channel on which the guard answers with these scores."""

    def __init__(self, **scores: float) -> None:
        self._scores = scores

    def __getattr__(self, arity: str) -> Any:
        return lambda *_, **__: self._check

    async def _check(self, request: guard_pb2.CheckOutputRequest, **_: Any) -> guard_pb2.CheckOutputResponse:
        return guard_pb2.CheckOutputResponse(completion=request.completion, **self._scores)  # type: ignore[arg-type]


@pytest.mark.parametrize("scores", [{}, {"confidence": 0.0}, {"grounding_score": 0.5, "confidence": 0.25}])
async def test_what_the_guard_rated_is_heard_and_nothing_is_made_up(scores: dict[str, float]) -> None:
    guard = RemoteGuard(Rating(**scores), PolicyDigests(Clock()))
    output = await guard.check_output(turn(), UNCHECKED, chat_pb2.Completion(content="said"))
    assert (output.confidence, output.grounding_score) == (scores.get("confidence"), scores.get("grounding_score"))
