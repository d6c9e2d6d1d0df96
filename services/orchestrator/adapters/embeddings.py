"""Requests for vectors in the contract's terms, and the router's models for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.router.v1 import router_pb2, router_pb2_grpc

from meshkit.context import current
from meshkit.errors import CallError
from services.orchestrator.adapters.conversation import Conversation, conversation_of, messages_to_send, text_bytes
from services.orchestrator.adapters.prompts import DEFAULT_POLICY
from services.orchestrator.adapters.router import (
    ATTEMPTS_KEY,
    attempts_of,
    billed_lines,
    lines_of,
    model_failed,
    model_name_of,
    plan_of,
    told_answer,
)
from services.orchestrator.adapters.usage import usage_from
from services.orchestrator.core.embedding import Vectors
from services.orchestrator.core.model import CacheWish, Checked, Plan, Progress, Turn, UsageLine
from services.orchestrator.core.policy import estimated_tokens

_KIND = "embeddings"
# Encoders frame each text with two special tokens, and round up: without them many short texts are held for too low.
_BYTES_PER_TEXT = 9
_NO_PARAMETERS = chat_pb2.GenerationParameters()
_NO_CACHE = CacheWish(lookup=False, store=False, semantic=False)


@dataclass(frozen=True, slots=True)
class EmbeddingCall(Conversation):
    """What a turn for vectors carries as its payload: what the guard and the ledger read, and what the vectors are."""

    dimensions: int
    purpose: router_pb2.EmbeddingPurpose


class RemoteEmbedder:
    """The port `Embedder` over the router's stub, in the caller's name: scopes and the vendor register hold."""

    def __init__(self, channel: Any) -> None:
        self._stub = router_pb2_grpc.RouterServiceStub(channel)

    def turn(self, request: object, request_id: str) -> Turn:
        """See Embedder."""
        assert isinstance(request, pb.EmbedRequest)
        messages = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text) for text in request.texts]
        payload = EmbeddingCall(
            messages=messages,
            tools=(),
            parameters=_NO_PARAMETERS,
            labels=request.labels,
            model=request.model,
            prompt_digest="",
            json_schema="",
            cache=pb.CacheControl(),
            dimensions=request.dimensions,
            purpose=request.purpose,
        )
        return Turn(
            request_id=request_id,
            payload=payload,
            guard_policy=current().principal.guard_policy or request.guard_policy or DEFAULT_POLICY,
            input_bytes=text_bytes(messages, ()) + _BYTES_PER_TEXT * len(messages),
            max_output_tokens=0,
            prompt_version="",
            prompt_arm="",
            cache=_NO_CACHE,
        )

    async def plan(self, turn: Turn) -> Plan:
        """See Embedder."""
        call = conversation_of(turn)
        request = router_pb2.PlanRequest(
            model=call.model, labels=call.labels, input_tokens=estimated_tokens(turn.input_bytes), kind=_KIND
        )
        try:
            plan = plan_of(await self._stub.Plan(request))
        except CallError as error:
            raise model_failed(error) from error
        if plan.refusal is not None:
            raise plan.refusal
        return plan

    async def embed(self, turn: Turn, plan: Plan, checked: Checked, progress: Progress) -> Vectors:
        """See Embedder."""
        call = conversation_of(turn)
        assert isinstance(call, EmbeddingCall)
        request = router_pb2.EmbedRequest(
            request_id=turn.request_id,
            model=call.model,
            texts=[message.content for message in messages_to_send(turn, checked)],
            dimensions=call.dimensions,
            purpose=call.purpose,
            model_names=plan.model_names,
            labels=call.labels,
        )
        try:
            response = await self._vectors(request, progress)
        except CallError as error:
            raise model_failed(error) from error
        payload = pb.EmbedResponse(
            values_f32_le=response.values_f32_le,
            dimensions=response.dimensions,
            vector_space=response.vector_space,
        )
        return Vectors(
            payload,
            model_name_of(response.attempts),
            usage_from(response.usage),
            lines_of(response.attempts),
            response.attempts,
        )

    async def _vectors(self, request: router_pb2.EmbedRequest, progress: Progress) -> router_pb2.EmbedResponse:
        told = router_pb2.EmbedWithTriesRequest(call=request)
        try:
            return await told_answer(self._stub.EmbedWithTries(told), progress)  # type: ignore[no-any-return]
        except CallError as error:
            # A router of the release before does not know the RPC. One that does names its tries, be there none.
            if error.status != "UNIMPLEMENTED" or ATTEMPTS_KEY in error.metadata:
                raise
        answer: router_pb2.EmbedResponse = await self._stub.Embed(request)
        return answer

    def billed_lines(self, error: Exception) -> tuple[UsageLine, ...] | None:
        """See Embedder."""
        return billed_lines(error)

    def attempts(self, error: Exception) -> Sequence[object]:
        """See Embedder."""
        return attempts_of(error)
