"""A record in the contract's terms."""

from __future__ import annotations

from llmops.cache.v1 import cache_pb2
from llmops.common.v1 import verdict_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.orchestrator.adapters.usage import usage_to
from services.orchestrator.core.model import CacheStatus, Record

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

    def started(self, record: Record) -> pb.StreamStarted:
        """The first event of a stream."""
        return pb.StreamStarted(
            request_id=record.request_id,
            trace_id=record.trace_id,
            model=record.model,
            prompt_version=record.prompt_version,
            cache_status=CACHE_STATUS[record.cache_status],
        )


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
