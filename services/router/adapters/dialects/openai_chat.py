"""OpenAI's chat completions, as served by OpenAI and by whatever speaks it (vLLM, llama.cpp, Ollama, gateways).

Field names after the OpenAI API reference, "Chat Completions", read in the openai package 3.54. Answers are read
leniently: compatible servers send null or nothing where the reference promises a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from services.router.adapters.dialects.base import (
    FINISH_REASONS,
    MAX_TOKENS,
    DeltaBuilder,
    counted,
    json_body,
    usage_of,
)
from services.router.adapters.dialects.extras import OPENAI_CHAT, Extras
from services.router.adapters.dialects.openai_chat_request import OPENAI, Ways, encode_body
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Completion, FinishReason, ToolCall, Usage
from services.router.core.failure import ErrorBody, ProviderError, broken, error_answer
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from services.router.core.sse import ServerSentEvent, SseParser


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    # Read where it is a number; elsewhere it says nothing.
    total_tokens: Any = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    # Text at OpenAI; an object at servers that do not write JSON twice.
    arguments: str | dict[str, Any] | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    # A number at TGI.
    id: str | int | None = None
    function: _Function | None = None


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct):
    # Mistral's models that reason send it in parts.
    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    # Of interest is only whether there is any.
    reasoning_content: Any = None
    reasoning: Any = None


class _Error(msgspec.Struct, gc=False):
    message: str | None = None
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None
    # OpenRouter's place for an error of whom it asked.
    error: _Error | str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    # Read on its own: an answer is not lost because of how it was counted.
    usage: Any = None
    error: _Error | str | None = None


class _ErrorAnswer(msgspec.Struct):
    error: _Error | str | None = None
    message: str | None = None
    detail: str | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_error = msgspec.json.Decoder(_ErrorAnswer).decode
# Of the contract; no answer has as many calls.
_MAX_INDEX = 2**31 - 1
# The model was stopped by its server: at Mistral, OpenRouter and vLLM, at DeepSeek.
_GAVE_UP = frozenset({"error", "abort", "insufficient_system_resource"})
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class OpenAiChat:
    """The dialect.

    `ways` are those of the server. `asks_stream_usage` False is for those that refuse `stream_options`: what they do
    not count unasked is counted here. `extras` may be passed on.
    """

    ways: Ways = OPENAI
    asks_stream_usage: bool = True
    request_id_header: str = "x-client-request-id"
    extras: Extras = OPENAI_CHAT

    def path(self, spec: ModelSpec, *, stream: bool) -> str:
        """The same for all models."""
        return "/chat/completions"

    def headers(self, api_key: str, organisation: str, project: str) -> Mapping[str, str]:
        """Bearer credential and OpenAI's tenancy headers."""
        pairs = {
            "authorization": f"Bearer {api_key}" if api_key else "",
            "openai-organization": organisation,
            "openai-project": project,
        }
        return {name: value for name, value in pairs.items() if value}

    def encode(self, request: ProviderRequest, *, stream: bool) -> bytes:
        """The body; usage is asked for on streams as well, unless the server refuses that."""
        body = encode_body(request, self.ways, self.extras)
        if stream:
            body["stream"] = True
            if self.asks_stream_usage:
                body["stream_options"] = {"include_usage": True}
        return json_body(body)

    def decode(self, body: bytes) -> ProviderAnswer:
        """The first choice. A 200 that carries `error` is an error."""
        answer = _parse(body)
        if answer.error is not None:
            raise ProviderError(error_answer(0, _as_error_body(answer.error)))
        if not answer.choices or answer.choices[0].message is None:
            if answer.choices:
                _require_end(answer.choices[0], _usage(answer.usage))
            raise broken("no-choices")
        choice, message, usage = answer.choices[0], answer.choices[0].message, _usage(answer.usage)
        _require_end(choice, usage)
        content = _text(message.content)
        calls = tuple(
            ToolCall(_id(call), *_name_and_arguments(call), index)
            for index, call in enumerate(message.tool_calls or ())
        )
        finish = FINISH_REASONS.get(choice.finish_reason or "", FinishReason.UNKNOWN)
        completion = Completion(content, calls, finish, message.refusal or "")
        usage = counted(usage, said=bool(content or calls or message.refusal))
        return ProviderAnswer(completion, usage, answer.model or "", answer.id or "")

    def error_body(self, body: bytes, headers: Mapping[str, str]) -> ErrorBody:
        """`{"error": {...}}`, and the two other shapes that compatible servers use."""
        del headers
        try:
            answer = _decode_error(body)
        except _UNDECODABLE:
            return ErrorBody()
        if answer.error is None:
            return ErrorBody(message=answer.message or answer.detail or "")
        return _as_error_body(answer.error)

    def stream_parser(self, max_line_bytes: int, max_event_bytes: int) -> SseParser:
        """Server-sent events."""
        return SseParser(max_line_bytes, max_event_bytes)

    def stream_decoder(self) -> OpenAiStreamDecoder:
        """A decoder for one stream."""
        return OpenAiStreamDecoder()


class OpenAiStreamDecoder:
    """Folds `chat.completion.chunk` events. The answer is complete with [DONE], or with a finish reason at the end."""

    def __init__(self) -> None:
        self.done = False
        self._model = ""
        self._id = ""
        self._finish = ""
        self._usage: Usage | None = None
        self._calls = _StreamedCalls()
        self._delta = DeltaBuilder()

    @property
    def ending(self) -> bool:
        """See StreamDecoder: usage and [DONE] follow the finish reason."""
        return bool(self._finish)

    def feed(self, events: Sequence[ServerSentEvent]) -> Chunk | None:
        """One chunk for all events of one read."""
        alive = False
        delta = self._delta
        try:
            for event in events:
                if event.data == b"[DONE]":
                    self.done = True
                    return self._final()
                alive |= self._take(_decode_answer(event.data), delta)
        except _UNDECODABLE:
            raise broken("malformed-json") from None
        joined = self._delta.take()
        if joined is None and not alive:
            return None
        return Chunk(joined, self._model, self._id)

    def rest(self) -> Chunk | None:
        """See StreamDecoder."""
        joined = self._delta.take()
        return None if joined is None else Chunk(joined, self._model, self._id)

    def end(self) -> Chunk | None:
        """Some servers close without [DONE]: with a finish reason the answer was whole, without one it was cut."""
        if self.done:
            return None
        if not self._finish:
            raise broken("stream-ended-early")
        self.done = True
        return self._final()

    def _final(self) -> Chunk:
        if not self._finish:
            raise broken("no-finish-reason")
        joined, finish = self._delta.take(), FINISH_REASONS.get(self._finish, FinishReason.UNKNOWN)
        usage = counted(self._usage, said=self._delta.said)
        return Chunk(joined, self._model, self._id, finished=True, finish_reason=finish, usage=usage)

    def _take(self, chunk: _Answer, delta: DeltaBuilder) -> bool:
        """Adds one event; True when it shows the model at work."""
        if chunk.error is not None:
            raise ProviderError(error_answer(0, _as_error_body(chunk.error)))
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        if not self._model:
            self._model, self._id = chunk.model or "", chunk.id or ""
        # Only the first of several answers is relayed.
        if not chunk.choices or chunk.choices[0].index:
            return False
        choice, alive = chunk.choices[0], False
        if (piece := choice.delta) is not None:
            if content := piece.content:
                text = content if isinstance(content, str) else _text(content)
                delta.text(text)
                alive = not text
            if piece.refusal:
                delta.refusal(piece.refusal)
            if piece.tool_calls:
                self._take_calls(piece.tool_calls, delta)
            alive = alive or bool(piece.reasoning_content or piece.reasoning)
        if choice.finish_reason or choice.error is not None:
            self._finish = choice.finish_reason or self._finish
            _require_end(choice, self._usage)
        return alive

    def _take_calls(self, calls: Sequence[_ToolCall], delta: DeltaBuilder) -> None:
        for call in calls:
            call_id, (name, arguments) = _id(call), _name_and_arguments(call)
            delta.tool(self._calls.position(call.index, call_id, name), call_id, name, arguments)


class _StreamedCalls:
    """Which call a fragment belongs to: positions in the order in which calls begin."""

    def __init__(self) -> None:
        self._last_index = 0
        # By the provider's index, the position of the call that goes on there.
        self._open: dict[int, int] = {}
        self._ids: list[str] = []

    def position(self, index: int | None, call_id: str, name: str) -> int:
        """Ollama sends calls whole, all with index 0, and others without one: a new id beside a name begins a call.

        An id alone does not: there are servers that make up another one for each fragment. Raises ProviderError.
        """
        if index is not None:
            if not 0 <= index <= _MAX_INDEX:
                raise broken("tool-call-index")
            self._last_index = index
        position = self._open.get(self._last_index)
        if position is None or (name and call_id and self._ids[position] not in {"", call_id}):
            position = self._open[self._last_index] = len(self._ids)
            self._ids.append(call_id)
        self._ids[position] = self._ids[position] or call_id
        return position


def _text(content: str | Sequence[_Part] | None) -> str:
    """What is said, without what was thought and what is referred to."""
    if isinstance(content, str):
        return content
    return "".join(part.text or "" for part in content or () if part.type == "text")


def _require_end(choice: _Choice, usage: Usage | None) -> None:
    """Raises ProviderError where what came is no answer, or a part of one: its end says so."""
    if choice.error is not None:
        raise ProviderError(replace(error_answer(0, _as_error_body(choice.error)), usage=usage))
    if choice.finish_reason in _GAVE_UP:
        raise ProviderError(replace(broken("provider-gave-up").failure, usage=usage))


def _parse(body: bytes) -> _Answer:
    try:
        return _decode_answer(body)
    except _UNDECODABLE:
        raise broken("malformed-json") from None


def _as_error_body(error: _Error | str) -> ErrorBody:
    if isinstance(error, str):
        return ErrorBody(message=error)
    code = error.code if error.code not in {None, ""} else error.type
    return ErrorBody(str(code or ""), error.param or "", error.message or "")


def _id(call: _ToolCall) -> str:
    return call.id if isinstance(call.id, str) else "" if call.id is None else str(call.id)


def _name_and_arguments(call: _ToolCall) -> tuple[str, str]:
    function = call.function
    if function is None:
        return "", ""
    arguments = function.arguments
    text = msgspec.json.encode(arguments).decode() if isinstance(arguments, dict) else arguments or ""
    return function.name or "", text


def _usage(counts: Any) -> Usage | None:
    """None when the provider does not say both totals, or says what is no count."""
    if counts is None:
        return None
    try:
        usage = msgspec.convert(counts, _Usage)
    except (msgspec.ValidationError, RecursionError):
        return None
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    read, written = usage.prompt_tokens_details, usage.completion_tokens_details
    output_tokens, total = usage.completion_tokens, usage.total_tokens
    # xAI, and Gemini behind this API, count reasoning beside the answer, and only the total has it.
    if isinstance(total, int) and total <= MAX_TOKENS and output_tokens >= 0:
        output_tokens = max(output_tokens, total - usage.prompt_tokens)
    return usage_of(
        usage.prompt_tokens,
        output_tokens,
        cached=read.cached_tokens if read else 0,
        reasoning=written.reasoning_tokens if written else 0,
        cache_write=read.cache_write_tokens if read else 0,
    )
