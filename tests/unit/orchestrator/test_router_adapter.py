from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from llmops.common.v1 import chat_pb2, context_pb2
from llmops.orchestrator.v1 import orchestrator_pb2
from llmops.router.v1 import router_pb2

from services.orchestrator.adapters.conversation import Conversation
from services.orchestrator.adapters.router import RemoteRouter
from services.orchestrator.core.errors import ModelFailed
from services.orchestrator.core.model import (
    UNCHECKED,
    CacheWish,
    Candidate,
    Plan,
    Progress,
    Turn,
    Usage,
    UsageLine,
)


class NoChannel:
    def __getattr__(self, arity: str) -> Any:
        return lambda *_, **__: None


ROUTER = RemoteRouter(NoChannel())
TRIED = {"provider": "acme-ai", "model": "cheap-1", "usage": {"input_tokens": 3, "output_tokens": 0}}


@pytest.mark.parametrize(
    ("status", "reason", "metadata"),
    [
        ("UNAVAILABLE", "SERVICE_UNAVAILABLE", {"service": "llmops.router.v1.RouterService"}),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", {}),
        ("INTERNAL", "INTERNAL", {"error_id": "1"}),
    ],
)
def test_a_call_that_was_lost_may_be_billed(status: str, reason: str, metadata: dict[str, str]) -> None:
    """The router died, hung or failed with a provider at work: the hold was given back and the call was free."""
    assert ROUTER.billed_lines(ModelFailed(status, reason, "lost", metadata)) is None


@pytest.mark.parametrize(
    ("reason", "metadata"),
    [
        ("MODEL_NOT_FOUND", {"model": "nope"}),
        ("OVERLOADED", {}),
        ("DEADLINE_EXCEEDED", {"attempts_json": "[]"}),
        ("DEADLINE_EXCEEDED", {"begun": "false"}),
    ],
)
def test_a_call_that_was_refused_costs_nothing(reason: str, metadata: dict[str, str]) -> None:
    assert ROUTER.billed_lines(ModelFailed("UNAVAILABLE", reason, "refused", metadata)) == ()


def test_tries_that_may_be_billed_are_booked() -> None:
    metadata = {"attempts_json": json.dumps([{**TRIED, "usage": None}, TRIED])}
    failed = ModelFailed("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "all failed", metadata)
    assert ROUTER.billed_lines(failed) == (UsageLine(Candidate("acme-ai", "cheap-1"), Usage(3, 0), 2),)


class StreamOf:
    """A channel whose streams yield the given deltas and events; `closed` says that the reader ended one."""

    def __init__(self, *pieces: str | router_pb2.CompleteStreamResponse) -> None:
        self._pieces = pieces
        self.closed = False

    def __getattr__(self, arity: str) -> Any:
        return lambda *_, **__: lambda *_, **__: self._stream()

    async def _stream(self) -> AsyncGenerator[router_pb2.CompleteStreamResponse, None]:
        try:
            for piece in self._pieces:
                if isinstance(piece, str):
                    yield router_pb2.CompleteStreamResponse(delta=chat_pb2.CompletionDelta(content=piece))
                else:
                    yield piece
        finally:
            self.closed = True


def any_turn() -> Turn:
    conversation = Conversation(
        [], [], chat_pb2.GenerationParameters(), context_pb2.CallLabels(), "", "", "", orchestrator_pb2.CacheControl()
    )
    wish = CacheWish(lookup=True, store=True, semantic=True)
    return Turn("q-1", conversation, "default", 3, None, "", "", wish)


async def test_an_alarm_ends_the_stream_after_the_piece_that_was_paid_for() -> None:
    channel, progress = StreamOf("one", "two", "three"), Progress(alarm_bytes=6)

    def cut() -> None:
        raise ModelFailed("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED", "cut", {})

    progress.alarm = cut
    pieces = RemoteRouter(channel).stream(any_turn(), Plan((), (), 0, ""), UNCHECKED, progress)
    shown = []
    with pytest.raises(ModelFailed):
        async for piece in pieces:
            assert isinstance(piece, chat_pb2.CompletionDelta)
            shown.append(piece.content)
    assert (shown, progress.received_bytes, channel.closed) == (["one", "two"], 6, True)


class PlanOf:
    """A channel on which one candidate is planned; `asked` is what came."""

    def __init__(self) -> None:
        self.asked: list[router_pb2.PlanRequest] = []

    def __getattr__(self, arity: str) -> Any:
        return lambda *_, **__: self._plan

    async def _plan(self, request: router_pb2.PlanRequest, **_: Any) -> router_pb2.PlanResponse:
        self.asked.append(request)
        return router_pb2.PlanResponse(candidates=[router_pb2.PlannedCandidate(model_name="big", provider="p")])


async def test_a_plan_is_asked_for_with_all_that_is_known_of_the_call() -> None:
    """What the plan does not know of, the call itself would be refused for."""
    channel = PlanOf()
    image = chat_pb2.ContentPart(image=chat_pb2.ImagePart(url="https://example.com/a.png"))
    conversation = Conversation(
        [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, parts=[image])],
        [],
        chat_pb2.GenerationParameters(response_format=chat_pb2.ResponseFormat(type="json_schema")),
        context_pb2.CallLabels(data_class="health"),
        "smart",
        "",
        "",
        orchestrator_pb2.CacheControl(),
    )
    wish = CacheWish(lookup=True, store=True, semantic=True)
    await RemoteRouter(channel).plan(Turn("q-1", conversation, "default", 30, None, "", "", wish))
    (asked,) = channel.asked
    assert asked == router_pb2.PlanRequest(
        model="smart",
        labels=conversation.labels,
        input_tokens=10,
        uses_images=True,
        structured_output=True,
        planned_request_id="q-1",
    )


class ContinuedStream(StreamOf):
    """Breaks off after the first text; another model goes on."""

    async def _stream(self) -> AsyncGenerator[router_pb2.CompleteStreamResponse, None]:
        first = router_pb2.Attempt(provider="acme-ai", model="cheap-1", usage={"input_tokens": 9, "output_tokens": 1})
        second = router_pb2.Attempt(provider="other-ai", model="big-1")
        yield router_pb2.CompleteStreamResponse(started={"attempts": [router_pb2.Attempt(model="cheap-1")]})
        yield router_pb2.CompleteStreamResponse(delta={"content": self._texts[0]})
        yield router_pb2.CompleteStreamResponse(continued={"attempts": [first, second]})
        yield router_pb2.CompleteStreamResponse(delta={"content": self._texts[1]})


async def test_another_model_that_goes_on_is_noted_with_what_came_before_it() -> None:
    progress = Progress()
    conversation = Conversation(
        [], [], chat_pb2.GenerationParameters(), context_pb2.CallLabels(), "", "", "", orchestrator_pb2.CacheControl()
    )
    wish = CacheWish(lookup=True, store=True, semantic=True)
    turn = Turn("q-1", conversation, "default", 3, None, "", "", wish)
    pieces = RemoteRouter(ContinuedStream("one", "more")).stream(turn, Plan((), (), 0, ""), UNCHECKED, progress)
    with pytest.raises(ModelFailed, match="before it was complete"):
        async for _ in pieces:
            pass
    assert (progress.model, progress.candidate) == ("other-ai/big-1", Candidate("other-ai", "big-1"))
    assert (progress.continued, progress.earlier_bytes, progress.received_bytes) == (True, 3, 7)
    assert progress.lines == (UsageLine(Candidate("acme-ai", "cheap-1"), Usage(9, 1), 1),)
