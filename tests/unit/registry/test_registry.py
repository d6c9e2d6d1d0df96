from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from meshkit.templates import InvalidVariables
from services.registry.adapters.memory import MemoryStore
from services.registry.core.document import Document
from services.registry.core.errors import (
    InvalidFiles,
    InvalidPrompt,
    InvalidRequest,
    PromptNotFound,
    RequestIdReused,
    ShuttingDown,
    StorageUnavailable,
    TooManyWatchers,
)
from services.registry.core.ports import Change, PastRequest
from services.registry.core.prompt import Arm, Message, Pointer, Role, Version
from tests.support.registry_world import RULES, World, a_prompt, published


class FailingStore(MemoryStore):
    """A memory store that is down when told to be, or loses every race."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.rivals = 0
        self.loads = 0
        self.gate: asyncio.Event | None = None

    async def load(self, after_revision: int) -> Change | None:
        self.loads += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise StorageUnavailable
        return await super().load(after_revision)

    async def commit(self, change: Change, expected_revision: int, request: PastRequest | None) -> bool:
        if self.rivals:
            self.rivals -= 1
            rival = published(a_prompt(name=f"rival-{self.rivals}"), "1.0")
            await super().commit(Change(expected_revision + 1, (rival,)), expected_revision, None)
        return await super().commit(change, expected_revision, request)

    async def forget_requests(self, before: datetime) -> None:
        if self.down:
            raise StorageUnavailable
        await super().forget_requests(before)


async def test_a_version_is_published_found_and_rendered() -> None:
    world = World()
    assert await world.publish(a_prompt(), "", "production") == "created summarize/v1.0"
    found = await world.registry.find("summarize@production")
    assert (found.prompt.label, found.arm) == ("summarize/v1.0", "active")
    assert found.prompt.create_time == world.clock.time
    assert await world.registry.render(found.prompt.prompt, {"document": "{{x}}"}) == [
        Message(Role.USER, "Summarise {{x}}")
    ]
    with pytest.raises(InvalidVariables):
        await world.registry.render(found.prompt.prompt, {})
    assert "ada published summarize/v1.0 ['production']" in world.observer.events


async def test_every_form_of_reference() -> None:
    world = World()
    await world.publish(a_prompt("a {{document}}"), "1.0", "production")
    await world.publish(a_prompt("b {{document}}"), "1.9")
    await world.publish(a_prompt("c {{document}}"), "1.10")
    await world.publish(a_prompt("d {{document}}"), "2.0", "staging")
    digest = (await world.registry.find("summarize/v1.9")).prompt.digest
    for reference, label in {
        "summarize": "summarize/v1.0",
        "summarize@production": "summarize/v1.0",
        "summarize@staging": "summarize/v2.0",
        "summarize/v1": "summarize/v1.10",
        "summarize/v2": "summarize/v2.0",
        "summarize/v1.9": "summarize/v1.9",
        digest: "summarize/v1.9",
    }.items():
        assert (await world.registry.find(reference)).prompt.label == label


async def test_content_published_twice_is_found_by_digest_under_its_first_version() -> None:
    world = World()
    await world.publish(a_prompt("a {{document}}"))
    digest = (await world.registry.find("summarize/v1.0")).prompt.digest
    await world.publish(a_prompt("b {{document}}"))
    assert await world.publish(a_prompt("a {{document}}")) == "created summarize/v1.2"
    assert (await world.registry.find(digest)).prompt.label == "summarize/v1.0"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("absent", "no prompt is named absent"),
        ("absent/v1", "no prompt is named absent"),
        ("summarize@staging", "summarize is not served in staging; it is served in production; activate a version"),
        ("summarize/v3", "summarize/v3 is not published; the newest is v1.0"),
        ("summarize/v1.1", "summarize/v1.1 is not published; the newest is v1.0"),
        ("sha256:" + "0" * 64, "no version has this digest"),
    ],
)
async def test_what_is_not_there_is_named_with_what_is(reference: str, message: str) -> None:
    world = World()
    await world.publish(a_prompt(), "", "production")
    with pytest.raises(PromptNotFound, match=message) as caught:
        await world.registry.find(reference)
    assert caught.value.metadata == {"prompt": f"{reference}@production" if reference == "absent" else reference}


async def test_the_arm_is_sticky_and_an_empty_key_takes_the_first() -> None:
    world = World()
    versions = (published(a_prompt("a {{document}}"), "1.0"), published(a_prompt("b {{document}}"), "1.1"))
    arms = (Arm("active", Version(1, 0), 5_000), Arm("canary", Version(1, 1), 5_000))
    await world.store.commit(Change(1, versions, (Pointer("summarize", "production", arms),)), 0, None)
    found = {key: await world.registry.find("summarize", key) for key in ("", *(f"user-{n}" for n in range(40)))}
    assert found[""].arm == "active"
    assert {(each.arm, str(each.prompt.version)) for each in found.values()} == {("active", "1.0"), ("canary", "1.1")}
    assert (await world.registry.find("summarize", "user-7")) == found["user-7"]


async def test_a_repeated_request_gets_its_first_answer() -> None:
    world = World()
    assert await world.publish(a_prompt(), request_id="r") == "created summarize/v1.0"
    assert await world.publish(a_prompt("new {{document}}")) == "created summarize/v1.1"
    assert await world.publish(a_prompt(), request_id="r") == "created summarize/v1.0"
    with pytest.raises(RequestIdReused):
        await world.publish(a_prompt("new {{document}}"), request_id="r")
    with pytest.raises(RequestIdReused):
        await world.publish(a_prompt(), "", "production", request_id="r")


async def test_requests_are_forgotten_after_the_retention() -> None:
    world = World()
    await world.publish(a_prompt(), request_id="r")
    world.clock.time += timedelta(days=7)
    assert await world.publish(a_prompt(), request_id="r") == "created summarize/v1.0"
    world.clock.time += timedelta(seconds=1)
    assert await world.publish(a_prompt(), request_id="r") == "known summarize/v1.0"


@pytest.mark.parametrize(
    ("version", "environment", "request_id", "field"),
    [
        ("01.0", "production", "r", "prompt.version"),
        ("", "prod", "r", "activate_environments[0]"),
        ("", "production", "a\x00", "request_id"),
    ],
)
async def test_requests_that_cannot_be_read(version: str, environment: str, request_id: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await World().publish(a_prompt(), version, environment, request_id=request_id)
    assert [name for name, _ in caught.value.field_violations] == [field]


async def test_fields_of_a_wrong_prompt_are_named_as_in_the_request() -> None:
    with pytest.raises(InvalidPrompt) as caught:
        await World().publish(a_prompt("{{x}}"))
    assert [field for field, _ in caught.value.field_violations] == [
        "prompt.variables[0]",
        "prompt.messages[0].template",
    ]


async def test_a_publisher_that_lost_a_race_decides_anew() -> None:
    store = FailingStore()
    store.rivals = 3
    assert await World(store).publish(a_prompt()) == "created summarize/v1.0"
    store.rivals = 100
    with pytest.raises(StorageUnavailable, match="send the same request again"):
        await World(store).publish(a_prompt("b {{document}}"))


async def test_a_version_of_another_replica_is_found_at_once() -> None:
    store = MemoryStore()
    one, other = World(store), World(store)
    await one.registry.refresh()
    await other.publish(a_prompt())
    assert (await one.registry.find("summarize/v1.0")).prompt.label == "summarize/v1.0"


async def test_memory_is_served_while_the_store_is_down() -> None:
    store = FailingStore()
    world = World(store)
    await world.publish(a_prompt(), "", "production")
    store.down = True
    assert (await world.registry.find("summarize")).prompt.label == "summarize/v1.0"
    with pytest.raises(StorageUnavailable):
        await world.registry.find("absent")
    with pytest.raises(StorageUnavailable):
        await world.publish(a_prompt("b {{document}}"))


async def test_callers_that_wait_together_share_one_look_at_the_store() -> None:
    store = FailingStore()
    store.gate = asyncio.Event()
    world = World(store)
    waiting = [asyncio.create_task(world.registry.refresh()) for _ in range(10)]
    while store.loads == 0:
        await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(*waiting)
    # The first look began before the others asked, so it does not count for them; one more serves all nine.
    assert store.loads == 2


async def test_a_store_restored_to_an_older_state_replaces_what_is_in_memory() -> None:
    store = MemoryStore()
    world = World(store)
    await world.publish(a_prompt("a {{document}}"))
    await world.publish(a_prompt("b {{document}}"))
    restored = MemoryStore()
    await restored.commit(Change(1, (published(a_prompt("a {{document}}"), "1.0"),)), 0, None)
    store.__dict__.update(restored.__dict__)
    await world.registry.refresh()
    with pytest.raises(PromptNotFound):
        await world.registry.find("summarize/v1.1")
    assert (await world.registry.find("summarize/v1.0")).prompt.label == "summarize/v1.0"


async def test_a_watch_begins_with_everything_and_skips_to_the_newest() -> None:
    world = World()
    await world.publish(a_prompt("a {{document}}"))
    async with aclosing(world.registry.watch()) as catalogs:
        first = await anext(catalogs)
        assert (first.revision, [each.label for each in first.newest_first("")]) == (1, ["summarize/v1.0"])
        for text in "bcd":
            await world.publish(a_prompt(f"{text} {{{{document}}}}"))
        second = await anext(catalogs)
        assert (second.revision, len(second.versions["summarize"])) == (4, 4)
        waiting = asyncio.create_task(anext(catalogs))
        await world.publish(a_prompt("d {{document}}"))  # equal content: no change, no message
        await world.publish(a_prompt("d {{document}}"), "", "production")
        third = await waiting
        assert (third.revision, list(third.pointers)) == (5, [("summarize", "production")])


async def test_watchers_are_limited_and_a_place_is_free_again_when_one_leaves() -> None:
    world = World()
    await world.registry.refresh()
    watches = [world.registry.watch() for _ in range(RULES.max_watchers)]
    for watch in watches:
        await anext(watch)
    with pytest.raises(TooManyWatchers):
        await anext(world.registry.watch())
    await watches[0].aclose()
    assert world.registry.watchers == RULES.max_watchers - 1
    again = world.registry.watch()
    await anext(again)
    for watch in (*watches[1:], again):
        await watch.aclose()
    assert world.registry.watchers == 0


async def test_watches_end_when_the_registry_closes() -> None:
    world = World()
    await world.registry.refresh()
    async with aclosing(world.registry.watch()) as catalogs:
        await anext(catalogs)
        waiting = asyncio.ensure_future(anext(catalogs))
        await asyncio.sleep(0)
        await world.registry.drain()
        with pytest.raises(ShuttingDown):
            await waiting


async def test_following_survives_an_outage_and_says_so() -> None:
    store = FailingStore()
    one, other = World(store), World(store)
    await one.registry.refresh()
    following = asyncio.create_task(one.registry.follow(0.001))
    async with aclosing(one.registry.watch()) as catalogs:
        await anext(catalogs)
        store.down = True
        while "refresh failed: StorageUnavailable" not in one.observer.events:
            await asyncio.sleep(0.001)
        store.down = False
        await other.publish(a_prompt())
        assert (await anext(catalogs)).revision == 1
    while "refresh recovered" not in one.observer.events:
        await asyncio.sleep(0.001)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert one.observer.events.count("refresh recovered") == 1


DOCUMENTS = [
    Document("summarize/v1.0.yaml", {"template": "{{document}}", "variables": {"document": None}}),
    Document("registry.yaml", {"prompts": {"summarize": {"production": "v1.0"}}}),
]


async def test_a_directory_is_published_once_by_replicas_that_start_together() -> None:
    store = FailingStore()
    store.rivals = 1
    worlds = [World(store) for _ in range(3)]
    await asyncio.gather(*(world.registry.publish_directory(DOCUMENTS) for world in worlds))
    for world in worlds:
        assert (await world.registry.find("summarize")).prompt.label == "summarize/v1.0"
    assert [revision for revision in worlds[0].observer.events if revision.startswith("revision")][-1] == "revision 2"


async def test_a_wrong_directory_publishes_nothing() -> None:
    world = World()
    with pytest.raises(InvalidFiles):
        await world.registry.publish_directory([*DOCUMENTS, Document("x/v1.0.yaml", problem="is broken")])
    await world.registry.refresh()
    assert not world.registry.page("", 0, "").prompts


async def test_an_environment_that_left_the_configuration_stays_readable() -> None:
    store = MemoryStore()
    await World(store).publish(a_prompt(), "", "staging")
    narrow = World(store, replace(RULES, environments=("production",)))
    assert (await narrow.registry.find("summarize@staging")).prompt.label == "summarize/v1.0"
    with pytest.raises(InvalidRequest, match="it can be production"):
        await narrow.publish(a_prompt(), "", "staging")
