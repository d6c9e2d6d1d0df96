"""The Anthropic Messages format: field names and the order of events follow the published API."""

from __future__ import annotations

import orjson
import pytest

from llmops_cli.provider_sim import ProviderSim, Rule, ScriptedToolCall
from tests.contract.provider_sim.raw_client import Reply, post

PATH = "/v1/messages"


def message(model: str = "m", **fields: object) -> bytes:
    content = [{"type": "text", "text": "hello"}, {"type": "image", "source": {}}]
    messages = [{"role": "user", "content": content}]
    return orjson.dumps({"model": model, "max_tokens": 100, "system": "Be brief.", "messages": messages, **fields})


def events(reply: Reply) -> list[tuple[str, dict]]:
    blocks = [block.split(b"\n") for block in reply.body.split(b"\n\n") if block]
    return [(name[len(b"event: ") :].decode(), orjson.loads(data[len(b"data: ") :])) for name, data in blocks]


async def test_a_plain_answer(sim: ProviderSim) -> None:
    reply = await post(sim, message(), PATH, x_api_key="sk-ant")
    answer = reply.json()
    assert (reply.status, answer["type"], answer["role"], answer["stop_reason"]) == (
        200,
        "message",
        "assistant",
        "end_turn",
    )
    assert answer["content"][0]["text"].startswith("The simulated provider")
    assert answer["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 16,
    }
    [record] = sim.billing
    assert (record.path, record.billed_input_tokens, record.billed_output_tokens) == (PATH, 10, 16)
    assert len(record.key_hash) == 12


async def test_a_stream_runs_from_message_start_to_message_stop(sim: ProviderSim) -> None:
    reply = await post(sim, message("sim-tokens-3", stream=True), PATH)
    named = events(reply)
    assert [name for name, _ in named] == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(name == data["type"] for name, data in named)
    texts = [data["delta"]["text"] for name, data in named if name == "content_block_delta"]
    assert texts == ["The ", "simulated ", "provider "]
    assert named[0][1]["message"]["usage"]["input_tokens"] == 10
    assert named[-2][1] == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 3},
    }
    assert reply.headers["content-type"].startswith("text/event-stream")


async def test_tool_use_plain_and_streamed(sim: ProviderSim) -> None:
    tools = [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]
    plain = await post(sim, message(tools=tools, tool_choice={"type": "any"}), PATH)
    [block] = plain.json()["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "weather", {"city": "text"})
    assert plain.json()["stop_reason"] == "tool_use"
    sim.script = [Rule(tool_calls=(ScriptedToolCall("a", '{"x":1}'), ScriptedToolCall("b", "{}")))]
    named = events(await post(sim, message(stream=True), PATH))
    starts = [(data["index"], data["content_block"]["name"]) for name, data in named if name == "content_block_start"]
    partial = [data["delta"]["partial_json"] for name, data in named if name == "content_block_delta"]
    assert (starts, partial) == ([(0, "a"), (1, "b")], ['{"x":1}', "{}"])


async def test_cached_input_is_counted_beside_input(sim: ProviderSim) -> None:
    sim.script = [Rule(input_tokens=1000, cached_tokens=800)]
    usage = (await post(sim, message(), PATH)).json()["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (200, 800)


@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [
        ("sim-429-retry-3", 429, "rate_limit_error"),
        ("sim-529", 529, "overloaded_error"),
        ("sim-500", 500, "api_error"),
        ("sim-401", 401, "authentication_error"),
    ],
)
async def test_errors_have_anthropics_shape(sim: ProviderSim, model: str, status: int, kind: str) -> None:
    reply = await post(sim, message(model), PATH)
    assert reply.status == status
    assert (reply.json()["type"], reply.json()["error"]["type"]) == ("error", kind)
    assert reply.headers["x-request-id"] == reply.json()["request_id"]


async def test_a_request_without_max_tokens_is_refused(sim: ProviderSim) -> None:
    reply = await post(sim, orjson.dumps({"model": "m", "messages": []}), PATH)
    assert reply.status == 400
    assert "max_tokens" in reply.json()["error"]["message"]


async def test_an_error_inside_a_stream_is_an_error_event(sim: ProviderSim) -> None:
    named = events(await post(sim, message("sim-error-after-1", stream=True), PATH))
    assert named[-1] == ("error", {"type": "error", "error": named[-1][1]["error"]})
    assert "message_stop" not in [name for name, _ in named]
