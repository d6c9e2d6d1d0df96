"""GuardService on the wire: translation between the contract and the core, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import cast

import numpy as np
from llmops.common.v1 import chat_pb2, context_pb2, verdict_pb2
from llmops.guard.v1 import guard_pb2 as pb
from llmops.guard.v1 import guard_pb2_grpc

from services.guard.core.conversation import AnswerDelta, CallFragment, Message, Tool, Trust
from services.guard.core.errors import InvalidRequestError
from services.guard.core.findings import Action, MaskedValue, SchemaViolation, Verdict
from services.guard.core.guard import Guard
from services.guard.core.output_check import OutputCheck
from services.guard.core.ports import EncodedText

_TRUSTED, _UNTRUSTED = Trust.TRUSTED, Trust.UNTRUSTED
_UNTRUSTED_ROLES = frozenset((chat_pb2.CHAT_ROLE_USER, chat_pb2.CHAT_ROLE_TOOL))
_USER = chat_pb2.CHAT_ROLE_USER
_BLOCK = Action.BLOCK
_CUT = frozenset((chat_pb2.FINISH_REASON_LENGTH, chat_pb2.FINISH_REASON_CONTENT_FILTER, chat_pb2.FINISH_REASON_CUT))
_MAX_DETECTOR_BYTES = 128


class GuardApi(guard_pb2_grpc.GuardServiceServicer):
    """The servicer."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def CheckInput(self, request: pb.CheckInputRequest, context: object) -> pb.CheckInputResponse:
        """See guard.proto."""
        messages = list(map(_message, request.messages))
        tools = [Tool(tool.description, tool.parameters_json_schema) for tool in request.tools]
        checked = await self._guard.check_input(request.policy, messages, tools, embed=request.embed)
        response = pb.CheckInputResponse(
            verdict=_verdict(checked.verdict),
            language=checked.language,
            estimated_input_tokens=checked.estimated_input_tokens,
        )
        for index, message in checked.masked_messages.items():
            masked = _with_texts(request.messages[index], message)
            response.masked_messages.add(message_index=index, message=masked)
        if checked.masked_values:
            response.masked_values.extend(map(_masked_value, checked.masked_values))
        if checked.embedding is not None:
            response.embedding.CopyFrom(_embedding(self._guard.encoder_model, checked.embedding))
        return response

    async def CheckOutput(self, request: pb.CheckOutputRequest, context: object) -> pb.CheckOutputResponse:
        """See guard.proto."""
        check = await self._open(request)
        cut = request.completion.finish_reason in _CUT
        shown, verdict = await self._guard.check_whole(check, _whole(request.completion), cut=cut)
        response = pb.CheckOutputResponse(verdict=_verdict(verdict))
        if check.violations:
            response.schema_violations.extend(map(_violation, check.violations))
        if verdict.decision is not _BLOCK:
            _fill(response.completion, request.completion, shown)
        return response

    async def CheckOutputStream(
        self, request_iterator: AsyncIterator[pb.CheckOutputStreamRequest], context: object
    ) -> AsyncIterator[pb.CheckOutputStreamResponse]:
        """See guard.proto."""
        check: OutputCheck | None = None
        async for request in request_iterator:
            event = request.WhichOneof("event")
            if check is None or event == "open":
                check = await self._expect(event, check, request)
            if event == "delta":
                delta = request.delta
                shown = await self._guard.feed(check, _delta(delta))
                if shown is not None:
                    yield _release(shown, delta.citations)
            if event == "finish" or check.blocked:
                async for response in self._end(check, cut=request.finish.finish_reason in _CUT):
                    yield response
                return
        raise InvalidRequestError("event", "the stream ended without `finish`; nothing that is held was released")

    async def Anonymize(self, request: pb.AnonymizeRequest, context: object) -> pb.AnonymizeResponse:
        """See guard.proto."""
        texts, values = await self._guard.anonymize(request.policy, request.texts)
        return pb.AnonymizeResponse(texts=texts, masked_values=map(_masked_value, values))

    async def Restore(self, request: pb.RestoreRequest, context: object) -> pb.RestoreResponse:
        """See guard.proto."""
        return pb.RestoreResponse(texts=await self._guard.restore(request.texts, _values(request.masked_values)))

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        """See guard.proto."""
        encoded = await self._guard.embed(request.texts)
        return pb.EmbedResponse(embeddings=(_embedding(self._guard.encoder_model, text) for text in encoded))

    async def _open(self, opening: pb.CheckOutputRequest | pb.StreamOpen) -> OutputCheck:
        values = _values(opening.masked_values)
        return await self._guard.open_output(opening.policy, values, tuple(opening.sources), opening.json_schema)

    async def _expect(
        self, event: str | None, check: OutputCheck | None, request: pb.CheckOutputStreamRequest
    ) -> OutputCheck:
        """The check that an event belongs to: `open` comes first and once."""
        if (event == "open") is (check is not None):
            raise InvalidRequestError("event", "a stream begins with `open`, and has one")
        return await self._open(request.open) if check is None else check

    async def _end(self, check: OutputCheck, *, cut: bool) -> AsyncIterator[pb.CheckOutputStreamResponse]:
        rest, verdict = await self._guard.finish(check, cut=cut)
        if rest is not None:
            yield _release(rest, ())
        final = pb.StreamVerdict(verdict=_verdict(verdict), schema_violations=map(_violation, check.violations))
        yield pb.CheckOutputStreamResponse(verdict=final)


# From the wire


def _message(message: chat_pb2.ChatMessage) -> Message:
    role = message.role
    texts: tuple[str, ...] = (message.content,)
    if message.parts:
        texts += tuple(part.text for part in message.parts if part.WhichOneof("kind") == "text")
    arguments = tuple(call.arguments_json for call in message.tool_calls) if message.tool_calls else ()
    return Message(_UNTRUSTED if role in _UNTRUSTED_ROLES else _TRUSTED, texts, arguments, role == _USER)


def _values(values: Iterable[verdict_pb2.MaskedValue]) -> tuple[MaskedValue, ...]:
    return tuple(MaskedValue(value.token, value.value, value.kind) for value in values)


def _whole(completion: chat_pb2.Completion) -> AnswerDelta:
    calls: tuple[CallFragment, ...] = ()
    if completion.tool_calls:
        calls = tuple(CallFragment(index, call.arguments_json) for index, call in enumerate(completion.tool_calls))
    quotes = _quotes(completion.citations) if completion.citations else ()
    return AnswerDelta(completion.content, completion.refusal, calls, quotes)


def _delta(delta: chat_pb2.CompletionDelta) -> AnswerDelta:
    if not (delta.tool_calls or delta.citations):  # nearly every piece of nearly every answer
        return AnswerDelta(delta.content, delta.refusal)
    calls = tuple(CallFragment(call.index, call.arguments_json, call.id, call.name) for call in delta.tool_calls)
    return AnswerDelta(delta.content, delta.refusal, calls, _quotes(delta.citations))


def _quotes(citations: Sequence[chat_pb2.Citation]) -> tuple[str, ...]:
    return tuple(citation.quote for citation in citations)


# To the wire


def _decision(action: Action) -> verdict_pb2.GuardDecision:
    return cast("verdict_pb2.GuardDecision", action.value)  # the enums share their numbers; a test compares them


def _verdict(verdict: Verdict) -> verdict_pb2.GuardVerdict:
    message = verdict_pb2.GuardVerdict(
        decision=_decision(verdict.decision), policy=verdict.policy, policy_digest=verdict.policy_digest
    )
    if not verdict.findings and not verdict.normalisations:
        return message
    message.degraded = verdict.degraded
    message.normalisations.extend(verdict.normalisations)
    for finding in verdict.findings:
        message.findings.add(
            detector=finding.detector[:_MAX_DETECTOR_BYTES],
            category=finding.category,
            action=_decision(finding.action),
            score=finding.score,
            threshold=finding.threshold,
            message_index=finding.message_index,
            start_char=finding.start,
            end_char=finding.end,
            layer=finding.layer,
        )
    return message


def _masked_value(value: MaskedValue) -> verdict_pb2.MaskedValue:
    return verdict_pb2.MaskedValue(token=value.token, value=value.value, kind=value.kind)


def _violation(violation: SchemaViolation) -> pb.SchemaViolation:
    return pb.SchemaViolation(pointer=violation.pointer, rule=violation.rule)


def _embedding(model: str, encoded: EncodedText) -> context_pb2.Embedding:
    values = np.ascontiguousarray(encoded.vector, dtype="<f4").tobytes()
    return context_pb2.Embedding(model=model, values_f32_le=values, truncated=encoded.truncated)


def _with_texts(original: chat_pb2.ChatMessage, masked: Message) -> chat_pb2.ChatMessage:
    message = chat_pb2.ChatMessage()
    message.CopyFrom(original)
    message.content = masked.texts[0]
    text_parts = (part for part in message.parts if part.WhichOneof("kind") == "text")
    for part, text in zip(text_parts, masked.texts[1:], strict=True):
        part.text = text
    for call, arguments in zip(message.tool_calls, masked.arguments, strict=True):
        call.arguments_json = arguments
    return message


def _fill(completion: chat_pb2.Completion, original: chat_pb2.Completion, shown: AnswerDelta | None) -> None:
    """The answer with its texts replaced by what may be shown."""
    shown = shown or AnswerDelta()
    completion.CopyFrom(original)
    completion.content, completion.refusal = shown.content, shown.refusal
    if completion.tool_calls:
        arguments = {call.index: call.arguments for call in shown.calls}
        for index, call in enumerate(completion.tool_calls):
            call.arguments_json = arguments.get(index, "")
    if completion.citations:
        for citation, quote in zip(completion.citations, shown.quotes, strict=True):
            citation.quote = quote


def _release(shown: AnswerDelta, citations: Sequence[chat_pb2.Citation]) -> pb.CheckOutputStreamResponse:
    delta = chat_pb2.CompletionDelta(content=shown.content, refusal=shown.refusal)
    for call in shown.calls:
        delta.tool_calls.add(id=call.id, name=call.name, arguments_json=call.arguments, index=call.index)
    for citation, quote in zip(citations, shown.quotes, strict=True):
        delta.citations.add().CopyFrom(citation)
        delta.citations[-1].quote = quote
    return pb.CheckOutputStreamResponse(release=delta)
