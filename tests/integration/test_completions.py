"""What a request without any trouble gets: over the stub and over HTTP, whole and streamed, with tools, structured."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from openai import AsyncOpenAI, LengthFinishReasonError
from pydantic import BaseModel

from tests.support.callers import MeshCallers, user
from tests.support.golden_files import check_golden
from tests.support.mesh_settings import ACME

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("accounts")]

WEATHER_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": WEATHER_SCHEMA}}
CITY_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "city", "schema": {**WEATHER_SCHEMA, "additionalProperties": False}},
}
SCHEMA_TEXT = json.dumps(CITY_FORMAT["json_schema"]["schema"])  # type: ignore[index]


@pytest.mark.parametrize("provider", ["alpha", "beta"])
async def test_plain(callers: MeshCallers, provider: str) -> None:
    model = f"{provider}/capital"
    found = await callers.complete(pb.Conversation(messages=user("Plainly: the capital of France?"), model=model))
    over_http = await callers.chat(model, "Over HTTP: which city is the capital of France?")
    assert found.text == over_http.text == "Paris is the capital of France."
    check_golden(f"plain-{provider}", {"grpc": found.compared(), "http": over_http.compared()})


@pytest.mark.parametrize("provider", ["alpha", "beta"])
async def test_streamed(callers: MeshCallers, provider: str) -> None:
    model = f"{provider}/essay"
    whole = await callers.complete(pb.Conversation(messages=user("An essay, all at once."), model=model))
    found = await callers.complete_stream(pb.Conversation(messages=user("An essay in pieces."), model=model))
    over_http = await callers.chat_stream(model, "Another essay, as chunks.", stream_options={"include_usage": True})
    assert found.done
    assert over_http.done
    assert found.text == over_http.text == whole.text
    check_golden(f"streamed-{provider}", {"grpc": found.compared(), "http": over_http.compared()})


@pytest.mark.parametrize("provider", ["alpha", "beta"])
async def test_tool_calls(callers: MeshCallers, provider: str) -> None:
    model = f"{provider}/weather"
    tools = [chat_pb2.ToolDefinition(name="weather", parameters_json_schema=json.dumps(WEATHER_SCHEMA))]
    asked = pb.Conversation(messages=user("Weather in Paris and Rome?"), model=model, tools=tools)
    whole = await callers.complete(asked)
    asked.messages[0].content = "And streamed: the weather in Paris and Rome?"
    streamed = await callers.complete_stream(asked)
    over_http = await callers.chat(model, "Over HTTP: weather in Paris and Rome?", tools=[WEATHER])
    chunks = await callers.chat_stream(model, "In chunks: weather in Paris and Rome?", tools=[WEATHER])
    wanted = [("weather", {"city": "Paris"}), ("weather", {"city": "Rome"})]
    for calls in (streamed.tool_calls, chunks.tool_calls):
        assert [(call["name"], json.loads(call["arguments"])) for call in calls] == wanted
        assert all(call["has_id"] for call in calls)
    assert chunks.finish == "tool_calls"
    found = {
        "grpc": whole.compared(),
        "grpc-stream": streamed.compared(),
        "http": over_http.compared(),
        "http-stream": chunks.compared(),
    }
    check_golden(f"tools-{provider}", found)


async def test_a_conversation_with_tool_results(callers: MeshCallers) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Paris, please."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees, sunny"},
    ]
    outcomes = {
        model: await callers.chat(model, "", messages=messages, tools=[WEATHER])
        for model in ("alpha/echo", "beta/echo")
    }
    check_golden("tool-results", {model: outcome.compared() for model, outcome in outcomes.items()})


async def test_structured_output_that_satisfies_its_schema(callers: MeshCallers) -> None:
    over_http = await callers.chat("alpha/city", "Which city, as JSON?", response_format=CITY_FORMAT)
    chunks = await callers.chat_stream("alpha/city", "Which city, as streamed JSON?", response_format=CITY_FORMAT)
    assert json.loads(over_http.text) == json.loads(chunks.text) == {"city": "Paris"}
    check_golden("schema-valid", {"http": over_http.compared(), "http-stream": chunks.compared()})


async def test_structured_output_that_breaks_its_schema_is_refused_and_paid_for(callers: MeshCallers) -> None:
    asked = pb.Conversation(messages=user("Which city, wrongly?"), model="alpha/bad-city")
    asked.parameters.response_format.type = "json_schema"
    asked.parameters.response_format.json_schema = SCHEMA_TEXT
    whole = await callers.complete(asked)
    asked.messages[0].content = "Which city, wrongly and streamed?"
    streamed = await callers.complete_stream(asked)
    over_http = await callers.chat("alpha/bad-city", "Which city, wrong over HTTP?", response_format=CITY_FORMAT)
    assert {whole.reason, streamed.reason, over_http.reason} == {"SCHEMA_MISMATCH"}
    found = {"grpc": whole.compared(), "grpc-stream": streamed.compared(), "http": over_http.compared()}
    check_golden("schema-broken", found)


async def test_structured_output_that_was_cut_is_an_answer_that_says_so(callers: MeshCallers) -> None:
    """As at OpenAI, whose client tells by the finish reason: a refusal by the schema would hide what to do about it."""
    whole = await callers.chat("alpha/city", "Which city, briefly?", response_format=CITY_FORMAT, max_tokens=1)
    chunks = await callers.chat_stream("alpha/city", "Streamed?", response_format=CITY_FORMAT, max_tokens=1)
    assert (whole.reason, whole.text, whole.report["finish_reason"]) == ("", '{"city": ', "length")
    assert (chunks.reason, chunks.text, chunks.finish) == ("", '{"city": ', "length")


class City(BaseModel):
    city: str


async def test_the_official_openai_client_tells_that_structured_output_was_cut(callers: MeshCallers) -> None:
    messages: list[Any] = [{"role": "user", "content": "A city, parsed?"}]
    async with AsyncOpenAI(base_url=f"{callers.deployment.http_url}/v1", api_key=ACME.key, max_retries=0) as client:

        def asked(**limit: int) -> dict[str, Any]:
            ids = {"x-request-id": callers.new_request(ACME)}
            return {"model": "alpha/city", "messages": messages, "response_format": City, "extra_headers": ids} | limit

        assert (await client.chat.completions.parse(**asked())).choices[0].message.parsed == City(city="Paris")
        with pytest.raises(LengthFinishReasonError):
            await client.chat.completions.parse(**asked(max_tokens=1))
        with pytest.raises(LengthFinishReasonError):
            async with client.chat.completions.stream(**asked(max_tokens=1)) as stream:
                await stream.until_done()


async def test_the_official_openai_client(callers: MeshCallers) -> None:
    base_url = f"{callers.deployment.http_url}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key=ACME.key, max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="alpha/capital",
            messages=[{"role": "user", "content": "Official client: the capital of France?"}],
            extra_headers={"x-request-id": callers.new_request(ACME)},
        )
        assert answer.choices[0].message.content == "Paris is the capital of France."
        assert answer.llmops["cost_nano_usd"] > 0  # type: ignore[attr-defined]
        stream = await client.chat.completions.create(
            model="alpha/essay",
            messages=[{"role": "user", "content": "Official client: an essay."}],
            stream=True,
            extra_headers={"x-request-id": callers.new_request(ACME)},
        )
        words = "".join([chunk.choices[0].delta.content or "" async for chunk in stream]).split()
        assert len(words) == 200
        listed = {model.id async for model in await client.models.list()}
        assert {"default", "alpha/capital", "beta/words"} <= listed


async def test_every_promised_field_is_there(callers: MeshCallers) -> None:
    """Design, section 5: what every response carries, in the object and in the headers."""
    prompt = {"prompt": "greeting@production", "variables": {"name": "Ada"}}
    found = await callers.chat("alpha/echo", "", llmops=prompt)
    report = found.report
    assert report["request_id"] == found.headers["x-request-id"] == found.request_id
    assert report["trace_id"] == found.headers["x-trace-id"]
    assert report["prompt_version"] == found.headers["x-llmops-prompt"] == "greeting/v1.0"
    assert report["prompt_arm"] == "active"
    assert report["model"] == found.headers["x-llmops-model"] == "alpha/echo"
    assert [attempt["outcome"] for attempt in report["attempts"]] == ["succeeded"]
    assert report["guard"]["input"]["decision"] == report["guard"]["output"]["decision"] == "allow"
    assert "grounding_score" in report
    assert report["cache"]["status"] == found.headers["x-cache"] == "miss"
    assert str(report["cost_nano_usd"]) == found.headers["x-llmops-cost-nano-usd"] != "0"
    assert found.body["usage"]["total_tokens"] > 0
    steps = {step["step"] for step in report["steps"]}
    assert steps == {"plan", "cache-exact", "guard-input", "reserve", "cache-semantic", "model", "guard-output"}
    assert report["duration_ms"] > 0
    assert report["degraded"] == []
    streamed = await callers.chat_stream("alpha/essay", "Everything promised, streamed.")
    assert set(streamed.report) == set(report)
    assert {"x-request-id", "x-trace-id", "x-cache", "x-llmops-model"} <= set(streamed.headers)


async def test_models_are_listed_alike_over_both_protocols(callers: MeshCallers) -> None:
    headers = {"authorization": f"Bearer {ACME.key}"}
    async with callers.http.get(f"{callers.deployment.http_url}/v1/models", headers=headers) as response:
        found = await response.json()
    async with callers.http.get(f"{callers.deployment.http_url}/v1/models/beta/words", headers=headers) as response:
        one = await response.json()
    assert one in found["data"]
    for model in found["data"]:
        model["llmops"].pop("cooling_down")  # other tests make models fail
    one["llmops"].pop("cooling_down")
    check_golden("models", {"list": found, "one": one})
