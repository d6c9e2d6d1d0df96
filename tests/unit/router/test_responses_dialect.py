"""OpenAI's responses: what only the last events say, and what a failed answer cost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.router.adapters.dialects.openai_responses import OpenAiResponses
from services.router.core.chat import FinishReason, Usage
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.ports import Chunk
from services.router.core.sse import ServerSentEvent

RESPONSES = OpenAiResponses()
Event = dict[str, Any]


def streamed(*events: Event) -> list[Chunk]:
    """Event by event, as a slow provider sends them."""
    decoder = RESPONSES.stream_decoder()
    chunks = [decoder.feed([ServerSentEvent("", json.dumps(event).encode())]) for event in events]
    assert decoder.done
    return [chunk for chunk in chunks if chunk is not None]


def said(chunks: list[Chunk]) -> tuple[str, str, list[tuple[int, str, str, str]]]:
    """Text, refusal, and each call's index, id, name and arguments."""
    deltas = [chunk.delta for chunk in chunks if chunk.delta is not None]
    calls: dict[int, list[str]] = {}
    for call in (call for delta in deltas for call in delta.tool_calls):
        row = calls.setdefault(call.index, ["", "", ""])
        row[:] = [row[0] + call.id, row[1] + call.name, row[2] + call.arguments_json]
    text, refusal = ("".join(parts) for parts in zip(*((d.content, d.refusal) for d in deltas), strict=True))
    return text, refusal, [(index, row[0], row[1], row[2]) for index, row in sorted(calls.items())]


def call(call_id: str = "c1", arguments: str = '{"a":1}') -> Event:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": arguments}


def message(text: str = "hi", kind: str = "output_text") -> Event:
    return {"type": "message", "content": [{"type": kind, "text": text, "refusal": text}]}


def added(index: int, item: Event) -> Event:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, item: Event) -> Event:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def text_delta(index: int, text: str) -> Event:
    return {"type": "response.output_text.delta", "output_index": index, "delta": text}


def arguments_delta(index: int, text: str) -> Event:
    return {"type": "response.function_call_arguments.delta", "output_index": index, "delta": text}


def completed(*output: Event, **fields: Any) -> Event:
    return {"type": "response.completed", "response": {"status": "completed", "output": list(output)} | fields}


ONE_CALL = [(0, "c1", "f", '{"a":1}')]
TWO_CALLS = [*ONE_CALL, (1, "c2", "f", "{}")]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([done(0, call()), completed()], ("", "", ONE_CALL)),
        ([completed(call())], ("", "", ONE_CALL)),
        ([done(0, message()), completed()], ("hi", "", [])),
        ([completed(message())], ("hi", "", [])),
        ([done(0, message("no", "refusal")), completed()], ("", "no", [])),
        ([done(1, call()), completed(message(), call(), call("c2", "{}"))], ("hi", "", TWO_CALLS)),
        ([done(0, message("a")), done(1, message("b")), completed(message("a"), message("b"))], ("ab", "", [])),
    ],
    ids=["call-done", "call-last", "text-done", "text-last", "refusal-done", "rest-last", "two-texts"],
)
def test_what_only_a_later_event_says_is_said(events: list[Event], expected: object) -> None:
    chunks = streamed(*events)
    assert said(chunks) == expected
    assert chunks[-1].finish_reason is (FinishReason.TOOL_CALLS if said(chunks)[2] else FinishReason.STOP)


@pytest.mark.parametrize("shift", [0, 1])
def test_what_was_said_in_pieces_is_not_said_again(shift: int) -> None:
    """Also where a server counts its items in the events from one and in the last from none."""
    text, tool = shift, shift + 1
    events = [
        added(text, {"type": "message", "content": []}),
        text_delta(text, "h"),
        text_delta(text, "i"),
        done(text, message()),
        added(tool, call(arguments="")),
        arguments_delta(tool, '{"a"'),
        arguments_delta(tool, ":1}"),
        done(tool, call()),
        added(tool + 1, call("c2", "{}")),
        done(tool + 1, call("c2", "{}")),
        completed(message(), call(), call("c2", "{}")),
    ]
    assert said(streamed(*events)) == ("hi", "", TWO_CALLS)


USED = {"input_tokens": 9000, "output_tokens": 4000}
BODY = {"status": "failed", "error": {"code": "server_error", "message": "x"}, "usage": USED}
FAILED = Failure(FailureKind.UNAVAILABLE, "in-band-server-error", provider_code="server_error", usage=Usage(9000, 4000))


@pytest.mark.parametrize("kind", ["response.failed", "response.completed", "response.incomplete"])
def test_a_response_that_failed_says_what_it_cost(kind: str) -> None:
    with pytest.raises(ProviderError) as caught:
        streamed({"type": kind, "response": BODY})
    assert caught.value.failure == FAILED
    with pytest.raises(ProviderError) as caught:
        RESPONSES.decode(json.dumps(BODY).encode())
    assert caught.value.failure == FAILED


def test_tokens_written_to_the_cache_are_counted() -> None:
    """They cost more than others."""
    usage = USED | {"input_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 5}}
    expected = Usage(9000, 4000, cached_input_tokens=7, cache_write_input_tokens=5)
    assert streamed(completed(message(), usage=usage))[-1].usage == expected
    whole = {"status": "completed", "output": [message()], "usage": usage}
    assert RESPONSES.decode(json.dumps(whole).encode()).usage == expected
