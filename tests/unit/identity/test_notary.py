"""A log that the owner of the database rewrote is signed by nobody."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

import pytest

from services.identity.adapters.memory import MemoryStore, RecordingObserver
from services.identity.adapters.signing import NoteSigner
from services.identity.core.audit import Deed, Event, LogHead, append
from services.identity.core.errors import LogRewritten
from services.identity.core.model import Actor
from tests.support.identity_world import ADMIN, START, World

SIGNER = NoteSigner("test/audit", base64.b64encode(bytes(range(32))).decode())


async def a_world(organisations: int = 5) -> World:
    world = World(signer=SIGNER)
    for number in range(organisations):
        await world.organisation(f"o-{number}")
    return world


def rewrite(store: MemoryStore, *, keep: int | None = None, checkpoints: bool = True) -> None:
    """What somebody with the database can do: another first event, every hash, the state; and fewer events."""
    head, events = LogHead(), list[Event]()
    for old in store._state.events[:keep]:
        said = json.loads(old.text)
        name = "innocent" if old.sequence == 1 else said["actor"]["user"]
        actor = Actor(said["actor"]["organisation"], name, said["actor"]["key_id"], frozenset())
        deed = Deed(said["action"], said["organisation"], said["target"], said["before"], said["after"])
        event, head = append(head, deed, actor, said["request_id"], START)
        events.append(event)
    store._state = replace(
        store._state, events=events, head=head, checkpoints=store._state.checkpoints if checkpoints else {}
    )


async def test_a_change_does_not_wait_until_a_new_process_has_read_the_log() -> None:
    # A long log takes seconds: a key that was made meanwhile was lost with the answer that came too late.
    class Slow(MemoryStore):
        reading = asyncio.Event()
        read = asyncio.Event()

        async def events(self, organisation: str, after: int, size: int) -> list[Event]:
            self.reading.set()
            await self.read.wait()
            return await super().events(organisation, after, size)

    store = Slow()
    world = World(store)
    for name in ("a", "b", "c"):
        await world.organisation(name)
    starting = asyncio.create_task(world.identity.keep(3600))
    async with asyncio.timeout(5):
        await store.reading.wait()
        assert (await world.key(ADMIN, organisation="a"))[1]
    assert await store.checkpoints(0, 10) == []
    store.read.set()
    assert (await world.identity.checkpoint(ADMIN)).leaf_count == 4  # type: ignore[union-attr]
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


async def test_a_log_that_was_seen_and_rewritten_is_not_signed() -> None:
    # Found by review: the state row was believed, so the service signed whatever the database's owner wrote.
    world = await a_world()
    await world.identity.checkpoint(ADMIN)
    rewrite(world.store, checkpoints=False)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(LogRewritten, match="do not continue the 5 that were seen"):
            await world.identity.checkpoint(ADMIN)
    assert await world.store.checkpoints(0, 10) == []
    assert [event for event in world.observer.events if event.startswith("rewritten")]


async def test_a_rewritten_log_that_grew_is_not_signed_and_changes_go_on() -> None:
    world = await a_world()
    rewrite(world.store, checkpoints=False)  # type: ignore[arg-type]
    # Four were seen when the checkpoint over four was made; the eighth event is due for the next.
    for name in ("a", "b", "c"):
        await world.organisation(name)
    assert await world.store.checkpoints(0, 10) == []
    assert "rewritten" in world.observer.events[-1]
    assert (await world.store.head()).count == 8


async def test_a_new_process_compares_the_log_with_the_newest_signed_checkpoint() -> None:
    world = await a_world()
    unsigned = world.replica(signer=World().signer)
    await world.organisation("one-more")
    await unsigned.identity.checkpoint(ADMIN)
    assert [c.leaf_count for c in await world.store.checkpoints(0, 10)] == [4, 6]
    assert await world.replica().identity.checkpoint(ADMIN) is not None
    rewrite(world.store)  # type: ignore[arg-type]
    with pytest.raises(LogRewritten, match="the first 4 events are not those that the newest checkpoint signs"):
        await world.replica().identity.checkpoint(ADMIN)


async def test_a_log_shorter_than_what_is_signed_is_not_signed() -> None:
    world = await a_world()
    rewrite(world.store, keep=3)  # type: ignore[arg-type]
    with pytest.raises(LogRewritten, match="it has 3 events, and 4 are signed"):
        await world.replica().identity.checkpoint(ADMIN)
    with pytest.raises(LogRewritten, match="it has 3 events"):
        await world.identity.checkpoint(ADMIN)


async def test_a_state_that_the_events_do_not_bear_out_is_not_signed() -> None:
    world = await a_world(3)
    store = world.store
    assert isinstance(store, MemoryStore)
    store._state.events.pop()
    with pytest.raises(LogRewritten, match="event 3 is not there"):
        await world.identity.checkpoint(ADMIN)


async def test_replicas_sign_what_each_other_wrote() -> None:
    one = await a_world(3)
    other = one.replica()
    assert isinstance(other.observer, RecordingObserver)
    await other.identity.checkpoint(ADMIN)
    for number in range(3, 3000):
        await one.organisation(f"o-{number}")
    made = await other.identity.checkpoint(ADMIN)
    assert made is not None
    assert made.leaf_count == 3000
    assert SIGNER.signed(made.note)
