"""From the orchestrator's answers to OpenAI's response object, or the events of its stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from llmops.common.v1 import chat_pb2, usage_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.reports import (
    facts_of,
    finish_of,
    llmops_object,
    model_of,
    started_facts,
)
from services.edge.adapters.stream_order import StreamOrder
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.ports import ChatAnswer, ChatRequest
from services.edge.core.voices import ResponsesVoice

_encode = msgspec.json.Encoder().encode
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def whole_response(response: pb.CompleteResponse, request: ChatRequest, request_id: str, created_s: int) -> ChatAnswer:
    """The unary answer. Its id is the request's, so that one finds the other."""
    report, completion = response.report, response.completion
    frame = _Frame(request, report.request_id or request_id, model_of(report.model, request.model), created_s)
    reason = _INCOMPLETE.get(finish_of(completion.finish_reason, report))
    status = "incomplete" if reason else "completed"
    items: list[dict[str, object]] = []
    parts = _parts(completion.content, completion.refusal)
    if parts:
        items.append(_message_item(frame.item_id("msg", 0), parts, status))
    items.extend(
        _call_item(frame.item_id("fc", len(items) + index), call.id, call.name, call.arguments_json, "completed")
        for index, call in enumerate(completion.tool_calls)
    )
    answer = frame.response(status, items)
    answer |= _ending(reason, report, completion.finish_reason, list(completion.citations))
    return ChatAnswer(facts_of(report), _encode(answer))


def _ending(
    reason: str | None, report: pb.CallReport, finish_reason: int, citations: list[chat_pb2.Citation]
) -> dict[str, object]:
    return {
        "incomplete_details": {"reason": reason} if reason else None,
        "usage": responses_usage(report.usage),
        "llmops": llmops_object(report, finish_reason, citations),
    }


def responses_usage(usage: usage_pb2.Usage) -> dict[str, object]:
    """Cached and reasoning tokens are parts of the totals, here as there."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


@dataclass(frozen=True, slots=True)
class _Frame:
    """What every form of one response has in common."""

    request: ChatRequest
    request_id: str
    model: str
    created_s: int

    def item_id(self, prefix: str, index: int) -> str:
        return f"{prefix}_{self.request_id}_{index}"

    def response(self, status: str, items: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": f"resp_{self.request_id}",
            "object": "response",
            "created_at": self.created_s,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": items,
            **self.request.echo,
            "usage": None,
        }


def _parts(text: str, refusal: str) -> list[dict[str, object]]:
    parts = [_text_part(text)] if text else []
    return [*parts, _refusal_part(refusal)] if refusal else parts


def _text_part(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _refusal_part(text: str) -> dict[str, object]:
    return {"type": "refusal", "refusal": text}


def _message_item(item_id: str, parts: list[dict[str, object]], status: str) -> dict[str, object]:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": parts}


def _call_item(item_id: str, call_id: str, name: str, arguments: str, status: str) -> dict[str, object]:
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


@dataclass(slots=True)
class _Part:
    """A part of a message under way: "output_text" or "refusal"."""

    kind: str
    pieces: list[str] = field(default_factory=list)

    def whole(self) -> dict[str, object]:
        text = "".join(self.pieces)
        return _text_part(text) if self.kind == "output_text" else _refusal_part(text)


@dataclass(slots=True)
class _Item:
    """An item under way: a message with its parts, or a call with its arguments."""

    item_id: str
    index: int
    call_id: str = ""
    name: str = ""
    is_call: bool = False
    status: str = "completed"
    parts: list[_Part] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def whole(self, status: str) -> dict[str, object]:
        if self.is_call:
            return _call_item(self.item_id, self.call_id, self.name, "".join(self.arguments), status)
        return _message_item(self.item_id, [part.whole() for part in self.parts], status)


class ResponsesWriter:
    """The events of one stream. Calls stay open to the end: a provider may write several at once."""

    def __init__(self, request: ChatRequest, request_id: str, created_s: int) -> None:
        assert isinstance(request.voice, ResponsesVoice)
        self._voice = request.voice
        self._request = request
        self._request_id = request_id
        self._created_s = created_s
        self._frame = _Frame(request, request_id, request.model, created_s)
        self._order = StreamOrder()
        self._citations: list[chat_pb2.Citation] = []
        self._items: list[_Item] = []
        self._message: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._continued: dict[str, object] = {}

    def frames(self, event: pb.CompleteStreamResponse) -> tuple[AnswerFacts | bytes, ...]:
        """What an event becomes. Raises CallFailed on a wrong order."""
        kind = self._order.take(event)
        if kind == "delta":
            return tuple(self._delta(event.delta))
        if kind == "started":
            return self._start(event.started)
        if kind == "continued":
            # With the next event: clients stumble over events that they do not know.
            self._continued = {"llmops": {"continued": {"model": event.continued.model}}}
            return ()
        return (b"".join(self._finish(event.finished)),)

    def require_finished(self) -> None:
        """Raises CallFailed when the events ended before the last one."""
        self._order.require_finished()

    def _start(self, started: pb.StreamStarted) -> tuple[AnswerFacts | bytes, ...]:
        model = model_of(started.model, self._request.model)
        self._frame = _Frame(self._request, started.request_id or self._request_id, model, self._created_s)
        self._voice.snapshot = self._snapshot
        begun = {"response": self._frame.response("in_progress", [])}
        frame = self._event("response.created", begun) + self._event("response.in_progress", begun)
        return started_facts(started), frame

    def _snapshot(self, status: str, error: dict[str, object] | None) -> bytes:
        shown = self._frame.response(status, [item.whole("incomplete") for item in self._items])
        return _encode(shown | {"error": error})

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        told, self._continued = self._continued, {}
        return self._voice.event(kind, _encode(fields | told)[1:-1])

    def _delta(self, delta: chat_pb2.CompletionDelta) -> list[bytes]:
        self._citations.extend(delta.citations)
        frames: list[bytes] = []
        if delta.content:
            frames += self._text("output_text", delta.content)
        if delta.refusal:
            frames += self._text("refusal", delta.refusal)
        for call in delta.tool_calls:
            frames += self._call(call)
        return frames

    def _text(self, kind: str, piece: str) -> list[bytes]:
        frames: list[bytes] = []
        if self._message is None:
            self._message = _Item(self._frame.item_id("msg", len(self._items)), len(self._items))
            frames.append(self._added(self._message))
        message = self._message
        if not message.parts or message.parts[-1].kind != kind:
            frames += self._close_part(message)
            message.parts.append(_Part(kind))
            frames.append(self._event("response.content_part.added", self._at(message) | {"part": _empty(kind)}))
        message.parts[-1].pieces.append(piece)
        fields = self._at(message) | {"delta": piece}
        if kind == "output_text":
            fields["logprobs"] = []
        frames.append(self._event(f"response.{kind}.delta", fields))
        return frames

    def _call(self, call: chat_pb2.ToolCall) -> list[bytes]:
        frames: list[bytes] = []
        item = self._calls.get(call.index)
        if item is None:
            frames += self._close_message()
            index = len(self._items)
            item = _Item(self._frame.item_id("fc", index), index, call.id, call.name, is_call=True)
            self._calls[call.index] = item
            frames.append(self._added(item))
        if call.arguments_json:
            item.arguments.append(call.arguments_json)
            about = {"item_id": item.item_id, "output_index": item.index, "delta": call.arguments_json}
            frames.append(self._event("response.function_call_arguments.delta", about))
        return frames

    def _added(self, item: _Item) -> bytes:
        self._items.append(item)
        shown = item.whole("in_progress")
        return self._event("response.output_item.added", {"output_index": item.index, "item": shown})

    def _at(self, message: _Item) -> dict[str, Any]:
        content_index = max(0, len(message.parts) - 1)
        return {"item_id": message.item_id, "output_index": message.index, "content_index": content_index}

    def _close_part(self, message: _Item) -> list[bytes]:
        if not message.parts:
            return []
        part, at = message.parts[-1], self._at(message)
        whole = part.whole()
        if part.kind == "output_text":
            done = self._event("response.output_text.done", at | {"text": whole["text"], "logprobs": []})
        else:
            done = self._event("response.refusal.done", at | {"refusal": whole["refusal"]})
        return [done, self._event("response.content_part.done", at | {"part": whole})]

    def _close_message(self, status: str = "completed") -> list[bytes]:
        message, self._message = self._message, None
        if message is None:
            return []
        message.status = status
        return [*self._close_part(message), self._done(message)]

    def _done(self, item: _Item) -> bytes:
        return self._event("response.output_item.done", {"output_index": item.index, "item": item.whole(item.status)})

    def _finish(self, finished: pb.StreamFinished) -> list[bytes]:
        report = finished.report
        reason = _INCOMPLETE.get(finish_of(finished.finish_reason, report))
        status = "incomplete" if reason else "completed"
        frames = self._close_message(status)
        for item in self._calls.values():
            arguments = {"item_id": item.item_id, "output_index": item.index, "name": item.name}
            arguments["arguments"] = "".join(item.arguments)
            frames.append(self._event("response.function_call_arguments.done", arguments))
            frames.append(self._done(item))
        response = self._frame.response(status, [item.whole(item.status) for item in self._items])
        response |= _ending(reason, report, finished.finish_reason, self._citations)
        return [*frames, self._event(f"response.{status}", {"response": response})]


def _empty(kind: str) -> dict[str, object]:
    return _Part(kind).whole()
