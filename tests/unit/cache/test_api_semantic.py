"""The semantic tier through its handlers, on twins."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from llmops.cache.v1 import cache_pb2 as pb
from llmops.common.v1 import chat_pb2

from meshkit.testing import call_context
from tests.unit.cache.builders import Replica, cache_key, embedding
from tests.unit.cache.calls import ADA, EVE, RESET, RESET_TOO, keep, keep_by_meaning, look


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
    # The contract forbids both, nothing enforces it, and which of them a provider is sent is not known here.
    [
        chat_pb2.ChatMessage(
            role=chat_pb2.CHAT_ROLE_USER, content=RESET, parts=[chat_pb2.ContentPart(text="Not really")]
        )
    ],
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
