"""Memory in front of the store never outlives what the store says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.adapters.memory import ManualClock, MemoryEntryStore
from services.cache.core.entries import Change, Entry, Removal, Selector
from services.cache.core.errors import StorageUnavailable
from tests.unit.cache.builders import Replica, entry, write

NOW_US = 2_000_000


class SlowStore(MemoryEntryStore):
    """A store whose reads can be held back, and that counts and can refuse them."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.down = False

    async def get(self, organisation: str, fingerprint: bytes) -> Entry | None:
        self.reads += 1
        if self.down:
            raise StorageUnavailable
        found = await super().get(organisation, fingerprint)
        await self.answering.wait()
        return found

    async def list_removed(self, since: int, after: tuple[int, str], limit: int) -> Sequence[Change]:
        if self.down:
            raise StorageUnavailable
        return await super().list_removed(since, after, limit)


def drop_everything(request_id: str = "drop") -> Removal:
    return Removal("acme", request_id, b"", Selector("everything"), NOW_US)


@pytest.fixture
async def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
async def replica(store: SlowStore) -> Replica:
    replica = Replica(store=store, clock=ManualClock())
    await replica.mirror.sync()
    return replica


async def test_a_miss_does_not_ask_the_store(replica: Replica, store: SlowStore) -> None:
    assert await replica.mirror.read("acme", b"?" * 32, NOW_US) is None
    assert store.reads == 0


async def test_the_second_read_comes_from_memory(replica: Replica, store: SlowStore) -> None:
    kept = entry()
    await store.put_many([write(kept)])
    await replica.mirror.sync()
    assert await replica.mirror.read("acme", kept.fingerprint, NOW_US) == kept
    assert await replica.mirror.read("acme", kept.fingerprint, NOW_US) == kept
    assert store.reads == 1


async def test_an_entry_that_expires_in_memory_is_not_served(replica: Replica, store: SlowStore) -> None:
    kept = entry(expire_time_us=NOW_US + 1)
    await store.put_many([write(kept)])
    replica.mirror.wrote(kept, replica.mirror.epoch)
    assert await replica.mirror.read("acme", kept.fingerprint, NOW_US) == kept
    assert await replica.mirror.read("acme", kept.fingerprint, NOW_US + 1) is None


async def test_an_expired_entry_of_the_store_is_not_served_either(replica: Replica, store: SlowStore) -> None:
    kept = entry(expire_time_us=NOW_US)
    await store.put_many([write(kept)])
    await replica.mirror.sync()
    assert await replica.mirror.read("acme", kept.fingerprint, NOW_US) is None


async def test_a_read_that_overlaps_a_removal_leaves_nothing_behind(replica: Replica, store: SlowStore) -> None:
    """The read saw the entry before it was removed, and answers after the removal was applied to memory."""
    kept = entry()
    await store.put_many([write(kept)])
    await replica.mirror.sync()
    store.answering.clear()
    reading = asyncio.create_task(replica.mirror.read("acme", kept.fingerprint, NOW_US))
    while not store.reads:
        await asyncio.sleep(0)
    await store.remove(drop_everything())
    await replica.mirror.sync()
    store.answering.set()
    await reading
    assert await replica.mirror.read("acme", kept.fingerprint, NOW_US) is None


async def test_a_write_that_overlaps_a_removal_leaves_nothing_behind(replica: Replica, store: SlowStore) -> None:
    kept = entry()
    epoch = replica.mirror.epoch
    await store.put_many([write(kept)])
    await store.remove(drop_everything())
    await replica.mirror.sync()
    replica.mirror.wrote(kept, epoch)
    assert await replica.mirror.read("acme", kept.fingerprint, NOW_US) is None


async def test_memory_is_used_up_to_the_bound_and_not_beyond(replica: Replica, store: SlowStore) -> None:
    kept = entry()
    await store.put_many([write(kept)])
    replica.mirror.wrote(kept, replica.mirror.epoch)
    store.down = True
    replica.clock.advance(5)
    assert await replica.mirror.read("acme", kept.fingerprint, NOW_US) == kept
    replica.clock.advance(0.001)
    with pytest.raises(StorageUnavailable):
        await replica.mirror.read("acme", kept.fingerprint, NOW_US)


async def test_a_sync_that_failed_half_way_is_done_again(replica: Replica, store: SlowStore) -> None:
    kept = entry()
    await store.put_many([write(kept)])
    replica.mirror.wrote(kept, replica.mirror.epoch)
    await store.remove(drop_everything())
    store.down = True
    with pytest.raises(StorageUnavailable):
        await replica.mirror.sync()
    store.down = False
    await replica.mirror.sync()
    assert await replica.mirror.read("acme", kept.fingerprint, NOW_US) is None


async def test_distrusted_memory_is_not_used_until_the_next_sync(replica: Replica, store: SlowStore) -> None:
    kept = entry()
    await store.put_many([write(kept)])
    replica.mirror.wrote(kept, replica.mirror.epoch)
    replica.mirror.distrust()
    await replica.mirror.read("acme", kept.fingerprint, NOW_US)
    assert store.reads == 1
    await replica.mirror.sync()
    await replica.mirror.read("acme", kept.fingerprint, NOW_US)
    assert store.reads == 1


async def test_knowing_all_names_takes_several_pages(store: SlowStore) -> None:
    entries = [entry() for _ in range(700)]
    await store.put_many([write(e) for e in entries])
    replica = Replica(store=store)
    await replica.mirror.sync()
    assert replica.known.complete
    assert len(replica.known) == 700


steps = st.lists(
    st.tuples(st.sampled_from(["store", "drop", "sync", "read", "expire"]), st.integers(0, 2), st.integers(0, 1)),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps)
async def test_two_replicas_never_serve_what_was_dropped_before_their_last_sync(
    plan: list[tuple[str, int, int]],
) -> None:
    """Against a model: what a replica serves was in the store at its last sync or later."""
    store, clock = MemoryEntryStore(), ManualClock()
    replicas = [Replica(store=store, clock=clock) for _ in range(2)]
    for replica in replicas:
        await replica.mirror.sync()
    names = [bytes([number]) * 32 for number in range(3)]
    live: dict[bytes, str] = {}
    allowed: list[dict[bytes, set[str]]] = [{n: set() for n in names} for _ in replicas]
    for turn, (step, number, at) in enumerate(plan):
        name, mirror = names[number], replicas[at].mirror
        if step == "store":
            kept = entry(fingerprint=name, entry_id=f"{turn + 1:016x}{0:016x}")
            epoch = mirror.epoch
            await store.put_many([write(kept)])
            mirror.wrote(kept, epoch)
            live[name] = kept.entry_id
            for view in allowed:
                view[name].add(kept.entry_id)
        elif step == "drop":
            await store.remove(Removal("acme", f"d{turn}", b"", Selector("fingerprints", (name,)), NOW_US))
            live.pop(name, None)
        elif step == "sync":
            await mirror.sync()
            allowed[at] = {n: {live[n]} if n in live else set() for n in names}
        elif step == "expire":
            clock.advance(6)
        else:
            found = await mirror.read("acme", name, NOW_US)
            if found is not None:
                assert found.entry_id in allowed[at][name]
                assert mirror.fresh or found.entry_id == live.get(name)
