"""OpenAI's responses, without the state that the API offers: every request carries its conversation, nothing is stored.

Field and event names after the OpenAI API reference, "Responses" and "Streaming events". What has no counterpart:
`seed`, penalties and the names of speakers are left out; `stop` goes to the next candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from services.router.adapters.dialects.base import DeltaBuilder, counted, json_body, usage_of
from services.router.adapters.dialects.openai_responses_request import encode_body
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Completion, FinishReason, ToolCall, Usage
from services.router.core.failure import ErrorBody, ProviderError, broken, error_answer
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from services.router.core.sse import ServerSentEvent, SseParser


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    type: str = ""
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[_Part] | None = None


class _Error(msgspec.Struct, gc=False):
    message: str | None = None
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[_Item] | None = None
    usage: _Usage | None = None
    error: _Error | None = None
    incomplete_details: _Incomplete | None = None


class _Event(msgspec.Struct):
    type: str = ""
    output_index: int = 0
    # An object in some events that nobody here reads.
    delta: str | dict[str, Any] | None = None
    item: _Item | None = None
    response: _Response | None = None
    error: _Error | None = None
    message: str | None = None
    code: str | int | None = None


class _ErrorAnswer(msgspec.Struct):
    error: _Error | None = None


_decode_response = msgspec.json.Decoder(_Response).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_error = msgspec.json.Decoder(_ErrorAnswer).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_INCOMPLETE = {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}


@dataclass(frozen=True, slots=True)
class OpenAiResponses:
    """The dialect."""

    request_id_header: str = "x-client-request-id"

    def path(self, spec: ModelSpec, *, stream: bool) -> str:
        """The same for all models."""
        return "/responses"

    def headers(self, api_key: str, organisation: str, project: str) -> Mapping[str, str]:
        """Bearer credential and OpenAI's tenancy headers."""
        pairs = {
            "authorization": f"Bearer {api_key}" if api_key else "",
            "openai-organization": organisation,
            "openai-project": project,
        }
        return {name: value for name, value in pairs.items() if value}

    def encode(self, request: ProviderRequest, *, stream: bool) -> bytes:
        """The body, which forbids that the answer is stored."""
        return json_body(encode_body(request, stream=stream))

    def decode(self, body: bytes) -> ProviderAnswer:
        """Texts joined, function calls as tool calls, reasoning left out. A failed response is an error."""
        try:
            response = _decode_response(body)
        except _UNDECODABLE:
            raise broken("malformed-json") from None
        _require_success(response)
        if response.output is None:
            raise broken("no-output")
        parts = [part for item in response.output if item.type == "message" for part in item.content or ()]
        tools = [item for item in response.output if item.type == "function_call"]
        calls = tuple(
            ToolCall(item.call_id or "", item.name or "", item.arguments or "", index)
            for index, item in enumerate(tools)
        )
        completion = Completion(
            "".join(part.text or "" for part in parts if part.type == "output_text"),
            calls,
            _finish(response, has_calls=bool(calls)),
            "".join(part.refusal or "" for part in parts if part.type == "refusal"),
        )
        usage = counted(_usage(response.usage), said=bool(completion.content or calls or completion.refusal))
        return ProviderAnswer(completion, usage, response.model or "", response.id or "")

    def error_body(self, body: bytes, headers: Mapping[str, str]) -> ErrorBody:
        """`{"error": {...}}`, as for chat completions."""
        del headers
        try:
            answer = _decode_error(body)
        except _UNDECODABLE:
            return ErrorBody()
        return _as_error_body(answer.error) if answer.error is not None else ErrorBody()

    def stream_parser(self, max_line_bytes: int, max_event_bytes: int) -> SseParser:
        """Server-sent events."""
        return SseParser(max_line_bytes, max_event_bytes)

    def stream_decoder(self) -> OpenAiResponsesStreamDecoder:
        """A decoder for one stream."""
        return OpenAiResponsesStreamDecoder()


class OpenAiResponsesStreamDecoder:
    """Folds typed events. The answer is complete with response.completed or response.incomplete."""

    def __init__(self) -> None:
        self.done = False
        self._model = ""
        self._id = ""
        self._last = _Response()
        # Output index of a call, to its position among the calls and to whether its arguments have begun.
        self._calls: dict[int, int] = {}
        self._begun: set[int] = set()
        self._began_calls = 0
        self._call_ids: set[str] = set()
        # Output indexes of the messages whose text has begun.
        self._spoken: set[int] = set()
        self._delta = DeltaBuilder()

    @property
    def ending(self) -> bool:
        """See StreamDecoder: the text's end is told by the last event alone."""
        return self.done

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
        return None if joined is None and not alive else Chunk(joined, self._model, self._id)

    def rest(self) -> Chunk | None:
        """See StreamDecoder."""
        joined = self._delta.take()
        return None if joined is None else Chunk(joined, self._model, self._id)

    def end(self) -> Chunk | None:
        """Without the last event nobody knows whether the answer was whole."""
        if self.done:
            return None
        raise broken("stream-ended-early")

    def _final(self) -> Chunk:
        joined, finish = self._delta.take(), _finish(self._last, has_calls=bool(self._began_calls))
        usage = counted(_usage(self._last.usage), said=self._delta.said)
        return Chunk(joined, self._model, self._id, finished=True, finish_reason=finish, usage=usage)

    def _take(self, event: _Event, delta: DeltaBuilder) -> bool:
        """Adds one event; True when it shows the model at work. Unknown events are skipped: new ones keep coming."""
        kind = event.type
        text = event.delta if isinstance(event.delta, str) else ""
        if kind == "response.output_text.delta":
            if text:
                self._spoken.add(event.output_index)
                delta.text(text)
        elif kind == "response.refusal.delta":
            self._spoken.add(event.output_index)
            delta.refusal(text)
        elif kind == "response.function_call_arguments.delta":
            self._arguments(event.output_index, text, delta)
        elif event.item is not None:
            return self._take_item(event, event.item, delta)
        elif kind == "error":
            error = event.error or _Error(message=event.message, code=event.code)
            raise ProviderError(error_answer(0, _as_error_body(error)))
        elif event.response is not None:
            self._take_response(kind, event.response, delta)
        return kind.startswith("response.reasoning")

    def _take_item(self, event: _Event, item: _Item, delta: DeltaBuilder) -> bool:
        """Some servers send an item whole, when it is done, without the pieces that come before."""
        index = event.output_index
        if item.type == "function_call":
            if event.type == "response.output_item.added" or index not in self._calls:
                self._begin_call(index, item, delta)
            if index not in self._begun:
                self._arguments(index, item.arguments or "", delta)
        elif event.type == "response.output_item.done" and index not in self._spoken:
            self._say(index, item, delta)
        return item.type == "reasoning"

    def _begin_call(self, index: int, item: _Item, delta: DeltaBuilder) -> None:
        self._calls[index] = self._began_calls
        self._began_calls += 1
        self._call_ids.add(item.call_id or "")
        self._begun.discard(index)
        delta.tool(self._calls[index], item.call_id or "", item.name or "", "")

    def _say(self, index: int, item: _Item, delta: DeltaBuilder) -> None:
        """The text of a whole message; that of reasoning is left out."""
        for part in (item.content if item.type == "message" else None) or ():
            if part.type == "output_text" and part.text:
                self._spoken.add(index)
                delta.text(part.text)
            elif part.type == "refusal" and part.refusal:
                self._spoken.add(index)
                delta.refusal(part.refusal)

    def _take_rest(self, response: _Response, delta: DeltaBuilder) -> None:
        """What only the last event says. Positions in it are not everywhere those of the events before."""
        silent = not self._spoken
        for position, item in enumerate(response.output or ()):
            index = -1 - position
            if item.type == "function_call" and item.call_id and item.call_id not in self._call_ids:
                self._begin_call(index, item, delta)
                self._arguments(index, item.arguments or "", delta)
            elif silent:
                self._say(index, item, delta)

    def _arguments(self, index: int, arguments: str, delta: DeltaBuilder) -> None:
        if arguments and index in self._calls:
            self._begun.add(index)
            delta.tool(self._calls[index], "", "", arguments)

    def _take_response(self, kind: str, response: _Response, delta: DeltaBuilder) -> None:
        self._model, self._id = self._model or response.model or "", self._id or response.id or ""
        if kind == "response.failed":
            raise _failed(response)
        if kind in {"response.completed", "response.incomplete"}:
            _require_success(response)
            self._take_rest(response, delta)
            self._last = response
            self.done = True


def _require_success(response: _Response) -> None:
    if response.error is not None or response.status in {"failed", "cancelled"}:
        raise _failed(response)


def _failed(response: _Response) -> ProviderError:
    """Whatever it used until then is on the bill."""
    failure = error_answer(0, _as_error_body(response.error or _Error()))
    return ProviderError(replace(failure, usage=_usage(response.usage)))


def _finish(response: _Response, *, has_calls: bool) -> FinishReason:
    if response.status == "incomplete" or response.incomplete_details is not None:
        reason = response.incomplete_details.reason if response.incomplete_details is not None else None
        return _INCOMPLETE.get(reason or "", FinishReason.UNKNOWN)
    return FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP


def _as_error_body(error: _Error) -> ErrorBody:
    code = error.code if error.code not in {None, ""} else error.type
    return ErrorBody(str(code or ""), error.param or "", error.message or "")


def _usage(usage: _Usage | None) -> Usage | None:
    """None when the provider does not say both totals."""
    if usage is None:
        return None
    read, written = usage.input_tokens_details, usage.output_tokens_details
    return usage_of(
        usage.input_tokens,
        usage.output_tokens,
        cached=read.cached_tokens if read else 0,
        reasoning=written.reasoning_tokens if written else 0,
        cache_write=read.cache_write_tokens if read else 0,
    )
