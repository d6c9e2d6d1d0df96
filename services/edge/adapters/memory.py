"""Twins of the edge's ports: an orchestrator that echoes, a sink that keeps, an observer that remembers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llmops.cache.v1 import cache_pb2
from llmops.common.v1 import chat_pb2, usage_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.dialects import DIALECTS
from services.edge.adapters.embeddings import read_embeddings, written_vectors
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.errors import CallFailed, SlowReader
from services.edge.core.origin import CallTerms
from services.edge.core.ports import CHAT, ChatAnswer, ChatRequest, EmbeddingsRequest, ListedModel

_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
_NANO_USD_PER_WORD = 1_000


def echo_events(conversation: pb.Conversation, request_id: str) -> Iterator[pb.CompleteStreamResponse]:
    """A stream that says the last message again, word by word. A word is a token and costs 1,000 nano-USD."""
    words = conversation.messages[-1].content.split(" ") if conversation.messages else []
    started = pb.StreamStarted(
        request_id=request_id,
        trace_id=_TRACE_ID,
        model="memory/echo",
        cache_status=cache_pb2.CACHE_STATUS_MISS,
    )
    yield pb.CompleteStreamResponse(started=started)
    for position, word in enumerate(words):
        piece = f" {word}" if position else word
        yield pb.CompleteStreamResponse(delta=chat_pb2.CompletionDelta(content=piece))
    report = pb.CallReport(
        request_id=request_id,
        trace_id=_TRACE_ID,
        model="memory/echo",
        cache_status=cache_pb2.CACHE_STATUS_MISS,
        cost_nano_usd=_NANO_USD_PER_WORD * len(words),
        usage=usage_pb2.Usage(input_tokens=len(words), output_tokens=len(words)),
    )
    yield pb.CompleteStreamResponse(
        finished=pb.StreamFinished(finish_reason=chat_pb2.FINISH_REASON_STOP, report=report)
    )


def echo_response(conversation: pb.Conversation, request_id: str) -> pb.CompleteResponse:
    """The same as one answer."""
    response = pb.CompleteResponse()
    for event in echo_events(conversation, request_id):
        response.completion.content += event.delta.content
        if event.HasField("finished"):
            response.completion.finish_reason = event.finished.finish_reason
            response.report.CopyFrom(event.finished.report)
    return response


@dataclass
class MemoryChat:
    """Echoes. `failure` is raised before event `fail_at`; `hang_at` waits there until the caller leaves."""

    failure: CallFailed | None = None
    fail_at: int = 0
    hang_at: int | None = None
    ended: int = 0
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, body: bytes, dialect: str = CHAT) -> ChatRequest:
        """See Chat."""
        return DIALECTS[dialect].read(body)

    async def complete(self, request: ChatRequest, terms: CallTerms, created_s: int) -> ChatAnswer:
        """See Chat."""
        assert isinstance(request.call, pb.CompleteRequest)
        try:
            await self._pause(0)
            response = echo_response(request.call.conversation, terms.origin.request_id)
            return DIALECTS[request.dialect].whole(response, request, terms.origin.request_id, created_s)
        finally:
            self.ended += 1

    async def stream(
        self, request: ChatRequest, terms: CallTerms, created_s: int
    ) -> AsyncGenerator[AnswerFacts | bytes, None]:
        """See Chat."""
        assert isinstance(request.call, pb.CompleteStreamRequest)
        writer = DIALECTS[request.dialect].writer(request, terms.origin.request_id, created_s)
        events = echo_events(request.call.conversation, terms.origin.request_id)
        try:
            for position, event in enumerate(events):
                await self._pause(position)
                for item in writer.frames(event):
                    yield item
        finally:
            self.ended += 1
        writer.require_finished()

    async def _pause(self, position: int) -> None:
        if self.failure is not None and position == self.fail_at:
            raise self.failure
        if position == self.hang_at:
            self.waiting.set()
            await asyncio.Event().wait()


def length_vectors(request: pb.EmbedRequest, request_id: str) -> pb.EmbedResponse:
    """Two numbers for each text: its length and 1. A character is a token and costs 1,000 nano-USD."""
    lengths = [len(text) for text in request.texts]
    values = b"".join(struct.pack("<2f", length, 1.0) for length in lengths)
    report = pb.CallReport(
        request_id=request_id,
        trace_id=_TRACE_ID,
        model="memory/length",
        cache_status=cache_pb2.CACHE_STATUS_BYPASS,
        cost_nano_usd=_NANO_USD_PER_WORD * sum(lengths),
        usage=usage_pb2.Usage(input_tokens=sum(lengths)),
    )
    return pb.EmbedResponse(values_f32_le=values, dimensions=2, vector_space="length", report=report)


@dataclass
class MemoryEmbeddings:
    """Vectors of lengths. `failure` is raised instead."""

    failure: CallFailed | None = None

    async def read(self, body: bytes) -> EmbeddingsRequest:
        """See Embeddings."""
        return read_embeddings(body)

    async def embed(self, request: EmbeddingsRequest, terms: CallTerms) -> ChatAnswer:
        """See Embeddings."""
        if self.failure is not None:
            raise self.failure
        assert isinstance(request.call, pb.EmbedRequest)
        return written_vectors(length_vectors(request.call, terms.origin.request_id), request)


@dataclass
class MemoryModels:
    """A fixed list."""

    models: Sequence[ListedModel] = ()

    async def list(self, terms: CallTerms) -> Sequence[ListedModel]:
        """See Models."""
        return self.models


@dataclass
class MemoryProbes:
    """A process whose state is set by hand."""

    failing: dict[str, str] = field(default_factory=dict)
    text: bytes = b""

    async def readiness(self) -> Mapping[str, str]:
        """See Probes."""
        return self.failing

    async def metrics(self) -> bytes:
        """See Probes."""
        return self.text


@dataclass
class MemoryObserver:
    """Remembers what it was told."""

    answers: list[tuple[str, int]] = field(default_factory=list)
    first_events: int = 0
    failures: list[str] = field(default_factory=list)

    def answered(self, route: str, http_status: int, duration_s: float) -> None:
        """See Observer."""
        self.answers.append((route, http_status))

    def first_event(self, duration_s: float) -> None:
        """See Observer."""
        self.first_events += 1

    def stream_failed(self, reason: str) -> None:
        """See Observer."""
        self.failures.append(reason)


@dataclass
class MemorySink:
    """A client that keeps every frame; `stuck` stops reading, `gone` has left."""

    headers: dict[str, str] | None = None
    frames: list[bytes] = field(default_factory=list)
    stuck: bool = False
    gone: bool = False

    @property
    def opened(self) -> bool:
        """See EventSink."""
        return self.headers is not None

    async def open(self, headers: Mapping[str, str]) -> None:
        """See EventSink."""
        self._require_client()
        self.headers = dict(headers)

    async def write(self, frame: bytes) -> None:
        """See EventSink."""
        self._require_client()
        if self.stuck:
            raise SlowReader("The client stopped reading.")
        self.frames.append(frame)

    async def offer(self, frame: bytes) -> None:
        """See EventSink."""
        self._require_client()
        if not self.stuck:
            self.frames.append(frame)

    def _require_client(self) -> None:
        if self.gone:
            raise ConnectionResetError("the client left")
