"""The orchestrator and the router behind their generated stubs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar

from llmops.orchestrator.v1 import orchestrator_pb2_grpc
from llmops.router.v1 import router_pb2, router_pb2_grpc

from meshkit.errors import MeshError, Overloaded
from meshkit.executors import Executor
from services.edge.adapters.dialects import CHAT_NAMES, DIALECTS, EMBEDDINGS_NAMES, Names
from services.edge.adapters.embeddings import read_embeddings, written_vectors
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.errors import CallFailed
from services.edge.core.origin import CallTerms
from services.edge.core.ports import CHAT, ChatAnswer, ChatRequest, EmbeddingsRequest, ListedModel

Read = TypeVar("Read")

_PLACED = re.compile(r"^call\.messages\[\d+\].*$")
_PAGE_SIZE = 1000
_MAX_PAGES = 10


class Codec:
    """Decoding and encoding: small bodies at once, large ones in a thread, away from the event loop."""

    def __init__(self, executor: Executor, offload_bytes: int) -> None:
        self._executor = executor
        self._offload_bytes = offload_bytes

    async def decode(self, read: Callable[[bytes], Read], body: bytes) -> Read:
        """What `read` makes of a body. Raises CallFailed when too many large bodies wait."""
        if len(body) < self._offload_bytes:
            return read(body)
        try:
            decoded: Read = await self._executor.run(read, body)
        except MeshError as error:
            raise call_failed(error) from None
        return decoded

    async def encode(self, size_bytes: int, write: Callable[..., ChatAnswer], *arguments: object) -> ChatAnswer:
        """The answer's JSON. A full executor must not lose an answer that was paid for: then it is encoded here."""
        if size_bytes >= self._offload_bytes:
            with contextlib.suppress(Overloaded):
                encoded: ChatAnswer = await self._executor.run(write, *arguments)
                return encoded
        return write(*arguments)


class MeshChat:
    """Chat over the orchestrator."""

    def __init__(self, channel: Any, codec: Codec) -> None:
        self._stub: Any = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
        self._codec = codec

    async def read(self, body: bytes, dialect: str = CHAT) -> ChatRequest:
        """See Chat."""
        return await self._codec.decode(DIALECTS[dialect].read, body)

    async def complete(self, request: ChatRequest, terms: CallTerms, created_s: int) -> ChatAnswer:
        """See Chat."""
        call: Any = request.call
        call.request_id = terms.origin.request_id
        try:
            response = await self._stub.Complete(call, timeout=terms.timeout_s, metadata=terms.metadata())
        except MeshError as error:
            raise call_failed(error, DIALECTS[request.dialect].names, prompted=_is_prompted(call)) from None
        completion = response.completion
        size_bytes = len(completion.content) + sum(len(call.arguments_json) for call in completion.tool_calls)
        write = DIALECTS[request.dialect].whole
        return await self._codec.encode(size_bytes, write, response, request, terms.origin.request_id, created_s)

    async def stream(
        self, request: ChatRequest, terms: CallTerms, created_s: int
    ) -> AsyncGenerator[AnswerFacts | bytes, None]:
        """See Chat."""
        dialect = DIALECTS[request.dialect]
        writer = dialect.writer(request, terms.origin.request_id, created_s)
        call: Any = request.call
        call.request_id = terms.origin.request_id
        events: Any = None
        try:
            events = self._stub.CompleteStream(call, timeout=terms.timeout_s, metadata=terms.metadata())
            async for event in events:
                for item in writer.frames(event):
                    yield item
        except MeshError as error:
            raise call_failed(error, dialect.names, prompted=_is_prompted(call)) from None
        finally:
            if events is not None:
                await events.aclose()
        writer.require_finished()


class MeshModels:
    """The router's models."""

    def __init__(self, channel: Any) -> None:
        self._stub: Any = router_pb2_grpc.RouterServiceStub(channel)

    async def list(self, terms: CallTerms) -> Sequence[ListedModel]:
        """See Models."""
        models: list[ListedModel] = []
        token = ""
        try:
            for _ in range(_MAX_PAGES):
                page = await self._stub.ListModels(
                    router_pb2.ListModelsRequest(page_size=_PAGE_SIZE, page_token=token),
                    timeout=terms.timeout_s,
                    metadata=terms.metadata(),
                )
                models.extend(
                    ListedModel(m.name, m.provider, m.context_tokens, m.supports_tools, m.cooling_down, m.kind)
                    for m in page.models
                )
                token = page.next_page_token
                if not token:
                    break
        except MeshError as error:
            raise call_failed(error) from None
        return models


class MeshEmbeddings:
    """Vectors over the orchestrator."""

    def __init__(self, channel: Any, codec: Codec) -> None:
        self._stub: Any = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
        self._codec = codec

    async def read(self, body: bytes) -> EmbeddingsRequest:
        """See Embeddings."""
        return await self._codec.decode(read_embeddings, body)

    async def embed(self, request: EmbeddingsRequest, terms: CallTerms) -> ChatAnswer:
        """See Embeddings."""
        call: Any = request.call
        call.request_id = terms.origin.request_id
        try:
            response = await self._stub.Embed(call, timeout=terms.timeout_s, metadata=terms.metadata())
        except MeshError as error:
            raise call_failed(error, EMBEDDINGS_NAMES) from None
        return await self._codec.encode(len(response.values_f32_le), written_vectors, response, request)


def _is_prompted(call: Any) -> bool:
    """Whether messages of a prompt stand before the caller's."""
    return bool(call.conversation.HasField("prompt"))


def call_failed(error: MeshError, names: Names = CHAT_NAMES, *, prompted: bool = False) -> CallFailed:
    """A failed call in the edge's words; fields of the contract get their names in the dialect.

    The router counts the messages of a prompt as well: then its positions say nothing to the caller.
    """
    fields = [(_PLACED.sub("call.messages", name) if prompted else name, text) for name, text in error.field_violations]
    violations = [(names.param_of(name), text) for name, text in fields]
    message = "; ".join(f"{name}: {text}" if name else text for name, text in violations) or str(error)
    return CallFailed(
        error.status,
        error.reason,
        message,
        param=violations[0][0] or None if violations else names.by_reason.get(error.reason),
        metadata=error.metadata,
        retry_after_s=error.retry_after_s,
    )
