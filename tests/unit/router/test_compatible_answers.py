"""What servers behind OpenAI's chat completions answer that OpenAI's never do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.core.chat import FinishReason, ToolCall, Usage
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.ports import Chunk
from services.router.core.sse import ServerSentEvent

COUNTS = {"prompt_tokens": 9, "completion_tokens": 4}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}


def whole(message: dict[str, Any], finish: str | None = "stop", **fields: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish} | fields.pop("choice", {})
    return json.dumps({"id": "a", "model": "m", "choices": [choice], "usage": COUNTS} | fields).encode()


def event(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> ServerSentEvent:
    choice = {"index": 0, "delta": delta, "finish_reason": finish} | fields.pop("choice", {})
    return ServerSentEvent("", json.dumps({"id": "a", "model": "m", "choices": [choice]} | fields).encode())


def streamed(*events: ServerSentEvent) -> tuple[list[Chunk], Failure | None]:
    decoder = OpenAiChat().stream_decoder()
    chunks: list[Chunk | None] = []
    failure = None
    try:
        for sent in events:
            chunks.append(decoder.feed([sent]))
        chunks.append(decoder.end())
    except ProviderError as error:
        failure = error.failure
        chunks.append(decoder.rest())
    return [chunk for chunk in chunks if chunk is not None], failure


def failed(body: bytes) -> Failure:
    with pytest.raises(ProviderError) as caught:
        OpenAiChat().decode(body)
    return caught.value.failure


def test_content_in_parts_is_what_was_said_without_what_was_thought() -> None:
    """Mistral's models that reason."""
    source = {"type": "reference", "text": "Euclid", "reference_ids": [1]}
    parts = [THOUGHT, {"type": "text", "text": "It is "}, source, {"type": "text", "text": "4."}]
    assert OpenAiChat().decode(whole({"content": parts})).completion.content == "It is 4."
    chunks, failure = streamed(
        event({"role": "assistant", "content": [THOUGHT]}),
        event({"content": [{"type": "text", "text": "It is "}]}),
        event({"content": "4."}),
        event({}, "stop"),
    )
    assert failure is None
    assert [chunk.delta.content if chunk.delta else None for chunk in chunks] == [None, "It is ", "4.", None]


@pytest.mark.parametrize(
    ("word", "finish"),
    [("eos", FinishReason.STOP), ("eos_token", FinishReason.STOP), ("model_length", FinishReason.LENGTH)],
)
def test_other_words_for_an_end(word: str, finish: FinishReason) -> None:
    assert OpenAiChat().decode(whole({"content": "x"}, word)).completion.finish_reason is finish
    assert streamed(event({"content": "x"}), event({}, word))[0][-1].finish_reason is finish


@pytest.mark.parametrize("word", ["error", "abort", "insufficient_system_resource"])
def test_an_answer_that_its_server_gave_up_is_none(word: str) -> None:
    """Half an answer was handed out as a whole one."""
    failure = failed(whole({"content": "It i"}, word))
    assert (failure.kind, failure.cause, failure.usage) == (FailureKind.BROKEN, "provider-gave-up", Usage(9, 4))
    chunks, cut = streamed(event({"content": "It i"}), event({"content": "s"}, word, usage=COUNTS))
    assert cut == failure
    assert "".join(chunk.delta.content for chunk in chunks if chunk.delta) == "It is"


@pytest.mark.parametrize("fields", [{"message": {"content": ""}}, {"message": None}])
def test_an_error_in_the_place_of_an_answer_is_an_error(fields: dict[str, Any]) -> None:
    """OpenRouter tells there of whom it asked."""
    choice = {"error": {"code": 502, "message": "Upstream went away"}, "finish_reason": "error"} | fields
    assert failed(whole({}, choice=choice)).kind is FailureKind.UNAVAILABLE
    chunks, failure = streamed(event({"content": ""}, choice={"error": {"code": 429, "message": "Slow down"}}))
    assert (chunks, failure and failure.kind) == ([], FailureKind.RATE_LIMITED)


@pytest.mark.parametrize("call_id", ["call_1", 1])
def test_calls_with_ids_of_numbers_and_arguments_of_objects_are_calls(call_id: str | int) -> None:
    call = {"id": call_id, "type": "function", "function": {"name": "look", "arguments": {"at": [1, 10**30]}}}
    expected = ToolCall(str(call_id), "look", '{"at":[1,1000000000000000000000000000000]}')
    assert OpenAiChat().decode(whole({"tool_calls": [call]}, "tool_calls")).completion.tool_calls == (expected,)
    chunks, failure = streamed(event({"tool_calls": [call | {"index": 0}]}), event({}, "tool_calls"))
    assert failure is None
    assert [chunk.delta.tool_calls for chunk in chunks if chunk.delta] == [(expected,)]


@pytest.mark.parametrize(
    "counts", [[], "many", {"prompt_tokens": "9", "completion_tokens": 4}, COUNTS | {"prompt_tokens_details": []}]
)
def test_an_answer_is_not_lost_because_of_how_it_was_counted(counts: object) -> None:
    answer = OpenAiChat().decode(whole({"content": "x", "reasoning": {"effort": 1}}, usage=counts))
    assert (answer.completion.content, answer.usage) == ("x", None)
    chunks, failure = streamed(event({"content": "x"}), event({}, "stop", usage=counts))
    assert (chunks[-1].usage, failure) == (None, None)
