"""Two processes on one store: what one drops, the other stops serving within the stated bound."""

from __future__ import annotations

import asyncio

import pytest
from llmops.cache.v1 import cache_pb2 as pb

from meshkit.group_commit import GroupCommit
from meshkit.identity import Principal
from meshkit.postgres import Database
from meshkit.testing import call_context
from services.cache.adapters.memory import ManualClock
from services.cache.adapters.sql import PostgresEntryStore
from services.cache.core.entries import Receipt, Write
from services.cache.core.errors import StorageUnavailable
from services.cache.core.ports import EntryStore
from tests.unit.cache.builders import Replica, cache_key, embedding, store_request

CALLER = Principal("acme", "search", "ada", "key-1", frozenset({"caller", "operator"}))


class Pair:
    """Replicas A and B, in step at the start."""

    def __init__(self, store: EntryStore) -> None:
        self.clock = ManualClock()
        self.a = Replica(store=store, clock=self.clock)
        self.b = Replica(store=store, clock=self.clock)

    async def sync(self) -> None:
        await self.a.mirror.sync()
        await self.b.mirror.sync()


@pytest.fixture
async def pair(store: EntryStore) -> Pair:
    pair = Pair(store)
    await pair.sync()
    return pair


async def status_at(replica: Replica, key: pb.CacheKey, angle: float | None = None) -> pb.CacheStatus:
    request = pb.LookupRequest(key=key, language="en")
    if angle is not None:
        request.embedding.CopyFrom(embedding(angle))
    with call_context(CALLER):
        return (await replica.api.Lookup(request, None)).status


async def keep(replica: Replica, key: pb.CacheKey, **fields: object) -> str:
    with call_context(CALLER):
        return (await replica.api.Store(store_request(key, **fields), None)).entry_id


async def drop(replica: Replica, **selector: object) -> int:
    with call_context(CALLER):
        request = pb.InvalidateRequest(request_id=f"drop-{selector}", **selector)  # type: ignore[arg-type]
        return (await replica.api.Invalidate(request, None)).entry_count


async def test_what_one_stores_the_other_serves_after_its_next_poll(pair: Pair) -> None:
    await keep(pair.a, cache_key())
    assert await status_at(pair.a, cache_key()) == pb.CACHE_STATUS_EXACT
    assert await status_at(pair.b, cache_key()) == pb.CACHE_STATUS_MISS
    await pair.b.mirror.sync()
    assert await status_at(pair.b, cache_key()) == pb.CACHE_STATUS_EXACT


@pytest.mark.parametrize("selector", ["prompt_digest", "writer_key_id", "key", "entry_id", "everything"])
async def test_an_invalidation_is_obeyed_at_once_here_and_after_one_poll_elsewhere(pair: Pair, selector: str) -> None:
    key = cache_key(prompt_digest="d1")
    entry_id = await keep(pair.a, key)
    await pair.sync()
    assert await status_at(pair.b, key) == pb.CACHE_STATUS_EXACT
    values = {"prompt_digest": "d1", "writer_key_id": "key-1", "key": key, "entry_id": entry_id, "everything": True}
    assert await drop(pair.a, **{selector: values[selector]}) == 1
    assert await status_at(pair.a, key) == pb.CACHE_STATUS_MISS
    await pair.b.mirror.sync()
    assert await status_at(pair.b, key) == pb.CACHE_STATUS_MISS


async def test_a_replica_whose_polls_stopped_asks_the_store_once_the_bound_has_passed(pair: Pair) -> None:
    await keep(pair.a, cache_key())
    await pair.sync()
    assert await status_at(pair.b, cache_key()) == pb.CACHE_STATUS_EXACT
    await drop(pair.a, everything=True)
    pair.clock.advance(5.0)
    assert await status_at(pair.b, cache_key()) == pb.CACHE_STATUS_EXACT
    pair.clock.advance(0.001)
    assert await status_at(pair.b, cache_key()) == pb.CACHE_STATUS_MISS


async def test_a_semantic_hit_obeys_the_same_bound(pair: Pair) -> None:
    stored, asked = cache_key("How do I reset my password?"), cache_key("How can I reset my password?")
    await keep(pair.a, stored, embedding=embedding(0.0), language="en")
    await pair.sync()
    assert await status_at(pair.b, asked, 0.05) == pb.CACHE_STATUS_MISS
    await pair.b.load()
    assert await status_at(pair.b, asked, 0.05) == pb.CACHE_STATUS_SEMANTIC
    await drop(pair.a, everything=True)
    pair.clock.advance(5.001)
    assert await status_at(pair.b, asked, 0.05) == pb.CACHE_STATUS_MISS


async def test_a_loaded_index_learns_what_other_replicas_store(pair: Pair) -> None:
    first, second = cache_key("How do I reset my password?"), cache_key("Where is my invoice?")
    await keep(pair.a, first, embedding=embedding(0.0), language="en")
    await pair.sync()
    await status_at(pair.b, second, 1.5)
    await pair.b.load()
    await keep(pair.a, second, embedding=embedding(1.5), language="en")
    await pair.b.mirror.sync()
    assert await status_at(pair.b, cache_key("Where can I find my invoice?"), 1.5) == pb.CACHE_STATUS_SEMANTIC


async def test_a_bad_hit_reported_on_one_replica_is_gone_from_the_other_after_its_poll(pair: Pair) -> None:
    entry_id = await keep(pair.a, cache_key())
    await pair.sync()
    assert await status_at(pair.b, cache_key()) == pb.CACHE_STATUS_EXACT
    with call_context(CALLER):
        await pair.a.api.ReportBadHit(pb.ReportBadHitRequest(request_id="b", entry_id=entry_id, reason="stale"), None)
    assert await status_at(pair.a, cache_key()) == pb.CACHE_STATUS_MISS
    await pair.b.mirror.sync()
    assert await status_at(pair.b, cache_key()) == pb.CACHE_STATUS_MISS


async def test_a_replacement_elsewhere_takes_the_place_of_a_hot_entry(pair: Pair) -> None:
    await keep(pair.a, cache_key(), answer="old")
    await pair.sync()
    await status_at(pair.b, cache_key())
    await keep(pair.a, cache_key(), answer="new")
    await pair.b.mirror.sync()
    with call_context(CALLER):
        found = await pair.b.api.Lookup(pb.LookupRequest(key=cache_key()), None)
    assert found.entry.completion.content == "new"


async def test_a_replica_that_starts_later_knows_everything_after_its_first_sync(pair: Pair) -> None:
    await keep(pair.a, cache_key())
    late = Replica(store=pair.a.store, clock=pair.clock)
    assert await status_at(late, cache_key()) == pb.CACHE_STATUS_EXACT, "before it knows, it asks the store"
    await late.mirror.sync()
    assert late.known.complete
    assert await status_at(late, cache_key()) == pb.CACHE_STATUS_EXACT


async def test_a_replica_that_was_away_for_longer_than_the_log_starts_over(pair: Pair) -> None:
    await keep(pair.a, cache_key(), ttl_class=pb.TTL_CLASS_STABLE)
    await pair.sync()
    await status_at(pair.b, cache_key())
    await drop(pair.a, everything=True)
    pair.clock.advance(7_200)
    await pair.a.upkeep.sweep()
    await pair.b.mirror.sync()
    assert await status_at(pair.b, cache_key()) == pb.CACHE_STATUS_MISS
    assert len(pair.b.hot) == 0


async def test_polls_do_not_miss_a_change_of_a_transaction_that_was_slow_to_commit(cache_database: Database) -> None:
    """A sequence number would be read past: the slow transaction has the lower number and commits last."""
    store = PostgresEntryStore(cache_database.pool, timeout_s=5.0)
    pair = Pair(store)
    key = cache_key()
    await keep(pair.a, key)
    await pair.sync()
    await status_at(pair.b, key)
    async with cache_database.pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(
            "WITH gone AS (DELETE FROM entries RETURNING *) INSERT INTO removals"
            " SELECT entry_id, fingerprint, partition, now(), pg_current_xact_id()::text::bigint FROM gone"
        )
        await keep(pair.a, cache_key("another question"))
        await pair.b.mirror.sync()
        assert await status_at(pair.b, key) == pb.CACHE_STATUS_EXACT, "not committed yet"
        await transaction.commit()
    await pair.b.mirror.sync()
    assert await status_at(pair.b, key) == pb.CACHE_STATUS_MISS


async def test_memory_is_not_trusted_when_the_store_stops_answering(cache_database: Database) -> None:
    store = PostgresEntryStore(cache_database.pool, timeout_s=0.2)
    pair = Pair(store)
    await pair.sync()
    await keep(pair.a, cache_key())
    await pair.sync()
    held = [await cache_database.pool.acquire() for _ in range(cache_database.pool.get_max_size())]
    try:
        assert await status_at(pair.a, cache_key()) == pb.CACHE_STATUS_EXACT, "memory serves within the bound"
        with pytest.raises(StorageUnavailable):
            await pair.a.mirror.sync()
        pair.clock.advance(5.001)
        with pytest.raises(StorageUnavailable):
            await status_at(pair.a, cache_key())
    finally:
        for connection in held:
            await cache_database.pool.release(connection)
    assert await status_at(pair.a, cache_key()) == pb.CACHE_STATUS_EXACT


async def test_stores_that_arrive_together_share_transactions_and_are_all_answered(cache_database: Database) -> None:
    store = PostgresEntryStore(cache_database.pool, timeout_s=5.0)
    writer: GroupCommit[Write, Receipt] = GroupCommit(store.put_many, max_batch=16, max_queue=64)
    replica = Replica(store=store, writer=writer)
    await replica.mirror.sync()
    await asyncio.gather(*(keep(replica, cache_key(f"question {number}")) for number in range(40)))
    await writer.close()
    transactions = await cache_database.pool.fetchval("SELECT count(DISTINCT change_xid) FROM entries")
    assert await cache_database.pool.fetchval("SELECT count(*) FROM entries") == 40
    assert transactions < 40
