"""Lookup, Store and GetStats through their handlers, on twins."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from llmops.cache.v1 import cache_pb2 as pb
from llmops.common.v1 import chat_pb2, usage_pb2, verdict_pb2

from meshkit.identity import Principal
from meshkit.testing import call_context
from services.cache.api import CacheApi, DisabledCacheApi
from services.cache.core.errors import (
    CacheDisabled,
    InvalidRequest,
    NoOrganisation,
    RequestIdReused,
)
from tests.unit.cache.builders import Replica, cache_key, embedding, store_request
from tests.unit.cache.calls import ADA, EVE, RESET, RESET_TOO, keep, keep_by_meaning, look


async def test_an_answer_comes_back_whole() -> None:
    replica = Replica()
    completion = chat_pb2.Completion(
        content="Paris",
        finish_reason=chat_pb2.FINISH_REASON_TOOL_CALLS,
        tool_calls=[chat_pb2.ToolCall(id="1", name="t", arguments_json="{}")],
    )
    usage = usage_pb2.Usage(input_tokens=3, output_tokens=5)
    verdict = verdict_pb2.GuardVerdict(decision=verdict_pb2.GUARD_DECISION_FLAG, policy="p")
    kept = await keep(replica, cache_key(), completion=completion, usage=usage, verdict=verdict)
    found = await look(replica, cache_key())
    assert found.status == pb.CACHE_STATUS_EXACT
    assert found.entry.completion == completion
    assert found.entry.usage == usage
    assert found.entry.verdict == verdict
    assert found.entry.model == "sim/small"
    assert found.entry.entry_id == kept.entry_id
    assert found.entry.expire_time == kept.expire_time
    assert found.entry.create_time.ToNanoseconds() == replica.clock.now_ns
    assert not found.HasField("similarity")


async def test_a_miss_is_an_answer(replica: Replica) -> None:
    found = await look(replica, cache_key())
    assert found == pb.LookupResponse(status=pb.CACHE_STATUS_MISS)


@pytest.mark.parametrize(
    ("fields", "lifetime_s"),
    [
        ({}, 86_400),
        ({"ttl_class": pb.TTL_CLASS_VOLATILE}, 300),
        ({"ttl_class": pb.TTL_CLASS_STANDARD}, 86_400),
        ({"ttl_class": pb.TTL_CLASS_STABLE}, 2_592_000),
        ({"ttl_class": pb.TTL_CLASS_STABLE, "ttl": Duration(seconds=1)}, 1),
    ],
)
async def test_an_answer_is_served_for_its_lifetime_and_no_longer(
    replica: Replica, fields: dict[str, object], lifetime_s: int
) -> None:
    await keep(replica, cache_key(), **fields)
    replica.clock.advance(lifetime_s - 0.001)
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_EXACT
    replica.clock.advance(0.001)
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_MISS


@pytest.mark.parametrize("ttl", [Duration(nanos=999_999_999), Duration(seconds=2_592_001), Duration(seconds=-5)])
async def test_a_lifetime_out_of_bounds_is_refused(replica: Replica, ttl: Duration) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await keep(replica, cache_key(), ttl=ttl)
    assert caught.value.field_violations[0][0] == "ttl"


async def test_max_age_hides_older_answers(replica: Replica) -> None:
    await keep(replica, cache_key())
    replica.clock.advance(10)
    assert (await look(replica, cache_key(), max_age=Duration(seconds=10))).status == pb.CACHE_STATUS_EXACT
    assert (await look(replica, cache_key(), max_age=Duration(seconds=9))).status == pb.CACHE_STATUS_MISS


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"completion": chat_pb2.Completion(content="x", finish_reason=5)}, "completion.finish_reason"),
        ({"completion": chat_pb2.Completion(content="x", finish_reason=4)}, "completion.finish_reason"),
        ({"completion": chat_pb2.Completion(content="x")}, "completion.finish_reason"),
        ({"completion": chat_pb2.Completion(content="x", finish_reason=77)}, "completion.finish_reason"),  # type: ignore[arg-type]
        ({"verdict": verdict_pb2.GuardVerdict(decision=5)}, "verdict.decision"),
        ({"verdict": verdict_pb2.GuardVerdict(decision=4)}, "verdict.decision"),
        ({"answer": "x" * 10_001}, "completion"),
        ({"request_id": "a\0b"}, "request_id"),
        ({"embedding": embedding().__class__(model="m", values_f32_le=b"\0" * 8)}, "embedding.values_f32_le"),
    ],
)
async def test_what_must_not_be_replayed_is_not_kept(replica: Replica, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await keep(replica, cache_key(), **fields)
    assert caught.value.field_violations[0][0] == field
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_MISS


async def test_a_nul_in_the_prompt_digest_does_not_reach_the_database(replica: Replica) -> None:
    with pytest.raises(InvalidRequest):
        await keep(replica, cache_key(prompt_digest="a\0"))


async def test_a_repeated_store_gets_the_first_answer(replica: Replica) -> None:
    request = store_request(cache_key(), request_id="same")
    with call_context(ADA):
        first = await replica.api.Store(request, None)
        replica.clock.advance(5)
        assert await replica.api.Store(request, None) == first


@pytest.mark.parametrize(
    ("caller", "change"),
    [
        (ADA, {"answer": "Rome"}),
        (ADA, {"ttl_class": pb.TTL_CLASS_STABLE}),
        (ADA, {"key": cache_key("other")}),
        (Principal("acme", "search", "bob", "key-2", frozenset()), {}),
    ],
)
async def test_a_request_id_is_good_for_one_payload_of_one_scope(
    replica: Replica, caller: Principal, change: dict[str, object]
) -> None:
    key = cache_key(scope=pb.CACHE_SCOPE_USER)
    await keep(replica, key, request_id="same")
    with pytest.raises(RequestIdReused):
        await keep(replica, **{"key": key, "caller": caller, "request_id": "same", **change})  # type: ignore[arg-type]


async def test_counts_are_of_the_callers_organisation(replica: Replica) -> None:
    await keep_by_meaning(replica, cache_key(RESET))
    await look(replica, cache_key(RESET))
    await look(replica, cache_key(RESET_TOO), embedding=embedding(), language="en")
    await look(replica, cache_key("Should I never reset my password?"), embedding=embedding(), language="en")
    await look(replica, cache_key(), EVE)
    with call_context(ADA):
        mine = await replica.api.GetStats(pb.GetStatsRequest(), None)
    with call_context(EVE):
        theirs = await replica.api.GetStats(pb.GetStatsRequest(), None)
    assert mine == pb.GetStatsResponse(
        entry_count=1, lookup_count=4, exact_hit_count=1, semantic_hit_count=1, refused_candidate_count=1
    )
    assert theirs == pb.GetStatsResponse(lookup_count=1)
    assert replica.events.lookups == ["miss", "exact", "semantic", "miss", "miss"]


async def test_a_credential_without_an_organisation_is_refused_everywhere(replica: Replica) -> None:
    nobody = Principal("", "", "", "mesh", frozenset({"service"}))
    with pytest.raises(NoOrganisation):
        await keep(replica, cache_key(), nobody)
    with pytest.raises(NoOrganisation):
        await look(replica, cache_key(), nobody)
    with call_context(nobody):
        with pytest.raises(NoOrganisation):
            await replica.api.Invalidate(pb.InvalidateRequest(request_id="x", everything=True), None)
        with pytest.raises(NoOrganisation):
            await replica.api.ReportBadHit(pb.ReportBadHitRequest(request_id="x", entry_id="e"), None)
        with pytest.raises(NoOrganisation):
            await replica.api.GetStats(pb.GetStatsRequest(), None)


async def test_a_large_request_is_hashed_beside_the_loop_to_the_same_name() -> None:
    replica = Replica()
    await replica.mirror.sync()
    key = cache_key("x" * 200_000)
    await keep(replica, key)
    assert (await look(replica, key)).status == pb.CACHE_STATUS_EXACT


@pytest.mark.parametrize("name", ["Lookup", "Store", "Invalidate", "ReportBadHit", "GetStats"])
async def test_a_cache_that_is_off_says_so_on_every_call(name: str) -> None:
    assert hasattr(CacheApi, name)
    with pytest.raises(CacheDisabled) as caught:
        await getattr(DisabledCacheApi(), name)(None, None)
    assert (caught.value.status, caught.value.metadata) == ("UNIMPLEMENTED", {"feature": "cache"})
