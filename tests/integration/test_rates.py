"""Limits on how often: what their callers learn over both protocols, and that it is true."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc.aio
import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from tests.support.callers import MeshCallers, user
from tests.support.mesh_settings import CROWDED, HURRIED
from tests.support.outcomes import Outcome

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("accounts")]

FRESH = {"llmops": {"cache": {"bypass": True}}}
PER_MINUTE = 3


async def hurried_until_refused(callers: MeshCallers) -> tuple[list[Outcome], Outcome]:
    answered: list[Outcome] = []
    while (found := await callers.chat("alpha/words", "Quick!", HURRIED, **FRESH)).error is None:
        answered.append(found)
        assert len(answered) <= PER_MINUTE
    return answered, found


async def test_who_comes_too_often_learns_when_to_come_again(callers: MeshCallers) -> None:
    """wso2/api-platform#2936: the time in the headers was always 0. Here it is what a minute and the count make it."""
    answered, refused = await hurried_until_refused(callers)
    remaining = [int(outcome.headers["x-ratelimit-remaining-requests"]) for outcome in answered]
    assert remaining == sorted(remaining, reverse=True)
    for outcome in answered:
        assert outcome.headers["x-ratelimit-limit-requests"] == str(PER_MINUTE)
        assert outcome.headers["x-ratelimit-reset-requests"].endswith("s")
        assert outcome.headers["x-ratelimit-limit-tokens"] == "1000000"
    assert (refused.http_status, refused.reason) == (429, "RATE_LIMITED")
    assert refused.body["error"]["code"] == refused.body["error"]["type"] == "rate_limit_exceeded"
    assert "x-should-retry" not in refused.headers, "the client may wait and repeat"
    wait_s = refused.body["llmops"]["retry_after_s"]
    assert 0 < wait_s <= 60 / PER_MINUTE
    assert int(refused.headers["retry-after"]) == math.ceil(wait_s)
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"


async def test_over_grpc_details_and_pushback_say_the_same(callers: MeshCallers) -> None:
    await hurried_until_refused(callers)
    error = await refusal_over_grpc(callers, HURRIED)
    trailers = {str(name): value for name, value in error.trailing_metadata() or ()}
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    told = (await callers.complete(asked(), HURRIED)).error
    assert told is not None
    assert told.retry_after_s is not None
    assert 0 < int(trailers["grpc-retry-pushback-ms"]) <= 60_000 / PER_MINUTE
    assert told.retry_after_s * 1000 <= int(trailers["grpc-retry-pushback-ms"])
    assert told.quota_violations
    assert told.quota_violations[0][0] == "organisation"


async def test_a_refused_call_costs_nothing_of_the_rate(callers: MeshCallers) -> None:
    """BerriAI/litellm#39309: refused requests pushed the next chance further away."""
    await hurried_until_refused(callers)
    times_s = []
    for _ in range(3):
        told = (await callers.complete(asked(), HURRIED)).error
        assert told is not None
        times_s.append(told.retry_after_s)
    assert times_s == sorted(times_s, reverse=True)  # type: ignore[type-var]


async def test_too_many_at_once_are_refused_and_a_place_becomes_free(callers: MeshCallers) -> None:
    """BerriAI/litellm#20256: a slot that was never given back shut its owner out for good."""
    sim = callers.deployment.sim
    first = asyncio.ensure_future(callers.chat("alpha/late", "I take my time.", CROWDED, **FRESH))
    await sim.wait_until(lambda: sim.stats.in_flight > 0)
    second = await callers.chat("alpha/words", "Me too?", CROWDED, **FRESH)
    assert (second.http_status, second.reason) == (429, "RATE_LIMITED")
    assert (await first).error is None
    async with asyncio.timeout(10):
        while (again := await callers.chat("alpha/words", "And now?", CROWDED, **FRESH)).error is not None:
            assert again.reason == "RATE_LIMITED"
            await asyncio.sleep(0.02)


def asked() -> pb.Conversation:
    return pb.Conversation(messages=user("Quick!"), model="alpha/words", cache=pb.CacheControl(bypass=True))


async def refusal_over_grpc(callers: MeshCallers, caller: Any) -> grpc.aio.AioRpcError:
    request = pb.CompleteRequest(request_id=callers.new_request(caller), conversation=asked())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await callers.orchestrator.Complete(request, metadata=callers.metadata(caller), timeout=20)
    return caught.value
