"""The request on the wire: what is mapped, passed on, refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.chat_requests import read_chat
from services.edge.core.errors import InvalidRequest

HELLO = [{"role": "user", "content": "hello"}]


def read(**fields: Any) -> pb.Conversation:
    call = read_chat(json.dumps({"messages": HELLO} | fields).encode()).call
    assert isinstance(call, pb.CompleteRequest | pb.CompleteStreamRequest)
    return call.conversation


def extra(**fields: Any) -> Any:
    return json.loads(read(**fields).parameters.extra_json or "null")


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        read(**fields)
    return refused.value


@pytest.mark.parametrize(
    ("model", "mapped"), [("gpt-x", "gpt-x"), ("a/b", "a/b"), ("auto", ""), ("default", ""), ("", ""), (None, "")]
)
def test_the_model_is_passed_as_it_is_and_auto_is_the_default_route(model: str | None, mapped: str) -> None:
    assert read(model=model).model == mapped


def test_the_stream_flag_chooses_the_call() -> None:
    assert isinstance(read_chat(b'{"messages":[{"role":"user","content":"x"}]}').call, pb.CompleteRequest)
    chat = read_chat(
        b'{"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}]}'
    )
    assert isinstance(chat.call, pb.CompleteStreamRequest)
    assert (chat.stream, chat.include_usage) == (True, True)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_token_limit_are_read(name: str) -> None:
    assert read(**{name: 7}).parameters.max_output_tokens == 7


def test_the_newer_name_of_the_token_limit_wins() -> None:
    assert read(max_tokens=7, max_completion_tokens=9).parameters.max_output_tokens == 9


def test_zero_is_not_absent() -> None:
    parameters = read(temperature=0, seed=0, top_p=0, max_tokens=0, parallel_tool_calls=False).parameters
    for name in ("temperature", "seed", "top_p", "max_output_tokens", "parallel_tool_calls"):
        assert parameters.HasField(name)
    assert not read().parameters.HasField("temperature")


@pytest.mark.parametrize(("stop", "mapped"), [("a", ["a"]), (["a", "b"], ["a", "b"]), (None, []), ([], [])])
def test_stop_is_a_text_or_a_list(stop: object, mapped: list[str]) -> None:
    assert list(read(stop=stop).parameters.stop) == mapped


def test_user_and_metadata_become_labels() -> None:
    labels = read(user="u-1", metadata={"team": "search"}).labels
    assert (labels.end_user, dict(labels.tags)) == ("u-1", {"team": "search"})


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_bias": {"50256": -100}},
        {"verbosity": "low"},
        {"top_k": 40, "chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_parameters_outside_the_contract_are_passed_on_unchanged(fields: dict[str, Any]) -> None:
    assert extra(**fields) == fields


def test_null_is_absent() -> None:
    assert extra(logit_bias=None, top_k=None, logprobs=None, functions=None, temperature=None) is None


def test_too_much_to_pass_on_is_refused() -> None:
    assert refusal(junk="x" * 70_000).param == "junk"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("n", 1.5),
        ("n", True),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("functions", [{"name": "f"}]),
        ("function_call", "auto"),
        ("function_call", {"name": "f"}),
        ("web_search_options", {}),
        ("service_tier", "priority"),
        ("prediction", {"type": "content", "content": "x"}),
        ("moderation", {"model": "m"}),
        ("store", True),
        ("prompt_cache_retention", "24h"),
        ("prompt_cache_options", {"ttl": "24h"}),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(name: str, value: object) -> None:
    assert refusal(**{name: value}).param == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1),
        ("service_tier", "auto"),
        ("logprobs", False),
        ("top_logprobs", 0),
        ("modalities", ["text"]),
        ("functions", []),
        ("store", False),
        ("prompt_cache_retention", "in_memory"),
    ],
)
def test_values_that_ask_for_nothing_pass(name: str, value: object) -> None:
    assert extra(**{name: value}) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f"}}]}]},
            "messages[0].tool_calls",
        ),
        ({"messages": [{"role": "user", "content": "x", "cache_hint": {}}]}, "messages[0].cache_hint"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "text", "json_schema": {"name": "x"}}}, "response_format.json_schema"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"temperature": "hot"}, "temperature"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"llmops": {"cahce": {}}}, "llmops.cahce"),
        ({"llmops": {"cache": {"scope": "world"}}}, "llmops.cache.scope"),
        ({"llmops": {"variables": {"a": "b"}}}, "llmops.prompt"),
        ({"llmops": {"prompt": "p", "variables": {"a": None}}}, "llmops.variables.a"),
    ],
)
def test_the_parameter_at_fault_is_named(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"messages":[{"role":"user","content":"\xff"}]}',
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages":' + b"[" * 100_000,
        b'{"messages":[{"role":"user","content":"x"}],"user":"\\udfff"}',
        b'{"messages":[{"role":"user","content":"x"}],"k\\ud800":1}',
    ],
)
def test_a_body_that_is_no_request_is_refused_and_not_repeated(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_chat(body)
    assert len(str(refused.value)) < 200


@given(st.binary(max_size=200))
def test_no_bytes_cause_anything_but_a_refusal(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        read_chat(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["model", "messages", "stream", "tools", "tool_choice", "n", "stop", "llmops", "metadata", "x"])


@given(st.dictionaries(names, json_values, max_size=4))
def test_no_json_causes_anything_but_a_refusal(fields: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidRequest):
        read_chat(json.dumps({"messages": HELLO} | fields).encode())


@given(content=st.text(min_size=1).filter(lambda t: t.isprintable()), name=st.text(max_size=10))
def test_text_arrives_as_it_was_sent(content: str, name: str) -> None:
    message = read(messages=[{"role": "user", "content": content, "name": name}]).messages[0]
    assert (message.content, message.name) == (content, name)


def test_one_lone_text_part_is_plain_text_and_several_stay_parts() -> None:
    text, image = (
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "https://x/y", "detail": "low"}},
    )
    assert read(messages=[{"role": "user", "content": [text]}]).messages[0].content == "a"
    message = read(messages=[{"role": "user", "content": [text, image]}]).messages[0]
    assert MessageToDict(message)["parts"] == [{"text": "a"}, {"image": {"url": "https://x/y", "detail": "low"}}]


def test_hints_for_a_providers_cache_change_nothing() -> None:
    """As on /v1/messages; LiteLLM's and OpenRouter's callers write them for Anthropic's models."""
    hint = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    image = {"type": "image_url", "image_url": {"url": "https://x/y"}}

    def asked(**more: Any) -> pb.Conversation:
        parts = [{"type": "text", "text": "a"} | more, image | more]
        tools = [{"type": "function", "function": {"name": "f"} | more} | more]
        return read(
            messages=[{"role": "system", "content": "s"} | more, {"role": "user", "content": parts}], tools=tools
        )

    assert asked(**hint) == asked()


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "Parts here are text, image_url and refusal"),
        ({"messages": [{"role": "function", "content": "x"}]}, "user, assistant and tool"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "send tool_calls"),
        ({"messages": [{"role": "assistant", "reasoning_content": "Hm."}]}, "leave it out"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "built-in and custom tools are not run"),
        ({"tool_choice": {"type": "allowed_tools"}}, "a function by its name"),
        ({"response_format": {"type": "grammar"}}, "text, json_object and json_schema"),
        ({"stream_options": {"include_obfuscation": True}}, "send false or leave it out"),
    ],
)
def test_a_refusal_says_what_there_is(fields: dict[str, Any], hint: str) -> None:
    assert hint in str(refusal(**fields))


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    answer = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1'}, "index": 0}],
    }
    message = read(messages=[*HELLO, answer]).messages[1]
    assert message.tool_calls[0].arguments_json == '{"a": 1'
    assert message.content == ""


@pytest.mark.parametrize(
    ("content", "mapped"), [(None, "no"), ("", "no"), ([{"type": "refusal", "refusal": "never"}], None)]
)
def test_a_refusal_in_the_history_is_the_assistants_text(content: object, mapped: str | None) -> None:
    message = read(messages=[*HELLO, {"role": "assistant", "content": content, "refusal": "no"}]).messages[1]
    if mapped is None:
        assert [part.text for part in message.parts] == ["never", "no"]
    else:
        assert message.content == mapped


def test_schemas_are_passed_as_text_unchanged() -> None:
    body = (
        b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":'
        b'{"name":"f","parameters":{"b":1.0, "a":[1,2]}}}]}'
    )
    call = read_chat(body).call
    assert isinstance(call, pb.CompleteRequest)
    assert call.conversation.tools[0].parameters_json_schema == '{"b":1.0, "a":[1,2]}'


def test_a_schemas_description_moves_into_the_schema() -> None:
    schema = {"name": "s", "schema": {"type": "object"}, "description": "an answer"}
    out = read(response_format={"type": "json_schema", "json_schema": schema}).parameters.response_format
    assert json.loads(out.json_schema) == {"type": "object", "description": "an answer"}


def test_the_extension_is_mapped_whole() -> None:
    conversation = read(
        messages=[],
        llmops={
            "prompt": "summarize@production",
            "variables": {"text": "t", "count": 3, "list": ["a", 1], "flag": True},
            "cache": {
                "bypass": True,
                "refresh": True,
                "no_store": True,
                "exact_only": True,
                "scope": "user",
                "ttl_class": "stable",
                "max_age_s": 1.5,
            },
            "guard_policy": "strict",
            "feature": "search",
            "conversation_id": "c-1",
            "data_class": "health",
        },
    )
    assert MessageToDict(conversation, preserving_proto_field_name=True) == {
        "prompt": {
            "reference": "summarize@production",
            "variables": {"text": "t", "count": "3", "list": '["a", 1]', "flag": "true"},
        },
        "cache": {
            "bypass": True,
            "refresh": True,
            "no_store": True,
            "exact_only": True,
            "scope": "CACHE_SCOPE_USER",
            "ttl_class": "TTL_CLASS_STABLE",
            "max_age": "1.500s",
        },
        "guard_policy": "strict",
        "labels": {"feature": "search", "conversation_id": "c-1", "data_class": "health"},
    }
