"""From the orchestrator's answers to Anthropic's JSON: the whole message, or the events of a stream."""

from __future__ import annotations

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
from services.edge.core import sse
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.ports import ChatAnswer, ChatRequest
from services.edge.core.voices import MESSAGES_VOICE

_encode = msgspec.json.Encoder().encode
_ID_PREFIX = "msg_"
# Which stop sequence was met is not known here: providers of other dialects do not say.
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
# Arguments that are no JSON object cannot be `input`; they are kept under this name.
_MALFORMED = "malformed_arguments"


def whole_message(response: pb.CompleteResponse, request: ChatRequest, request_id: str, _: int) -> ChatAnswer:
    """The unary answer. Its id is the request's, so that one finds the other. Anthropic's has no time of creation."""
    report, completion = response.report, response.completion
    content: list[dict[str, object]] = []
    if text := completion.content + completion.refusal:
        content.append({"type": "text", "text": text, "citations": None})
    content.extend(
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments_json)}
        for call in completion.tool_calls
    )
    finish = finish_of(completion.finish_reason, report)
    answer = _message(report.request_id or request_id, report.model, request)
    answer |= {
        "content": content,
        "stop_reason": _stop_reason(finish, called=bool(completion.tool_calls), refused=bool(completion.refusal)),
        "usage": anthropic_usage(report.usage),
        "llmops": llmops_object(report, completion.finish_reason, list(completion.citations)),
    }
    return ChatAnswer(facts_of(report), _encode(answer))


def _message(request_id: str, model: str, request: ChatRequest) -> dict[str, object]:
    return {
        "id": _ID_PREFIX + request_id,
        "type": "message",
        "role": "assistant",
        "model": model_of(model, request.model),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop_reason(finish: str, *, called: bool, refused: bool) -> str:
    """A model that refuses in its own words has stopped for that reason, and one that calls a tool for that.

    OpenAI says "stop" of a call that the request demanded; Anthropic's clients run only what stops with tool_use.
    """
    if finish == "stop" and (called or refused):
        return "tool_use" if called else "refusal"
    return _STOP_REASONS.get(finish, "end_turn")


def _input(arguments_json: str) -> msgspec.Raw | dict[str, str]:
    text = arguments_json.strip() or "{}"
    try:
        if isinstance(msgspec.json.decode(text), dict):
            return msgspec.Raw(text.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    return {_MALFORMED: arguments_json}


def anthropic_usage(usage: usage_pb2.Usage) -> dict[str, object]:
    """Anthropic's usage: tokens read from and written to the provider's cache stand beside the input, not in it."""
    read, written = usage.cached_input_tokens, usage.cache_write_input_tokens
    return {
        "input_tokens": max(0, usage.input_tokens - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens,
    }


class MessagesWriter:
    """The events of one stream: blocks one after the other, each opened and closed.

    Fragments of a call whose block is closed already (a provider that writes two calls at once) follow with its index:
    nothing is lost, and clients join fragments by index.
    """

    def __init__(self, request: ChatRequest, request_id: str, _: int) -> None:
        self._request = request
        self._request_id = request_id
        self._order = StreamOrder()
        self._citations: list[chat_pb2.Citation] = []
        self._blocks = 0
        # The open block: -1 when none is, and the index of its call, -1 for text.
        self._open = -1
        self._open_call = -1
        self._block_of_call: dict[int, int] = {}
        self._refused = False
        self._continued = b""

    def frames(self, event: pb.CompleteStreamResponse) -> tuple[AnswerFacts | bytes, ...]:
        """What an event becomes. Raises CallFailed on a wrong order."""
        kind = self._order.take(event)
        if kind == "delta":
            return tuple(self._delta(event.delta))
        if kind == "started":
            return self._start(event.started)
        if kind == "continued":
            # With the next event of a block: clients skip events that they do not know.
            self._continued = b',"llmops":' + _encode({"continued": {"model": event.continued.model}})
            return ()
        return (b"".join((*self._close(), self._finish(event.finished))),)

    def require_finished(self) -> None:
        """Raises CallFailed when the events ended before the last one."""
        self._order.require_finished()

    def _start(self, started: pb.StreamStarted) -> tuple[AnswerFacts | bytes, ...]:
        message = _message(started.request_id or self._request_id, started.model, self._request)
        # What the request took is not known before the end, where the totals are.
        message["usage"] = anthropic_usage(usage_pb2.Usage())
        frame = sse.event("message_start", _encode({"type": "message_start", "message": message}))
        return started_facts(started), frame + MESSAGES_VOICE.ping

    def _delta(self, delta: chat_pb2.CompletionDelta) -> list[bytes]:
        self._citations.extend(delta.citations)
        self._refused = self._refused or bool(delta.refusal)
        frames: list[bytes] = []
        if text := delta.content + delta.refusal:
            if self._open < 0 or self._open_call >= 0:
                frames += self._open_block(-1, {"type": "text", "text": "", "citations": None})
            frames.append(self._piece(self._open, b'{"type":"text_delta","text":' + _encode(text) + b"}"))
        for call in delta.tool_calls:
            frames += self._call(call)
        return frames

    def _call(self, call: chat_pb2.ToolCall) -> list[bytes]:
        frames: list[bytes] = []
        if call.index not in self._block_of_call:
            block: dict[str, object] = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            frames += self._open_block(call.index, block)
            self._block_of_call[call.index] = self._open
        if call.arguments_json:
            piece = b'{"type":"input_json_delta","partial_json":' + _encode(call.arguments_json) + b"}"
            frames.append(self._piece(self._block_of_call[call.index], piece))
        return frames

    def _open_block(self, call_index: int, block: dict[str, object]) -> list[bytes]:
        frames = self._close()
        self._open, self._open_call = self._blocks, call_index
        self._blocks += 1
        frames.append(self._block_event("content_block_start", self._open, b',"content_block":' + _encode(block)))
        return frames

    def _close(self) -> list[bytes]:
        if self._open < 0:
            return []
        closed, self._open = self._open, -1
        return [self._block_event("content_block_stop", closed, b"")]

    def _piece(self, index: int, delta: bytes) -> bytes:
        return self._block_event("content_block_delta", index, b',"delta":' + delta)

    def _block_event(self, name: str, index: int, fields: bytes) -> bytes:
        told, self._continued = self._continued, b""
        return sse.event(name, b'{"type":"%b","index":%d%b%b}' % (name.encode(), index, fields, told))

    def _finish(self, finished: pb.StreamFinished) -> bytes:
        report = finished.report
        finish = finish_of(finished.finish_reason, report)
        stop_reason = _stop_reason(finish, called=bool(self._block_of_call), refused=self._refused)
        event = {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": None},
            "usage": anthropic_usage(report.usage),
            "llmops": llmops_object(report, finished.finish_reason, self._citations),
        }
        return sse.event("message_delta", _encode(event)) + sse.event("message_stop", b'{"type":"message_stop"}')
