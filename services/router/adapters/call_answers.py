"""What came of a call: answers, usage and attempts in the contract's terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmops.common.v1 import chat_pb2, usage_pb2
from llmops.router.v1 import router_pb2 as pb

from services.router.core import chat
from services.router.core.attempts import Attempt, Purpose
from services.router.core.embeddings import Embedded
from services.router.core.failure import Outcome
from services.router.core.router import Answer, Continued, Finished, Started, StreamEvent
from services.router.core.tries import Tried

_FINISH_REASONS = {
    chat.FinishReason.UNKNOWN: chat_pb2.FINISH_REASON_UNSPECIFIED,
    chat.FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    chat.FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    chat.FinishReason.TOOL_CALLS: chat_pb2.FINISH_REASON_TOOL_CALLS,
    chat.FinishReason.CONTENT_FILTER: chat_pb2.FINISH_REASON_CONTENT_FILTER,
}
_OUTCOMES = {
    None: pb.ATTEMPT_OUTCOME_UNSPECIFIED,
    Outcome.SUCCEEDED: pb.ATTEMPT_OUTCOME_SUCCEEDED,
    Outcome.REFUSED: pb.ATTEMPT_OUTCOME_REFUSED,
    Outcome.RATE_LIMITED: pb.ATTEMPT_OUTCOME_RATE_LIMITED,
    Outcome.TIMED_OUT: pb.ATTEMPT_OUTCOME_TIMED_OUT,
    Outcome.NOT_CONNECTED: pb.ATTEMPT_OUTCOME_NOT_CONNECTED,
    Outcome.BROKEN: pb.ATTEMPT_OUTCOME_BROKEN,
    Outcome.CANCELLED: pb.ATTEMPT_OUTCOME_CANCELLED,
}
_PURPOSES = {purpose: pb.AttemptPurpose.Value(f"ATTEMPT_PURPOSE_{purpose.value}") for purpose in Purpose}


class CallAnswers:
    """Answers as the api sends them. Filled in place: a message that is handed to a constructor is copied."""

    def whole(self, answer: Answer) -> pb.CompleteResponse:
        """Of Complete."""
        response = pb.CompleteResponse()
        _fill_whole(response, answer)
        return response

    def step(self, step: Tried | Answer) -> pb.CompleteWithTriesResponse:
        """A step of CompleteWithTries."""
        response = pb.CompleteWithTriesResponse()
        if isinstance(step, Tried):
            _fill_attempts(response.tries.attempts, step.attempts)
        else:
            _fill_whole(response.answer, step)
        return response

    def event(self, event: StreamEvent) -> pb.CompleteStreamResponse:
        """A piece of CompleteStream."""
        response = pb.CompleteStreamResponse()
        if isinstance(event, chat.Delta):
            _fill_delta(response.delta, event)
        elif isinstance(event, Started):
            response.started.served_model = event.served_model
            _fill_attempts(response.started.attempts, event.attempts)
        elif isinstance(event, Continued):
            response.continued.served_model = event.served_model
            _fill_attempts(response.continued.attempts, event.attempts)
        elif isinstance(event, Tried):
            _fill_attempts(response.tries.attempts, event.attempts)
        else:
            _fill_finished(response.finished, event)
        return response

    def vectors(self, embedded: Embedded) -> pb.EmbedResponse:
        """Of Embed."""
        response = pb.EmbedResponse()
        _fill_vectors(response, embedded)
        return response

    def vectors_step(self, step: Tried | Embedded) -> pb.EmbedWithTriesResponse:
        """A step of EmbedWithTries."""
        response = pb.EmbedWithTriesResponse()
        if isinstance(step, Tried):
            _fill_attempts(response.tries.attempts, step.attempts)
        else:
            _fill_vectors(response.answer, step)
        return response


def _fill_whole(target: pb.CompleteResponse, answer: Answer) -> None:
    target.served_model, target.provider_response_id = answer.served_model, answer.response_id
    completion = answer.completion
    target.completion.content = completion.content
    target.completion.finish_reason = _FINISH_REASONS[completion.finish_reason]
    target.completion.refusal = completion.refusal
    target.completion.tool_calls.extend(_tool_call(call) for call in completion.tool_calls)
    target.completion.citations.extend(_citation(citation) for citation in completion.citations)
    _fill_usage(target.usage, answer.usage)
    _fill_attempts(target.attempts, answer.attempts)


def _fill_vectors(target: pb.EmbedResponse, embedded: Embedded) -> None:
    target.values_f32_le = embedded.vectors.astype("<f4", copy=False).tobytes()
    target.dimensions = embedded.vectors.shape[1]
    target.vector_space, target.served_model = embedded.vector_space, embedded.served_model
    _fill_usage(target.usage, embedded.usage)
    _fill_attempts(target.attempts, embedded.attempts)


def _fill_delta(target: chat_pb2.CompletionDelta, delta: chat.Delta) -> None:
    target.content = delta.content
    if delta.tool_calls or delta.refusal or delta.citations:  # hardly any chunk of hardly any stream
        target.refusal = delta.refusal
        target.tool_calls.extend(_tool_call(call) for call in delta.tool_calls)
        target.citations.extend(_citation(citation) for citation in delta.citations)


def _fill_finished(target: pb.StreamFinished, event: Finished) -> None:
    target.finish_reason = _FINISH_REASONS[event.finish_reason]
    target.provider_response_id = event.response_id
    _fill_usage(target.usage, event.usage)
    _fill_attempts(target.attempts, event.attempts)


def _tool_call(call: chat.ToolCall) -> chat_pb2.ToolCall:
    return chat_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json, index=call.index)


def _citation(citation: chat.Citation) -> chat_pb2.Citation:
    return chat_pb2.Citation(
        index=citation.index,
        message_index=citation.message_index,
        start_char=citation.start_char,
        end_char=citation.end_char,
        quote=citation.quote,
    )


def _fill_usage(target: usage_pb2.Usage, usage: chat.Usage) -> None:
    target.input_tokens = usage.input_tokens
    target.output_tokens = usage.output_tokens
    target.cached_input_tokens = usage.cached_input_tokens
    target.reasoning_tokens = usage.reasoning_tokens
    target.cache_write_input_tokens = usage.cache_write_input_tokens
    target.estimated = usage.estimated


def _fill_attempts(target: Any, attempts: Sequence[Attempt]) -> None:
    """A running try has no outcome yet and is sent as unspecified."""
    for attempt in attempts:
        row = target.add(
            model_name=attempt.model_name,
            provider=attempt.provider,
            model=attempt.model,
            outcome=_OUTCOMES[attempt.outcome],
            http_status=attempt.http_status,
            cause=attempt.cause,
            purpose=_PURPOSES[attempt.purpose],
        )
        row.duration.FromNanoseconds(round(attempt.duration_s * 1e9))
        if attempt.usage is not None:
            _fill_usage(row.usage, attempt.usage)
