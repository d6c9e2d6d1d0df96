"""The wire formats, byte for byte. `wire/` holds what providers send; `expected/` is written by LLMOPS_REGEN=1."""

from __future__ import annotations

import dataclasses
import json
import os
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from llmops_cli.provider_sim.event_frames import event_frame
from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.azure_openai import AzureOpenAi
from services.router.adapters.dialects.base import Dialect
from services.router.adapters.dialects.bedrock_converse import BedrockConverse
from services.router.adapters.dialects.gemini_generate import GeminiGenerate
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.dialects.openai_chat_request import Ways
from services.router.adapters.dialects.openai_responses import OpenAiResponses
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import (
    ImagePart,
    Message,
    ModelCall,
    Parameters,
    ResponseFormat,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolDefinition,
)
from services.router.core.errors import InvalidRequest
from services.router.core.failure import FailureKind, ProviderError
from services.router.core.ports import Chunk, ProviderRequest

HERE = Path(__file__).parent
DIALECTS: dict[str, Dialect] = {
    "openai": OpenAiChat(),
    "anthropic": AnthropicMessages(),
    "responses": OpenAiResponses(),
    "gemini": GeminiGenerate(),
    "bedrock": BedrockConverse(),
    "azure": AzureOpenAi(api_version="2024-10-21"),
    "vllm": OpenAiChat(Ways("max_tokens")),
    "ollama": OpenAiChat(Ways("max_tokens"), asks_stream_usage=False),
}
SPEC = ModelSpec("big", "vendor", "big-1", max_output_tokens=1000)
SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
WEATHER = ToolDefinition("weather", "Weather of a city", SCHEMA, strict=True)

CALLS: dict[str, ModelCall] = {
    "plain": ModelCall("", (Message("user", "Hello"),)),
    "roles": ModelCall(
        "",
        (
            Message("system", "Be brief."),
            Message("developer", "Use British English."),
            Message("user", "Hello", name="ada"),
            Message("user", "Are you there?"),
            Message("assistant", "Yes."),
            Message("user", "Grüße, 你好 👋"),
        ),
    ),
    "parameters": ModelCall(
        "",
        (Message("user", "Hello"),),
        parameters=Parameters(
            temperature=1.5,
            top_p=0.9,
            max_output_tokens=5000,
            stop=("END", "\n\n"),
            seed=7,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            reasoning_effort="minimal",
            extra_json='{"top_k":40}',
        ),
    ),
    "tools": ModelCall(
        "",
        (
            Message("user", "Weather in Paris and Rome?"),
            Message(
                "assistant",
                tool_calls=(
                    ToolCall("call_1", "weather", '{"city": "Paris"}', 0),
                    ToolCall("call_2", "weather", '{"city": "Rome"}', 1),
                ),
            ),
            Message("tool", "18 degrees", tool_call_id="call_1"),
            Message("tool", "24 degrees", tool_call_id="call_2"),
        ),
        (WEATHER, ToolDefinition("now")),
        Parameters(tool_choice=ToolChoice(tool_name="weather"), parallel_tool_calls=False),
    ),
    "tools_required": ModelCall(
        "", (Message("user", "Go"),), (WEATHER,), Parameters(tool_choice=ToolChoice("required"))
    ),
    "images": ModelCall(
        "",
        (
            Message(
                "user",
                parts=(
                    TextPart("What is this?"),
                    ImagePart("https://example.com/a.png", "low"),
                    ImagePart("data:image/png;base64,iVBORw0KGgo="),
                ),
            ),
        ),
    ),
    "json_schema": ModelCall(
        "",
        (Message("user", "Where?"),),
        parameters=Parameters(response_format=ResponseFormat("json_schema", "place", SCHEMA, strict=True)),
    ),
}


CALLS["images_inline"] = ModelCall(
    "", (Message("user", parts=(TextPart("What is this?"), ImagePart("data:image/png;base64,iVBORw0KGgo=", "low"))),)
)
CALLS["long"] = ModelCall(
    "", (Message("user", "Hello"),), parameters=Parameters(temperature=0.2, top_p=0.9, max_output_tokens=5000, seed=7)
)
CALLS["json_object"] = ModelCall(
    "", (Message("user", "Where?"),), parameters=Parameters(response_format=ResponseFormat("json_object"))
)
CALLS["brief"] = ModelCall(
    "",
    (Message("user", "Where?"),),
    parameters=Parameters(
        response_format=ResponseFormat("json_schema", "place", SCHEMA), extra_json='{"verbosity":"low"}'
    ),
)


def check(name: str, actual: str) -> None:
    path = HERE / "expected" / name
    if os.environ.get("LLMOPS_REGEN") == "1":
        path.write_text(actual)
    assert actual == path.read_text(), f"{name} changed; look at it, then run with LLMOPS_REGEN=1"


def plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def pretty(value: Any) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"


def pretty_mapping(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def wire_of(name: str) -> bytes:
    """What came over the wire; `.frames` holds an event's name and payload a line, which Bedrock frames in binary."""
    data = (HERE / "wire" / name).read_bytes()
    if not name.endswith(".frames"):
        return data
    rows = (json.loads(line) for line in data.splitlines())
    return b"".join(event_frame(event, json.dumps(row, ensure_ascii=False).encode()) for event, row in rows)


# Of a variant only what is its own; what a dialect has no words for is left out, and tested below.
FIRST_CALLS = frozenset({"plain", "roles", "parameters", "tools", "tools_required", "images", "json_schema"})
OWN_CALLS = {
    "openai": FIRST_CALLS | {"brief"},
    "anthropic": FIRST_CALLS,
    "responses": CALLS.keys() - {"parameters", "images_inline"},
    "gemini": CALLS.keys() - {"images", "brief"},
    "bedrock": CALLS.keys() - {"images", "json_schema", "json_object", "brief"},
    "azure": {"plain"},
    "vllm": {"parameters"},
    "ollama": {"parameters"},
}
# Whether they stream is in their path, not in their body.
SAME_BODY = {"gemini", "bedrock"}
REQUESTS = [
    (dialect, call, stream)
    for dialect, calls in OWN_CALLS.items()
    for call in sorted(calls)
    for stream in ((False,) if dialect in SAME_BODY else (False, True))
]


@pytest.mark.parametrize(("dialect", "call", "stream"), REQUESTS)
def test_requests(dialect: str, call: str, stream: bool) -> None:  # noqa: FBT001
    body = DIALECTS[dialect].encode(ProviderRequest(CALLS[call], SPEC, "req-1"), stream=stream)
    check(f"{dialect}_request_{call}{'_stream' if stream else ''}.json", pretty(json.loads(body)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_addresses_and_headers(dialect: str) -> None:
    spoken, spec = DIALECTS[dialect], dataclasses.replace(SPEC, model="a.big-1:0/x y?#")
    found = {
        "path": spoken.path(spec, stream=False),
        "path_stream": spoken.path(spec, stream=True),
        "headers": dict(spoken.headers("KEY", "ORG", "PROJECT")),
        "request_id_header": spoken.request_id_header,
    }
    check(f"{dialect}_address.json", pretty_mapping(found))


@pytest.mark.parametrize("name", sorted(path.name for path in (HERE / "wire").glob("*.json")))
def test_answers(name: str) -> None:
    answer = DIALECTS[name.split("_", maxsplit=1)[0]].decode((HERE / "wire" / name).read_bytes())
    check(name.replace(".json", "_answer.json"), pretty(answer))


def chunks_of(name: str, size: int) -> list[Chunk]:
    dialect = DIALECTS[name.split("_", maxsplit=1)[0]]
    decoder, parser = dialect.stream_decoder(), dialect.stream_parser(1 << 20, 1 << 20)
    wire = wire_of(name)
    chunks = []
    for start in range(0, len(wire), size):
        events, failure = parser.feed(wire[start : start + size])
        assert not failure
        chunks.append(decoder.feed(events) if events else None)
    if not decoder.done:
        chunks.append(decoder.end())
    return [chunk for chunk in chunks if chunk is not None]


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.delta.content for chunk in chunks if chunk.delta is not None)


STREAMS = sorted(path.name for path in (HERE / "wire").iterdir() if path.suffix in {".sse", ".frames"})


@pytest.mark.parametrize("name", STREAMS)
def test_streams_event_by_event(name: str) -> None:
    check(f"{name.partition('.')[0]}_chunks.json", pretty(chunks_of(name, 1)))


@pytest.mark.parametrize("name", STREAMS)
def test_streams_say_the_same_however_they_arrive(name: str) -> None:
    slow, (fast, *end) = chunks_of(name, 1), chunks_of(name, 1 << 20)
    assert text_of(chunks_of(name, 7)) == text_of(slow)
    deltas = [chunk.delta for chunk in slow if chunk.delta is not None]
    assert fast.delta is not None
    assert fast.delta.content == "".join(delta.content for delta in deltas)
    joined: dict[int, list[str]] = {}
    for call in (call for delta in deltas for call in delta.tool_calls):
        known = joined.setdefault(call.index, ["", "", ""])
        known[0], known[1] = known[0] or call.id, known[1] or call.name
        known[2] += call.arguments_json
    assert [(c.index, [c.id, c.name, c.arguments_json]) for c in fast.delta.tool_calls] == sorted(joined.items())
    assert dataclasses.replace([fast, *end][-1], delta=None) == dataclasses.replace(slow[-1], delta=None)
    assert slow[-1].finished


def test_a_models_own_needs_shape_its_requests() -> None:
    spec = ModelSpec("m", "p", "m-1", omit_parameters=frozenset({"temperature"}), tool_reasoning_effort="none")
    call = ModelCall("", (Message("user", "x"),), (WEATHER,), Parameters(temperature=0.5, max_output_tokens=10))
    body = json.loads(OpenAiChat(Ways("max_tokens")).encode(ProviderRequest(call, spec), stream=False))
    assert "temperature" not in body
    assert (body["reasoning_effort"], body["max_tokens"]) == ("none", 10)
    assert "temperature" not in json.loads(AnthropicMessages().encode(ProviderRequest(call, spec), stream=False))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("call", "path"),
    [
        (ModelCall("", (), parameters=Parameters(extra_json="{")), "call.parameters.extra_json"),
        (ModelCall("", (), parameters=Parameters(extra_json="[1]")), "call.parameters.extra_json"),
        (ModelCall("", (), parameters=Parameters(extra_json='{"model":"dear"}')), "call.parameters.extra_json.model"),
        (ModelCall("", (), parameters=Parameters(extra_json='{"n":100}')), "call.parameters.extra_json.n"),
        (ModelCall("", (), (ToolDefinition("t", "", '{"a":' * 300 + "1" + "}" * 300),)), "call"),
        (
            ModelCall("", (), parameters=Parameters(extra_json='{"service_tier":"priority"}')),
            "call.parameters.extra_json.service_tier",
        ),
        (
            ModelCall("", (), parameters=Parameters(extra_json='{"mcp_servers":[]}')),
            "call.parameters.extra_json.mcp_servers",
        ),
        (
            ModelCall("", (), parameters=Parameters(extra_json='{"prediction":{}}')),
            "call.parameters.extra_json.prediction",
        ),
        (ModelCall("", (), (WEATHER, ToolDefinition("t", "", "no"))), "call.tools[1].parameters_json_schema"),
        (
            ModelCall("", (), parameters=Parameters(response_format=ResponseFormat("json_schema", "", "{]"))),
            "call.parameters.response_format.json_schema",
        ),
    ],
)
def test_malformed_json_is_the_callers_mistake(dialect: str, call: ModelCall, path: str) -> None:
    if dialect == "bedrock" and call.parameters.response_format.structured:
        pytest.skip("it has no schemas, whatever they are")
    with pytest.raises(InvalidRequest) as caught:
        DIALECTS[dialect].encode(ProviderRequest(call, SPEC), stream=False)
    assert caught.value.field_violations[0][0] == path


STOP = ModelCall("", (), parameters=Parameters(stop=("END",)))
JSON_OBJECT = ModelCall("", (), parameters=Parameters(response_format=ResponseFormat("json_object")))
MALFORMED_ARGUMENTS = ModelCall("", (Message("assistant", tool_calls=(ToolCall("1", "t", '{"a":'),)),))
IMAGE_TEXT = ModelCall("", (Message("user", parts=(ImagePart("data:text/plain,hi"),)),))
IMAGE_SVG = ModelCall("", (Message("user", parts=(ImagePart("data:image/svg+xml;base64,PHN2Zy8+"),)),))
IMAGE_URL = ModelCall("", (Message("user", parts=(ImagePart("https://example.com/a.png"),)),))
IMAGE_RESULT = ModelCall("", (Message("tool", parts=(TextPart("see"), *IMAGE_URL.messages[0].parts)),))
NO_TOOLS_LEFT = ModelCall("", CALLS["tools"].messages)
RESULT_ALONE = ModelCall("", (Message("tool", "18 degrees", tool_call_id="call_1"),))
NO_TOOL_NOW = ModelCall("", CALLS["tools"].messages, (WEATHER,), Parameters(tool_choice=ToolChoice("none")))


@pytest.mark.parametrize(
    ("dialect", "call", "feature"),
    [
        ("anthropic", JSON_OBJECT, "json-object-without-schema"),
        ("anthropic", CALLS["brief"], "parameter-verbosity"),
        ("anthropic", MALFORMED_ARGUMENTS, "malformed-tool-arguments"),
        ("anthropic", IMAGE_TEXT, "data-url-without-base64"),
        ("openai", IMAGE_RESULT, "images-in-tool-results"),
        ("azure", IMAGE_RESULT, "images-in-tool-results"),
        ("responses", STOP, "stop-texts"),
        ("gemini", MALFORMED_ARGUMENTS, "malformed-tool-arguments"),
        ("gemini", IMAGE_TEXT, "data-url-without-base64"),
        ("gemini", IMAGE_URL, "image-addresses"),
        ("gemini", IMAGE_RESULT, "images-in-tool-results"),
        ("bedrock", MALFORMED_ARGUMENTS, "malformed-tool-arguments"),
        ("bedrock", IMAGE_URL, "image-addresses"),
        ("bedrock", IMAGE_SVG, "image-format"),
        ("bedrock", JSON_OBJECT, "structured-output"),
        ("bedrock", NO_TOOL_NOW, "tool-choice-none"),
        ("bedrock", NO_TOOLS_LEFT, "tool-history-without-tools"),
        ("bedrock", RESULT_ALONE, "tool-history-without-tools"),
    ],
)
def test_what_a_dialect_cannot_say_is_left_to_other_candidates(dialect: str, call: ModelCall, feature: str) -> None:
    with pytest.raises(ProviderError) as caught:
        DIALECTS[dialect].encode(ProviderRequest(call, SPEC), stream=False)
    failure = caught.value.failure
    assert (failure.kind, failure.provider_code) == (FailureKind.UNSUPPORTED, feature)
