"""The servicer: contract to coordinator and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.orchestrator.v1 import orchestrator_pb2_grpc

from meshkit.clock import Clock
from meshkit.context import current
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.model import Delta, Record, Started
from services.orchestrator.core.ports import Records


class Reports(Protocol):
    """Records in the contract's terms; an adapter, because the services' payloads are in them."""

    def report(self, record: Record) -> pb.CallReport:
        """The whole record."""
        ...

    def started(self, record: Record) -> pb.StreamStarted:
        """What is known when a stream begins."""
        ...


class OrchestratorApi(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """llmops.orchestrator.v1.OrchestratorService."""

    def __init__(self, coordinator: Coordinator, records: Records, reports: Reports, clock: Clock) -> None:
        self._coordinator = coordinator
        self._reports = reports
        self._records = records
        self._clock = clock

    async def Complete(self, request: pb.CompleteRequest, context: object) -> pb.CompleteResponse:
        """See the contract."""
        answer = await self._coordinator.complete(request.conversation, self._record(request.request_id))
        response = pb.CompleteResponse(report=self._reports.report(answer.record))
        assert isinstance(answer.completion, chat_pb2.Completion)
        response.completion.CopyFrom(answer.completion)
        return response

    async def CompleteStream(
        self, request: pb.CompleteStreamRequest, context: object
    ) -> AsyncIterator[pb.CompleteStreamResponse]:
        """See the contract."""
        events = self._coordinator.stream(request.conversation, self._record(request.request_id))
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Delta):
                    yield _delta(event.payload)
                elif isinstance(event, Started):
                    yield pb.CompleteStreamResponse(started=self._reports.started(event.record))
                else:
                    report = self._reports.report(event.record)
                    reason = _finish_reason(event.completion)
                    yield pb.CompleteStreamResponse(finished=pb.StreamFinished(finish_reason=reason, report=report))

    async def Explain(self, request: pb.ExplainRequest, context: object) -> pb.ExplainResponse:
        """See the contract."""
        record = self._records.get(current().principal.organisation, request.request_id)
        return pb.ExplainResponse(
            report=self._reports.report(record), status=record.status, reason=record.reason, message=record.message
        )

    def _record(self, request_id: str) -> Record:
        call = current()
        return Record(
            request_id or call.request_id, call.trace.trace_id, call.principal.organisation, self._clock.time_ns()
        )


def _delta(payload: object) -> pb.CompleteStreamResponse:
    if isinstance(payload, chat_pb2.Completion):
        payload = chat_pb2.CompletionDelta(
            content=payload.content,
            refusal=payload.refusal,
            tool_calls=payload.tool_calls,
            citations=payload.citations,
        )
    assert isinstance(payload, chat_pb2.CompletionDelta)
    return pb.CompleteStreamResponse(delta=payload)


def _finish_reason(completion: object) -> chat_pb2.FinishReason:
    return completion.finish_reason if isinstance(completion, chat_pb2.Completion) else chat_pb2.FINISH_REASON_STOP
