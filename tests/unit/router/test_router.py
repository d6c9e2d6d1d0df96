"""The engine on the memory twins: no network, no waiting."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.router.adapters.memory import AttemptLog, ManualClock, ScriptedProvider, Step
from services.router.adapters.tokens import CharacterTokenCounter
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import Catalogue, ModelSpec, RouteSpec
from services.router.core.chat import (
    Completion,
    Delta,
    FinishReason,
    ImagePart,
    Message,
    ModelCall,
    TextPart,
    ToolCall,
    ToolDefinition,
    Usage,
)
from services.router.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    RouterError,
    Unsupported,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamStreamCut,
    UpstreamUnavailable,
)
from services.router.core.facts import Needs
from services.router.core.failure import Failure, FailureKind, Outcome, ProviderError
from services.router.core.fallback import RetryPolicy
from services.router.core.ports import Chunk, Provider, ProviderAnswer, ProviderRequest
from services.router.core.router import Answer, Finished, Router, Started, StreamEvent

CALL = ModelCall("", (Message("user", "hello there"),))
USAGE = Usage(3, 5)
ANSWER = ProviderAnswer(Completion("hi", finish_reason=FinishReason.STOP), USAGE, "served", "id-1")
DONE = Chunk(None, "served", "id-1", finished=True, finish_reason=FinishReason.STOP, usage=USAGE)


def failure(kind: FailureKind, retry_after_s: float | None = None) -> ProviderError:
    return ProviderError(Failure(kind, kind.value, retry_after_s=retry_after_s))


class Harness:
    def __init__(self, *scripts: list[Step] | Provider, retries: int = 1, tools: bool = True) -> None:
        self.providers = [ScriptedProvider(*script) if isinstance(script, list) else script for script in scripts]
        specs = [
            ModelSpec(f"m{n}", f"p{n}", f"model-{n}", supports_tools=tools, idle_timeout_s=0.05, timeout_s=30)
            for n in range(len(scripts))
        ]
        self.clock = ManualClock()
        self.log = AttemptLog()
        self.router = Router(
            Catalogue({"default": RouteSpec("default", tuple(specs), retries)}, "default"),
            {f"p{n}": provider for n, provider in enumerate(self.providers)},
            policy=RetryPolicy(),
            breaker=BreakerPolicy(),
            clock=self.clock,
            wall_now=lambda: datetime(2026, 11, 23, tzinfo=UTC),
            jitter=lambda: 0.5,
            observer=self.log,
            counter=CharacterTokenCounter(),
        )

    async def complete(self, call: ModelCall = CALL, budget_s: float = 60.0) -> Answer:
        return await self.router.complete(call, "req-1", budget_s)

    async def stream(self, call: ModelCall = CALL, budget_s: float = 60.0) -> list[StreamEvent]:
        return [event async for event in self.router.stream(call, "req-1", budget_s)]

    def outcomes(self) -> list[tuple[str, Outcome | None]]:
        return [(attempt.model_name, attempt.outcome) for attempt in self.log.attempts]


async def test_the_first_candidate_answers() -> None:
    harness = Harness([ANSWER], [ANSWER])
    answer = await harness.complete()
    assert (answer.completion.content, answer.usage, answer.served_model, answer.response_id) == (
        "hi",
        USAGE,
        "served",
        "id-1",
    )
    assert harness.outcomes() == [("m0", Outcome.SUCCEEDED)]
    assert list(answer.attempts) == harness.log.attempts


async def test_a_retry_then_the_next_candidate() -> None:
    harness = Harness([failure(FailureKind.UNAVAILABLE)], [ANSWER])
    answer = await harness.complete()
    assert harness.outcomes() == [("m0", Outcome.REFUSED), ("m0", Outcome.REFUSED), ("m1", Outcome.SUCCEEDED)]
    assert harness.clock.slept_s == [pytest.approx(0.1), 0.0]
    assert [attempt.usage for attempt in answer.attempts] == [None, None, USAGE]


async def test_a_retry_that_works_needs_nobody_else() -> None:
    harness = Harness([failure(FailureKind.RATE_LIMITED, 2.0), ANSWER], [ANSWER])
    await harness.complete()
    assert harness.outcomes() == [("m0", Outcome.RATE_LIMITED), ("m0", Outcome.SUCCEEDED)]
    assert harness.clock.slept_s == [pytest.approx(2.1)]


async def test_a_model_that_failed_is_left_alone_for_the_next_calls() -> None:
    """BerriAI/litellm#34836: a cooldown that counted only from one round of a check to the next."""
    harness = Harness([failure(FailureKind.RATE_LIMITED, 20.0), ANSWER], [ANSWER], retries=0)
    await harness.complete()
    await harness.complete()
    assert harness.outcomes()[2:] == [("m1", Outcome.SUCCEEDED)]
    assert [(model.route.name, model.cooling_down) for model in harness.router.models()] == [("default", False)]
    harness.clock.advance(20.0)
    await harness.complete()
    assert harness.outcomes()[3:] == [("m0", Outcome.SUCCEEDED)]


async def test_only_the_models_that_the_caller_names_are_asked() -> None:
    """Money is held for these. A model whose pause ended since the plan was called without a hold for its price."""
    harness = Harness([ANSWER], [failure(FailureKind.UNAVAILABLE)], [ANSWER], retries=0)
    await harness.complete(replace(CALL, model_names=("m1", "m2")))
    assert harness.outcomes() == [("m1", Outcome.REFUSED), ("m2", Outcome.SUCCEEDED)]
    with pytest.raises(UpstreamUnavailable, match="planned"):
        await harness.stream(replace(CALL, model_names=("gone",)))


async def test_a_rejected_request_asks_nobody_else() -> None:
    harness = Harness([failure(FailureKind.REJECTED)], [ANSWER])
    with pytest.raises(UpstreamRejected) as caught:
        await harness.complete()
    assert harness.outcomes() == [("m0", Outcome.REFUSED)]
    assert len(json.loads(caught.value.metadata["attempts_json"])) == 1


async def test_a_failed_call_lists_what_may_be_billed() -> None:
    harness = Harness([failure(FailureKind.BROKEN)], [failure(FailureKind.NOT_CONNECTED)], retries=0)
    with pytest.raises(UpstreamUnavailable) as caught:
        await harness.complete()
    first, second = json.loads(caught.value.metadata["attempts_json"])
    assert first["outcome"] == "BROKEN"
    assert first["usage"] == {
        "input_tokens": 20,
        "output_tokens": 0,
        "cached_input_tokens": 0,
        "reasoning_tokens": 0,
        "cache_write_input_tokens": 0,
        "estimated": True,
    }
    assert (second["outcome"], second["usage"], second["provider"]) == ("NOT_CONNECTED", None, "p1")


async def test_a_providers_wish_to_wait_reaches_the_caller() -> None:
    harness = Harness([failure(FailureKind.RATE_LIMITED, 40.0)])
    with pytest.raises(UpstreamRateLimited) as caught:
        await harness.complete()
    assert caught.value.retry_after_s == 40.0
    with pytest.raises(UpstreamRateLimited):
        await harness.complete()
    assert len(harness.log.attempts) == 1, "the provider asked for peace"


async def test_usage_that_nobody_told_is_counted_and_marked() -> None:
    harness = Harness([ProviderAnswer(Completion("x" * 9, finish_reason=FinishReason.STOP))])
    answer = await harness.complete()
    assert answer.usage == Usage(7, 3, estimated=True)
    assert answer.served_model == "model-0"


async def test_tools_that_no_candidate_takes_are_refused_without_a_try() -> None:
    harness = Harness([ANSWER], tools=False)
    with pytest.raises(Unsupported, match="tools"):
        await harness.complete(ModelCall("", CALL.messages, (ToolDefinition("t"),)))
    assert harness.log.attempts == []


class Hanging:
    """Never answers; knows when it was left."""

    def __init__(self, *chunks: Chunk) -> None:
        self.chunks = chunks
        self.left = asyncio.Event()
        self.asked = asyncio.Event()

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        return await self._hang()

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        for chunk in self.chunks:
            yield chunk
        await self._hang()

    async def _hang(self) -> ProviderAnswer:
        self.asked.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            self.left.set()


async def test_a_step_without_answer_is_cut_off_and_the_next_one_asked() -> None:
    hanging = Hanging()
    harness = Harness(hanging, [ANSWER])
    answer = await harness.complete(budget_s=0.2)
    assert hanging.left.is_set()
    assert harness.outcomes() == [("m0", Outcome.TIMED_OUT), ("m1", Outcome.SUCCEEDED)]
    assert answer.attempts[0].usage == Usage(20, 0, estimated=True)
    assert answer.attempts[0].cause == "step-timeout"


async def test_no_time_left_is_a_deadline_not_a_failure_of_the_provider() -> None:
    harness = Harness([failure(FailureKind.UNAVAILABLE)])
    with pytest.raises(DeadlineExceeded):
        await harness.complete(budget_s=0.01)
    assert harness.log.attempts == []


async def test_a_caller_who_leaves_cancels_the_provider_and_is_recorded() -> None:
    hanging = Hanging()
    harness = Harness(hanging)
    task = asyncio.create_task(harness.complete())
    await hanging.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hanging.left.is_set()
    assert harness.outcomes() == [("m0", Outcome.CANCELLED)]


async def test_a_stream_starts_flows_and_finishes() -> None:
    harness = Harness([[Chunk(Delta("he"), "served"), Chunk(Delta("llo"), "served"), DONE]])
    started, first, second, finished = await harness.stream()
    assert isinstance(started, Started)
    assert (started.served_model, started.attempts[-1].outcome) == ("served", None)
    assert (first, second) == (Delta("he"), Delta("llo"))
    assert isinstance(finished, Finished)
    assert (finished.finish_reason, finished.usage, finished.response_id) == (FinishReason.STOP, USAGE, "id-1")
    assert harness.outcomes() == [("m0", Outcome.SUCCEEDED)]


async def test_before_the_first_delta_others_are_asked() -> None:
    broken = failure(FailureKind.BROKEN)
    harness = Harness([[Chunk(None, "thinking"), broken]], [[Chunk(Delta("hi"), "second"), DONE]])
    events = await harness.stream()
    assert isinstance(events[0], Started)
    assert [attempt.model_name for attempt in events[0].attempts] == ["m0", "m1"]
    assert harness.outcomes() == [("m0", Outcome.BROKEN), ("m1", Outcome.SUCCEEDED)]


async def test_after_the_first_delta_a_failure_cuts_the_stream() -> None:
    harness = Harness([[Chunk(Delta("partial answer"), "m"), failure(FailureKind.UNAVAILABLE)]], [[DONE]])
    stream = harness.router.stream(CALL, "req-1", 60.0)
    assert isinstance(await anext(stream), Started)
    assert await anext(stream) == Delta("partial answer")
    with pytest.raises(UpstreamStreamCut) as caught:
        await anext(stream)
    assert harness.outcomes() == [("m0", Outcome.REFUSED)]
    assert len(json.loads(caught.value.metadata["attempts_json"])) == 1


async def test_an_error_inside_a_stream_is_billed_with_what_was_delivered() -> None:
    broken_off = failure(FailureKind.UNAVAILABLE)
    harness = Harness([[Chunk(Delta("word " * 4), "served", "id-1"), broken_off]])
    with pytest.raises(UpstreamStreamCut):
        await harness.stream()
    usage = harness.log.attempts[0].usage
    assert usage is not None
    assert usage.output_tokens == 7


async def test_a_stall_after_the_first_delta_is_billed_with_what_was_delivered() -> None:
    hanging = Hanging(Chunk(Delta("x" * 40), "m"))
    harness = Harness(hanging, [[DONE]])
    with pytest.raises(UpstreamStreamCut) as caught:
        await harness.stream()
    (attempt,) = json.loads(caught.value.metadata["attempts_json"])
    assert (attempt["cause"], attempt["usage"]["output_tokens"]) == ("idle-timeout", 14)
    assert hanging.left.is_set()


async def test_a_stream_that_just_ends_was_cut() -> None:
    harness = Harness([[Chunk(Delta("a"), "m")]])
    with pytest.raises(UpstreamStreamCut):
        await harness.stream()


async def test_a_stream_that_the_caller_closes_is_closed_below_and_recorded() -> None:
    provider = ScriptedProvider([Chunk(Delta("a"), "m"), Chunk(Delta("b"), "m"), DONE])
    harness = Harness(provider)
    stream = harness.router.stream(CALL, "req-1", 60.0)
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert provider.closed_streams == 1
    assert harness.outcomes() == [("m0", Outcome.CANCELLED)]


async def test_a_finished_stream_is_no_cancellation_when_its_reader_stops_there() -> None:
    harness = Harness([[Chunk(Delta("a"), "m"), DONE]])
    stream = harness.router.stream(CALL, "req-1", 60.0)
    for _ in range(3):
        await anext(stream)
    await stream.aclose()
    assert harness.outcomes() == [("m0", Outcome.SUCCEEDED)]


async def test_an_empty_answer_still_starts_and_finishes() -> None:
    harness = Harness([[DONE]])
    assert [type(event) for event in await harness.stream()] == [Started, Finished]


async def test_streamed_usage_that_nobody_told_counts_every_piece() -> None:
    done = Chunk(None, finished=True, finish_reason=FinishReason.TOOL_CALLS)
    pieces = [Chunk(Delta("x" * 8)), Chunk(Delta("", (ToolCall("1", "f" * 4, "y" * 8),), "z" * 4)), done]
    finished = (await Harness([pieces]).stream())[-1]
    assert isinstance(finished, Finished)
    assert finished.usage == Usage(7, 6, estimated=True)


class Refusing:
    """Finds the request malformed before anything is sent."""

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        raise InvalidRequest("call.parameters.extra_json", "must be valid JSON")

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        await self.complete(request)
        yield Chunk()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_malformed_field_is_the_callers_and_keeps_earlier_attempts(streamed: bool) -> None:  # noqa: FBT001
    harness = Harness([failure(FailureKind.BROKEN)], Refusing())
    with pytest.raises(RouterError) as caught:
        await (harness.stream() if streamed else harness.complete())
    assert isinstance(caught.value, InvalidRequest)
    assert [row["outcome"] for row in json.loads(caught.value.metadata["attempts_json"])] == ["BROKEN"]


async def test_a_plan_shows_order_and_time() -> None:
    harness = Harness([ANSWER], [ANSWER])
    plan, policy = harness.router.plan("", Needs())
    assert [spec.name for spec in plan.candidates] == ["m0", "m1"]
    assert harness.router.step_timeouts_s(plan, 40.0) == [20.0, 30.0]
    assert policy.startswith("default#")


async def test_a_try_whose_end_nobody_saw_counts_bytes_and_images() -> None:
    """Chinese was booked at a quarter of what it takes, and the same call had two estimates: the caller's and ours."""
    parts = (TextPart("你好" * 30), ImagePart("https://example.com/a.png"))
    call = replace(CALL, messages=(Message("user", parts=parts),))
    harness = Harness([failure(FailureKind.BROKEN)])
    with pytest.raises(UpstreamUnavailable):
        await harness.complete(call)
    (attempt,) = harness.log.attempts
    assert attempt.usage == Usage(60 + 16 + 1000, 0, estimated=True)
