"""Sweeping keeps the store within its limits."""

from __future__ import annotations

import asyncio

from llmops.cache.v1 import cache_pb2 as pb

from meshkit.identity import Principal
from meshkit.testing import call_context
from services.cache.adapters.memory import MemoryEntryStore
from services.cache.core.errors import StorageUnavailable
from tests.unit.cache.builders import Replica, cache_key, store_request, write

ADA = Principal("acme", "search", "ada", "key-1", frozenset({"caller"}))


async def keep(replica: Replica, text: str, **fields: object) -> None:
    with call_context(ADA):
        await replica.api.Store(store_request(cache_key(text), **fields), None)


async def names(replica: Replica) -> int:
    return len(await replica.store.list_references(b"", 100))


async def test_a_sweep_drops_every_expired_entry_over_several_batches() -> None:
    replica = Replica()
    for number in range(5):
        await keep(replica, f"q{number}", ttl_class=pb.TTL_CLASS_VOLATILE)
    await keep(replica, "stays")
    replica.clock.advance(301)
    await replica.upkeep.sweep()
    assert await names(replica) == 1


async def test_a_sweep_drops_the_oldest_entries_beyond_the_limit() -> None:
    replica = Replica(max_entries_per_organisation=3)
    await replica.mirror.sync()
    for number in range(8):
        await keep(replica, f"q{number}")
        replica.clock.advance(1)
    await replica.upkeep.sweep()
    assert await names(replica) == 3
    await replica.mirror.sync()
    with call_context(ADA):
        found = [await replica.api.Lookup(pb.LookupRequest(key=cache_key(f"q{n}")), None) for n in range(8)]
    assert [f.status == pb.CACHE_STATUS_EXACT for f in found] == [False] * 5 + [True] * 3


async def test_a_sweep_forgets_old_request_ids_and_removals() -> None:
    replica = Replica()
    await keep(replica, "q", request_id="same", ttl_class=pb.TTL_CLASS_VOLATILE)
    replica.clock.advance(400)
    await replica.upkeep.sweep()
    assert len(await replica.store.list_removed(0, (-1, ""), 10)) == 1
    replica.clock.advance(86_401)
    await replica.upkeep.sweep()
    assert await replica.store.list_removed(0, (-1, ""), 10) == []
    await keep(replica, "another payload", request_id="same")


async def test_following_goes_on_after_the_store_was_unavailable() -> None:
    class Flaky(MemoryEntryStore):
        calls = 0
        recovered = asyncio.Event()

        async def horizon(self) -> int:
            self.calls += 1
            if self.calls == 1:
                raise StorageUnavailable
            # The second sync begins when the first one was measured.
            if self.calls == 3:
                self.recovered.set()
            return await super().horizon()

    store = Flaky()
    await store.put_many([write()])
    replica = Replica(store=store)
    following = asyncio.create_task(replica.upkeep.follow(0.001))
    await store.recovered.wait()
    following.cancel()
    await asyncio.wait([following])
    assert replica.events.sizes[1] == 1
    assert [task for task, _ in replica.events.failures] == ["sync"]
    assert following.cancelled()
