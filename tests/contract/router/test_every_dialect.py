"""One suite over all dialects against the provider simulator on real sockets: what it may send, and what we make of it.

Nothing of this may crash or hang: it is an answer or a typed failure, and what may be billed is estimated.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from llmops_cli.provider_sim import ProviderSim, Rule
from llmops_cli.provider_sim.script import ScriptedToolCall
from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.azure_openai import AzureOpenAi
from services.router.adapters.dialects.base import Dialect
from services.router.adapters.dialects.bedrock_converse import BedrockConverse
from services.router.adapters.dialects.gemini_generate import GeminiGenerate
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.dialects.openai_chat_request import Ways
from services.router.adapters.dialects.openai_responses import OpenAiResponses
from services.router.adapters.http import HttpLimits, HttpProvider
from services.router.adapters.memory import AttemptLog, ManualClock
from services.router.adapters.tokens import CharacterTokenCounter
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import Catalogue, ModelSpec, RouteSpec
from services.router.core.chat import FinishReason, Message, ModelCall, Parameters, ToolChoice, ToolDefinition, Usage
from services.router.core.errors import RouterError
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.fallback import RetryPolicy
from services.router.core.ports import Chunk, ProviderRequest
from services.router.core.router import Router
from tests.contract.router.conftest import NOW

if TYPE_CHECKING:
    from tests.contract.router.conftest import OpenProvider

DIALECTS: dict[str, tuple[Dialect, str]] = {
    "openai": (OpenAiChat(), "/v1"),
    "ollama": (OpenAiChat(Ways("max_tokens"), asks_stream_usage=False), "/v1"),
    "azure": (AzureOpenAi(api_version="2024-10-21"), ""),
    "azure-v1": (AzureOpenAi(), ""),
    "responses": (OpenAiResponses(), "/v1"),
    "anthropic": (AnthropicMessages(), "/v1"),
    "gemini": (GeminiGenerate(), "/v1beta"),
    "bedrock": (BedrockConverse(), ""),
}
CALL = ModelCall("", (Message("system", "Be brief."), Message("user", "hello")))
LIMITS = HttpLimits(
    max_response_bytes=1 << 20, max_stream_bytes=4 << 20, max_line_bytes=1 << 18, max_event_bytes=1 << 18
)


@dataclass
class Asked:
    """A dialect on its way to the simulator."""

    name: str
    sim: ProviderSim
    provider: HttpProvider

    def request(self, rule: str, call: ModelCall = CALL) -> ProviderRequest:
        """`rule` in the words of the simulator's model names."""
        return ProviderRequest(call, ModelSpec("m", "p", f"sim-{rule}"), "req-1")

    async def stream(self, rule: str) -> tuple[list[Chunk], Failure | None]:
        chunks: list[Chunk] = []
        try:
            async for chunk in self.provider.stream(self.request(rule)):
                chunks.append(chunk)
        except ProviderError as error:
            return chunks, error.failure
        return chunks, None

    async def refused(self, rule: str) -> Failure:
        with pytest.raises(ProviderError) as caught:
            await self.provider.complete(self.request(rule))
        return caught.value.failure


@pytest.fixture(params=DIALECTS)
async def asked(request: pytest.FixtureRequest, open_provider: OpenProvider) -> AsyncIterator[Asked]:
    dialect, path = DIALECTS[request.param]
    async with ProviderSim() as sim:
        yield Asked(request.param, sim, await open_provider(sim.url + path, dialect, limits=LIMITS))


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.delta.content for chunk in chunks if chunk.delta is not None)


async def test_an_answer_costs_what_the_provider_bills(asked: Asked) -> None:
    answer = await asked.provider.complete(asked.request("tokens-7"))
    assert len(answer.completion.content.split()) == 7
    assert answer.completion.finish_reason is FinishReason.STOP
    (bill,) = asked.sim.billing
    assert answer.usage == Usage(bill.billed_input_tokens, 7)
    assert bill.key_hash


@pytest.mark.parametrize(
    "how", ["tokens-9", "crlf+tokens-9", "comments+tokens-9", "one-byte+tokens-9", "wrong-type+tokens-9"]
)
async def test_a_stream_says_the_same_however_it_is_framed(asked: Asked, how: str) -> None:
    whole = await asked.provider.complete(asked.request("tokens-9"))
    chunks, failure = await asked.stream(how)
    assert (text_of(chunks), failure) == (whole.completion.content, None)
    assert [chunk.finished for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].finish_reason is FinishReason.STOP
    assert chunks[-1].usage == (None if asked.name == "ollama" else whole.usage)


async def test_details_of_the_usage(asked: Asked) -> None:
    asked.sim.script = [Rule(model="m-1", input_tokens=50, cached_tokens=20, output_tokens=8, reasoning_tokens=3)]
    answer = await asked.provider.complete(ProviderRequest(CALL, ModelSpec("m", "p", "m-1")))
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cached_input_tokens) == (50, 11, 20)
    # Neither says how much of the output was thinking in what the simulator sends.
    assert answer.usage.reasoning_tokens == (0 if asked.name in {"anthropic", "bedrock"} else 3)


async def test_tool_calls_whole_and_in_pieces(asked: Asked) -> None:
    calls = (ScriptedToolCall("weather", '{"city":"Paris"}'), ScriptedToolCall("now"))
    asked.sim.script = [Rule(model="m-1", tool_calls=calls)]
    tools = (ToolDefinition("weather"), ToolDefinition("now"))
    call = ModelCall("", CALL.messages, tools, Parameters(tool_choice=ToolChoice("auto")))
    request = ProviderRequest(call, ModelSpec("m", "p", "m-1"))
    completion = (await asked.provider.complete(request)).completion
    expected = [("weather", {"city": "Paris"}), ("now", {})]
    assert [(c.name, json.loads(c.arguments_json)) for c in completion.tool_calls] == expected
    assert len({c.id for c in completion.tool_calls}) == 2
    assert completion.finish_reason is FinishReason.TOOL_CALLS
    chunks = [chunk async for chunk in asked.provider.stream(request)]
    joined: dict[int, list[str]] = {}
    for piece in (c for chunk in chunks if chunk.delta is not None for c in chunk.delta.tool_calls):
        row = joined.setdefault(piece.index, ["", ""])
        row[0] += piece.name
        row[1] += piece.arguments_json
    assert [(name, json.loads(arguments)) for name, arguments in joined.values()] == expected
    assert chunks[-1].finish_reason is FinishReason.TOOL_CALLS


async def test_a_forced_tool_and_a_limit_reach_the_model(asked: Asked) -> None:
    parameters = Parameters(tool_choice=ToolChoice(tool_name="now"), max_output_tokens=4)
    call = ModelCall("", CALL.messages, (ToolDefinition("x"), ToolDefinition("now")), parameters)
    answer = await asked.provider.complete(asked.request("tokens-9", call))
    assert [c.name for c in answer.completion.tool_calls] == ["now"]
    short = ModelCall("", CALL.messages, parameters=Parameters(max_output_tokens=4))
    answer = await asked.provider.complete(asked.request("tokens-9", short))
    assert (len(answer.completion.content.split()), answer.completion.finish_reason) == (4, FinishReason.LENGTH)


MALFORMED = {"malformed-json", "invalid-utf8", "bad-message-checksum", "bad-prelude-checksum"}
# What came before stays: the failure is told after it. "no-done" leaves out the last events of every dialect.
BROKEN_STREAMS: dict[str, set[str]] = {
    "malformed+tokens-8": MALFORMED,
    "bad-utf8+tokens-8": MALFORMED,
    "huge-line+tokens-8": {"line-too-long", "event-too-large", "stream-too-large"},
    "cut-after-4+tokens-8": {"cut-mid-answer"},
    "reset-after-4+tokens-8": {"connection-reset", "cut-mid-answer"},
    "gzip-bomb": {"stream-too-large", "line-too-long", "bad-prelude-checksum", "event-too-large"},
}


@pytest.mark.parametrize("rule", BROKEN_STREAMS)
async def test_broken_streams_are_typed_failures(asked: Asked, rule: str) -> None:
    started = time.process_time()
    chunks, failure = await asked.stream(rule)
    assert failure is not None
    assert (failure.kind, failure.cause in BROKEN_STREAMS[rule]) == (FailureKind.BROKEN, True), failure
    assert not any(chunk.finished for chunk in chunks)
    if rule.endswith("tokens-8"):
        assert text_of(chunks)
    assert time.process_time() - started < 1.0


async def test_a_missing_end_mark(asked: Asked) -> None:
    """OpenAI's has a finish reason before it, and Anthropic's: the answer was whole. Elsewhere nobody knows."""
    chunks, failure = await asked.stream("no-done+tokens-8")
    assert len(text_of(chunks).split()) == 8
    if asked.name in {"responses", "gemini", "bedrock"}:
        assert failure == Failure(FailureKind.BROKEN, "stream-ended-early", http_status=200)
    else:
        assert (failure, chunks[-1].finished) == (None, True)


async def test_an_error_inside_a_stream(asked: Asked) -> None:
    chunks, failure = await asked.stream("error-after-3+tokens-8")
    assert len(text_of(chunks).split()) == 3
    assert failure is not None
    assert (failure.kind, failure.cause.startswith("in-band-")) == (FailureKind.UNAVAILABLE, True)


async def test_missing_usage_is_left_to_be_counted(asked: Asked) -> None:
    assert (await asked.provider.complete(asked.request("tokens-2+no-usage+latency-1"))).usage is None
    chunks, failure = await asked.stream("tokens-2+no-usage")
    assert (failure, chunks[-1].usage) == (None, None)


@pytest.mark.parametrize(
    ("rule", "causes"),
    [
        ("malformed", MALFORMED),
        ("bad-utf8", MALFORMED),
        ("huge-line", {"response-too-large"}),
        ("gzip-bomb", {"response-too-large"}),
        ("cut-after-1", {"cut-mid-answer"}),
    ],
)
async def test_broken_answers_are_typed_failures(asked: Asked, rule: str, causes: set[str]) -> None:
    failure = await asked.refused(rule)
    assert (failure.kind, failure.cause in causes) == (FailureKind.BROKEN, True), failure


async def test_refusals_by_class(asked: Asked) -> None:
    limited = await asked.refused("429-retry-7")
    assert (limited.kind, limited.retry_after_s) == (FailureKind.RATE_LIMITED, 7.0)
    assert (await asked.stream("429-retry-7"))[1] == limited
    for rule, kind in {
        "500": FailureKind.UNAVAILABLE,
        "529": FailureKind.UNAVAILABLE,
        "401": FailureKind.CREDENTIAL,
        "404": FailureKind.UNKNOWN_MODEL,
        "400": FailureKind.REJECTED,
    }.items():
        assert (await asked.refused(rule)).kind is kind


@pytest.mark.parametrize("stream", [False, True])
async def test_what_may_be_billed_is_estimated(asked: Asked, stream: bool) -> None:  # noqa: FBT001
    spec = ModelSpec("m", "p", "sim-malformed+tokens-8")
    log = AttemptLog()
    router = Router(
        Catalogue({"m": RouteSpec("m", (spec,), 1, is_model=True)}, "m"),
        {"p": asked.provider},
        policy=RetryPolicy(),
        breaker=BreakerPolicy(),
        clock=ManualClock(),
        wall_now=lambda: NOW,
        jitter=lambda: 0.0,
        observer=log,
        counter=CharacterTokenCounter(),
    )
    events: list[Any] = []
    with pytest.raises(RouterError) as caught:
        if stream:
            events += [event async for event in router.stream(CALL, "req-1", 10.0)]
        else:
            await router.complete(CALL, "req-1", 10.0)
    assert caught.value.status == "UNAVAILABLE"
    (attempt,) = log.attempts
    assert attempt.usage is not None
    assert attempt.usage.estimated
    assert attempt.usage.input_tokens > 0
    assert (attempt.usage.output_tokens > 0) is stream
