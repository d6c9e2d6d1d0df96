"""What the simulated model says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_cli.provider_sim import Rule, ScriptedToolCall
from llmops_cli.provider_sim.answer import compose, generated_tokens
from llmops_cli.provider_sim.request import ChatRequest, ForcedTool, instance_of


def request(**changes: object) -> ChatRequest:
    fields: dict[str, object] = {
        "model": "m",
        "stream": False,
        "include_usage": False,
        "input_tokens": 7,
        "last_user_text": "hello there",
        "max_tokens": None,
        "forced_tool": None,
        "json_schema": None,
    }
    return ChatRequest(**{**fields, **changes})  # type: ignore[arg-type]


@settings(deadline=None)
@given(tokens=st.integers(0, 300), chunks=st.none() | st.integers(1, 400))
def test_the_pieces_are_the_text_and_the_tokens_add_up(tokens: int, chunks: int | None) -> None:
    answer = compose(Rule(output_tokens=tokens, chunks=chunks), request())
    assert "".join(answer.pieces) == answer.text
    assert len(answer.text.split()) == tokens == answer.output_tokens
    assert len(answer.pieces) == (tokens if chunks is None else min(chunks, tokens))
    assert all(answer.pieces)
    assert list(answer.tokens_after) == sorted(answer.tokens_after)
    assert generated_tokens(answer, len(answer.pieces)) == tokens


@settings(deadline=None)
@given(text=st.text(), limit=st.none() | st.integers(0, 20))
def test_a_scripted_text_comes_back_whole_or_up_to_the_limit(text: str, limit: int | None) -> None:
    answer = compose(Rule(text=text), request(max_tokens=limit))
    assert "".join(answer.pieces) == answer.text
    assert text.startswith(answer.text)
    assert (answer.text == text) is (answer.finish == "stop")
    if limit is not None:
        assert answer.output_tokens <= limit


def test_max_tokens_ends_the_answer_with_length() -> None:
    assert compose(Rule(output_tokens=16), request(max_tokens=5)).finish == "length"
    assert compose(Rule(output_tokens=16), request(max_tokens=5)).output_tokens == 5
    assert compose(Rule(output_tokens=5), request(max_tokens=5)).finish == "stop"


def test_echo_answers_with_the_last_user_message() -> None:
    assert compose(Rule(echo=True, text="not this"), request()).text == "hello there"


def test_scripted_and_forced_tools_are_called() -> None:
    scripted = compose(Rule(tool_calls=(ScriptedToolCall("f", '{"a":1}'), ScriptedToolCall("g"))), request())
    assert [call.name for call in scripted.tool_calls] == ["f", "g"]
    assert (scripted.finish, scripted.text) == ("tool_calls", '{"a":1}{}')
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    forced = compose(Rule(), request(forced_tool=ForcedTool("weather", schema)))
    assert forced.tool_calls == (ScriptedToolCall("weather", '{"city":"text"}'),)


def test_a_requested_json_schema_is_satisfied() -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["a", "b"]},
            "fixed": {"const": 9},
            "count": {"type": "integer", "minimum": 3},
            "tags": {"type": "array", "items": {"type": "string", "minLength": 6}, "minItems": 2},
            "open": {"type": ["boolean", "null"]},
            "extra": {"type": "string"},
        },
        "required": ["kind", "fixed", "count", "tags", "open"],
    }
    answer = compose(Rule(), request(json_schema=schema))
    expected = {"kind": "a", "fixed": 9, "count": 3, "tags": ["texttt", "texttt"], "open": True}
    assert json.loads(answer.text) == expected


def test_a_schema_that_contains_itself_ends() -> None:
    schema: dict[str, object] = {"type": "object", "required": ["next"]}
    schema["properties"] = {"next": schema}
    assert json.dumps(instance_of(schema)).count("next") < 50


@pytest.mark.parametrize(("chunks", "expected"), [(0, 0), (1, 104), (2, 108), (4, 116), (9, 116)])
def test_generated_tokens_count_reasoning_before_the_first_event(chunks: int, expected: int) -> None:
    answer = compose(Rule(output_tokens=16, chunks=4, reasoning_tokens=100), request())
    assert answer.output_tokens == 116
    assert generated_tokens(answer, chunks) == expected
