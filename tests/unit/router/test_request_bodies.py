"""What APIs refuse in a request that the contract allows: blank texts, and names with a prefix."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.base import Dialect
from services.router.adapters.dialects.bedrock_converse import BedrockConverse
from services.router.adapters.dialects.gemini_generate import GeminiGenerate
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.dialects.openai_responses import OpenAiResponses
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import (
    ImagePart,
    Message,
    ModelCall,
    Parameters,
    TextPart,
    ToolCall,
    ToolDefinition,
)
from services.router.core.errors import InvalidRequest
from services.router.core.failure import ProviderError
from services.router.core.ports import ProviderRequest

IMAGE = ImagePart("data:image/png;base64,iVBORw0KGgo=")


def body_of(dialect: Dialect, *messages: Message, model: str = "m-1", effort: str = "", tools: int = 0) -> Any:
    named = tuple(ToolDefinition(f"t{number}") for number in range(tools))
    call = ModelCall("", messages, named, Parameters(reasoning_effort=effort))
    return json.loads(dialect.encode(ProviderRequest(call, ModelSpec("m", "p", model)), stream=False))


@pytest.mark.parametrize("dialect", [BedrockConverse(), AnthropicMessages()], ids=["bedrock", "anthropic"])
@pytest.mark.parametrize("blank", ["", " \n"])
def test_blank_texts_are_left_out(dialect: Dialect, blank: str) -> None:
    messages = (
        Message("system", blank),
        Message("user", parts=(TextPart(blank), IMAGE, TextPart("what is it?"))),
        Message("assistant", blank),
        Message("user", blank),
    )
    body = body_of(dialect, *messages)
    assert "system" not in body
    ((row),) = body["messages"]
    assert [block.get("text") for block in row["content"]] == [None, "what is it?"]


def test_blank_texts_of_results_are_left_out_for_anthropic() -> None:
    result = Message("tool", parts=(TextPart(""), TextPart("18")), tool_call_id="c")
    content = body_of(AnthropicMessages(), result)["messages"][0]["content"][0]["content"]
    assert content == [{"type": "text", "text": "18"}]


@pytest.mark.parametrize("result", [Message("tool", "", tool_call_id="c"), Message("tool", " ", tool_call_id="c")])
def test_a_tool_that_said_nothing_has_a_result_in_bedrock(result: Message) -> None:
    call = Message("assistant", tool_calls=(ToolCall("c", "t0", "{}"),))
    body = body_of(BedrockConverse(), Message("user", "go"), call, result, tools=1)
    assert body["messages"][-1]["content"] == [{"toolResult": {"toolUseId": "c", "content": [{"text": "(no output)"}]}}]


@pytest.mark.parametrize("prefix", ["", "models/"])
@pytest.mark.parametrize(
    ("model", "thinking", "signature"),
    [
        ("gemini-2.5-flash", {"thinkingBudget": 1024}, None),
        ("gemini-3-pro", {"thinkingLevel": "low"}, "skip_thought_signature_validator"),
    ],
)
def test_the_family_of_gemini_is_told_with_and_without_the_prefix(
    prefix: str, model: str, thinking: dict[str, Any], signature: str | None
) -> None:
    call = Message("assistant", tool_calls=(ToolCall("c", "t0", "{}"),))
    body = body_of(GeminiGenerate(), Message("user", "go"), call, model=prefix + model, effort="low", tools=1)
    assert body["generationConfig"]["thinkingConfig"] == thinking
    assert body["contents"][1]["parts"][0].get("thoughtSignature") == signature


def test_an_empty_system_message_is_no_instruction_in_gemini() -> None:
    user = Message("user", "x")
    assert "systemInstruction" not in body_of(GeminiGenerate(), Message("system", ""), user)
    body = body_of(GeminiGenerate(), Message("system", ""), Message("developer", "Be brief."), user)
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}


def test_texts_without_text_are_left_out_for_gemini() -> None:
    messages = (
        Message("user", parts=(TextPart(""), IMAGE, TextPart("what is it?"))),
        Message("assistant", parts=(TextPart(""),)),
        Message("user", parts=(TextPart(" "),)),
    )
    ((turn),) = body_of(GeminiGenerate(), *messages)["contents"]
    assert [part.get("text") for part in turn["parts"]] == [None, "what is it?", " "]


@pytest.mark.parametrize("effort", ["xhigh", "max"])
def test_more_thought_than_gemini_has_words_for_is_its_most(effort: str) -> None:
    """The API refuses a level that it does not know; a budget was left out."""
    for model, most in (("gemini-2.5-pro", {"thinkingBudget": 24_576}), ("gemini-3-pro", {"thinkingLevel": "high"})):
        body = body_of(GeminiGenerate(), Message("user", "x"), model=model, effort=effort)
        assert body["generationConfig"]["thinkingConfig"] == most


def test_images_in_results_of_tools_are_seen_by_gemini_from_3_on() -> None:
    call = Message("assistant", tool_calls=(ToolCall("c", "shot", "{}"),))
    result = Message("tool", parts=(TextPart("here"), IMAGE), tool_call_id="c")
    media = [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]
    for model in ("gemini-3-pro", "models/gemini-3.8-flash", "gemini-10-pro"):
        body = body_of(GeminiGenerate(), Message("user", "go"), call, result, model=model)
        response = {"id": "c", "name": "shot", "response": {"result": "here"}, "parts": media}
        assert body["contents"][2]["parts"] == [{"functionResponse": response}]
    for model in ("gemini-2.5-pro", "gemini-flash-latest", "gemma-4"):
        with pytest.raises(ProviderError, match="images-in-tool-results"):
            body_of(GeminiGenerate(), Message("user", "go"), call, result, model=model)


DIALECTS: list[Dialect] = [OpenAiChat(), OpenAiResponses(), AnthropicMessages(), GeminiGenerate(), BedrockConverse()]


def encoded(dialect: Dialect, schema: str, arguments: str = "{}") -> str:
    said = Message("assistant", tool_calls=(ToolCall("c", "t", arguments),))
    call = ModelCall("", (Message("user", "go"), said), (ToolDefinition("t", "", schema),))
    return dialect.encode(ProviderRequest(call, ModelSpec("m", "p", "m-1")), stream=False).decode()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)
@pytest.mark.parametrize("number", [2**128, -(2**64), 10**40])
def test_integers_beyond_64_bits_arrive_as_they_were_sent(dialect: Dialect, number: int) -> None:
    body = encoded(dialect, f'{{"type":"integer","title":"Größe","maximum":{number}}}', f'{{"wei":{number}}}')
    assert body.count(str(number)) == 2
    assert "Größe" in body


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)
def test_what_is_nested_too_deeply_is_called_that(dialect: Dialect) -> None:
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        encoded(dialect, '{"a":' * 300 + "1" + "}" * 300)
