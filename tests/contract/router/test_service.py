"""The service as a client sees it: generated stubs, both transports, a real upstream, start to end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from llmops.common.v1 import chat_pb2
from llmops.router.v1 import router_pb2 as pb

from meshkit.errors import CallError
from services.router.settings import DEFAULT_MODEL, RouterSettings
from tests.contract.router.served import ANSWER, call, settings
from tests.support.router_service import CALLER, STRANGER

if TYPE_CHECKING:
    from tests.contract.router.conftest import Received, StartUpstream

DOCUMENT = "The ferry leaves at noon on weekdays. On Sundays it leaves at ten. Dogs travel free of charge on all days."


async def test_an_answer_with_usage_and_attempts(start: Any, start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(lambda received: received.answer(json.dumps(ANSWER).encode()))
    stub = await start(settings(upstream.url))
    answer = await stub.Complete(pb.CompleteRequest(request_id="req-9", call=call()), metadata=CALLER)
    assert answer.completion.content == "Hi."
    assert answer.completion.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert (answer.usage.input_tokens, answer.usage.cached_input_tokens, answer.usage.estimated) == (3, 1, False)
    assert [(a.model_name, a.outcome) for a in answer.attempts] == [("big", pb.ATTEMPT_OUTCOME_SUCCEEDED)]
    assert (answer.served_model, answer.provider_response_id) == ("big-1-0613", "chatcmpl-1")
    assert upstream.requests[0].headers["x-client-request-id"] == "req-9"


@pytest.mark.parametrize("shown", [(), (("x-llmops-mesh", "guessed"),), (("x-llmops-mesh", ""),)])
async def test_who_is_not_the_mesh_spends_nothing(start: Any, start_upstream: StartUpstream, shown: Any) -> None:
    """maximhq/bifrost#2873: a way to a provider around the ledger."""
    upstream = await start_upstream(lambda received: received.answer(json.dumps(ANSWER).encode()))
    stub = await start(settings(upstream.url))
    metadata = (*STRANGER, *shown)
    for attempt in (
        stub.Complete(pb.CompleteRequest(call=call()), metadata=metadata),
        anext(aiter(stub.CompleteStream(pb.CompleteStreamRequest(call=call()), metadata=metadata))),
        anext(aiter(stub.CompleteWithTries(pb.CompleteWithTriesRequest(call=call()), metadata=metadata))),
        anext(aiter(stub.EmbedWithTries(pb.EmbedWithTriesRequest(call={"texts": ["a"]}), metadata=metadata))),
    ):
        with pytest.raises(CallError) as refused:
            await attempt
        assert refused.value.status == "PERMISSION_DENIED"
        assert "OrchestratorService" in str(refused.value)
    assert upstream.requests == []
    # What spends nothing serves everybody.
    assert (await stub.Plan(pb.PlanRequest(), metadata=metadata)).candidates


async def test_models_that_the_call_does_not_name_are_left_out(start: Any, start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(lambda received: received.answer(json.dumps(ANSWER).encode()))
    stub = await start(settings(upstream.url))
    named = call(f"<document>{DOCUMENT}</document>\nWhen?", model_names=[DEFAULT_MODEL])
    answer = await stub.Complete(pb.CompleteRequest(call=named), metadata=CALLER)
    assert ([a.model_name for a in answer.attempts], upstream.requests) == ([DEFAULT_MODEL], [])


async def test_fallback_to_the_built_in_model_with_citations(start: Any, start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(lambda received: received.answer(b"{}", status=503))
    stub = await start(settings(upstream.url))
    question = f"<document>{DOCUMENT}</document>\nWhen does the ferry leave on Sundays?"
    answer = await stub.Complete(pb.CompleteRequest(call=call(question)), metadata=CALLER)
    assert [(a.model_name, a.outcome, a.http_status, a.cause) for a in answer.attempts] == [
        ("big", pb.ATTEMPT_OUTCOME_REFUSED, 503, "http-503"),
        (DEFAULT_MODEL, pb.ATTEMPT_OUTCOME_SUCCEEDED, 0, ""),
    ]
    assert not answer.attempts[0].HasField("usage")
    citation = answer.completion.citations[0]
    assert question[citation.start_char : citation.end_char] == citation.quote
    models = await stub.ListModels(pb.ListModelsRequest(), metadata=CALLER)
    assert {m.name: m.cooling_down for m in models.models if m.kind == "chat"} == {
        "big": True,
        "default": False,
        DEFAULT_MODEL: False,
    }
    assert [m.name for m in models.models if m.kind == "embeddings"] == ["local/minilm"]


EVERYTHING = pb.ModelCall(
    model="big",
    messages=[
        chat_pb2.ChatMessage(
            role=chat_pb2.CHAT_ROLE_USER,
            parts=[
                chat_pb2.ContentPart(text="look"),
                chat_pb2.ContentPart(image=chat_pb2.ImagePart(url="https://example.com/a.png", detail="low")),
            ],
        ),
        chat_pb2.ChatMessage(
            role=chat_pb2.CHAT_ROLE_ASSISTANT,
            tool_calls=[chat_pb2.ToolCall(id="1", name="t", arguments_json="{}")],
        ),
        chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_TOOL, content="done", tool_call_id="1", name="t"),
    ],
    tools=[chat_pb2.ToolDefinition(name="t", parameters_json_schema='{"type":"object"}', strict=False)],
    parameters=chat_pb2.GenerationParameters(
        temperature=0.0,
        top_p=0.0,
        max_output_tokens=7,
        stop=["x"],
        seed=0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        response_format=chat_pb2.ResponseFormat(type="json_schema", schema_name="s", json_schema="{}", strict=True),
        tool_choice=chat_pb2.ToolChoice(mode="required"),
        parallel_tool_calls=False,
        reasoning_effort="low",
        extra_json='{"verbosity":"low"}',
    ),
)


async def test_everything_of_the_contract_reaches_the_provider(start: Any, start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(lambda received: received.answer(json.dumps(ANSWER).encode()))
    stub = await start(settings(upstream.url))
    request = pb.CompleteRequest(call=EVERYTHING)
    await stub.Complete(request, metadata=CALLER)
    body = upstream.requests[0].json()
    assert body.pop("messages")[0]["content"][1]["image_url"] == {"url": "https://example.com/a.png", "detail": "low"}
    assert body == {
        "model": "big-1",
        "tools": [{"type": "function", "function": {"name": "t", "parameters": {"type": "object"}, "strict": False}}],
        "temperature": 0.0,
        "top_p": 0.0,
        "max_completion_tokens": 7,
        "stop": ["x"],
        "seed": 0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}, "strict": True}},
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "verbosity": "low",
    }


def sse(*rows: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(row)}\n\n".encode() for row in rows)


def delta(**fields: Any) -> dict[str, Any]:
    return {"id": "c", "model": "big-1", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


async def test_a_stream_with_tool_call_fragments(start: Any, start_upstream: StartUpstream) -> None:
    tool = {"index": 0, "id": "call_1", "function": {"name": "t", "arguments": "{"}}
    finish = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    wire = sse(delta(content="One moment."), delta(tool_calls=[tool]), finish) + b"data: [DONE]\n\n"
    upstream = await start_upstream(lambda received: received.stream(wire))
    stub = await start(settings(upstream.url))
    events = [e async for e in stub.CompleteStream(pb.CompleteStreamRequest(call=call(model="big")), metadata=CALLER)]
    assert [event.WhichOneof("event") for event in events] == ["started", "delta", "finished"]
    assert events[0].started.attempts[0].outcome == pb.ATTEMPT_OUTCOME_UNSPECIFIED
    assert events[1].delta.content == "One moment."
    assert events[1].delta.tool_calls[0] == chat_pb2.ToolCall(id="call_1", name="t", arguments_json="{", index=0)
    assert events[2].finished.finish_reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    assert events[2].finished.usage.estimated


async def test_a_caller_who_leaves_a_stream_stops_the_provider_within_200_ms(
    start: Any, start_upstream: StartUpstream
) -> None:
    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(sse(delta(content="a")))
        await received.gone()

    upstream = await start_upstream(respond)
    stub = await start(settings(upstream.url))
    stream = stub.CompleteStream(pb.CompleteStreamRequest(call=call(model="big")), metadata=CALLER)
    async for event in stream:
        if event.WhichOneof("event") == "delta":
            break
    left_at = asyncio.get_running_loop().time()
    stream.cancel()
    await asyncio.wait_for(upstream.gone.wait(), 5)
    assert upstream.gone_at - left_at < 0.2


async def test_a_cut_stream_ends_with_its_attempts(start: Any, start_upstream: StartUpstream) -> None:
    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(sse(delta(content="half")))
        await received.end_stream()

    stub = await start(settings((await start_upstream(respond)).url))
    with pytest.raises(CallError) as caught:
        _ = [e async for e in stub.CompleteStream(pb.CompleteStreamRequest(call=call()), metadata=CALLER)]
    assert (caught.value.status, caught.value.reason) == ("UNAVAILABLE", "UPSTREAM_STREAM_CUT")
    (attempt,) = json.loads(caught.value.metadata["attempts_json"])
    assert (attempt["outcome"], attempt["cause"], attempt["usage"]["estimated"]) == (
        "BROKEN",
        "stream-ended-early",
        True,
    )


@pytest.mark.parametrize("how", ["reset", "in-band"])
async def test_a_stream_cut_while_pieces_are_joined_delivers_and_bills_what_came(
    start: Any, start_upstream: StartUpstream, how: str
) -> None:
    async def respond(received: Received) -> None:
        await received.begin_stream()
        for text in ("one ", "two ", "three ", "four"):
            await received.chunk(sse(delta(content=text)))
            await asyncio.sleep(0.005)
        if how == "in-band":
            await received.chunk(sse({"error": {"type": "server_error"}}))
        received.writer.transport.abort()

    outcomes = []
    upstream = await start_upstream(respond)
    for join_s in (0.0, 0.1):
        stub = await start(replace(settings(upstream.url), stream_join_s=join_s))
        texts: list[str] = []
        with pytest.raises(CallError) as caught:
            async for event in stub.CompleteStream(pb.CompleteStreamRequest(call=call(model="big")), metadata=CALLER):
                texts += [event.delta.content] if event.HasField("delta") else []
        (attempt,) = json.loads(caught.value.metadata["attempts_json"])
        outcomes.append(("".join(texts), caught.value.reason, attempt["outcome"], attempt["usage"]))
    assert len(texts) < 4, "pieces were joined"
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][:2] == ("one two three four", "UPSTREAM_STREAM_CUT")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {}, ("FAILED_PRECONDITION", "UPSTREAM_CREDENTIAL")),
        (400, {"error": {"code": "context_length_exceeded"}}, ("INVALID_ARGUMENT", "CONTEXT_TOO_LONG")),
        (400, {"error": {"code": "unsupported_value"}}, ("INVALID_ARGUMENT", "UPSTREAM_REJECTED")),
        (500, {}, ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")),
        (429, {}, ("RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED")),
    ],
)
async def test_how_a_providers_refusal_reaches_the_caller(
    start: Any, start_upstream: StartUpstream, status: int, body: dict[str, Any], error: tuple[str, str]
) -> None:
    upstream = await start_upstream(
        lambda received: received.answer(json.dumps(body).encode(), status=status, headers="retry-after: 30\r\n")
    )
    stub = await start(settings(upstream.url))
    with pytest.raises(CallError) as caught:
        await stub.Complete(pb.CompleteRequest(call=call(model="big")), metadata=CALLER)
    assert (caught.value.status, caught.value.reason) == error
    (attempt,) = json.loads(caught.value.metadata["attempts_json"])
    assert attempt["http_status"] == status
    if status == 429:
        assert caught.value.retry_after_s == pytest.approx(30.0)


async def test_the_callers_deadline_ends_a_hanging_provider(start: Any, start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(lambda received: received.gone())
    stub = await start(settings(upstream.url))
    with pytest.raises(CallError) as caught:
        await stub.Complete(pb.CompleteRequest(call=call(model="big")), metadata=CALLER, timeout=0.5)
    assert (caught.value.status, caught.value.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    (attempt,) = json.loads(caught.value.metadata["attempts_json"])
    assert (attempt["outcome"], attempt["usage"]["input_tokens"]) == ("TIMED_OUT", 18)
    await asyncio.wait_for(upstream.gone.wait(), 5)


async def test_an_unknown_model_and_a_malformed_field(start: Any) -> None:
    stub = await start(RouterSettings())
    with pytest.raises(CallError) as caught:
        await stub.Complete(pb.CompleteRequest(call=call(model="gpt")), metadata=CALLER)
    assert (caught.value.reason, caught.value.metadata["model"]) == ("MODEL_NOT_FOUND", "gpt")
    for token in ("%", "AA=", "_w==", "é"):
        with pytest.raises(CallError) as caught:
            await stub.ListModels(pb.ListModelsRequest(page_token=token), metadata=CALLER)
        assert caught.value.reason == "INVALID_FIELD"


async def test_without_key_and_network_the_default_route_answers(start: Any) -> None:
    stub = await start(RouterSettings())
    text = f"Summarise in one sentence: <document>{DOCUMENT}</document>"
    answer = await stub.Complete(pb.CompleteRequest(call=call(text)), metadata=CALLER)
    assert answer.completion.content.startswith("Built-in extractive model")
    assert len(answer.completion.citations) == 1
    stream = stub.CompleteStream(pb.CompleteStreamRequest(call=call(text)), metadata=CALLER)
    assert "".join([event.delta.content async for event in stream]) == answer.completion.content
    tools = [chat_pb2.ToolDefinition(name="t")]
    with pytest.raises(CallError) as caught:
        await stub.Complete(pb.CompleteRequest(call=call(text, tools=tools)), metadata=CALLER)
    assert (caught.value.status, caught.value.reason) == ("UNIMPLEMENTED", "UNSUPPORTED")


async def test_the_plan_and_the_pages_of_the_list(start: Any) -> None:
    stub = await start(settings("https://api.example.com/v1"))
    plan = await stub.Plan(pb.PlanRequest(uses_tools=True), metadata=CALLER)
    assert list(plan.candidates) == []
    assert [(no.model_name, no.reason) for no in plan.rejected] == [
        ("big", "provider-without-key"),
        (DEFAULT_MODEL, "no-tools"),
    ]
    plan = await stub.Plan(pb.PlanRequest(), metadata=CALLER)
    (candidate,) = plan.candidates
    assert (candidate.provider, candidate.model, candidate.timeout.seconds) == ("local", "extractive", 20)
    assert plan.model_policy.startswith("default#")

    names, token = [], ""
    while True:
        page = await stub.ListModels(pb.ListModelsRequest(page_size=2, page_token=token), metadata=CALLER)
        names += [(model.name, model.provider, model.supports_tools) for model in page.models]
        token = page.next_page_token
        if not token:
            break
    assert names == [
        ("big", "vendor", True),
        ("default", "route", True),
        (DEFAULT_MODEL, "local", False),
        ("local/minilm", "local", False),
    ]


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "file:///etc/passwd"])
async def test_images_from_inner_addresses_reach_no_provider(
    start: Any, start_upstream: StartUpstream, url: str
) -> None:
    """A server of one's own fetches what it is told to, from inside."""
    upstream = await start_upstream(lambda received: received.answer(json.dumps(ANSWER).encode()))
    stub = await start(settings(upstream.url))
    parts = [chat_pb2.ContentPart(image=chat_pb2.ImagePart(url=url))]
    message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, parts=parts)
    with pytest.raises(CallError) as caught:
        await stub.Complete(pb.CompleteRequest(call=pb.ModelCall(messages=[message])), metadata=CALLER)
    assert (caught.value.reason, upstream.requests) == ("INVALID_FIELD", [])
    assert [field for field, _ in caught.value.field_violations] == ["call.messages[0].parts[0].image.url"]
