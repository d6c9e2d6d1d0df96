"""The official openai client's responses and embeddings, unchanged, against the edge."""

from __future__ import annotations

import base64
import struct
from typing import Any

import aiohttp
import openai as sdk
import pytest
from llmops.common.v1 import chat_pb2, usage_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.router.v1 import router_pb2
from openai import AsyncOpenAI
from pydantic import BaseModel

from services.edge.core.errors import CallFailed
from services.edge.settings import EdgeSettings
from tests.contract.edge.harness import AUTHORISED, KEY, Edge, running_edge
from tests.contract.edge.test_openai_client import tool_stream

ASKED: Any = {"model": "m", "input": "one two three"}
TOOL: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": None}


async def test_plain(edge: Edge, openai: AsyncOpenAI) -> None:
    answer = await openai.responses.create(
        **ASKED, instructions="Be brief.", temperature=0.5, user="u-1", max_output_tokens=9, reasoning={"effort": "low"}
    )
    assert answer.output_text == "one two three"
    assert (answer.status, answer.model, answer.error) == ("completed", "echo", None)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (3, 3, 6)
    assert answer.llmops["cost_nano_usd"] == 3000  # type: ignore[attr-defined]
    assert answer.store is False  # type: ignore[attr-defined]
    assert (answer.instructions, answer.temperature, answer.max_output_tokens) == ("Be brief.", 0.5, 9)
    [call] = edge.orchestrator.calls
    assert answer.id == f"resp_{call.request_id}"
    parameters = call.conversation.parameters
    assert (parameters.temperature, parameters.max_output_tokens, parameters.reasoning_effort) == (0.5, 9, "low")
    assert call.conversation.labels.end_user == "u-1"
    assert [m.content for m in call.conversation.messages] == ["Be brief.", "one two three"]


async def test_headers_are_those_of_chat(openai: AsyncOpenAI) -> None:
    raw = await openai.responses.with_raw_response.create(**ASKED, extra_headers={"x-request-id": "mine-1"})
    assert raw.headers["x-request-id"] == raw.request_id == "mine-1"
    assert (raw.headers["x-cache"], raw.headers["x-llmops-model"]) == ("miss", "memory/echo")
    assert raw.headers["x-llmops-cost-nano-usd"] == "3000"


async def test_streamed(openai: AsyncOpenAI) -> None:
    stream = await openai.responses.create(**ASKED, stream=True)
    events: list[Any] = [event async for event in stream]
    assert [e.type for e in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert "".join(e.delta for e in events[4:7]) == events[7].text == "one two three"
    assert events[-1].response.output_text == "one two three"
    assert events[-1].response.usage.total_tokens == 6
    assert events[-1].response.llmops["cost_nano_usd"] == 3000


async def test_the_clients_own_accumulation_of_a_stream(openai: AsyncOpenAI) -> None:
    async with openai.responses.stream(**ASKED) as stream:
        answer = await stream.get_final_response()
    assert answer.output_text == "one two three"


async def test_tools(edge: Edge, openai: AsyncOpenAI) -> None:
    completion = chat_pb2.Completion(
        finish_reason=chat_pb2.FINISH_REASON_TOOL_CALLS,
        tool_calls=[chat_pb2.ToolCall(id="c1", name="weather", arguments_json='{"city":"Basel"}')],
    )
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(completion=completion)
    answer = await openai.responses.create(**ASKED, tools=[TOOL], tool_choice="required")
    [call] = answer.output
    assert call.type == "function_call"
    assert (call.call_id, call.name, call.arguments) == ("c1", "weather", '{"city":"Basel"}')
    assert edge.orchestrator.calls[0].conversation.parameters.tool_choice.mode == "required"
    edge.orchestrator.answer = None
    turns: Any = [{"role": "user", "content": "Rain?"}, *answer.output]
    turns.append({"type": "function_call_output", "call_id": "c1", "output": "rain"})
    await openai.responses.create(model="m", input=turns, tools=[TOOL])
    _, said, returned = edge.orchestrator.calls[1].conversation.messages
    assert said.tool_calls[0].arguments_json == '{"city":"Basel"}'
    assert (returned.role, returned.tool_call_id, returned.content) == (chat_pb2.CHAT_ROLE_TOOL, "c1", "rain")


async def test_streamed_tools_are_joined_by_the_client_also_when_two_are_written_at_once(
    edge: Edge, openai: AsyncOpenAI
) -> None:
    edge.orchestrator.events = tool_stream
    async with openai.responses.stream(**ASKED, tools=[TOOL]) as stream:
        answer = await stream.get_final_response()
    calls = [(item.call_id, item.arguments) for item in answer.output if item.type == "function_call"]
    assert calls == [("call-0", '{"city":"Basel"}'), ("call-1", '{"city":"Bern"}')]


class City(BaseModel):
    name: str


async def test_a_schema(edge: Edge, openai: AsyncOpenAI) -> None:
    completion = chat_pb2.Completion(content='{"name": "Basel"}')
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(completion=completion)
    answer = await openai.responses.parse(**ASKED, text_format=City)
    assert answer.output_parsed == City(name="Basel")
    form = edge.orchestrator.calls[0].conversation.parameters.response_format
    assert (form.type, form.schema_name, form.strict) == ("json_schema", "City", True)


@pytest.mark.parametrize(
    ("completion", "status", "reason"),
    [
        (chat_pb2.Completion(finish_reason=chat_pb2.FINISH_REASON_LENGTH), "incomplete", "max_output_tokens"),
        (chat_pb2.Completion(finish_reason=chat_pb2.FINISH_REASON_CONTENT_FILTER), "incomplete", "content_filter"),
        (chat_pb2.Completion(refusal="I cannot.", finish_reason=chat_pb2.FINISH_REASON_STOP), "completed", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_why_an_answer_ended(  # a stream ends with the event of the same name
    edge: Edge, openai: AsyncOpenAI, completion: chat_pb2.Completion, status: str, reason: str | None, *, stream: bool
) -> None:
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(completion=completion)
    edge.orchestrator.events = lambda _: [
        pb.CompleteStreamResponse(started=pb.StreamStarted(model="a/one")),
        pb.CompleteStreamResponse(delta=chat_pb2.CompletionDelta(refusal=completion.refusal)),
        pb.CompleteStreamResponse(
            finished=pb.StreamFinished(finish_reason=completion.finish_reason, report=pb.CallReport())
        ),
    ]
    answer: Any = await openai.responses.create(**ASKED, stream=stream)
    if stream:
        last = [event async for event in answer][-1]
        assert last.type == f"response.{status}"
        answer = last.response
    assert answer.status == status
    assert (answer.incomplete_details and answer.incomplete_details.reason) == reason
    said = [part.refusal for item in answer.output for part in item.content if part.type == "refusal"]
    assert said == ["I cannot."] * bool(completion.refusal)


async def test_details_of_usage(edge: Edge, openai: AsyncOpenAI) -> None:
    usage = usage_pb2.Usage(input_tokens=10, output_tokens=7, cached_input_tokens=4, reasoning_tokens=5)
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(report=pb.CallReport(usage=usage))
    found = (await openai.responses.create(**ASKED)).usage
    assert found is not None
    assert (found.input_tokens_details.cached_tokens, found.output_tokens_details.reasoning_tokens) == (4, 5)


@pytest.mark.parametrize("reason", ["BUDGET_EXHAUSTED", "RATE_LIMITED", "GUARD_BLOCKED", "MODEL_NOT_FOUND"])
@pytest.mark.parametrize("stream", [False, True])
async def test_failures_before_the_first_byte(edge: Edge, openai: AsyncOpenAI, reason: str, *, stream: bool) -> None:
    edge.orchestrator.failure = CallFailed("STATUS", reason, "what to do", metadata={"k": "v"}, retry_after_s=3)
    with pytest.raises(sdk.APIStatusError) as raised:
        await openai.responses.create(**ASKED, stream=stream)
    expected = {"BUDGET_EXHAUSTED": 429, "RATE_LIMITED": 429, "GUARD_BLOCKED": 400, "MODEL_NOT_FOUND": 404}
    assert raised.value.status_code == expected[reason]
    assert raised.value.param == {"GUARD_BLOCKED": "input", "MODEL_NOT_FOUND": "model"}.get(reason)
    assert raised.value.response.json()["llmops"]["reason"] == reason


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": [{"type": "function_call", "call_id": "1", "name": "x"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "1", "output": "", "role": "user"}]}, "input[0].role"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"include": ["web_search_call.results"]}, "include"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "web_search", "name": "w"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "n" * 300, "schema": {}}}}, "text.format"),
        ({"messages": []}, "messages"),
        ({"prediction": {"content": "unseen"}}, "prediction"),
    ],
)
async def test_what_is_refused_is_named(edge: Edge, openai: AsyncOpenAI, change: dict[str, Any], param: str) -> None:
    with pytest.raises(sdk.BadRequestError) as raised:
        await openai.responses.create(**ASKED, extra_body=change)
    assert raised.value.param is not None
    assert raised.value.param.startswith(param)
    assert raised.value.code == "invalid_field"
    assert "conversation." not in raised.value.message
    assert edge.orchestrator.calls == []


@pytest.mark.parametrize("failure", [CallFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "cut"), RuntimeError("x")])
async def test_a_failure_in_mid_stream_is_a_failed_response(
    edge: Edge, openai: AsyncOpenAI, failure: Exception
) -> None:
    edge.orchestrator.failure, edge.orchestrator.fail_at = failure, 3
    stream = await openai.responses.create(**ASKED, stream=True)
    events: list[Any] = [event async for event in stream]
    assert events[-1].type == "response.failed"
    assert events[-1].sequence_number == len(events) - 1
    response = events[-1].response
    assert (response.status, response.output_text) == ("failed", "one two")
    assert response.error.code in {"upstream_stream_cut", "internal"}
    assert events[-1].llmops["reason"] in {"UPSTREAM_STREAM_CUT", "INTERNAL"}


async def test_a_failure_after_pings_alone_is_an_error_event() -> None:
    async with running_edge(EdgeSettings(port=0, open_after_s=0.02, ping_after_s=0.02)) as edge:
        edge.orchestrator.hang_at = 0
        async with AsyncOpenAI(base_url=f"{edge.url}/v1", api_key=KEY, max_retries=0) as client:
            stream = await client.responses.create(**ASKED, stream=True, extra_headers={"x-llmops-timeout-s": "0.4"})
            [event] = [event async for event in stream]
    assert event.type == "error"
    assert (event.code, event.sequence_number) == ("deadline_exceeded", 0)


async def test_another_model_that_goes_on_is_shown(edge: Edge, openai: AsyncOpenAI) -> None:
    edge.orchestrator.events = lambda _: [
        pb.CompleteStreamResponse(started=pb.StreamStarted(model="a/one")),
        pb.CompleteStreamResponse(delta=chat_pb2.CompletionDelta(content="Once")),
        pb.CompleteStreamResponse(continued=pb.StreamContinued(model="b/two")),
        pb.CompleteStreamResponse(delta=chat_pb2.CompletionDelta(content=" upon")),
        pb.CompleteStreamResponse(finished=pb.StreamFinished(report=pb.CallReport())),
    ]
    stream = await openai.responses.create(**ASKED, stream=True)
    events: list[Any] = [event async for event in stream]
    told = [e for e in events if e.type == "response.output_text.delta" and hasattr(e, "llmops")]
    assert [(e.delta, e.llmops) for e in told] == [(" upon", {"continued": {"model": "b/two"}})]
    chat = await openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    chunks: list[Any] = [chunk async for chunk in chat]
    said = [c.llmops["continued"] for c in chunks if hasattr(c, "llmops") and "continued" in c.llmops]
    assert said == [{"model": "b/two"}]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Once upon"


# Embeddings


@pytest.mark.parametrize("encoding", ["float", "base64", None])
async def test_embeddings(edge: Edge, openai: AsyncOpenAI, encoding: Any) -> None:
    asked: dict[str, Any] = {} if encoding is None else {"encoding_format": encoding}
    answer = await openai.embeddings.create(model="m", input=["one", "three"], dimensions=2, user="u-1", **asked)
    vectors = [item.embedding for item in answer.data]
    if encoding == "base64":
        vectors = [list(struct.unpack("<2f", base64.b64decode(text))) for text in vectors]  # type: ignore[arg-type]
    assert vectors == [[3.0, 1.0], [5.0, 1.0]]
    assert [item.index for item in answer.data] == [0, 1]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens, answer.model) == (8, 8, "length")
    assert answer.llmops["cost_nano_usd"] == 8000  # type: ignore[attr-defined]
    assert answer.llmops["vector_space"] == "length"  # type: ignore[attr-defined]
    [call] = edge.orchestrator.embeds
    assert (call.model, list(call.texts), call.dimensions, call.labels.end_user) == ("m", ["one", "three"], 2, "u-1")


async def test_embeddings_of_one_text_and_with_our_own_wishes(edge: Edge, openai: AsyncOpenAI) -> None:
    wishes = {"purpose": "query", "guard_policy": "strict", "feature": "search", "data_class": "personal"}
    raw = await openai.embeddings.with_raw_response.create(
        model="auto", input="one", extra_body={"llmops": wishes}, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-llmops-cost-nano-usd"] == "3000"
    [call] = edge.orchestrator.embeds
    assert (call.model, list(call.texts), call.purpose) == ("", ["one"], router_pb2.EMBEDDING_PURPOSE_QUERY)
    assert (call.guard_policy, call.labels.feature, call.labels.data_class) == ("strict", "search", "personal")
    assert call.request_id == "mine-1"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": []}, "input"),
        ({"input": [""]}, "input[0]"),
        ({"input": ["x", None]}, "input[1]"),
        ({"input": ["x"] * 257}, "input"),
        ({"dimensions": -1}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"llmops": {"cache": {}}}, "llmops.cache"),
        ({"llmops": {"purpose": "other"}}, "llmops.purpose"),
        ({"truncate": "END"}, "truncate"),
    ],
)
async def test_what_embeddings_refuse_is_named(edge: Edge, openai: AsyncOpenAI, change: Any, param: str) -> None:
    with pytest.raises(sdk.BadRequestError) as raised:
        await openai.embeddings.create(model="m", input="x", extra_body=change)
    assert raised.value.param == param
    assert edge.orchestrator.embeds == []


async def test_a_failed_call_for_vectors(edge: Edge, openai: AsyncOpenAI) -> None:
    edge.orchestrator.failure = CallFailed("FAILED_PRECONDITION", "GUARD_BLOCKED", "blocked")
    with pytest.raises(sdk.BadRequestError) as raised:
        await openai.embeddings.create(model="m", input="x")
    assert (raised.value.code, raised.value.param) == ("guard_blocked", "input")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/embeddings", "/v1/messages"])
async def test_every_path_takes_posts_with_a_key(edge: Edge, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(edge.url + path) as response:
        assert (response.status, response.headers["allow"]) == (405, "POST")
    body = {"model": "m", "input": "x"} if path != "/v1/messages" else {"max_tokens": 9, "messages": [
        {"role": "user", "content": "x"}]}  # fmt: skip
    async with http.post(edge.url + path, json=body) as response:
        assert response.status == 401
    async with http.post(edge.url + path, json=body, headers=AUTHORISED) as response:
        assert response.status == 200
    assert edge.sample("llmops_edge_requests_total", route=path, status="200") == 1
