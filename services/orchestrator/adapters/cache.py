"""The cache behind its port."""

from __future__ import annotations

from collections.abc import Callable
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
    cache_pb2.CACHE_STATUS_STALE: CacheStatus.STALE,
}
# The cache is an optimisation: what it cannot say quickly, the model says.
_LOOKUP_TIMEOUT_S = 0.5
# An operator who wants no cache lacks none: such an answer is not degraded.
_SWITCHED_OFF = "UNIMPLEMENTED"
_MISS = Found(CacheStatus.MISS)


class RemoteCache:
    """The port `Cache` over the cache's stub."""

    def __init__(self, channel: Any, current_digest: Callable[[str], str]) -> None:
        self._stub = cache_pb2_grpc.CacheServiceStub(channel)
        self._current_digest = current_digest

    async def lookup(self, turn: Turn, plan: Plan, checked: Checked | None, *, allow_stale: bool = False) -> Found:
        """See Cache."""
        conversation = conversation_of(turn)
        digest = self._current_digest(turn.guard_policy) if checked is None else _digest_of(checked)
        if not digest:
            return Found(CacheStatus.BYPASS)
        request = cache_pb2.LookupRequest(key=_key(turn, plan, digest), allow_stale=allow_stale)
        if conversation.cache.HasField("max_age"):
            request.max_age.CopyFrom(conversation.cache.max_age)
        answered = check_of(checked) if checked is not None else None
        if answered is not None:
            request.language = answered.language
            if turn.cache.semantic and checked is not None and checked.can_embed and not allow_stale:
                request.embedding.CopyFrom(answered.embedding)
        try:
            response: cache_pb2.LookupResponse = await self._stub.Lookup(request, timeout=_LOOKUP_TIMEOUT_S)
        except CallError as error:
            if error.status == _SWITCHED_OFF:
                return Found(CacheStatus.BYPASS)
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
            key=_key(turn, plan, _digest_of(checked)),
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
        try:
            await self._stub.Store(request)
        except CallError as error:
            if error.status != _SWITCHED_OFF:
                raise


def _digest_of(checked: Checked) -> str:
    """Of the policy that judged the input; nothing when the guard was not there."""
    verdict = checked.verdict
    return verdict.policy_digest if isinstance(verdict, verdict_pb2.GuardVerdict) else ""


def _key(turn: Turn, plan: Plan, policy_digest: str) -> cache_pb2.CacheKey:
    conversation = conversation_of(turn)
    return cache_pb2.CacheKey(
        scope=conversation.cache.scope,
        model_policy=plan.policy,
        prompt_digest=conversation.prompt_digest,
        messages=conversation.messages,
        tools=conversation.tools,
        parameters=conversation.parameters,
        guard_policy=policy_digest,
        end_user=conversation.labels.end_user,
    )
