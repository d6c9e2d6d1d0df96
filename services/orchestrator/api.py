"""The servicer: contract to coordinator and back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.orchestrator.v1 import orchestrator_pb2_grpc

from meshkit.calls import ServerCall
from meshkit.clock import Clock
from meshkit.context import current
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.embedding import Embedded, EmbeddingCoordinator
from services.orchestrator.core.model import Answer, Record, StreamEvent
from services.orchestrator.core.ports import Records

IDEMPOTENCY_KEY = "idempotency-key"
_REPLAYED = (("idempotent-replayed", "true"),)


class Reports(Protocol):
    """Answers and records in the contract's terms; an adapter, because the services' payloads are in them."""

    def report(self, record: Record) -> pb.CallReport:
        """The whole record."""
        ...

    def whole(self, answer: Answer) -> pb.CompleteResponse:
        """One answer."""
        ...

    def event(self, event: StreamEvent) -> pb.CompleteStreamResponse:
        """A piece of a stream."""
        ...

    def vectors(self, embedded: Embedded) -> pb.EmbedResponse:
        """Vectors and their report."""
        ...


class Keyed(Protocol):
    """Requests that came with an idempotency key; `on_replay` is called when the answer was made for another call."""

    async def complete(
        self, key: str, request: pb.Conversation, record: Record, on_replay: Callable[[], None]
    ) -> pb.CompleteResponse:
        """One answer."""
        ...

    def stream(
        self, key: str, request: pb.Conversation, record: Record, on_replay: Callable[[], None]
    ) -> AsyncGenerator[pb.CompleteStreamResponse, None]:
        """A stream."""
        ...

    async def embed(
        self, key: str, request: pb.EmbedRequest, record: Record, on_replay: Callable[[], None]
    ) -> pb.EmbedResponse:
        """Vectors."""
        ...


class OrchestratorApi(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """llmops.orchestrator.v1.OrchestratorService."""

    def __init__(
        self,
        coordinator: Coordinator,
        embeddings: EmbeddingCoordinator,
        keyed: Keyed,
        records: Records,
        reports: Reports,
        clock: Clock,
    ) -> None:
        self._coordinator = coordinator
        self._embeddings = embeddings
        self._keyed = keyed
        self._reports = reports
        self._records = records
        self._clock = clock

    async def Complete(self, request: pb.CompleteRequest, context: Any) -> pb.CompleteResponse:
        """See the contract."""
        record = self._record(request.request_id)
        key = context.metadata.get(IDEMPOTENCY_KEY)
        if key is not None:
            return await self._keyed.complete(key, request.conversation, record, _marking(context))
        return self._reports.whole(await self._coordinator.complete(request.conversation, record))

    async def CompleteStream(
        self, request: pb.CompleteStreamRequest, context: Any
    ) -> AsyncIterator[pb.CompleteStreamResponse]:
        """See the contract."""
        record = self._record(request.request_id)
        key = context.metadata.get(IDEMPOTENCY_KEY)
        if key is not None:
            async with aclosing(self._keyed.stream(key, request.conversation, record, _marking(context))) as messages:
                async for message in messages:
                    yield message
            return
        async with aclosing(self._coordinator.stream(request.conversation, record)) as events:
            async for event in events:
                yield self._reports.event(event)

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """See the contract."""
        record = self._record(request.request_id)
        key = context.metadata.get(IDEMPOTENCY_KEY)
        if key is not None:
            return await self._keyed.embed(key, request, record, _marking(context))
        return self._reports.vectors(await self._embeddings.embed(request, record))

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


def _marking(call: ServerCall) -> Callable[[], None]:
    def mark() -> None:
        call.trailers = _REPLAYED

    return mark
