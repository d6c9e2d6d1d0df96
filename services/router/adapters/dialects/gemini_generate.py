"""Google's Gemini API, `generateContent` and `streamGenerateContent`, version v1beta.

Field names after Google's API reference (GenerateContentRequest and GenerateContentResponse). System and developer
messages become `systemInstruction`. Thinking tokens are counted beside the answer there and inside the output here.
What has no counterpart: `parallel_tool_calls` and `strict` are left out; images must be data: URLs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from services.router.adapters.dialects.base import DeltaBuilder, counted, json_body, path_segment, raw_text, usage_of
from services.router.adapters.dialects.gemini_request import encode_body
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Completion, FinishReason, Usage
from services.router.core.failure import ErrorBody, ProviderError, broken, content_policy, error_answer
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from services.router.core.retry_after import parse_retry_delay
from services.router.core.sse import ServerSentEvent, SseParser


class _FunctionCall(msgspec.Struct, gc=False, rename="camel"):
    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"")


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    function_call: _FunctionCall | None = None


class _Content(msgspec.Struct, rename="camel"):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _UsageMetadata(msgspec.Struct, gc=False, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None


class _Detail(msgspec.Struct, gc=False, rename="camel"):
    reason: str | None = None
    retry_delay: str | None = None


class _Error(msgspec.Struct, rename="camel"):
    code: int | None = None
    message: str | None = None
    status: str | None = None
    details: list[_Detail] | None = None


class _Answer(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: _Error | None = None


class _ErrorAnswer(msgspec.Struct, rename="camel"):
    error: _Error | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
# Some front ends wrap the error into a list of one.
_decode_error = msgspec.json.Decoder(_ErrorAnswer | list[_ErrorAnswer]).decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FINISH_REASONS: Mapping[str, FinishReason] = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "SAFETY": FinishReason.CONTENT_FILTER,
    "RECITATION": FinishReason.CONTENT_FILTER,
    "BLOCKLIST": FinishReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "SPII": FinishReason.CONTENT_FILTER,
    "IMAGE_SAFETY": FinishReason.CONTENT_FILTER,
}
# The model wrote a call that is none; what there is of it is not sent.
_NO_ANSWER = {"MALFORMED_FUNCTION_CALL": "malformed-function-call", "UNEXPECTED_TOOL_CALL": "unexpected-tool-call"}


@dataclass(frozen=True, slots=True)
class GeminiGenerate:
    """The dialect."""

    request_id_header: str = ""

    def path(self, spec: ModelSpec, *, stream: bool) -> str:
        """The method is part of the path."""
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/models/{path_segment(spec.model.removeprefix('models/'))}:{method}"

    def headers(self, api_key: str, organisation: str, project: str) -> Mapping[str, str]:
        """The key in a header: in the URL, as the API allows too, it would end up in logs."""
        del organisation
        pairs = {"x-goog-api-key": api_key, "x-goog-user-project": project}
        return {name: value for name, value in pairs.items() if value}

    def encode(self, request: ProviderRequest, *, stream: bool) -> bytes:
        """The body; whether it streams is said by the path."""
        del stream
        return json_body(encode_body(request))

    def decode(self, body: bytes) -> ProviderAnswer:
        """The first candidate. A blocked prompt, and an answer blocked to nothing, are content-policy failures."""
        answer = _parse(body)
        fold = _Fold()
        fold.take(answer, delta := DeltaBuilder())
        if not fold.finish and not fold.said:
            raise broken("no-candidates")
        said = delta.take()
        completion = Completion(finish_reason=fold.finish_reason())
        if said is not None:
            completion = replace(completion, content=said.content, tool_calls=said.tool_calls)
        return ProviderAnswer(completion, fold.counted(), fold.model, fold.id)

    def error_body(self, body: bytes, headers: Mapping[str, str]) -> ErrorBody:
        """`{"error": {"code", "message", "status", "details"}}`."""
        del headers
        try:
            answer = _decode_error(body)
        except _UNDECODABLE:
            return ErrorBody()
        if isinstance(answer, list):
            answer = answer[0] if answer else _ErrorAnswer()
        return _as_error_body(answer.error) if answer.error is not None else ErrorBody()

    def stream_parser(self, max_line_bytes: int, max_event_bytes: int) -> SseParser:
        """Server-sent events."""
        return SseParser(max_line_bytes, max_event_bytes)

    def stream_decoder(self) -> GeminiStreamDecoder:
        """A decoder for one stream."""
        return GeminiStreamDecoder()


class _Fold:
    """What the answers of one call have said so far: one of them, or the many of a stream."""

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.finish = ""
        self.said = False
        self.usage: Usage | None = None
        self._calls = 0

    def take(self, answer: _Answer, delta: DeltaBuilder) -> bool:
        """Adds one answer; True when it shows the model at work. Raises ProviderError."""
        if answer.error is not None:
            raise ProviderError(error_answer(0, _as_error_body(answer.error)))
        self.usage = _usage(answer.usage_metadata) or self.usage
        self.model, self.id = self.model or answer.model_version or "", self.id or answer.response_id or ""
        feedback = answer.prompt_feedback
        if feedback is not None and feedback.block_reason:
            raise content_policy(feedback.block_reason, self.usage)
        # Only the first of several answers is relayed.
        if not answer.candidates or answer.candidates[0].index:
            return False
        candidate = answer.candidates[0]
        alive = False
        for part in (candidate.content.parts if candidate.content is not None else None) or ():
            alive |= self._part(part, delta)
        self.finish = candidate.finish_reason or self.finish
        self._check_finish()
        return alive

    def counted(self) -> Usage | None:
        """The usage, where it counts what was said."""
        return counted(self.usage, said=self.said)

    def finish_reason(self) -> FinishReason:
        """An answer that calls tools ends with STOP there."""
        finish = _FINISH_REASONS.get(self.finish, FinishReason.UNKNOWN)
        return FinishReason.TOOL_CALLS if self._calls and finish is FinishReason.STOP else finish

    def _part(self, part: _Part, delta: DeltaBuilder) -> bool:
        call = part.function_call
        if call is not None:
            arguments = raw_text(call.args) or "{}"
            delta.tool(self._calls, call.id or f"{self.id or 'call'}-{self._calls}", call.name or "", arguments)
            self._calls += 1
            self.said = True
        elif part.text and not part.thought:
            delta.text(part.text)
            self.said = True
        return bool(part.thought)

    def _check_finish(self) -> None:
        cause = _NO_ANSWER.get(self.finish)
        if cause is not None:
            raise _with_usage(broken(cause), self.usage)
        if self.said or not self.finish:
            return
        known = _FINISH_REASONS.get(self.finish)
        if known is FinishReason.CONTENT_FILTER:
            raise content_policy(self.finish, self.usage)
        if known is None:  # it ended for a reason that nobody here knows, and said nothing
            raise _with_usage(broken("empty-answer"), self.usage)


class GeminiStreamDecoder:
    """Folds whole answers that each carry a piece. There is no end mark: with a finish reason the answer is whole."""

    def __init__(self) -> None:
        self.done = False
        self._fold = _Fold()
        self._delta = DeltaBuilder()

    @property
    def ending(self) -> bool:
        """See StreamDecoder."""
        return bool(self._fold.finish)

    def feed(self, events: Sequence[ServerSentEvent]) -> Chunk | None:
        """One chunk for all events of one read."""
        alive = False
        for event in events:
            alive |= self._fold.take(_parse(event.data), self._delta)
        return self._chunk() or (Chunk(None, self._fold.model, self._fold.id) if alive else None)

    def rest(self) -> Chunk | None:
        """See StreamDecoder."""
        return self._chunk()

    def end(self) -> Chunk | None:
        """The end of the connection is the end of the answer."""
        if self.done:
            return None
        if not self._fold.finish:
            raise broken("stream-ended-early")
        self.done = True
        fold = self._fold
        return Chunk(
            self._delta.take(),
            fold.model,
            fold.id,
            finished=True,
            finish_reason=fold.finish_reason(),
            usage=fold.counted(),
        )

    def _chunk(self) -> Chunk | None:
        joined = self._delta.take()
        return None if joined is None else Chunk(joined, self._fold.model, self._fold.id)


def _parse(body: bytes) -> _Answer:
    try:
        return _decode_answer(body)
    except _UNDECODABLE:
        raise broken("malformed-json") from None


def _with_usage(error: ProviderError, usage: Usage | None) -> ProviderError:
    return ProviderError(replace(error.failure, usage=usage))


def _usage(usage: _UsageMetadata | None) -> Usage | None:
    """None when there is no count of the prompt; counts that are absent are zero, as protobuf writes them."""
    if usage is None or usage.prompt_token_count is None:
        return None
    thoughts = max(0, usage.thoughts_token_count or 0)
    return usage_of(
        usage.prompt_token_count + (usage.tool_use_prompt_token_count or 0),
        (usage.candidates_token_count or 0) + thoughts,
        cached=usage.cached_content_token_count,
        reasoning=thoughts,
    )


def _as_error_body(error: _Error) -> ErrorBody:
    """The most special word for it: the reason of an ErrorInfo, the status name, the number."""
    details = error.details or ()
    reason = next((detail.reason for detail in details if detail.reason), "")
    # A reason that we know nothing of must not hide the status.
    code = reason if reason == "API_KEY_INVALID" else error.status or str(error.code or "")
    waits = (parse_retry_delay(detail.retry_delay) for detail in details if detail.retry_delay)
    return ErrorBody(code, "", error.message or "", next((wait_s for wait_s in waits if wait_s is not None), None))
