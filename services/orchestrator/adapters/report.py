"""A record in the contract's terms."""

from __future__ import annotations

from llmops.cache.v1 import cache_pb2
from llmops.common.v1 import chat_pb2, verdict_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.orchestrator.adapters.usage import usage_to
from services.orchestrator.core.embedding import Embedded
from services.orchestrator.core.model import Answer, CacheStatus, Continued, Delta, Record, Started, StreamEvent

CACHE_STATUS = {
    CacheStatus.MISS: cache_pb2.CACHE_STATUS_MISS,
    CacheStatus.EXACT: cache_pb2.CACHE_STATUS_EXACT,
    CacheStatus.SEMANTIC: cache_pb2.CACHE_STATUS_SEMANTIC,
    CacheStatus.STALE: cache_pb2.CACHE_STATUS_STALE,
    CacheStatus.BYPASS: cache_pb2.CACHE_STATUS_BYPASS,
}
_NANO = 1_000_000_000


class ContractReports:
    """Records as the api sends them."""

    def report(self, record: Record) -> pb.CallReport:
        """The report that travels with an answer and that Explain gives."""
        return _report(record)

    def whole(self, answer: Answer) -> pb.CompleteResponse:
        """One answer."""
        response = pb.CompleteResponse(report=_report(answer.record))
        assert isinstance(answer.completion, chat_pb2.Completion)
        response.completion.CopyFrom(answer.completion)
        return response

    def event(self, event: StreamEvent) -> pb.CompleteStreamResponse:
        """A piece of a stream."""
        if isinstance(event, Delta):
            return _delta(event.payload)
        if isinstance(event, Continued):
            return pb.CompleteStreamResponse(continued=pb.StreamContinued(model=event.model))
        if isinstance(event, Started):
            return pb.CompleteStreamResponse(started=_started(event.record))
        finished = pb.StreamFinished(finish_reason=_finish_reason(event.completion), report=_report(event.record))
        return pb.CompleteStreamResponse(finished=finished)

    def vectors(self, embedded: Embedded) -> pb.EmbedResponse:
        """Vectors and their report."""
        assert isinstance(embedded.payload, pb.EmbedResponse)
        embedded.payload.report.CopyFrom(_report(embedded.record))
        return embedded.payload


def _delta(payload: object) -> pb.CompleteStreamResponse:
    if isinstance(payload, chat_pb2.Completion):
        payload = delta_of(payload)
    assert isinstance(payload, chat_pb2.CompletionDelta)
    return pb.CompleteStreamResponse(delta=payload)


def delta_of(completion: chat_pb2.Completion) -> chat_pb2.CompletionDelta:
    """A whole answer as the one piece of a stream."""
    return chat_pb2.CompletionDelta(
        content=completion.content,
        refusal=completion.refusal,
        tool_calls=completion.tool_calls,
        citations=completion.citations,
    )


def _finish_reason(completion: object) -> chat_pb2.FinishReason:
    return completion.finish_reason if isinstance(completion, chat_pb2.Completion) else chat_pb2.FINISH_REASON_STOP


def _started(record: Record) -> pb.StreamStarted:
    return pb.StreamStarted(
        request_id=record.request_id,
        trace_id=record.trace_id,
        model=record.model,
        prompt_version=record.prompt_version,
        cache_status=CACHE_STATUS[record.cache_status],
        rates=_rates(record) if record.rates else None,
        degraded=record.degraded,
    )


def _rates(record: Record) -> list[pb.RateLimit]:
    messages = []
    for rate in record.rates:
        message = pb.RateLimit(unit=rate.unit, limit_count=rate.limit_count, remaining_count=rate.remaining_count)
        message.reset_after.FromNanoseconds(int(rate.reset_after_s * _NANO))
        messages.append(message)
    return messages


def _report(record: Record) -> pb.CallReport:
    report = pb.CallReport(
        request_id=record.request_id,
        trace_id=record.trace_id,
        prompt_version=record.prompt_version,
        prompt_arm=record.prompt_arm,
        model=record.model,
        cache_status=CACHE_STATUS[record.cache_status],
        cache_entry_id=record.cache_entry_id,
        cost_nano_usd=record.cost_nano_usd,
        usage=usage_to(record.usage),
        degraded=record.degraded,
        grounding_score=record.grounding_score,
        rates=_rates(record) if record.rates else None,
    )
    if record.attempts is not None:
        report.attempts.extend(record.attempts)  # type: ignore[arg-type]
    for name, verdict in (("input_verdict", record.input_verdict), ("output_verdict", record.output_verdict)):
        if isinstance(verdict, verdict_pb2.GuardVerdict):
            getattr(report, name).CopyFrom(verdict)
    for step, seconds in record.steps:
        report.steps.add(step=step).duration.FromNanoseconds(int(seconds * _NANO))
    report.duration.FromNanoseconds(int(record.duration_s * _NANO))
    report.accept_time.FromNanoseconds(record.accepted_ns)
    return report
