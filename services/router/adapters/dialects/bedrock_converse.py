"""Amazon Bedrock's Converse and ConverseStream: one format for all its models, in AWS's binary event streams.

Field names after the Amazon Bedrock API reference. What has no counterpart: `seed`, penalties, `strict`,
`reasoning_effort` and `parallel_tool_calls` are left out; JSON answers and image addresses go to the next candidate.
The API names neither the model nor an id in its answers. Requests carry a bearer key (`api_key`) or a signature, see
`adapters/aws.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from services.router.adapters.dialects.base import (
    FINISH_REASONS,
    DeltaBuilder,
    counted,
    json_body,
    path_segment,
    raw_text,
    usage_of,
)
from services.router.adapters.dialects.bedrock_request import encode_body
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Completion, FinishReason, ToolCall, Usage
from services.router.core.eventstream import EventStreamParser
from services.router.core.failure import ErrorBody, ProviderError, broken, content_policy, error_answer
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from services.router.core.sse import ServerSentEvent


class _Usage(msgspec.Struct, gc=False, rename="camel"):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None


class _ToolUse(msgspec.Struct, gc=False, rename="camel"):
    tool_use_id: str | None = None
    name: str | None = None
    # An object in an answer, a string with a piece of one in a stream.
    input: msgspec.Raw = msgspec.Raw(b"")


class _Block(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: dict[str, Any] | None = None


class _Message(msgspec.Struct):
    content: list[_Block] | None = None


class _Output(msgspec.Struct):
    message: _Message | None = None


class _Answer(msgspec.Struct, rename="camel"):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct, rename="camel"):
    content_block_index: int = 0
    start: _Block | None = None
    delta: _Block | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    message: str | None = None


class _ErrorAnswer(msgspec.Struct):
    message: str | None = None
    Message: str | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_error = msgspec.json.Decoder(_ErrorAnswer).decode
_decode_text = msgspec.json.Decoder(str).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_GUARDRAIL = "guardrail_intervened"
_FINISH_REASONS: Mapping[str, FinishReason] = {
    **FINISH_REASONS,
    _GUARDRAIL: FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
}
# The model wrote what is no answer; there is nothing to hand out.
_NO_ANSWER = {"malformed_model_output": "malformed-model-output", "malformed_tool_use": "malformed-function-call"}


@dataclass(frozen=True, slots=True)
class BedrockConverse:
    """The dialect. The base URL is `https://bedrock-runtime.REGION.amazonaws.com`."""

    request_id_header: str = ""

    def path(self, spec: ModelSpec, *, stream: bool) -> str:
        """The model, whose names have colons and, in ARNs, slashes, and how to answer."""
        return f"/model/{path_segment(spec.model)}/{'converse-stream' if stream else 'converse'}"

    def headers(self, api_key: str, organisation: str, project: str) -> Mapping[str, str]:
        """A Bedrock API key as bearer; without one the requests are signed."""
        del organisation, project
        return {"authorization": f"Bearer {api_key}"} if api_key else {}

    def encode(self, request: ProviderRequest, *, stream: bool) -> bytes:
        """The body; whether it streams is said by the path."""
        del stream
        return json_body(encode_body(request))

    def decode(self, body: bytes) -> ProviderAnswer:
        """Texts joined, tool uses as calls. What a guardrail put in the answer's place is a content-policy failure."""
        try:
            answer = _decode_answer(body)
        except _UNDECODABLE:
            raise broken("malformed-json") from None
        usage, stop_reason = _usage(answer.usage), answer.stop_reason or ""
        _require_answer(stop_reason, usage)
        if stop_reason == _GUARDRAIL:
            raise content_policy(_GUARDRAIL, usage)
        if answer.output is None or answer.output.message is None:
            raise broken("no-content")
        blocks = answer.output.message.content or ()
        uses = [block.tool_use for block in blocks if block.tool_use is not None]
        calls = tuple(
            ToolCall(use.tool_use_id or "", use.name or "", raw_text(use.input) or "{}", index)
            for index, use in enumerate(uses)
        )
        content = "".join(block.text or "" for block in blocks)
        finish = _FINISH_REASONS.get(stop_reason, FinishReason.UNKNOWN)
        return ProviderAnswer(Completion(content, calls, finish), counted(usage, said=bool(content or calls)))

    def error_body(self, body: bytes, headers: Mapping[str, str]) -> ErrorBody:
        """The exception's name stands in a header, with a colon and an address behind it; the body has the prose."""
        code = headers.get("x-amzn-errortype", "").partition(":")[0]
        try:
            answer = _decode_error(body)
        except _UNDECODABLE:
            return ErrorBody(code)
        return ErrorBody(code, "", answer.message or answer.Message or "")

    def stream_parser(self, max_line_bytes: int, max_event_bytes: int) -> EventStreamParser:
        """Binary frames."""
        del max_line_bytes
        return EventStreamParser(max_event_bytes)

    def stream_decoder(self) -> BedrockStreamDecoder:
        """A decoder for one stream."""
        return BedrockStreamDecoder()


class BedrockStreamDecoder:
    """Folds message and content block events. The answer is whole with messageStop; metadata with usage follows."""

    def __init__(self) -> None:
        self.done = False
        self._stop_reason = ""
        self._usage: Usage | None = None
        self._said = False
        self._tools: dict[int, int] = {}
        self._silent_tools: set[int] = set()
        self._delta = DeltaBuilder()

    @property
    def ending(self) -> bool:
        """See StreamDecoder."""
        return bool(self._stop_reason)

    def feed(self, events: Sequence[ServerSentEvent]) -> Chunk | None:
        """One chunk for all events of one read."""
        alive = False
        for sent in events:
            alive |= self._take(sent)
            if self.done:
                return self._final()
        joined = self._delta.take()
        return None if joined is None and not alive else Chunk(joined)

    def rest(self) -> Chunk | None:
        """See StreamDecoder."""
        joined = self._delta.take()
        return None if joined is None else Chunk(joined)

    def end(self) -> Chunk | None:
        """Without metadata the answer is whole and its usage is not known."""
        if self.done:
            return None
        if not self._stop_reason:
            raise broken("stream-ended-early")
        self.done = True
        return self._final()

    def _final(self) -> Chunk:
        _require_answer(self._stop_reason, self._usage)
        if self._stop_reason == _GUARDRAIL and not self._said:
            raise content_policy(_GUARDRAIL, self._usage)
        finish = _FINISH_REASONS.get(self._stop_reason, FinishReason.UNKNOWN)
        usage = counted(self._usage, said=self._said)
        return Chunk(self._delta.take(), finished=True, finish_reason=finish, usage=usage)

    def _take(self, sent: ServerSentEvent) -> bool:
        """Adds one event; True when it shows the model at work. Unknown events are skipped."""
        try:
            event = _decode_event(sent.data or b"{}")
        except _UNDECODABLE:
            raise broken("malformed-json") from None
        kind, _, code = sent.event.partition(" ")
        if kind in {"exception", "error"}:
            raise ProviderError(error_answer(0, ErrorBody(code, "", event.message or "")))
        index = event.content_block_index
        if event.delta is not None:
            return self._block_delta(index, event.delta)
        if event.start is not None and event.start.tool_use is not None:
            use = event.start.tool_use
            self._tools[index] = len(self._tools)
            self._silent_tools.add(index)
            self._said = True
            self._delta.tool(self._tools[index], use.tool_use_id or "", use.name or "", "")
        elif kind == "contentBlockStop" and index in self._silent_tools:
            self._delta.tool(self._tools[index], "", "", "{}")
        elif kind == "messageStop":
            self._stop_reason = event.stop_reason or "unknown"
        elif kind == "metadata":
            self._usage = _usage(event.usage) or self._usage
            self.done = bool(self._stop_reason)
        return False

    def _block_delta(self, index: int, piece: _Block) -> bool:
        if piece.text:
            self._said = True
            self._delta.text(piece.text)
        elif piece.tool_use is not None and index in self._tools:
            arguments = _piece(piece.tool_use.input)
            if arguments:
                self._silent_tools.discard(index)
                self._delta.tool(self._tools[index], "", "", arguments)
        return piece.reasoning_content is not None


def _piece(raw: msgspec.Raw) -> str:
    try:
        return _decode_text(raw) if bytes(raw) else ""
    except _UNDECODABLE:
        raise broken("malformed-json") from None


def _require_answer(stop_reason: str, usage: Usage | None) -> None:
    cause = _NO_ANSWER.get(stop_reason)
    if cause is not None:
        raise ProviderError(replace(broken(cause).failure, usage=usage))


def _usage(usage: _Usage | None) -> Usage | None:
    """Cached input is counted beside `inputTokens` there, inside it here."""
    if usage is None or usage.input_tokens is None:
        return None
    read, written = max(0, usage.cache_read_input_tokens or 0), max(0, usage.cache_write_input_tokens or 0)
    return usage_of(usage.input_tokens + read + written, usage.output_tokens, cached=read, cache_write=written)
