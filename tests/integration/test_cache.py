"""The cache seen from outside: what is served again, to whom, and what is never kept."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from llmops.cache.v1 import cache_pb2, cache_pb2_grpc
from llmops.common.v1 import chat_pb2, verdict_pb2
from llmops.guard.v1 import guard_pb2, guard_pb2_grpc
from llmops.router.v1 import router_pb2, router_pb2_grpc

from tests.support.callers import TIMEOUT_S, MeshCallers, user
from tests.support.golden_files import check_golden
from tests.support.mesh_settings import ACME, GLOBEX, MESH_KEY, Caller
from tests.support.outcomes import Outcome

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("accounts")]


async def entries(callers: MeshCallers, caller: Caller) -> int:
    """Entries of the organisation."""
    stub: Any = cache_pb2_grpc.CacheServiceStub(callers.channel("cache"))
    request = cache_pb2.GetStatsRequest()
    found = await stub.GetStats(request, timeout=TIMEOUT_S, metadata=callers.metadata(caller))
    return int(found.entry_count)


async def stored(callers: MeshCallers, model: str, text: str, caller: Caller = ACME, **options: Any) -> Outcome:
    """Asks, and waits until the answer is in the cache."""
    before = await entries(callers, caller)
    outcome = await callers.chat(model, text, caller, **options)
    async with asyncio.timeout(5):
        while await entries(callers, caller) <= before:
            await asyncio.sleep(0.01)
    return outcome


async def test_the_same_again_is_an_exact_hit_and_costs_nothing(callers: MeshCallers) -> None:
    question = "Exactly the same: the capital of France?"
    first = await stored(callers, "alpha/capital", question)
    calls = len(callers.deployment.sim.billing)
    again = await callers.chat("alpha/capital", question)
    streamed = await callers.chat_stream("alpha/capital", question)
    assert (first.cache, again.cache, streamed.cache) == ("miss", "exact", "exact")
    assert again.text == streamed.text == first.text
    assert again.cost_nano_usd == streamed.cost_nano_usd == 0
    assert len(callers.deployment.sim.billing) == calls
    check_golden("cache-exact", {"hit": again.compared(), "stream": streamed.compared()})


async def test_the_same_in_meaning_is_a_semantic_hit(callers: MeshCallers) -> None:
    await stored(callers, "beta/capital", "What is the capital of France?")
    asked = {"llmops": {"cache": {"no_store": True}}}
    async with asyncio.timeout(10):
        while (alike := await callers.chat("beta/capital", "What's the capital of France?", **asked)).cache == "miss":
            await asyncio.sleep(0.1)
    other = await callers.chat("beta/capital", "What is the capital of Spain?", llmops={"cache": {"no_store": True}})
    assert (alike.cache, other.cache) == ("semantic", "miss")
    assert alike.cost_nano_usd == 0
    check_golden("cache-semantic", {"hit": alike.compared()})


async def test_cache_wishes_are_obeyed(callers: MeshCallers) -> None:
    model, question = "alpha/capital", "Wishes: which city is the capital of France?"
    unsaved = await callers.chat(model, question, llmops={"cache": {"no_store": True}})
    before = await entries(callers, ACME)
    await stored(callers, model, question)
    assert await entries(callers, ACME) == before + 1, "no_store stored"
    found = {
        "no-store": unsaved,
        "bypass": await callers.chat(model, question, llmops={"cache": {"bypass": True}}),
        "refresh": await callers.chat(model, question, llmops={"cache": {"refresh": True}}),
        "no-store-hit": await callers.chat(model, question, llmops={"cache": {"no_store": True}}),
        "exact-only": await callers.chat(model, question + "?", llmops={"cache": {"exact_only": True}}),
    }
    assert {name: outcome.cache for name, outcome in found.items()} == {
        "no-store": "miss",
        "bypass": "bypass",
        "refresh": "bypass",
        "no-store-hit": "exact",
        "exact-only": "miss",
    }
    check_golden("cache-wishes", {name: outcome.compared() for name, outcome in found.items()})


async def test_two_organisations_never_share(callers: MeshCallers) -> None:
    question = "Between tenants: the capital of France?"
    await stored(callers, "alpha/capital", question, ACME)
    foreign = await callers.chat("alpha/capital", question, GLOBEX)
    own = await callers.chat("alpha/capital", question, ACME)
    assert (foreign.cache, own.cache) == ("miss", "exact")


@pytest.mark.parametrize("caller", [ACME, GLOBEX], ids=lambda caller: caller.organisation)
async def test_parameters_and_models_are_part_of_the_question(callers: MeshCallers, caller: Caller) -> None:
    question = "Parameters: the capital of France?"
    await stored(callers, "alpha/capital", question, caller)
    warmer = await callers.chat("alpha/capital", question, caller, temperature=1.5)
    elsewhere = await callers.chat("beta/capital", question, caller)
    assert (warmer.cache, elsewhere.cache) == ("miss", "miss")


async def key_of(callers: MeshCallers, model: str, text: str) -> cache_pb2.CacheKey:
    """The key under which the orchestrator keeps the answer: every caller can find out what it is made of."""
    metadata = callers.metadata(ACME)
    router: Any = router_pb2_grpc.RouterServiceStub(callers.channel("router"))
    guard: Any = guard_pb2_grpc.GuardServiceStub(callers.channel("guard"))
    planned = await router.Plan(router_pb2.PlanRequest(model=model), metadata=metadata)
    checked = await guard.CheckInput(guard_pb2.CheckInputRequest(messages=user(text)), metadata=metadata)
    policies = {"model_policy": planned.model_policy, "guard_policy": checked.verdict.policy_digest}
    return cache_pb2.CacheKey(messages=user(text), **policies)


async def test_what_a_caller_stores_itself_is_served_to_direct_callers_alone(callers: MeshCallers) -> None:
    question = "Stored by hand: the capital of France?"
    stub: Any = cache_pb2_grpc.CacheServiceStub(callers.channel("cache"))
    forged = cache_pb2.StoreRequest(
        request_id=uuid.uuid4().hex,
        key=await key_of(callers, "alpha/capital", question),
        completion=chat_pb2.Completion(content="Rome.", finish_reason=chat_pb2.FINISH_REASON_STOP),
        model="alpha/capital",
        verdict=verdict_pb2.GuardVerdict(decision=verdict_pb2.GUARD_DECISION_ALLOW),
    )
    await stub.Store(forged, metadata=callers.metadata(ACME), timeout=TIMEOUT_S)
    served = await callers.chat("alpha/capital", question)
    assert (served.cache, served.text) == ("miss", "Paris is the capital of France.")
    found = await stub.Lookup(cache_pb2.LookupRequest(key=forged.key), metadata=callers.metadata(ACME))
    assert (found.status, found.entry.completion.content) == (cache_pb2.CACHE_STATUS_EXACT, "Rome.")


async def test_what_the_mesh_stores_is_not_found_by_direct_callers(callers: MeshCallers) -> None:
    question = "Stored by the mesh: the capital of France?"
    await stored(callers, "alpha/capital", question)
    stub: Any = cache_pb2_grpc.CacheServiceStub(callers.channel("cache"))
    request = cache_pb2.LookupRequest(key=await key_of(callers, "alpha/capital", question), allow_stale=True)
    direct = await stub.Lookup(request, metadata=callers.metadata(ACME), timeout=TIMEOUT_S)
    of_mesh = await stub.Lookup(request, metadata=callers.metadata(ACME, x_llmops_mesh=MESH_KEY), timeout=TIMEOUT_S)
    assert (direct.status, of_mesh.status) == (cache_pb2.CACHE_STATUS_MISS, cache_pb2.CACHE_STATUS_EXACT)
