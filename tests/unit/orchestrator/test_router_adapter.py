from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from google.protobuf import duration_pb2
from llmops.common.v1 import chat_pb2, context_pb2, usage_pb2
from llmops.orchestrator.v1 import orchestrator_pb2
from llmops.router.v1 import router_pb2

from meshkit.errors import CallError, Failure
from meshkit.testing import call_context
from services.orchestrator.adapters.conversation import Conversation, shadow_copy
from services.orchestrator.adapters.router import RemoteRouter
from services.orchestrator.core.errors import ModelFailed
from services.orchestrator.core.model import (
    UNCHECKED,
    CacheWish,
    Candidate,
    Plan,
    Progress,
    Shadow,
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
        ("PERMISSION_DENIED", {}),
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

    def __init__(self, *pieces: str | router_pb2.CompleteStreamResponse | router_pb2.CompleteWithTriesResponse) -> None:
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
    """A channel on which one candidate is planned, or what is given; `asked` is what came."""

    def __init__(self, response: router_pb2.PlanResponse | None = None) -> None:
        big = router_pb2.PlannedCandidate(model_name="big", provider="p")
        self.response = response or router_pb2.PlanResponse(candidates=[big])
        self.asked: list[router_pb2.PlanRequest] = []

    def __getattr__(self, arity: str) -> Any:
        return lambda *_, **__: self._plan

    async def _plan(self, request: router_pb2.PlanRequest, **_: Any) -> router_pb2.PlanResponse:
        self.asked.append(request)
        return self.response


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
    turn = Turn("q-1", conversation, "default", 30, None, "", "", wish, input_images=1)
    await RemoteRouter(channel).plan(turn)
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
        first = router_pb2.Attempt(
            provider="acme-ai",
            model="cheap-1",
            outcome=router_pb2.ATTEMPT_OUTCOME_BROKEN,
            usage={"input_tokens": 9, "output_tokens": 1},
        )
        second = router_pb2.Attempt(provider="other-ai", model="big-1")
        yield router_pb2.CompleteStreamResponse(started={"attempts": [router_pb2.Attempt(model="cheap-1")]})
        yield router_pb2.CompleteStreamResponse(delta={"content": self._pieces[0]})
        yield router_pb2.CompleteStreamResponse(continued={"attempts": [first, second]})
        yield router_pb2.CompleteStreamResponse(delta={"content": self._pieces[1]})


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
    assert (progress.model, progress.running) == ("other-ai/big-1", (Candidate("other-ai", "big-1"),))
    assert (progress.continued, progress.earlier_bytes, progress.received_bytes) == (True, 3, 7)
    assert progress.lines == (UsageLine(Candidate("acme-ai", "cheap-1"), Usage(9, 1), 1),)


@pytest.mark.parametrize(("due_bytes", "looked"), [(1_000.0, [7]), (math.inf, [])])
async def test_what_a_model_that_goes_on_costs_is_looked_at_with_its_first_piece(
    due_bytes: float, looked: list[int]
) -> None:
    """Its input passed the hold, and the alarm rang where the first one would have been. One that is off stays off."""
    progress, rang = Progress(alarm_bytes=due_bytes), []

    def alarm() -> None:
        rang.append(progress.received_bytes)
        progress.alarm_bytes = math.inf

    progress.alarm = alarm
    pieces = RemoteRouter(ContinuedStream("one", "more")).stream(any_turn(), Plan((), (), 0, ""), UNCHECKED, progress)
    with pytest.raises(ModelFailed, match="before it was complete"):
        async for _ in pieces:
            pass
    assert rang == looked


RICH = router_pb2.PlanResponse(
    candidates=[
        router_pb2.PlannedCandidate(model_name="small", provider="p", model="small-1", max_output_tokens=10),
        router_pb2.PlannedCandidate(model_name="big", provider="p", model="big-1", max_output_tokens=20),
    ],
    model_policy="chat#1",
    max_billed_calls=3,
    shadow=router_pb2.PlannedShadow(model_name="other", provider="q", model="other-1"),
    cascade=router_pb2.PlannedCascade(min_confidence=0.5),
    apology="sorry",
    allow_stale=True,
    wants_embedding=True,
)


async def test_all_that_a_plan_says_is_heard() -> None:
    plan = await RemoteRouter(PlanOf(RICH)).plan(any_turn())
    assert plan == Plan(
        (Candidate("p", "small-1"), Candidate("p", "big-1")),
        ("small", "big"),
        20,
        "chat#1",
        3,
        0.5,
        Shadow("other", Candidate("q", "other-1")),
        allow_stale=True,
        apology=chat_pb2.Completion(content="sorry", finish_reason=chat_pb2.FINISH_REASON_STOP),
        wants_embedding=True,
    )
    plain = await RemoteRouter(PlanOf()).plan(any_turn())
    assert (plain.max_billed_calls, plain.min_confidence, plain.shadow, plain.apology) == (1, None, None, None)


async def test_who_reads_an_answer_by_a_schema_gets_no_apology() -> None:
    turn = any_turn()
    assert isinstance(turn.payload, Conversation)
    turn.payload.parameters.response_format.type = "json_object"
    assert (await RemoteRouter(PlanOf(RICH)).plan(turn)).apology is None


@pytest.mark.parametrize(
    ("said", "may_stand_in"),
    [
        ({"status": "UNAVAILABLE", "reason": "UPSTREAM_UNAVAILABLE"}, True),
        ({"status": "RESOURCE_EXHAUSTED", "reason": "UPSTREAM_RATE_LIMITED", "retry_after": {"seconds": 20}}, True),
        ({"status": "INVALID_ARGUMENT", "reason": "CONTEXT_TOO_LONG"}, False),
        ({"status": "UNIMPLEMENTED", "reason": "UNSUPPORTED", "feature": "tools"}, False),
        ({"status": "FAILED_PRECONDITION", "reason": "UPSTREAM_CREDENTIAL"}, False),
    ],
)
async def test_when_nobody_is_left_the_plan_says_what_the_call_would_end_with(
    said: dict[str, Any], *, may_stand_in: bool
) -> None:
    """Requests that no model can take were UNAVAILABLE: clients repeated what would never be answered."""
    response = router_pb2.PlanResponse(refusal=router_pb2.PlanRefusal(message="Nobody.", **said), apology="sorry")
    response.rejected.add(model_name="m", reason="no-tools")
    plan = await RemoteRouter(PlanOf(response)).plan(any_turn())
    refusal = plan.refusal
    assert isinstance(refusal, ModelFailed)
    assert (plan.candidates, refusal.nobody_answered) == ((), may_stand_in)
    assert (refusal.status, refusal.reason) == (said["status"], said["reason"])
    assert refusal.retry_after_s == (20 if "retry_after" in said else None)
    assert refusal.metadata == ({"feature": "tools"} if "feature" in said else {})
    assert str(refusal) == "Nobody. (m: no-tools)"


class Failing:
    """A channel whose calls fail; `timeouts_s` are the times they had."""

    def __init__(self, status: str, reason: str, **metadata: str) -> None:
        self._failure = Failure(status, reason, "failed", metadata=metadata)
        self.timeouts_s: list[float | None] = []

    def __getattr__(self, arity: str) -> Any:
        return lambda *_, **__: self._call

    async def _call(self, request: object, timeout: float | None = None) -> AsyncGenerator[object, None]:  # noqa: ASYNC109 - the stub's
        self.timeouts_s.append(timeout)
        raise CallError(self._failure)
        yield


@pytest.mark.parametrize(
    ("status", "reason", "left_s", "nobody"),
    [
        ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", 5.0, True),
        ("RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED", 5.0, True),
        ("UNAVAILABLE", "SERVICE_UNAVAILABLE", 5.0, True),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 5.0, True),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 0.01, False),
        ("INVALID_ARGUMENT", "UPSTREAM_REJECTED", 5.0, False),
        ("FAILED_PRECONDITION", "UPSTREAM_CREDENTIAL", 5.0, False),
        ("RESOURCE_EXHAUSTED", "OVERLOADED", 5.0, False),
        ("UNAVAILABLE", "UPSTREAM_STREAM_CUT", 5.0, False),
    ],
)
async def test_of_which_failures_something_may_stand_in(
    status: str, reason: str, left_s: float, *, nobody: bool
) -> None:
    with call_context(deadline_s=asyncio.get_running_loop().time() + left_s), pytest.raises(ModelFailed) as caught:
        await RemoteRouter(Failing(status, reason)).complete(any_turn(), Plan((), (), 0, ""), UNCHECKED, Progress())
    assert caught.value.nobody_answered == nobody


async def test_a_call_takes_its_share_of_the_time() -> None:
    channel = Failing("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")
    with call_context(deadline_s=asyncio.get_running_loop().time() + 10):
        for share in (1.0, 0.5):
            with pytest.raises(ModelFailed):
                await RemoteRouter(channel).complete(
                    any_turn(), Plan((), (), 0, "", time_share=share), UNCHECKED, Progress()
                )
    whole, half = channel.timeouts_s
    assert whole is None
    assert half is not None
    assert 4.5 < half <= 5


def test_the_tries_of_a_failed_call_are_what_an_answer_would_bring() -> None:
    row = {
        "model_name": "cheap",
        "provider": "acme-ai",
        "model": "cheap-1",
        "outcome": "TIMED_OUT",
        "http_status": 0,
        "duration_ms": 1500,
        "usage": {"input_tokens": 3, "output_tokens": 0},
        "cause": "step-timeout",
    }
    failed = ModelFailed("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "all failed", {"attempts_json": json.dumps([row])})
    (attempt,) = ROUTER.attempts(failed)
    assert attempt == router_pb2.Attempt(
        model_name="cheap",
        provider="acme-ai",
        model="cheap-1",
        outcome=router_pb2.ATTEMPT_OUTCOME_TIMED_OUT,
        duration=duration_pb2.Duration(seconds=1, nanos=500_000_000),
        usage=usage_pb2.Usage(input_tokens=3),
        cause="step-timeout",
    )
    assert ROUTER.attempts(ModelFailed("INTERNAL", "INTERNAL", "lost", {})) == []


async def test_a_request_that_lost_is_known_while_the_stream_runs() -> None:
    lost = router_pb2.Attempt(
        provider="a",
        model="one",
        outcome=router_pb2.ATTEMPT_OUTCOME_CANCELLED,
        usage=usage_pb2.Usage(input_tokens=3),
        cause="hedge-lost",
    )
    running = router_pb2.Attempt(provider="b", model="two")
    started = router_pb2.CompleteStreamResponse(started=router_pb2.StreamStarted(attempts=[lost, running]))
    progress = Progress()
    with pytest.raises(ModelFailed, match="before it was complete"):
        async for _ in RemoteRouter(StreamOf(started, "x")).stream(
            any_turn(), Plan((), (), 0, ""), UNCHECKED, progress
        ):
            pass
    assert (progress.lost_beside, progress.running, progress.ended) == ({1}, (Candidate("b", "two"),), 1)


def test_a_copy_is_another_request_for_another_model_with_a_budget_of_its_own() -> None:
    turn = any_turn()
    assert isinstance(turn.payload, Conversation)
    turn.payload.labels.MergeFrom(context_pb2.CallLabels(feature="search", data_class="health", end_user="u"))
    copy = shadow_copy(turn, Shadow("other", Candidate("q", "other-1")))
    assert isinstance(copy.payload, Conversation)
    assert copy.payload.model == "other"
    assert copy.payload.labels == context_pb2.CallLabels(feature="shadow", data_class="health", end_user="u")
    assert turn.payload.labels.feature == "search", "the caller's is left alone"
    assert copy.request_id not in ("", turn.request_id)
