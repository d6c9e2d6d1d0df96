"""An answer past its time stands in where nothing else can, marked, and only where it is allowed."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from llmops.cache.v1 import cache_pb2 as pb

from meshkit.testing import call_context
from tests.unit.cache.builders import Replica, cache_key
from tests.unit.cache.calls import ADA, EVE, keep, look

TTL_S, STALE_S = 300, 60


async def aged(seconds: float, **fields: object) -> Replica:
    replica = Replica(stale_s=STALE_S)
    await replica.mirror.sync()
    await keep(replica, cache_key(), ttl_class=pb.TTL_CLASS_VOLATILE, **fields)
    replica.clock.advance(seconds)
    await replica.upkeep.sweep()
    await replica.mirror.sync()
    return replica


async def test_it_is_served_for_a_while_and_said_to_be_stale() -> None:
    replica = await aged(TTL_S)
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_MISS
    found = await look(replica, cache_key(), allow_stale=True)
    assert found.status == pb.CACHE_STATUS_STALE
    assert found.entry.entry_id
    # It is no live entry again because somebody had to be content with it.
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_MISS


async def test_a_live_answer_is_not_called_stale() -> None:
    replica = await aged(TTL_S - 1)
    assert (await look(replica, cache_key(), allow_stale=True)).status == pb.CACHE_STATUS_EXACT


async def test_it_is_gone_after_the_while() -> None:
    replica = await aged(TTL_S + STALE_S)
    assert (await look(replica, cache_key(), allow_stale=True)).status == pb.CACHE_STATUS_MISS
    assert await replica.store.list_references(b"", 10) == []


async def test_max_age_binds_it_too() -> None:
    replica = await aged(TTL_S + 1)
    young = Duration(seconds=TTL_S)
    assert (await look(replica, cache_key(), allow_stale=True, max_age=young)).status == pb.CACHE_STATUS_MISS


async def test_it_stays_in_its_organisation() -> None:
    replica = await aged(TTL_S + 1)
    assert (await look(replica, cache_key(), EVE, allow_stale=True)).status == pb.CACHE_STATUS_MISS


async def test_what_was_invalidated_never_stands_in() -> None:
    replica = await aged(TTL_S + 1)
    with call_context(ADA):
        await replica.api.Invalidate(pb.InvalidateRequest(request_id="i", key=cache_key()), None)
    assert (await look(replica, cache_key(), allow_stale=True)).status == pb.CACHE_STATUS_MISS


async def test_without_a_while_nothing_stands_in() -> None:
    replica = Replica()
    await replica.mirror.sync()
    await keep(replica, cache_key(), ttl_class=pb.TTL_CLASS_VOLATILE)
    replica.clock.advance(TTL_S)
    assert (await look(replica, cache_key(), allow_stale=True)).status == pb.CACHE_STATUS_MISS
