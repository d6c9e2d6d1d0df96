"""The cache behind its port: what is asked for when no model answers."""

from __future__ import annotations

from typing import Any

import pytest
from llmops.cache.v1 import cache_pb2
from llmops.common.v1 import chat_pb2, context_pb2, verdict_pb2
from llmops.guard.v1 import guard_pb2
from llmops.orchestrator.v1 import orchestrator_pb2

from meshkit.errors import CallError, Failure
from services.orchestrator.adapters.cache import RemoteCache
from services.orchestrator.adapters.conversation import Conversation
from services.orchestrator.core.model import (
    CacheStatus,
    CacheWish,
    Checked,
    CheckedOutput,
    Found,
    ModelAnswer,
    Plan,
    Turn,
    Usage,
)
from services.orchestrator.core.ports import CacheUnavailable

PLAN = Plan((), (), 0, "route#1")
VERDICT = verdict_pb2.GuardVerdict(policy_digest="d-1")
SEEN = guard_pb2.CheckInputResponse(
    verdict=VERDICT, language="en", embedding=context_pb2.Embedding(model="m", values_f32_le=b"1234")
)
CHECKED = Checked(blocked=False, detectors=(), masked=False, can_embed=True, verdict=VERDICT, payload=SEEN)


class Holding:
    """A channel on which the cache has an answer past its time."""

    def __init__(self) -> None:
        self.asked: list[cache_pb2.LookupRequest] = []

    def __getattr__(self, arity: str) -> Any:
        return lambda *_, **__: self._lookup

    async def _lookup(self, request: cache_pb2.LookupRequest, **_: Any) -> cache_pb2.LookupResponse:
        self.asked.append(request)
        entry = cache_pb2.CacheEntry(entry_id="e-1", completion=chat_pb2.Completion(content="kept"), verdict=VERDICT)
        return cache_pb2.LookupResponse(status=cache_pb2.CACHE_STATUS_STALE, entry=entry)


def turn() -> Turn:
    conversation = Conversation(
        [], [], chat_pb2.GenerationParameters(), context_pb2.CallLabels(), "", "", "", orchestrator_pb2.CacheControl()
    )
    return Turn("q-1", conversation, "default", 3, None, "", "", CacheWish(lookup=True, store=True, semantic=True))


async def test_an_answer_past_its_time_comes_when_it_is_asked_for_and_never_by_meaning() -> None:
    channel = Holding()
    cache = RemoteCache(channel, lambda _: "d-1")
    found = await cache.lookup(turn(), PLAN, CHECKED, allow_stale=True)
    assert (found.status, found.entry_id, found.verdict) == (CacheStatus.STALE, "e-1", VERDICT)
    await cache.lookup(turn(), PLAN, CHECKED)
    stale, usual = channel.asked
    assert (stale.allow_stale, stale.HasField("embedding")) == (True, False)
    assert (usual.allow_stale, usual.HasField("embedding")) == (False, True)


class Refusing:
    """A channel on which every call fails so."""

    def __init__(self, status: str) -> None:
        self._failure = Failure(status, "SOME_REASON", "no")

    def __getattr__(self, arity: str) -> Any:
        return lambda *_, **__: self._call

    async def _call(self, request: object, **_: Any) -> object:
        raise CallError(self._failure)


async def test_a_cache_that_is_switched_off_is_not_missed() -> None:
    """Each answer said that it was degraded, and each store was logged as work that failed."""
    completion = chat_pb2.Completion(content="hi")
    answer = ModelAnswer(completion, "m", Usage(1, 1), (), [], complete=True)
    output = CheckedOutput(
        blocked=False, detectors=(), schema_violations=(), completion=completion, verdict=VERDICT, grounding_score=None
    )
    off, away = (RemoteCache(Refusing(status), lambda _: "d-1") for status in ("UNIMPLEMENTED", "UNAVAILABLE"))
    assert await off.lookup(turn(), PLAN, CHECKED) == Found(CacheStatus.BYPASS)
    await off.store(turn(), PLAN, CHECKED, answer, output)
    with pytest.raises(CacheUnavailable):
        await away.lookup(turn(), PLAN, CHECKED)
    with pytest.raises(CallError):
        await away.store(turn(), PLAN, CHECKED, answer, output)
