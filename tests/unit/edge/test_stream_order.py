"""Events in a wrong order become no answer, in whatever dialect."""

from __future__ import annotations

import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.dialects import DIALECTS
from services.edge.core.errors import CallFailed
from services.edge.core.ports import CHAT, MESSAGES, RESPONSES

STARTED = pb.CompleteStreamResponse(started={"model": "a/b"})
DELTA = pb.CompleteStreamResponse(delta={"content": "x"})
CONTINUED = pb.CompleteStreamResponse(continued={"model": "c/d"})
FINISHED = pb.CompleteStreamResponse(finished={"report": {}})
PLAIN = {
    CHAT: b'{"messages":[{"role":"user","content":"x"}]}',
    RESPONSES: b'{"input":"x"}',
    MESSAGES: b'{"max_tokens":1,"messages":[{"role":"user","content":"x"}]}',
}


@pytest.mark.parametrize("dialect", PLAIN)
@pytest.mark.parametrize(
    "events",
    [[DELTA], [FINISHED], [CONTINUED], [STARTED, STARTED], [pb.CompleteStreamResponse()], [STARTED, DELTA, STARTED]],
)
def test_a_wrong_order_is_refused(dialect: str, events: list[pb.CompleteStreamResponse]) -> None:
    writer = DIALECTS[dialect].writer(DIALECTS[dialect].read(PLAIN[dialect]), "r", 1)
    *before, wrong = events
    for event in before:
        writer.frames(event)
    with pytest.raises(CallFailed, match="order that the contract forbids"):
        writer.frames(wrong)


@pytest.mark.parametrize("dialect", PLAIN)
def test_only_a_finished_stream_is_whole(dialect: str) -> None:
    writer = DIALECTS[dialect].writer(DIALECTS[dialect].read(PLAIN[dialect]), "r", 1)
    for event in (STARTED, DELTA, CONTINUED, DELTA):
        writer.frames(event)
        with pytest.raises(CallFailed) as cut:
            writer.require_finished()
        assert cut.value.reason == "UPSTREAM_STREAM_CUT"
    writer.frames(FINISHED)
    writer.require_finished()
