"""The orchestrator and the router behind their generated stubs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from llmops.orchestrator.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from llmops.router.v1 import router_pb2, router_pb2_grpc

from meshkit.errors import MeshError, Overloaded
from meshkit.executors import Executor
from services.edge.adapters.chat_answers import ChunkWriter, whole_answer
from services.edge.adapters.chat_requests import read_chat
from services.edge.core.errors import CallFailed
from services.edge.core.origin import CallTerms
from services.edge.core.parameters import param_of
from services.edge.core.ports import AnswerFacts, ChatAnswer, ChatRequest, ListedModel

_PAGE_SIZE = 1000
_MAX_PAGES = 10


class Codec:
    """Decoding and encoding: small bodies at once, large ones in a thread, away from the event loop."""

    def __init__(self, executor: Executor, offload_bytes: int) -> None:
        self._executor = executor
        self._offload_bytes = offload_bytes

    async def read(self, body: bytes) -> ChatRequest:
        """See Chat.read. Raises CallFailed when too many large bodies wait."""
        if len(body) < self._offload_bytes:
            return read_chat(body)
        try:
            return await self._executor.run(read_chat, body)
        except MeshError as error:
            raise call_failed(error) from None

    async def answer(
        self, response: orchestrator_pb2.CompleteResponse, request: ChatRequest, request_id: str, created_s: int
    ) -> ChatAnswer:
        """The answer's JSON. A full executor must not lose an answer that was paid for: then it is encoded here."""
        completion = response.completion
        size = len(completion.content) + sum(len(call.arguments_json) for call in completion.tool_calls)
        if size >= self._offload_bytes:
            with contextlib.suppress(Overloaded):
                return await self._executor.run(whole_answer, response, request, request_id, created_s)
        return whole_answer(response, request, request_id, created_s)


class MeshChat:
    """Chat over the orchestrator."""

    def __init__(self, channel: Any, codec: Codec) -> None:
        self._stub: Any = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
        self._codec = codec

    async def read(self, body: bytes) -> ChatRequest:
        """See Chat."""
        return await self._codec.read(body)

    async def complete(self, request: ChatRequest, terms: CallTerms, created_s: int) -> ChatAnswer:
        """See Chat."""
        call: Any = request.call
        call.request_id = terms.origin.request_id
        try:
            response = await self._stub.Complete(call, timeout=terms.timeout_s, metadata=terms.metadata())
        except MeshError as error:
            raise call_failed(error) from None
        return await self._codec.answer(response, request, terms.origin.request_id, created_s)

    async def stream(
        self, request: ChatRequest, terms: CallTerms, created_s: int
    ) -> AsyncGenerator[AnswerFacts | bytes, None]:
        """See Chat."""
        writer = ChunkWriter(request, terms.origin.request_id, created_s)
        call: Any = request.call
        call.request_id = terms.origin.request_id
        events: Any = None
        try:
            events = self._stub.CompleteStream(call, timeout=terms.timeout_s, metadata=terms.metadata())
            async for event in events:
                for item in writer.frames(event):
                    yield item
        except MeshError as error:
            raise call_failed(error) from None
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
                    ListedModel(m.name, m.provider, m.context_tokens, m.supports_tools, m.cooling_down)
                    for m in page.models
                )
                token = page.next_page_token
                if not token:
                    break
        except MeshError as error:
            raise call_failed(error) from None
        return models


def call_failed(error: MeshError) -> CallFailed:
    """A failed call in the edge's words; fields of the contract get their OpenAI names."""
    violations = [(param_of(field), text) for field, text in error.field_violations]
    message = "; ".join(f"{name}: {text}" if name else text for name, text in violations) or str(error)
    return CallFailed(
        error.status,
        error.reason,
        message,
        param=violations[0][0] or None if violations else None,
        metadata=error.metadata,
        retry_after_s=error.retry_after_s,
    )
