"""The cache behind its port."""

from __future__ import annotations

from typing import Any

from llmops.cache.v1 import cache_pb2, cache_pb2_grpc
from llmops.common.v1 import chat_pb2, verdict_pb2

from meshkit.context import new_request_id
from meshkit.errors import CallError
from services.orchestrator.adapters.conversation import check_of, conversation_of
from services.orchestrator.adapters.usage import usage_from, usage_to
from services.orchestrator.core.model import CacheStatus, Checked, CheckedOutput, Found, ModelAnswer, Plan, Turn
from services.orchestrator.core.ports import CacheUnavailable

_STATUSES = {
    cache_pb2.CACHE_STATUS_EXACT: CacheStatus.EXACT,
    cache_pb2.CACHE_STATUS_SEMANTIC: CacheStatus.SEMANTIC,
}
# The cache is an optimisation: what it cannot say quickly, the model says.
_LOOKUP_TIMEOUT_S = 0.5
_MISS = Found(CacheStatus.MISS)


class RemoteCache:
    """The port `Cache` over the cache's stub."""

    def __init__(self, channel: Any) -> None:
        self._stub = cache_pb2_grpc.CacheServiceStub(channel)

    async def lookup(self, turn: Turn, plan: Plan, checked: Checked | None) -> Found:
        """See Cache."""
        conversation = conversation_of(turn)
        request = cache_pb2.LookupRequest(key=_key(turn, plan))
        if conversation.cache.HasField("max_age"):
            request.max_age.CopyFrom(conversation.cache.max_age)
        answered = check_of(checked) if checked is not None else None
        if answered is not None:
            request.embedding.CopyFrom(answered.embedding)
            request.language = answered.language
        try:
            response: cache_pb2.LookupResponse = await self._stub.Lookup(request, timeout=_LOOKUP_TIMEOUT_S)
        except CallError as error:
            raise CacheUnavailable from error
        status = _STATUSES.get(response.status)
        if status is None:
            return _MISS
        entry = response.entry
        return Found(status, entry.entry_id, entry.completion, usage_from(entry.usage), entry.model, entry.verdict)

    async def store(self, turn: Turn, plan: Plan, checked: Checked, answer: ModelAnswer, output: CheckedOutput) -> None:
        """See Cache."""
        completion = output.completion if output.completion is not None else answer.completion
        assert isinstance(completion, chat_pb2.Completion)
        request = cache_pb2.StoreRequest(
            request_id=new_request_id(),
            key=_key(turn, plan),
            completion=completion,
            usage=usage_to(answer.usage),
            model=answer.model,
            ttl_class=conversation_of(turn).cache.ttl_class,
        )
        if isinstance(output.verdict, verdict_pb2.GuardVerdict):
            request.verdict.CopyFrom(output.verdict)
        answered = check_of(checked)
        if answered is not None:
            request.language = answered.language
            if turn.cache.semantic and checked.can_embed:
                request.embedding.CopyFrom(answered.embedding)
        await self._stub.Store(request)


def _key(turn: Turn, plan: Plan) -> cache_pb2.CacheKey:
    conversation = conversation_of(turn)
    return cache_pb2.CacheKey(
        scope=conversation.cache.scope,
        model_policy=plan.policy,
        prompt_digest=conversation.prompt_digest,
        messages=conversation.messages,
        tools=conversation.tools,
        parameters=conversation.parameters,
        guard_policy=turn.guard_policy,
        end_user=conversation.labels.end_user,
    )
