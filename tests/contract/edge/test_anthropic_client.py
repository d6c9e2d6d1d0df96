"""The official anthropic client, unchanged, against the edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic as sdk
import pytest
from anthropic import AsyncAnthropic
from llmops.common.v1 import chat_pb2, usage_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.core.errors import CallFailed
from services.edge.settings import EdgeSettings
from tests.contract.edge.harness import KEY, Edge, running_edge, until
from tests.contract.edge.test_openai_client import tool_stream

HELLO: Any = [{"role": "user", "content": "one two three"}]
TOOLS: Any = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]
ASKED: Any = {"model": "m", "max_tokens": 50, "messages": HELLO}


def turn(role: str, block: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": [block]}]}


async def test_plain(edge: Edge, anthropic: AsyncAnthropic) -> None:
    answer = await anthropic.messages.create(**ASKED, system="Be brief.", metadata={"user_id": "u-1"})
    [block] = answer.content
    assert block.type == "text"
    assert block.text == "one two three"
    assert (answer.stop_reason, answer.model) == ("end_turn", "echo")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 3)
    assert answer.llmops["cost_nano_usd"] == 3000  # type: ignore[attr-defined]
    [call] = edge.orchestrator.calls
    assert answer.id == f"msg_{call.request_id}"
    assert answer._request_id == call.request_id
    assert call.context.principal.key_id == "key-caller", "x-api-key is a credential"
    assert call.conversation.labels.end_user == "u-1"
    assert [m.content for m in call.conversation.messages] == ["Be brief.", "one two three"]


async def test_a_bearer_token_is_a_credential_too(edge: Edge) -> None:
    async with AsyncAnthropic(base_url=edge.url, auth_token=KEY, api_key=None, max_retries=0) as client:
        assert (await client.messages.create(**ASKED)).stop_reason == "end_turn"


async def test_headers_are_those_of_chat(anthropic: AsyncAnthropic) -> None:
    raw = await anthropic.messages.with_raw_response.create(**ASKED, extra_headers={"x-request-id": "mine-1"})
    assert raw.headers["x-request-id"] == raw.headers["request-id"] == "mine-1"
    assert (raw.headers["x-cache"], raw.headers["x-llmops-model"]) == ("miss", "memory/echo")
    assert raw.headers["x-llmops-cost-nano-usd"] == "3000"
    assert len(raw.headers["x-trace-id"]) == 32


async def test_streamed(anthropic: AsyncAnthropic) -> None:
    stream = await anthropic.messages.create(**ASKED, stream=True)
    events: list[Any] = [event async for event in stream]
    assert [e.type for e in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(e.delta.text for e in events[2:5]) == "one two three"
    assert events[-2].llmops["cost_nano_usd"] == 3000
    assert stream.response.headers["request-id"] == stream.response.headers["x-request-id"]


async def test_the_clients_own_accumulation_of_a_stream(anthropic: AsyncAnthropic) -> None:
    async with anthropic.messages.stream(**ASKED) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        answer = await stream.get_final_message()
    assert text == "one two three"
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 3), "known at the end"


async def test_tools(edge: Edge, anthropic: AsyncAnthropic) -> None:
    completion = chat_pb2.Completion(
        content="Let me see.",
        finish_reason=chat_pb2.FINISH_REASON_TOOL_CALLS,
        tool_calls=[chat_pb2.ToolCall(id="c1", name="weather", arguments_json='{"city":"Basel"}')],
    )
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(completion=completion)
    choice: Any = {"type": "tool", "name": "weather"}
    answer = await anthropic.messages.create(**ASKED, tools=TOOLS, tool_choice=choice)
    assert answer.stop_reason == "tool_use"
    text, call = answer.content
    assert call.type == "tool_use"
    assert (text.type, call.id, call.name, call.input) == ("text", "c1", "weather", {"city": "Basel"})
    conversation = edge.orchestrator.calls[0].conversation
    assert conversation.parameters.tool_choice.tool_name == "weather"
    edge.orchestrator.answer = None
    result: Any = {"type": "tool_result", "tool_use_id": "c1", "content": "rain"}
    turns: Any = [*HELLO, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    await anthropic.messages.create(**ASKED | {"messages": turns}, tools=TOOLS)
    _, said, returned = edge.orchestrator.calls[1].conversation.messages
    assert (said.content, said.tool_calls[0].arguments_json) == ("Let me see.", '{"city":"Basel"}')
    assert (returned.role, returned.tool_call_id, returned.content) == (chat_pb2.CHAT_ROLE_TOOL, "c1", "rain")


async def test_streamed_tools_are_joined_by_the_client_also_when_two_are_written_at_once(
    edge: Edge, anthropic: AsyncAnthropic
) -> None:
    edge.orchestrator.events = tool_stream
    async with anthropic.messages.stream(**ASKED, tools=TOOLS) as stream:
        answer = await stream.get_final_message()
    calls = [(block.id, block.input) for block in answer.content if block.type == "tool_use"]
    assert calls == [("call-0", {"city": "Basel"}), ("call-1", {"city": "Bern"})]
    assert answer.stop_reason == "tool_use"


@pytest.mark.parametrize("arguments", ['{"city": "Bas', "[1]", "7", '"x"'])
async def test_arguments_that_are_no_object_are_kept(edge: Edge, anthropic: AsyncAnthropic, arguments: str) -> None:
    call = chat_pb2.ToolCall(id="c1", name="weather", arguments_json=arguments)
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(completion=chat_pb2.Completion(tool_calls=[call]))
    [block] = (await anthropic.messages.create(**ASKED)).content
    assert block.type == "tool_use"
    assert block.input == {"malformed_arguments": arguments}


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (chat_pb2.Completion(finish_reason=chat_pb2.FINISH_REASON_LENGTH), "max_tokens"),
        (chat_pb2.Completion(finish_reason=chat_pb2.FINISH_REASON_CONTENT_FILTER), "refusal"),
        (chat_pb2.Completion(finish_reason=chat_pb2.FINISH_REASON_STOP, refusal="I cannot."), "refusal"),
        (chat_pb2.Completion(finish_reason=chat_pb2.FINISH_REASON_CUT), "max_tokens"),
    ],
)
async def test_why_an_answer_ended(
    edge: Edge, anthropic: AsyncAnthropic, completion: chat_pb2.Completion, reason: str
) -> None:
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(completion=completion)
    answer = await anthropic.messages.create(**ASKED)
    assert answer.stop_reason == reason
    assert [block.text for block in answer.content if block.type == "text"] == (
        ["I cannot."] * bool(completion.refusal)
    )


async def test_what_the_providers_cache_gave_stands_beside_the_input(edge: Edge, anthropic: AsyncAnthropic) -> None:
    usage = usage_pb2.Usage(input_tokens=100, output_tokens=7, cached_input_tokens=40, cache_write_input_tokens=10)
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(report=pb.CallReport(usage=usage))
    found = (await anthropic.messages.create(**ASKED)).usage
    assert (found.input_tokens, found.cache_read_input_tokens, found.cache_creation_input_tokens) == (50, 40, 10)


@pytest.mark.parametrize(
    ("status", "reason", "error", "type_", "http_status"),
    [
        ("INVALID_ARGUMENT", "CONTEXT_TOO_LONG", sdk.BadRequestError, "invalid_request_error", 400),
        ("FAILED_PRECONDITION", "GUARD_BLOCKED", sdk.BadRequestError, "invalid_request_error", 400),
        ("PERMISSION_DENIED", "PERMISSION_DENIED", sdk.PermissionDeniedError, "permission_error", 403),
        ("NOT_FOUND", "MODEL_NOT_FOUND", sdk.NotFoundError, "not_found_error", 404),
        ("ALREADY_EXISTS", "REQUEST_ID_REUSED", sdk.ConflictError, "invalid_request_error", 409),
        ("FAILED_PRECONDITION", "OUTPUT_BLOCKED", sdk.UnprocessableEntityError, "invalid_request_error", 422),
        ("RESOURCE_EXHAUSTED", "RATE_LIMITED", sdk.RateLimitError, "rate_limit_error", 429),
        ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED", sdk.RateLimitError, "rate_limit_error", 429),
        ("RESOURCE_EXHAUSTED", "OVERLOADED", sdk.InternalServerError, "overloaded_error", 529),
        ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", sdk.InternalServerError, "api_error", 502),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", sdk.InternalServerError, "timeout_error", 504),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failures_before_the_first_byte(
    edge: Edge,
    anthropic: AsyncAnthropic,
    status: str,
    reason: str,
    error: type[sdk.APIStatusError],
    type_: str,
    http_status: int,
    *,
    stream: bool,
) -> None:
    edge.orchestrator.failure = CallFailed(status, reason, "what to do", metadata={"k": "v"}, retry_after_s=3)
    with pytest.raises(error) as raised:
        await anthropic.messages.create(**ASKED, stream=stream)
    body: Any = raised.value.body
    assert (body["type"], body["error"]["type"], raised.value.status_code) == ("error", type_, http_status)
    assert "what to do" in body["error"]["message"]
    assert body["request_id"] == raised.value.request_id == edge.orchestrator.calls[0].request_id
    assert (body["llmops"]["reason"], body["llmops"]["metadata"]) == (reason, {"k": "v"})
    assert raised.value.response.headers["retry-after"] == "3"


async def test_a_wrong_key(edge: Edge) -> None:
    async with AsyncAnthropic(base_url=edge.url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(sdk.AuthenticationError) as raised:
            await client.messages.create(**ASKED)
    body: Any = raised.value.body
    assert body["error"]["type"] == "authentication_error"
    assert "wrong" not in body["error"]["message"]


async def test_an_exhausted_budget_is_not_tried_again(edge: Edge, anthropic: AsyncAnthropic) -> None:
    edge.orchestrator.failure = CallFailed("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED", "no money left")
    with pytest.raises(sdk.RateLimitError):
        await anthropic.with_options(max_retries=3).messages.create(**ASKED)
    assert len(edge.orchestrator.calls) == 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"temperature": 1.5}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop_sequences": ["x" * 2000]}, "stop_sequences[0]"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": []}, "messages"),
        ({"tools": [{"name": "", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"mcp_servers": [{"type": "url", "url": "https://x.example"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"prediction": {"content": "unseen"}}, "prediction"),
        (turn("user", {"type": "document", "source": {}}), "messages[0].content[0].type"),
        (turn("user", {"type": "tool_use", "id": "1", "name": "x", "input": {}}), "messages[0].content[0]"),
        (turn("assistant", {"type": "thinking", "thinking": "x"}), "messages[0].content[0].type"),
        (turn("assistant", {"type": "tool_result", "tool_use_id": "1"}), "messages[0].content[0]"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages[0].role"),
    ],
)
async def test_what_is_refused_is_named(
    edge: Edge, anthropic: AsyncAnthropic, change: dict[str, Any], name: str
) -> None:
    with pytest.raises(sdk.BadRequestError) as raised:
        await anthropic.messages.create(**{"extra_body": {**ASKED, **change}, **ASKED})
    body: Any = raised.value.body
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith(name)
    assert "conversation" not in body["error"]["message"]
    assert edge.orchestrator.calls == []


async def test_paths_below_answer_in_the_same_shape(anthropic: AsyncAnthropic) -> None:
    with pytest.raises(sdk.NotFoundError) as raised:
        await anthropic.messages.count_tokens(model="m", messages=HELLO)
    body: Any = raised.value.body
    assert body["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("failure", [CallFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "cut"), RuntimeError("x")])
async def test_a_failure_in_mid_stream_raises_in_the_client(
    edge: Edge, anthropic: AsyncAnthropic, failure: Exception
) -> None:
    edge.orchestrator.failure, edge.orchestrator.fail_at = failure, 3
    received: list[Any] = []
    stream = await anthropic.messages.create(**ASKED, stream=True)
    with pytest.raises(sdk.APIStatusError) as raised:
        await _collect(stream, received)
    assert "".join(e.delta.text for e in received if e.type == "content_block_delta") == "one two"
    body: Any = raised.value.body
    assert body["error"]["type"] == "api_error"
    assert body["llmops"]["reason"] in {"UPSTREAM_STREAM_CUT", "INTERNAL"}
    assert not {"message_stop", "message_delta"} & {event.type for event in received}


async def _collect(stream: AsyncIterator[Any], received: list[Any]) -> None:
    async for event in stream:
        received.append(event)


async def test_another_model_that_goes_on_is_shown(edge: Edge, anthropic: AsyncAnthropic) -> None:
    edge.orchestrator.events = lambda _: [
        pb.CompleteStreamResponse(started=pb.StreamStarted(model="a/one")),
        pb.CompleteStreamResponse(delta=chat_pb2.CompletionDelta(content="Once")),
        pb.CompleteStreamResponse(continued=pb.StreamContinued(model="b/two")),
        pb.CompleteStreamResponse(delta=chat_pb2.CompletionDelta(content=" upon")),
        pb.CompleteStreamResponse(finished=pb.StreamFinished(report=pb.CallReport())),
    ]
    stream = await anthropic.messages.create(**ASKED, stream=True)
    told = [event.llmops async for event in stream if event.type == "content_block_delta" and hasattr(event, "llmops")]
    assert told == [{"continued": {"model": "b/two"}}]


async def test_pings_are_events_that_the_client_reads_past() -> None:
    async with running_edge(EdgeSettings(port=0, open_after_s=0.02, ping_after_s=0.02)) as edge:
        edge.orchestrator.hang_at = 0
        async with AsyncAnthropic(base_url=edge.url, api_key=KEY, max_retries=0) as client:
            stream = await client.messages.create(**ASKED, stream=True)
            edge.orchestrator.released.set()
            kinds = [event.type async for event in stream]
            assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
            edge.orchestrator.released.clear()
            stream = await client.messages.create(**ASKED, stream=True, extra_headers={"x-llmops-timeout-s": "0.4"})
            with pytest.raises(sdk.APIStatusError) as raised:
                await _collect(stream, [])
    body: Any = raised.value.body
    assert body["error"]["type"] == "timeout_error"


async def test_a_client_that_leaves_a_stream_ends_the_call(edge: Edge, anthropic: AsyncAnthropic) -> None:
    edge.orchestrator.hang_at = 2
    stream = await anthropic.messages.create(**ASKED, stream=True)
    await anext(aiter(stream))
    await stream.close()
    await until(edge.orchestrator.left.is_set)


async def test_an_idempotency_key_travels(edge: Edge, anthropic: AsyncAnthropic) -> None:
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(report=pb.CallReport(replayed=True))
    raw = await anthropic.messages.with_raw_response.create(**ASKED, extra_headers={"idempotency-key": "once"})
    assert raw.headers["idempotent-replayed"] == "true"
    with pytest.raises(sdk.BadRequestError):
        await anthropic.messages.create(**ASKED, extra_headers={"idempotency-key": "two words"})
