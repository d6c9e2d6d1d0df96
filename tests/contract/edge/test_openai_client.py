"""The official openai client, unchanged, against the edge."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import openai as sdk
import pytest
from llmops.common.v1 import chat_pb2, usage_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.router.v1 import router_pb2
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from services.edge.core.errors import CallFailed
from tests.contract.edge.harness import Edge

HELLO = [{"role": "user", "content": "one two three"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def tool_fragment(index: int, piece: str, *, first: bool = False) -> pb.CompleteStreamResponse:
    call = chat_pb2.ToolCall(index=index, arguments_json=piece)
    if first:
        call.id, call.name = f"call-{index}", "weather"
    return pb.CompleteStreamResponse(delta=chat_pb2.CompletionDelta(tool_calls=[call]))


def tool_stream(_: pb.Conversation) -> list[pb.CompleteStreamResponse]:
    return [
        pb.CompleteStreamResponse(started=pb.StreamStarted(request_id="r", model="sim/m")),
        tool_fragment(0, "", first=True),
        tool_fragment(0, '{"city":'),
        tool_fragment(1, '{"city":"Bern"}', first=True),
        tool_fragment(0, '"Basel"}'),
        pb.CompleteStreamResponse(
            finished=pb.StreamFinished(finish_reason=chat_pb2.FINISH_REASON_TOOL_CALLS, report=pb.CallReport())
        ),
    ]


async def test_plain(edge: Edge, openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(model="m", messages=HELLO, temperature=0.5, user="u-1")
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 3, 6)
    assert answer.model == "echo"
    assert answer.llmops["cost_nano_usd"] == 3000  # type: ignore[attr-defined]
    [call] = edge.orchestrator.calls
    assert call.conversation.parameters.temperature == 0.5
    assert call.conversation.labels.end_user == "u-1"
    assert answer.id == f"chatcmpl-{call.request_id}"
    assert call.context.principal.key_id == "key-caller"


async def test_raw_headers(openai: AsyncOpenAI) -> None:
    raw = await openai.chat.completions.with_raw_response.create(
        model="m", messages=HELLO, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.request_id == "mine-1"
    assert raw.headers["x-cache"] == "miss"
    assert raw.headers["x-llmops-model"] == "memory/echo"
    assert raw.headers["x-llmops-cost-nano-usd"] == "3000"
    assert len(raw.headers["x-trace-id"]) == 32


async def test_streamed(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "one two three"
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 6
    assert chunks[-1].llmops["cost_nano_usd"] == 3000  # type: ignore[attr-defined]
    assert len({c.id for c in chunks}) == 1


async def test_streamed_without_usage_ends_with_the_finish_chunk(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(model="m", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].llmops["cost_nano_usd"] == 3000  # type: ignore[attr-defined]


async def test_the_clients_own_accumulation_of_a_stream(openai: AsyncOpenAI) -> None:
    async with openai.chat.completions.stream(model="m", messages=HELLO) as stream:
        answer = await stream.get_final_completion()
    assert answer.choices[0].message.content == "one two three"


async def test_tools(edge: Edge, openai: AsyncOpenAI) -> None:
    completion = chat_pb2.Completion(
        finish_reason=chat_pb2.FINISH_REASON_TOOL_CALLS,
        tool_calls=[chat_pb2.ToolCall(id="c1", name="weather", arguments_json='{"city":"Basel"}')],
    )
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(completion=completion)
    answer = await openai.chat.completions.create(
        model="m", messages=HELLO, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "weather"}}
    )
    message = answer.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"city":"Basel"}'
    assert answer.choices[0].finish_reason == "tool_calls"
    assert edge.orchestrator.calls[0].conversation.parameters.tool_choice.tool_name == "weather"

    edge.orchestrator.answer = None
    history = [*HELLO, message.to_dict(), {"role": "tool", "tool_call_id": "c1", "content": "sunny"}]
    again = await openai.chat.completions.create(model="m", messages=history, tools=TOOLS)
    assert again.choices[0].message.content == "sunny"
    assert edge.orchestrator.calls[1].conversation.messages[1].tool_calls[0].id == "c1"


async def test_streamed_tools(edge: Edge, openai: AsyncOpenAI) -> None:
    edge.orchestrator.events = tool_stream
    async with openai.chat.completions.stream(model="m", messages=HELLO, tools=TOOLS) as stream:
        answer = await stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [(c.id, c.function.name, json.loads(c.function.arguments)) for c in calls] == [
        ("call-0", "weather", {"city": "Basel"}),
        ("call-1", "weather", {"city": "Bern"}),
    ]


class City(BaseModel):
    name: str
    inhabitants: int


async def test_structured_output(edge: Edge, openai: AsyncOpenAI) -> None:
    completion = chat_pb2.Completion(
        content='{"name":"Basel","inhabitants":178000}', finish_reason=chat_pb2.FINISH_REASON_STOP
    )
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(completion=completion)
    answer = await openai.chat.completions.parse(model="m", messages=HELLO, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Basel", inhabitants=178000)
    wanted = edge.orchestrator.calls[0].conversation.parameters.response_format
    assert (wanted.type, wanted.schema_name, wanted.strict) == ("json_schema", "City", True)
    assert set(json.loads(wanted.json_schema)["properties"]) == {"name", "inhabitants"}


async def test_a_refusal(edge: Edge, openai: AsyncOpenAI) -> None:
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(completion=chat_pb2.Completion(refusal="I cannot."))
    message = (await openai.chat.completions.create(model="m", messages=HELLO)).choices[0].message
    assert (message.content, message.refusal) == (None, "I cannot.")


async def test_details_of_usage(edge: Edge, openai: AsyncOpenAI) -> None:
    usage = usage_pb2.Usage(input_tokens=10, output_tokens=7, cached_input_tokens=4, reasoning_tokens=5)
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(report=pb.CallReport(usage=usage))
    answer = (await openai.chat.completions.create(model="m", messages=HELLO)).usage
    assert answer is not None
    assert answer.prompt_tokens_details is not None
    assert answer.completion_tokens_details is not None
    assert answer.prompt_tokens_details.cached_tokens == 4
    assert answer.completion_tokens_details.reasoning_tokens == 5


async def test_a_prompt_by_name(edge: Edge, openai: AsyncOpenAI) -> None:
    await openai.chat.completions.create(
        model="auto",
        messages=[],
        extra_body={"llmops": {"prompt": "summarize@production", "variables": {"text": "t"}}},
    )
    conversation = edge.orchestrator.calls[0].conversation
    assert (conversation.prompt.reference, dict(conversation.prompt.variables)) == (
        "summarize@production",
        {"text": "t"},
    )
    assert conversation.model == ""


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        ("INVALID_ARGUMENT", "CONTEXT_TOO_LONG", sdk.BadRequestError),
        ("FAILED_PRECONDITION", "GUARD_BLOCKED", sdk.BadRequestError),
        ("PERMISSION_DENIED", "PERMISSION_DENIED", sdk.PermissionDeniedError),
        ("NOT_FOUND", "MODEL_NOT_FOUND", sdk.NotFoundError),
        ("ALREADY_EXISTS", "REQUEST_ID_REUSED", sdk.ConflictError),
        ("FAILED_PRECONDITION", "OUTPUT_BLOCKED", sdk.UnprocessableEntityError),
        ("RESOURCE_EXHAUSTED", "RATE_LIMITED", sdk.RateLimitError),
        ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED", sdk.RateLimitError),
        ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", sdk.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failures_before_the_first_byte(
    edge: Edge, openai: AsyncOpenAI, status: str, reason: str, error: type[sdk.APIStatusError], *, stream: bool
) -> None:
    edge.orchestrator.failure = CallFailed(status, reason, "what to do", metadata={"k": "v"}, retry_after_s=3)
    with pytest.raises(error) as raised:
        await openai.chat.completions.create(model="m", messages=HELLO, stream=stream)
    code = {"RATE_LIMITED": "rate_limit_exceeded", "BUDGET_EXHAUSTED": "insufficient_quota"}.get(reason, reason.lower())
    assert raised.value.code == code
    assert raised.value.response.json()["llmops"]["reason"] == reason
    assert "what to do" in raised.value.message
    assert raised.value.response.headers["retry-after"] == "3"
    assert raised.value.response.json()["llmops"]["metadata"]["k"] == "v"
    assert len(raised.value.response.headers["x-trace-id"]) == 32
    assert raised.value.request_id == edge.orchestrator.calls[0].request_id


async def test_a_wrong_key(edge: Edge) -> None:
    async with AsyncOpenAI(base_url=f"{edge.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(sdk.AuthenticationError) as raised:
            await client.chat.completions.create(model="m", messages=HELLO)
    assert raised.value.code == "credential_invalid"
    assert "wrong" not in raised.value.message


async def test_a_broken_rule_of_the_contract_names_the_parameter(openai: AsyncOpenAI) -> None:
    with pytest.raises(sdk.BadRequestError) as raised:
        await openai.chat.completions.create(model="m", messages=HELLO, temperature=3)
    assert raised.value.param == "temperature"
    assert raised.value.code == "invalid_field"
    assert "conversation" not in raised.value.message


async def test_a_defect_shows_an_id_and_nothing_else(edge: Edge, openai: AsyncOpenAI) -> None:
    edge.orchestrator.failure = RuntimeError("secret detail")
    with pytest.raises(sdk.InternalServerError) as raised:
        await openai.chat.completions.create(model="m", messages=HELLO)
    assert "secret" not in raised.value.message
    assert raised.value.response.json()["llmops"]["metadata"]["error_id"] in raised.value.message


async def test_an_exhausted_budget_is_not_tried_again(edge: Edge, openai: AsyncOpenAI) -> None:
    edge.orchestrator.failure = CallFailed("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED", "no money left")
    with pytest.raises(sdk.RateLimitError) as raised:
        await openai.with_options(max_retries=3).chat.completions.create(model="m", messages=HELLO)
    assert (raised.value.type, raised.value.code) == ("insufficient_quota", "insufficient_quota")
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(edge.orchestrator.calls) == 1


async def test_a_rate_limit_is_tried_again_after_the_time_it_names(edge: Edge, openai: AsyncOpenAI) -> None:
    """BerriAI/litellm#34399: Retry-After was ignored. The official client obeys it, so it must be true."""
    edge.orchestrator.failure = CallFailed("RESOURCE_EXHAUSTED", "RATE_LIMITED", "slower", retry_after_s=0.4)

    def recover() -> None:
        edge.orchestrator.failure = None

    began_s = time.monotonic()
    asyncio.get_running_loop().call_later(0.2, recover)
    answer = await openai.with_options(max_retries=1).chat.completions.create(model="m", messages=HELLO)
    assert answer.choices[0].message.content == "one two three"
    assert time.monotonic() - began_s >= 0.4
    assert len(edge.orchestrator.calls) == 2


async def test_a_rate_limit_that_waiting_does_not_help_is_not_tried_again(edge: Edge, openai: AsyncOpenAI) -> None:
    edge.orchestrator.failure = CallFailed("RESOURCE_EXHAUSTED", "RATE_LIMITED", "suspended")
    with pytest.raises(sdk.RateLimitError) as raised:
        await openai.with_options(max_retries=3).chat.completions.create(model="m", messages=HELLO)
    assert raised.value.code == "rate_limit_exceeded"
    assert len(edge.orchestrator.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_rates_are_headers_of_answers(edge: Edge, openai: AsyncOpenAI, *, stream: bool) -> None:
    rates = [pb.RateLimit(unit="requests", limit_count=60, remaining_count=59)]
    rates += [pb.RateLimit(unit="tokens", limit_count=9000, remaining_count=8000)]
    for rate, reset_ms in zip(rates, (900, 61_500), strict=True):
        rate.reset_after.FromMilliseconds(reset_ms)
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(report=pb.CallReport(rates=rates))
    edge.orchestrator.events = lambda _: [
        pb.CompleteStreamResponse(started=pb.StreamStarted(rates=rates)),
        pb.CompleteStreamResponse(finished=pb.StreamFinished(report=pb.CallReport())),
    ]
    raw = await openai.chat.completions.with_raw_response.create(model="m", messages=HELLO, stream=stream)
    found = {name: value for name, value in raw.headers.items() if name.startswith("x-ratelimit")}
    assert found == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "900ms",
        "x-ratelimit-limit-tokens": "9000",
        "x-ratelimit-remaining-tokens": "8000",
        "x-ratelimit-reset-tokens": "1m2s",
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_was_kept_says_so(edge: Edge, openai: AsyncOpenAI, *, stream: bool) -> None:
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(report=pb.CallReport(replayed=True))
    edge.orchestrator.events = lambda _: [
        pb.CompleteStreamResponse(started=pb.StreamStarted(replayed=True)),
        pb.CompleteStreamResponse(finished=pb.StreamFinished(report=pb.CallReport(replayed=True))),
    ]
    raw = await openai.chat.completions.with_raw_response.create(
        model="m", messages=HELLO, stream=stream, extra_headers={"idempotency-key": "once"}
    )
    assert raw.headers["idempotent-replayed"] == "true"


async def test_a_failure_that_was_kept_is_final(edge: Edge, openai: AsyncOpenAI) -> None:
    edge.orchestrator.failure = CallFailed(
        "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "nobody answered", metadata={"idempotent-replayed": "true"}
    )
    with pytest.raises(sdk.InternalServerError) as raised:
        await openai.with_options(max_retries=3).chat.completions.create(model="m", messages=HELLO)
    assert raised.value.response.headers["idempotent-replayed"] == "true"
    assert len(edge.orchestrator.calls) == 1


async def test_rates_are_headers_of_refusals(edge: Edge, openai: AsyncOpenAI) -> None:
    metadata = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0", "x-evil": "no header"}
    metadata["x-ratelimit-reset-requests"] = "61500ms"
    edge.orchestrator.failure = CallFailed(
        "RESOURCE_EXHAUSTED", "RATE_LIMITED", "slower", metadata=metadata, retry_after_s=1.2
    )
    with pytest.raises(sdk.RateLimitError) as raised:
        await openai.chat.completions.create(model="m", messages=HELLO)
    headers = raised.value.response.headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("60", "0")
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("2", "1200"), "rounded up: nobody comes too early"
    assert headers["x-ratelimit-reset-requests"] == "1m2s", "as on answers"
    assert "x-evil" not in headers


@pytest.mark.parametrize(
    "transport_error", [CallFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "cut"), RuntimeError("x")]
)
async def test_a_failure_in_mid_stream_raises_in_the_client(
    edge: Edge, openai: AsyncOpenAI, transport_error: Exception
) -> None:
    edge.orchestrator.failure, edge.orchestrator.fail_at = transport_error, 3
    received: list[ChatCompletionChunk] = []
    stream = await openai.chat.completions.create(model="m", messages=HELLO, stream=True)
    with pytest.raises(sdk.APIError) as raised:
        await _collect(stream, received)
    assert "".join(c.choices[0].delta.content or "" for c in received) == "one two"
    assert all(c.choices[0].finish_reason is None for c in received)
    assert raised.value.code in {"upstream_stream_cut", "internal"}


async def _collect(stream: AsyncIterator[ChatCompletionChunk], received: list[ChatCompletionChunk]) -> None:
    async for chunk in stream:
        received.append(chunk)


async def test_models(edge: Edge, openai: AsyncOpenAI) -> None:
    edge.router.models = [
        router_pb2.Model(name="fast", provider="route"),
        router_pb2.Model(
            name="meta/llama-x", provider="openrouter", context_tokens=8192, supports_tools=True, kind="chat"
        ),
    ]
    assert [(m.id, m.owned_by) async for m in openai.models.list()] == [
        ("fast", "route"),
        ("meta/llama-x", "openrouter"),
    ]
    one = await openai.models.retrieve("meta/llama-x")
    assert one.llmops["context_tokens"] == 8192  # type: ignore[attr-defined]
    assert one.llmops["kind"] == "chat"  # type: ignore[attr-defined]
    with pytest.raises(sdk.NotFoundError) as raised:
        await openai.models.retrieve("nowhere")
    assert raised.value.code == "model_not_found"
