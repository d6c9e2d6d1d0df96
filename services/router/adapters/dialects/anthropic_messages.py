"""Anthropic's Messages API, version 2023-06-01.

Field names after Anthropic's API reference and its Python package (types `message`, `usage`, `output_config`,
`stop_reason`). What has no counterpart there: `seed`, `presence_penalty` and `frequency_penalty` are left out, as in
Anthropic's own OpenAI-compatible endpoint; `json_object` without a schema is refused; `json_schema` becomes
`output_config.format` (structured outputs), `reasoning_effort` becomes `output_config.effort`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from services.router.adapters.dialects.anthropic_request import encode_body
from services.router.adapters.dialects.base import FINISH_REASONS, DeltaBuilder, counted, json_body, raw_text, usage_of
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Completion, FinishReason, ToolCall, Usage
from services.router.core.failure import ErrorBody, ProviderError, broken, error_answer
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from services.router.core.sse import ServerSentEvent, SseParser

VERSION = "2023-06-01"


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")


class _Error(msgspec.Struct, gc=False):
    type: str | None = None
    message: str | None = None


class _Message(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _ErrorAnswer(msgspec.Struct):
    error: _Error | None = None


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_error = msgspec.json.Decoder(_ErrorAnswer).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class AnthropicMessages:
    """The dialect."""

    request_id_header: str = ""

    def path(self, spec: ModelSpec, *, stream: bool) -> str:
        """The same for all models."""
        return "/messages"

    def headers(self, api_key: str, organisation: str, project: str) -> Mapping[str, str]:
        """Key and version; the API takes neither organisation nor project."""
        del organisation, project
        return {"anthropic-version": VERSION} | ({"x-api-key": api_key} if api_key else {})

    def encode(self, request: ProviderRequest, *, stream: bool) -> bytes:
        """The body; `max_tokens` is always sent because the API demands it."""
        return json_body(encode_body(request, stream=stream))

    def decode(self, body: bytes) -> ProviderAnswer:
        """Text blocks joined, tool_use blocks as calls, thinking blocks left out."""
        try:
            message = _decode_message(body)
        except _UNDECODABLE:
            raise broken("malformed-json") from None
        if message.error is not None:
            raise ProviderError(error_answer(0, _as_error_body(message.error)))
        if message.content is None:
            raise broken("no-content")
        tools = [block for block in message.content if block.type == "tool_use"]
        calls = tuple(
            ToolCall(block.id or "", block.name or "", _arguments(block), index) for index, block in enumerate(tools)
        )
        content = "".join(block.text or "" for block in message.content if block.type == "text")
        finish = FINISH_REASONS.get(message.stop_reason or "", FinishReason.UNKNOWN)
        counts = _Counts()
        counts.add(message.usage)
        usage = counted(counts.usage(), said=bool(content or calls))
        return ProviderAnswer(Completion(content, calls, finish), usage, message.model or "", message.id or "")

    def error_body(self, body: bytes, headers: Mapping[str, str]) -> ErrorBody:
        """`{"type": "error", "error": {...}}`."""
        del headers
        try:
            answer = _decode_error(body)
        except _UNDECODABLE:
            return ErrorBody()
        return _as_error_body(answer.error) if answer.error is not None else ErrorBody()

    def stream_parser(self, max_line_bytes: int, max_event_bytes: int) -> SseParser:
        """Server-sent events."""
        return SseParser(max_line_bytes, max_event_bytes)

    def stream_decoder(self) -> AnthropicStreamDecoder:
        """A decoder for one stream."""
        return AnthropicStreamDecoder()


class AnthropicStreamDecoder:
    """Folds message and content block events. The answer is complete with message_stop."""

    def __init__(self) -> None:
        self.done = False
        self._model = ""
        self._id = ""
        self._stop_reason = ""
        self._counts = _Counts()
        self._tools: dict[int, int] = {}
        self._silent_tools: set[int] = set()
        self._delta = DeltaBuilder()

    @property
    def ending(self) -> bool:
        """See StreamDecoder: message_stop follows the stop reason."""
        return bool(self._stop_reason)

    def feed(self, events: Sequence[ServerSentEvent]) -> Chunk | None:
        """One chunk for all events of one read."""
        alive = False
        for sent in events:
            try:
                event = _decode_event(sent.data)
            except _UNDECODABLE:
                raise broken("malformed-json") from None
            alive |= self._take(event, self._delta)
        if self.done:
            return self._final()
        joined = self._delta.take()
        if joined is None and not alive:
            return None
        return Chunk(joined, self._model, self._id)

    def rest(self) -> Chunk | None:
        """See StreamDecoder."""
        joined = self._delta.take()
        return None if joined is None else Chunk(joined, self._model, self._id)

    def end(self) -> Chunk | None:
        """Without message_stop the answer was whole only if a stop reason came."""
        if self.done:
            return None
        if not self._stop_reason:
            raise broken("stream-ended-early")
        self.done = True
        return self._final()

    def _final(self) -> Chunk:
        joined, finish = self._delta.take(), FINISH_REASONS.get(self._stop_reason, FinishReason.UNKNOWN)
        usage = counted(self._counts.usage(), said=self._delta.said)
        return Chunk(joined, self._model, self._id, finished=True, finish_reason=finish, usage=usage)

    def _take(self, event: _Event, delta: DeltaBuilder) -> bool:
        """Adds one event; True when it shows the model at work. Unknown events are skipped, as the API asks."""
        if event.type == "content_block_delta":
            return self._block_delta(event, delta)
        if event.type == "content_block_start":
            self._block_start(event, delta)
        elif event.type == "content_block_stop" and event.index in self._silent_tools:
            delta.tool(self._tools[event.index], "", "", "{}")
        elif event.type == "message_start" and event.message is not None:
            self._model, self._id = event.message.model or "", event.message.id or ""
            self._counts.begin(event.message.usage)
        elif event.type == "message_delta":
            self._counts.add(event.usage)
            if event.delta is not None and event.delta.stop_reason:
                self._stop_reason = event.delta.stop_reason
        elif event.type == "message_stop":
            self.done = True
        elif event.type == "error":
            raise ProviderError(error_answer(0, _as_error_body(event.error or _Error())))
        return False

    def _block_start(self, event: _Event, delta: DeltaBuilder) -> None:
        block = event.content_block
        if block is None:
            return
        if block.type == "tool_use":
            self._tools[event.index] = len(self._tools)
            arguments = _arguments(block)
            if arguments == "{}":
                self._silent_tools.add(event.index)
                arguments = ""
            delta.tool(self._tools[event.index], block.id or "", block.name or "", arguments)
        elif block.type == "text" and block.text:
            delta.text(block.text)

    def _block_delta(self, event: _Event, delta: DeltaBuilder) -> bool:
        piece = event.delta
        if piece is None:
            return False
        if piece.text:
            delta.text(piece.text)
        elif piece.partial_json and event.index in self._tools:
            self._silent_tools.discard(event.index)
            delta.tool(self._tools[event.index], "", "", piece.partial_json)
        return piece.type in {"thinking_delta", "signature_delta"}


class _Counts:
    """Usage as it grows: message_delta repeats cumulative counts and omits those that did not change."""

    def __init__(self) -> None:
        self._input: int | None = None
        self._output: int | None = None
        self._cache_read = 0
        self._cache_write = 0
        self._thinking = 0

    def add(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        self._input = self._input if usage.input_tokens is None else usage.input_tokens
        self._output = self._output if usage.output_tokens is None else usage.output_tokens
        self._cache_read = usage.cache_read_input_tokens or self._cache_read
        self._cache_write = usage.cache_creation_input_tokens or self._cache_write
        if usage.output_tokens_details is not None:
            self._thinking = usage.output_tokens_details.thinking_tokens or self._thinking

    def begin(self, usage: _Usage | None) -> None:
        """The output that a stream begins with is a first token or none, and no count of an answer."""
        self.add(usage)
        self._output = None

    def usage(self) -> Usage | None:
        """Anthropic counts cached input beside `input_tokens`, the contract counts it inside."""
        if self._input is None:
            return None
        read, written = max(0, self._cache_read), max(0, self._cache_write)
        return usage_of(
            self._input + read + written, self._output, cached=read, reasoning=self._thinking, cache_write=written
        )


def _arguments(block: _Block) -> str:
    """The tool's input exactly as it was sent."""
    return raw_text(block.input) or "{}"


def _as_error_body(error: _Error) -> ErrorBody:
    return ErrorBody(error.type or "", "", error.message or "")
