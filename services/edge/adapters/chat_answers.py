"""From the orchestrator's answers to OpenAI's JSON: the whole object, or the chunks of a stream."""

from __future__ import annotations

import msgspec
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.reports import (
    facts_of,
    finish_of,
    llmops_object,
    model_of,
    openai_usage,
    started_facts,
)
from services.edge.core import sse
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.errors import CallFailed
from services.edge.core.ports import ChatAnswer, ChatRequest

_encode = msgspec.json.Encoder().encode
_ID_PREFIX = "chatcmpl-"


def whole_answer(response: pb.CompleteResponse, request: ChatRequest, request_id: str, created_s: int) -> ChatAnswer:
    """The unary answer. Its id is the request's, so that one finds the other."""
    report, completion = response.report, response.completion
    message: dict[str, object] = {
        "role": "assistant",
        "content": completion.content or (None if completion.tool_calls or completion.refusal else ""),
        "refusal": completion.refusal or None,
    }
    if completion.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in completion.tool_calls
        ]
    answer = {
        "id": _ID_PREFIX + (report.request_id or request_id),
        "object": "chat.completion",
        "created": created_s,
        "model": model_of(report.model, request.model),
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": finish_of(completion.finish_reason, report),
            }
        ],
        "usage": openai_usage(report.usage),
        "llmops": llmops_object(report, completion.finish_reason, list(completion.citations)),
    }
    return ChatAnswer(facts_of(report), _encode(answer))


class ChunkWriter:
    """The frames of one stream. Text pieces, nearly all of them, are spliced between two prepared halves."""

    def __init__(self, request: ChatRequest, request_id: str, created_s: int) -> None:
        self._request = request
        self._request_id = request_id
        self._created_s = created_s
        self._citations: list[chat_pb2.Citation] = []
        self._head = b""
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + self._usage_null() + b"}\n\n"
        self._finished = False

    def frames(self, event: pb.CompleteStreamResponse) -> tuple[AnswerFacts | bytes, ...]:
        """What an event becomes; citations alone become nothing until the end. Raises CallFailed on a wrong order."""
        kind = event.WhichOneof("event")
        if kind == "delta" and self._head:
            return self._delta(event.delta)
        if kind == "started" and not self._head:
            return self._start(event.started)
        if kind == "continued" and self._head:
            return (self._continued(event.continued),)
        if kind == "finished" and self._head:
            self._finished = True
            return (self._finish(event.finished),)
        raise CallFailed("INTERNAL", "INTERNAL", "The stream's events came in an order that the contract forbids.")

    def require_finished(self) -> None:
        """Raises CallFailed when the events ended before the last one."""
        if not self._finished:
            raise CallFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "The stream ended before the answer was complete.")

    def _start(self, started: pb.StreamStarted) -> tuple[AnswerFacts | bytes, ...]:
        common = {
            "id": _ID_PREFIX + (started.request_id or self._request_id),
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": model_of(started.model, self._request.model),
        }
        self._head = _encode(common)[:-1] + b',"choices":['
        return started_facts(started), self._choice(b'"role":"assistant","content":"","refusal":null')

    def _delta(self, delta: chat_pb2.CompletionDelta) -> tuple[bytes, ...]:
        if delta.citations:
            self._citations.extend(delta.citations)
        fields: list[bytes] = []
        if delta.content:
            fields.append(b'"content":' + _encode(delta.content))
        if delta.refusal:
            fields.append(b'"refusal":' + _encode(delta.refusal))
        if delta.tool_calls:
            fields.append(b'"tool_calls":' + _encode([_tool_fragment(call) for call in delta.tool_calls]))
        return (self._choice(b",".join(fields)),) if fields else ()

    def _continued(self, continued: pb.StreamContinued) -> bytes:
        """A chunk that adds nothing to the answer: every client reads past it, and those who look find the model."""
        told = _encode({"continued": {"model": continued.model}})
        choice = b'{"index":0,"delta":{},"logprobs":null,"finish_reason":null}]'
        return sse.data(self._head + choice + self._usage_null() + b',"llmops":' + told + b"}")

    def _choice(self, delta_fields: bytes) -> bytes:
        return b"".join((b"data: ", self._head, b'{"index":0,"delta":{', delta_fields, self._tail))

    def _finish(self, finished: pb.StreamFinished) -> bytes:
        """The finish chunk and, when it was asked for, the usage chunk. `llmops` is in whichever comes last."""
        report = finished.report
        llmops = _encode(llmops_object(report, finished.finish_reason, self._citations))
        reason = _encode(finish_of(finished.finish_reason, report))
        choice = self._head + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":' + reason + b"}]"
        if not self._request.include_usage:
            return sse.data(choice + b',"llmops":' + llmops + b"}")
        usage = _encode(openai_usage(report.usage))
        return sse.data(choice + self._usage_null() + b"}") + sse.data(
            self._head + b'],"usage":' + usage + b',"llmops":' + llmops + b"}"
        )

    def _usage_null(self) -> bytes:
        """OpenAI sends `usage: null` in every other chunk of a stream that ends with one."""
        return b',"usage":null' if self._request.include_usage else b""


def _tool_fragment(call: chat_pb2.ToolCall) -> dict[str, object]:
    """The first fragment names id and function; later ones only append arguments."""
    function: dict[str, object] = {"arguments": call.arguments_json}
    if call.name:
        function = {"name": call.name, "arguments": call.arguments_json}
    if call.id:
        return {"index": call.index, "id": call.id, "type": "function", "function": function}
    return {"index": call.index, "function": function}
