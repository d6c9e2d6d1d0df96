"""What every dialect offers, and the small change they share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
import orjson

from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Completion, Delta, FinishReason, ToolCall, Usage
from services.router.core.errors import InvalidRequest
from services.router.core.failure import ErrorBody, ProviderError, broken, content_policy, unsupported
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from services.router.core.sse import ServerSentEvent

# What the ledger takes in one call. No window holds a hundredth of it.
MAX_TOKENS = 1_000_000_000

# The other thing that orjson refuses to write, in its words.
_LARGE_INTEGER = "64-bit range"


class StreamParser(Protocol):
    """Cuts the bytes of a stream into events."""

    def feed(self, chunk: bytes) -> tuple[list[ServerSentEvent], str]:
        """The events that `chunk` completes, and the failure that it reveals (kebab-case), empty when there is none."""
        ...


class StreamDecoder(Protocol):
    """Folds the events of one read into one chunk. Raises ProviderError for in-band errors and what is no answer."""

    done: bool

    @property
    def ending(self) -> bool:
        """Whether the text is complete: what is still to come is counts and end marks, and comes at once."""
        ...

    def feed(self, events: Sequence[ServerSentEvent]) -> Chunk | None:
        """What these events say; None when it is nothing that a caller could see."""
        ...

    def rest(self) -> Chunk | None:
        """What the events before the one said that made `feed` raise; None when it is nothing."""
        ...

    def end(self) -> Chunk | None:
        """The connection ended: the final chunk where the answer was complete anyway, None when there is none left.

        Raises ProviderError when the answer was not complete.
        """
        ...


class Dialect(Protocol):
    """One wire format. All functions are pure."""

    def path(self, spec: ModelSpec, *, stream: bool) -> str:
        """Where below the base URL a model answers, percent-encoded, with a query where the API asks for one."""
        ...

    @property
    def request_id_header(self) -> str:
        """Header that takes the caller's request id; empty when there is none."""
        ...

    def headers(self, api_key: str, organisation: str, project: str) -> Mapping[str, str]:
        """Headers of every request, credentials included."""
        ...

    def encode(self, request: ProviderRequest, *, stream: bool) -> bytes:
        """The request body. Raises InvalidRequest for malformed JSON fields, ProviderError for what it cannot say."""
        ...

    def decode(self, body: bytes) -> ProviderAnswer:
        """A complete answer. Raises ProviderError."""
        ...

    def error_body(self, body: bytes, headers: Mapping[str, str]) -> ErrorBody:
        """What an error answer says; empty when it is not in this dialect. `headers` ignore case. Never raises."""
        ...

    def stream_parser(self, max_line_bytes: int, max_event_bytes: int) -> StreamParser:
        """The framing of one stream, with limits on a line and on an event."""
        ...

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for one stream."""
        ...


@dataclass(frozen=True, slots=True)
class CallIds:
    """Which ids of tool calls an API takes: `form`, and `chars` of the ones that are made for others.

    A conversation may come from another provider, whose ids are refused, and the request with them.
    """

    form: re.Pattern[str]
    chars: int

    def fitting(self, call_id: str) -> str:
        """The id, or one that stands for it in the call and its result alike."""
        if self.form.fullmatch(call_id):
            return call_id
        return blake2b(call_id.encode(), digest_size=16).hexdigest()[: self.chars]


ANY_IDS = CallIds(re.compile(r"(?s).*"), 32)
# Anthropic's and Bedrock's.
WORD_IDS = CallIds(re.compile(r"[A-Za-z0-9_-]{1,64}"), 32)


def path_segment(name: str) -> str:
    """A model's name as one segment of a path: nothing in it can lead to another path or another host.

    Raises InvalidRequest for the two names that mean a place in the path even when they are encoded.
    """
    if name in {".", ".."}:
        raise InvalidRequest("call.model", "is configured with a provider's name that is no name")
    return quote(name, safe="")


def json_object(text: str, field_path: str) -> dict[str, Any]:
    """The JSON object that a request field carries as text. Raises InvalidRequest when it is none."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidRequest(field_path, "must be valid JSON") from None
    if not isinstance(value, dict):
        raise InvalidRequest(field_path, "must be a JSON object")
    return value


def data_url(url: str) -> tuple[str, str]:
    """Media type and base64 text of a data: URL. Raises ProviderError for one that is not in base64."""
    head, comma, data = url.removeprefix("data:").partition(",")
    media_type, _, encoding = head.partition(";")
    if not comma or encoding != "base64" or not media_type:
        raise unsupported("data-url-without-base64")
    return media_type, data


def tool_arguments(text: str) -> dict[str, Any]:
    """Arguments of a call in the history, for APIs that take objects only: the contract allows malformed ones."""
    try:
        return json_object(text, "arguments_json") if text else {}
    except InvalidRequest:
        raise unsupported("malformed-tool-arguments") from None


def json_body(body: dict[str, Any]) -> bytes:
    """The body as JSON. Raises InvalidRequest for what is nested deeper than orjson writes (254 levels)."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        with suppress(RecursionError):
            if _LARGE_INTEGER in str(error):
                return msgspec.json.encode(body)
        raise InvalidRequest("call", "a schema or a passed parameter is nested too deeply") from None


def raw_text(raw: msgspec.Raw) -> str:
    """JSON exactly as a provider wrote it. Raises ProviderError: msgspec does not look into what it leaves raw."""
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        raise broken("invalid-utf8") from None


def usage_of(
    input_tokens: int | None,
    output_tokens: int | None,
    *,
    cached: int | None = 0,
    reasoning: int | None = 0,
    cache_write: int | None = 0,
) -> Usage | None:
    """What a provider counts, None where a total is missing or a number is none that anybody can have used.

    A missing part of a total counts as zero, and so does a negative one.
    """
    if input_tokens is None or output_tokens is None or min(input_tokens, output_tokens) < 0:
        return None
    parts = max(0, cached or 0), max(0, reasoning or 0), max(0, cache_write or 0)
    largest = max(input_tokens, output_tokens, *parts)
    return Usage(input_tokens, output_tokens, *parts) if largest <= MAX_TOKENS else None


def counted(usage: Usage | None, *, said: bool) -> Usage | None:
    """The usage, None where it counts nothing for what was said: zeros, or the prompt alone, as early in a stream."""
    return None if usage is not None and said and not usage.output_tokens else usage


def with_content(answer: ProviderAnswer) -> ProviderAnswer:
    """The answer. Raises ProviderError for one without text, tool calls, refusal or finish reason: that is none."""
    completion = answer.completion
    if completion == Completion():
        raise broken("empty-answer")
    if completion == Completion(finish_reason=completion.finish_reason):
        require_said(completion.finish_reason, answer.usage)
    return answer


def require_said(finish: FinishReason, usage: Usage | None) -> None:
    """Of an answer in which nothing was said.

    Raises ProviderError where a filter let nothing of it through, and where it calls tools and names none.
    """
    if finish is FinishReason.CONTENT_FILTER:
        raise content_policy(finish.value, usage)
    if finish is FinishReason.TOOL_CALLS:
        raise ProviderError(replace(broken("no-tool-calls").failure, usage=usage))


class DeltaBuilder:
    """Joins the pieces that arrived together into one delta. Tool fragments join by their index.

    `said` is whether anything was taken so far.
    """

    __slots__ = ("_content", "_refusal", "_tools", "said")

    def __init__(self) -> None:
        self.said = False
        self._content: list[str] = []
        self._refusal: list[str] = []
        self._tools: dict[int, tuple[str, str, list[str]]] = {}

    def text(self, text: str) -> None:
        """Text of the answer."""
        self._content.append(text)

    def refusal(self, text: str) -> None:
        """Text of a refusal."""
        self._refusal.append(text)

    def tool(self, index: int, call_id: str, name: str, arguments: str) -> None:
        """A fragment of a tool call. An id or a name that a provider repeats on every fragment counts once."""
        known = self._tools.get(index)
        if known is None:
            self._tools[index] = (call_id, name, [arguments])
        else:
            self._tools[index] = (known[0] or call_id, known[1] or name, known[2])
            known[2].append(arguments)

    def take(self) -> Delta | None:
        """The delta, None when nothing was said since the last one."""
        content = "".join(self._content)
        self._content.clear()
        if not (self._refusal or self._tools):  # nearly every chunk of nearly every stream
            if not content:
                return None
            self.said = True
            return Delta(content)
        self.said = True
        refusal = "".join(self._refusal)
        tools = tuple(
            ToolCall(call_id, name, "".join(arguments), index)
            for index, (call_id, name, arguments) in sorted(self._tools.items())
        )
        self._refusal.clear()
        self._tools.clear()
        return Delta(content, tools, refusal)


FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}
