"""What providers count: which of their numbers are taken, and which are none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.base import Dialect
from services.router.adapters.dialects.bedrock_converse import BedrockConverse
from services.router.adapters.dialects.embeddings import BedrockEmbeddings, OpenAiEmbeddings
from services.router.adapters.dialects.gemini_generate import GeminiGenerate
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.dialects.openai_responses import OpenAiResponses
from services.router.core.chat import Usage
from services.router.core.failure import FailureKind, ProviderError
from services.router.core.sse import ServerSentEvent


def body(dialect: str, read: object, written: object, part: object) -> bytes:
    """An answer of one word, with its counts: of the prompt, of the answer, of what of the prompt was cached."""
    bodies: dict[str, Any] = {
        "openai": {
            "choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": read,
                "completion_tokens": written,
                "prompt_tokens_details": {"cached_tokens": part},
            },
        },
        "responses": {
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "Yes."}]}],
            "usage": {
                "input_tokens": read,
                "output_tokens": written,
                "input_tokens_details": {"cached_tokens": part},
            },
        },
        "anthropic": {
            "content": [{"type": "text", "text": "Yes."}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": read, "output_tokens": written, "cache_read_input_tokens": part},
        },
        "gemini": {
            "candidates": [{"content": {"parts": [{"text": "Yes."}]}, "finishReason": "STOP"}],
            "usageMetadata": {
                "promptTokenCount": read,
                "candidatesTokenCount": written,
                "cachedContentTokenCount": part,
            },
        },
        "bedrock": {
            "output": {"message": {"content": [{"text": "Yes."}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": read, "outputTokens": written, "cacheReadInputTokens": part},
        },
    }
    return json.dumps(bodies[dialect]).encode()


DIALECTS: dict[str, Dialect] = {
    "openai": OpenAiChat(),
    "responses": OpenAiResponses(),
    "anthropic": AnthropicMessages(),
    "gemini": GeminiGenerate(),
    "bedrock": BedrockConverse(),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("read", "written", "part"),
    [
        (10**19, 5, 0),
        (9 * 10**15, 5, 0),
        (2**62, 2**62, 0),
        (10, 10**19, 0),
        (10, 5, 10**19),
        (-10, 5, 0),
        (10, -5, 0),
        (10, 0, 0),
        (0, 0, 0),
    ],
)
def test_counts_that_cannot_be_true_are_left_to_be_counted(dialect: str, read: int, written: int, part: int) -> None:
    answer = DIALECTS[dialect].decode(body(dialect, read, written, part))
    assert (answer.completion.content, answer.usage) == ("Yes.", None)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_negative_part_is_none(dialect: str) -> None:
    assert DIALECTS[dialect].decode(body(dialect, 10, 5, -1)).usage == Usage(10, 5)


@pytest.mark.parametrize("tokens", [10**19, -1, 0, None])
def test_counts_of_embeddings_that_cannot_be_true_are_left_to_be_counted(tokens: int | None) -> None:
    openai = {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": tokens}}
    titan = {"embedding": [1.0], "inputTextTokenCount": tokens}
    assert OpenAiEmbeddings().decode(json.dumps(openai).encode(), 1).usage is None
    assert BedrockEmbeddings().decode(json.dumps(titan).encode(), 1).usage is None


@pytest.mark.parametrize("index", [2**31, -1, 2**70])
def test_a_call_at_a_place_that_is_none_is_a_broken_answer(index: int) -> None:
    call = {"index": index, "id": "call_1", "function": {"name": "now", "arguments": "{}"}}
    event = json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode()
    with pytest.raises(ProviderError) as caught:
        OpenAiChat().stream_decoder().feed([ServerSentEvent("", event)])
    assert (caught.value.failure.kind, caught.value.failure.cause) == (FailureKind.BROKEN, "tool-call-index")


def openai_usage(**counts: Any) -> Usage | None:
    choice = {"message": {"content": "Yes."}, "finish_reason": "stop"}
    return OpenAiChat().decode(json.dumps({"choices": [choice], "usage": counts}).encode()).usage


@pytest.mark.parametrize(("total", "output"), [(115, 105), (16, 6), (15, 5), (14, 5), (0, 5), (-1, 5)])
def test_what_a_total_has_beside_the_prompt_is_output(total: int, output: int) -> None:
    assert openai_usage(prompt_tokens=10, completion_tokens=5, total_tokens=total) == Usage(10, output)


@pytest.mark.parametrize("total", [None, "115", 115.5, [115], {}, 10**19, 10**12])
def test_a_total_that_is_none_says_nothing(total: object) -> None:
    assert openai_usage(prompt_tokens=10, completion_tokens=5, total_tokens=total) == Usage(10, 5)
    assert openai_usage(prompt_tokens=10, completion_tokens=5) == Usage(10, 5)
