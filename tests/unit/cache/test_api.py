"""CacheService through its handlers, on twins."""

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
    EntryNotFound,
    InvalidRequest,
    NoOrganisation,
    RequestIdReused,
    StorageUnavailable,
)
from tests.unit.cache.builders import Replica, cache_key, embedding, store_request

ADA = Principal("acme", "search", "ada", "key-1", frozenset({"caller", "operator"}))
EVE = Principal("globex", "search", "ada", "key-1", frozenset({"caller", "operator"}))
RESET = "How do I reset my password?"
RESET_TOO = "How can I reset my password?"


@pytest.fixture
async def replica() -> Replica:
    replica = Replica()
    await replica.mirror.sync()
    return replica


async def keep(replica: Replica, key: pb.CacheKey, caller: Principal = ADA, **fields: object) -> pb.StoreResponse:
    with call_context(caller):
        return await replica.api.Store(store_request(key, **fields), None)


async def look(replica: Replica, key: pb.CacheKey, caller: Principal = ADA, **fields: object) -> pb.LookupResponse:
    with call_context(caller):
        return await replica.api.Lookup(pb.LookupRequest(key=key, **fields), None)  # type: ignore[arg-type]


async def keep_by_meaning(replica: Replica, key: pb.CacheKey, **fields: object) -> pb.StoreResponse:
    """Stores, and has the partition loaded."""
    kept = await keep(replica, key, **{"embedding": embedding(), "language": "en", **fields})
    await replica.mirror.sync()
    await look(replica, cache_key("-"), embedding=embedding(), language="en")
    assert replica.semantic is not None
    if replica.semantic._wanted:
        await replica.load()
    return kept


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


async def test_a_paraphrase_is_served_by_meaning(replica: Replica) -> None:
    kept = await keep_by_meaning(replica, cache_key(RESET))
    found = await look(replica, cache_key(RESET_TOO), embedding=embedding(0.1), language="en")
    assert found.status == pb.CACHE_STATUS_SEMANTIC
    assert found.entry.entry_id == kept.entry_id
    assert found.similarity == pytest.approx(0.995, abs=1e-3)
    assert found.refusal == ""


async def test_a_refusal_is_told_with_its_similarity(replica: Replica) -> None:
    await keep_by_meaning(replica, cache_key("Who won the cup in 2023?"))
    found = await look(replica, cache_key("Who won the cup in 2024?"), embedding=embedding(), language="en")
    assert (found.status, found.refusal) == (pb.CACHE_STATUS_MISS, "numbers-differ")
    assert found.similarity == pytest.approx(1.0)
    assert not found.HasField("entry")


@pytest.mark.parametrize(
    ("fields", "lookup"),
    [
        ({"guard_policy": "strict"}, {}),
        ({"model_policy": "other"}, {}),
        ({"prompt_digest": "d2"}, {}),
        ({"tools": [chat_pb2.ToolDefinition(name="t")]}, {}),
        ({"parameters": chat_pb2.GenerationParameters(temperature=0.5)}, {}),
        ({"scope": pb.CACHE_SCOPE_TEAM}, {}),
        ({}, {"language": ""}),
        ({}, {"embedding": embedding(model="mini@2")}),
    ],
)
async def test_meaning_does_not_reach_across_partitions(
    replica: Replica, fields: dict[str, object], lookup: dict[str, object]
) -> None:
    await keep_by_meaning(replica, cache_key(RESET))
    asked = {"embedding": embedding(), "language": "en", **lookup}
    found = await look(replica, cache_key(RESET_TOO, **fields), **asked)
    assert (found.status, found.refusal) == (pb.CACHE_STATUS_MISS, "")
    assert not found.HasField("similarity")


async def test_another_history_never_shares_an_answer(replica: Replica) -> None:
    def talk(city: str, text: str) -> pb.CacheKey:
        messages = [
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=f"I live in {city}."),
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, content="Noted."),
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text),
        ]
        return pb.CacheKey(messages=messages)

    await keep(replica, talk("Rome", "Is it warm today?"), embedding=embedding(), language="en")
    await replica.mirror.sync()
    await look(replica, talk("Rome", "-"), embedding=embedding(), language="en")
    await replica.load()
    ask = {"embedding": embedding(), "language": "en"}
    assert (await look(replica, talk("Rome", "Is it warm there today?"), **ask)).status == pb.CACHE_STATUS_SEMANTIC
    assert (await look(replica, talk("Oslo", "Is it warm there today?"), **ask)).status == pb.CACHE_STATUS_MISS


async def test_another_organisation_finds_nothing_by_any_tier(replica: Replica) -> None:
    await keep_by_meaning(replica, cache_key(RESET))
    for text in (RESET, RESET_TOO):
        found = await look(replica, cache_key(text), EVE, embedding=embedding(), language="en")
        assert found.status == pb.CACHE_STATUS_MISS


def plain(text: str) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)


IMAGE = chat_pb2.ContentPart(image=chat_pb2.ImagePart(url="https://x.example/y.png"))
UNSEARCHABLE = [
    [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, parts=[chat_pb2.ContentPart(text=RESET), IMAGE])],
    [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_TOOL, content="42", tool_call_id="1"), plain(RESET)],
    [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, tool_calls=[chat_pb2.ToolCall(name="t")]), plain(RESET)],
    [plain(RESET), chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, content="Well,")],
    [plain("hi")] * 64 + [plain(RESET)],
    [plain("")],
]


@pytest.mark.parametrize("messages", UNSEARCHABLE)
async def test_conversations_that_a_sentence_does_not_stand_for_stay_exact(
    replica: Replica, messages: list[chat_pb2.ChatMessage]
) -> None:
    key = pb.CacheKey(messages=messages)
    await keep(replica, key, embedding=embedding(), language="en")
    assert (await look(replica, key, embedding=embedding(), language="en")).status == pb.CACHE_STATUS_EXACT
    (reference,) = await replica.store.list_references(b"", 10)
    assert reference.partition is None


async def test_a_question_in_text_parts_is_searched() -> None:
    replica = Replica()
    await replica.mirror.sync()
    part = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, parts=[chat_pb2.ContentPart(text=RESET)])
    await keep(replica, pb.CacheKey(messages=[part]), embedding=embedding(), language="en")
    (reference,) = await replica.store.list_references(b"", 10)
    assert reference.partition is not None


@pytest.mark.parametrize(
    "fields", [{"embedding": embedding(truncated=True), "language": "en"}, {"embedding": embedding(), "language": "de"}]
)
async def test_truncated_and_foreign_questions_are_not_stored_by_meaning(
    replica: Replica, fields: dict[str, object]
) -> None:
    await keep(replica, cache_key(), **fields)
    (reference,) = await replica.store.list_references(b"", 10)
    assert reference.partition is None


async def test_an_expired_or_too_old_candidate_is_not_served(replica: Replica) -> None:
    await keep_by_meaning(replica, cache_key(RESET), ttl=Duration(seconds=100))
    replica.clock.advance(50)
    ask = {"key": cache_key(RESET_TOO), "embedding": embedding(), "language": "en"}
    assert (await look(replica, **ask, max_age=Duration(seconds=49))).status == pb.CACHE_STATUS_MISS
    assert (await look(replica, **ask, max_age=Duration(seconds=50))).status == pb.CACHE_STATUS_SEMANTIC
    replica.clock.advance(50)
    assert (await look(replica, **ask)).status == pb.CACHE_STATUS_MISS


async def test_a_candidate_that_the_store_no_longer_has_is_not_served(replica: Replica) -> None:
    """The index is behind: the entry was dropped on another replica, and memory is too old to be trusted."""
    await keep_by_meaning(replica, cache_key(RESET))
    other = Replica(store=replica.store)
    with call_context(ADA):
        await other.api.Invalidate(pb.InvalidateRequest(request_id="x", everything=True), None)
    replica.clock.advance(6)
    found = await look(replica, cache_key(RESET_TOO), embedding=embedding(), language="en")
    assert (found.status, found.refusal) == (pb.CACHE_STATUS_MISS, "gone")


async def test_without_the_semantic_tier_the_exact_one_works(replica: Replica) -> None:
    alone = Replica(semantic_on=False)
    await alone.mirror.sync()
    await keep(alone, cache_key(), embedding=embedding(), language="en")
    assert (await look(alone, cache_key(), embedding=embedding())).status == pb.CACHE_STATUS_EXACT
    assert (await look(alone, cache_key("x"), embedding=embedding())).status == pb.CACHE_STATUS_MISS


@pytest.mark.parametrize("selector", [{"everything": False}, {}])
async def test_everything_must_be_said(replica: Replica, selector: dict[str, bool]) -> None:
    await keep(replica, cache_key())
    with pytest.raises(InvalidRequest), call_context(ADA):
        await replica.api.Invalidate(pb.InvalidateRequest(request_id="x", **selector), None)  # type: ignore[arg-type]
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_EXACT


@pytest.mark.parametrize("selector", ["prompt_digest", "writer_key_id", "entry_id"])
async def test_a_selector_must_name_something(replica: Replica, selector: str) -> None:
    await keep(replica, cache_key())
    with pytest.raises(InvalidRequest), call_context(ADA):
        await replica.api.Invalidate(pb.InvalidateRequest(request_id="x", **{selector: ""}), None)  # type: ignore[arg-type]
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_EXACT


async def test_an_invalidation_reaches_its_organisation_only(replica: Replica) -> None:
    await keep(replica, cache_key())
    with call_context(EVE):
        response = await replica.api.Invalidate(pb.InvalidateRequest(request_id="x", everything=True), None)
    assert response.entry_count == 0
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_EXACT


async def test_a_committed_invalidation_counts_even_when_the_log_cannot_be_read(replica: Replica) -> None:
    await keep(replica, cache_key())
    real = replica.store.horizon

    async def unavailable() -> int:
        raise StorageUnavailable

    replica.store.horizon = unavailable  # type: ignore[method-assign]
    with call_context(ADA):
        await replica.api.Invalidate(pb.InvalidateRequest(request_id="x", everything=True), None)
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_MISS
    assert [task for task, _ in replica.events.failures] == ["sync"]
    replica.store.horizon = real  # type: ignore[method-assign]


async def test_a_reported_hit_is_gone_at_once_and_counted(replica: Replica) -> None:
    kept = await keep(replica, cache_key())
    report = pb.ReportBadHitRequest(request_id="x", entry_id=kept.entry_id, reason="outdated")
    with call_context(ADA):
        await replica.api.ReportBadHit(report, None)
        await replica.api.ReportBadHit(report, None)
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_MISS
    with call_context(ADA):
        assert (await replica.api.GetStats(pb.GetStatsRequest(), None)).bad_hit_count == 1


@pytest.mark.parametrize("caller", [ADA, EVE])
async def test_a_report_of_an_entry_that_is_not_there_is_not_found(replica: Replica, caller: Principal) -> None:
    kept = await keep(replica, cache_key())
    entry_id = kept.entry_id if caller is EVE else "0" * 32
    with pytest.raises(EntryNotFound), call_context(caller):
        await replica.api.ReportBadHit(pb.ReportBadHitRequest(request_id="x", entry_id=entry_id), None)
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_EXACT


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
