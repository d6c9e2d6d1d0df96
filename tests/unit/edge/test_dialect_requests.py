"""Requests of messages, responses and embeddings: any body is mapped or refused, and what is said arrives as it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmops.common.v1 import chat_pb2

from services.edge.adapters.chat_requests import read_chat
from services.edge.adapters.embeddings import read_embeddings
from services.edge.adapters.messages_requests import read_messages
from services.edge.adapters.responses_requests import read_responses
from services.edge.core.errors import InvalidRequest
from tests.unit.edge.test_chat_requests import json_values

TURN: dict[str, Any] = {"role": "user", "content": "x"}
READERS: dict[str, tuple[Callable[[bytes], Any], dict[str, Any]]] = {
    "messages": (read_messages, {"max_tokens": 1, "messages": [TURN]}),
    "responses": (read_responses, {"input": [TURN]}),
    "embeddings": (read_embeddings, {"input": ["x"]}),
}
_NAMES = st.sampled_from(
    [
        *(
            "model",
            "messages",
            "input",
            "stream",
            "tools",
            "tool_choice",
            "system",
            "llmops",
            "metadata",
            "text",
            "user",
        ),
        *("reasoning", "output_config", "instructions", "stop_sequences", "include", "dimensions", "thinking", "x"),
    ]
)
_ITEM_NAMES = st.sampled_from(
    ["type", "role", "content", "call_id", "name", "arguments", "output", "id", "source", "text"]
)


@pytest.mark.parametrize("api", READERS)
@given(body=st.binary(max_size=200))
def test_no_bytes_cause_anything_but_a_refusal(api: str, body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        READERS[api][0](body)


@pytest.mark.parametrize("api", READERS)
@given(fields=st.dictionaries(_NAMES, json_values, max_size=4))
def test_no_json_causes_anything_but_a_refusal(api: str, fields: dict[str, Any]) -> None:
    read, plain = READERS[api]
    with contextlib.suppress(InvalidRequest):
        read(json.dumps(plain | fields).encode())


@given(
    kind=st.sampled_from(
        ["message", "function_call", "function_call_output", "text", "tool_use", "tool_result", "image"]
    ),
    fields=st.dictionaries(_ITEM_NAMES, json_values, max_size=4),
)
def test_no_item_or_block_causes_anything_but_a_refusal(kind: str, fields: dict[str, Any]) -> None:
    one = {"type": kind} | fields
    with contextlib.suppress(InvalidRequest):
        read_responses(json.dumps({"input": [TURN, one]}).encode())
    with contextlib.suppress(InvalidRequest):
        read_messages(json.dumps({"max_tokens": 1, "messages": [TURN | {"content": [one]}]}).encode())


@pytest.mark.parametrize("api", READERS)
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"[" * 9000, b'{"model":"\xff"}', b'{"model":"\\udfff"}'])
def test_a_body_that_is_no_request_is_refused_and_not_repeated(api: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        READERS[api][0](body)
    assert len(str(refused.value)) < 200


@given(text=st.text(min_size=1).filter(str.isprintable))
def test_text_arrives_as_it_was_sent(text: str) -> None:
    asked = json.dumps({"max_tokens": 1, "system": text, "messages": [{"role": "user", "content": text}]}).encode()
    assert [m.content for m in read_messages(asked).call.conversation.messages] == [text, text]  # type: ignore[attr-defined]
    asked = json.dumps({"instructions": text, "input": text}).encode()
    assert [m.content for m in read_responses(asked).call.conversation.messages] == [text, text]  # type: ignore[attr-defined]
    assert list(read_embeddings(json.dumps({"input": text}).encode()).call.texts) == [text]  # type: ignore[attr-defined]


def test_results_of_tools_stand_where_they_stood() -> None:
    """Text before a result is a message before it: providers that mind the order say so, and nothing is moved."""
    blocks = [{"type": "text", "text": "a"}, {"type": "tool_result", "tool_use_id": "1"}, {"type": "text", "text": "b"}]
    call: Any = read_messages(json.dumps({"max_tokens": 1, "messages": [TURN | {"content": blocks}]}).encode()).call
    assert [(m.content, m.tool_call_id) for m in call.conversation.messages] == [("a", ""), ("", "1"), ("b", "")]


@pytest.mark.parametrize("content", ["Now in French.", [{"type": "text", "text": "Now in French."}]])
def test_instructions_between_turns_stand_where_they_stood(content: object) -> None:
    """Anthropic's client has had them since 2.x."""
    turns = [TURN, {"role": "system", "content": content}, TURN]
    call: Any = read_messages(json.dumps({"max_tokens": 1, "system": "Be brief.", "messages": turns}).encode()).call
    roles = [(chat_pb2.ChatRole.Name(m.role)[10:], m.content) for m in call.conversation.messages]
    assert roles == [("SYSTEM", "Be brief."), ("USER", "x"), ("SYSTEM", "Now in French."), ("USER", "x")]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "url", "url": "https://x/y"}},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        {"type": "tool_result", "tool_use_id": "t"},
    ],
)
def test_instructions_between_turns_are_text(block: dict[str, Any]) -> None:
    body = json.dumps({"max_tokens": 1, "messages": [TURN, {"role": "system", "content": [block]}]}).encode()
    with pytest.raises(InvalidRequest) as refused:
        read_messages(body)
    assert refused.value.param == "messages[1].content[0]"


@pytest.mark.parametrize(
    ("api", "fields", "hint"),
    [
        ("messages", {"messages": [{"role": "tool", "content": "x"}]}, "Roles here are user, assistant and system"),
        (
            "messages",
            {"tools": [{"name": "f", "input_schema": {}, "input_examples": [{}]}]},
            "belong to the description",
        ),
        ("messages", {"output_config": {"task_budget": {}}}, "max_tokens"),
        (
            "messages",
            {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "x", "citations": [{}]}]}]},
            "leave them out",
        ),
        ("responses", {"reasoning": {"summary": "auto"}}, "is not returned; leave it out"),
        ("responses", {"tool_choice": {"type": "allowed_tools"}}, "a function by its name"),
        ("responses", {"stream": True, "stream_options": {"include_obfuscation": True}}, "send false or leave it out"),
        ("responses", {"input": [TURN | {"content": [{"type": "input_image", "file_id": "f"}]}]}, "send image_url"),
    ],
)
def test_a_refusal_says_what_there_is(api: str, fields: dict[str, Any], hint: str) -> None:
    read, body = READERS[api]
    with pytest.raises(InvalidRequest, match=hint):
        read(json.dumps(body | fields).encode())


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (read_chat, b'{"messages": [], "tools": [{"function": {"name": "f", "parameters": {"title": "%b"}}}]}'),
        (
            read_chat,
            b"""{"messages": [], "response_format": {"type": "json_schema",
            "json_schema": {"name": "n", "description": "d", "schema": {"title": "%b"}}}}""",
        ),
        (read_chat, b'{"messages": [], "llmops": {"prompt": "p", "variables": {"v": ["%b"]}}}'),
        (read_chat, b'{"messages": [], "logit_bias": {"%b": 1}}'),
        (
            read_messages,
            b"""{"max_tokens": 1, "messages": [{"role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"at": "%b"}}]}]}""",
        ),
        (read_messages, b'{"max_tokens": 1, "messages": [], "tools": [{"name": "f", "input_schema": {"a": "%b"}}]}'),
        (read_responses, b'{"input": "x", "tools": [{"type": "function", "name": "f", "parameters": {"a": "%b"}}]}'),
        (
            read_responses,
            b'{"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": "%b"}}}}',
        ),
    ],
)
def test_what_is_passed_on_as_it_came_is_utf8_as_well(read: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="The body is not valid UTF-8"):
        read(body % b"\xff")


@pytest.mark.parametrize("number", ["1e400", "1e-400", "123456789012345678901234567890.5", str(10**30), "9" * 5000])
def test_numbers_that_are_passed_on_arrive_as_they_were_sent(number: str) -> None:
    form = '{"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": {"maximum": %s}}}'
    prompt = '{"prompt": "p", "variables": {"n": %s, "list": [ %s ]}}'
    body = f'{{"messages": [], "response_format": {form % number}, "llmops": {prompt % (number, number)}}}'
    conversation = read_chat(body.encode()).call.conversation  # type: ignore[attr-defined]
    assert dict(conversation.prompt.variables) == {"n": number, "list": f"[ {number} ]"}
    schema = conversation.parameters.response_format.json_schema
    assert schema == f'{{"maximum":{number},"description":"d"}}'
