"""Several registries on one store: what people would see of a race, on both stores."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from services.registry.core.document import Document
from services.registry.core.errors import VersionExists
from services.registry.core.ports import Store
from tests.support.registry_world import World, a_prompt


async def test_replicas_number_versions_without_gaps_or_twins(store: Store) -> None:
    worlds = [World(store) for _ in range(3)]
    texts = [f"{n} {{{{document}}}}" for n in range(9)]
    done = await asyncio.gather(*(worlds[n % 3].publish(a_prompt(text)) for n, text in enumerate(texts)))
    assert sorted(done) == [f"created summarize/v1.{n}" for n in range(9)]


async def test_of_two_contents_for_one_version_one_is_published(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(World(store).publish(a_prompt(f"{n} {{{{document}}}}"), "3.0") for n in range(4)), return_exceptions=True
    )
    assert [each for each in outcomes if isinstance(each, str)] == ["created summarize/v3.0"]
    assert [type(each) for each in outcomes if not isinstance(each, str)] == [VersionExists] * 3


async def test_one_request_sent_to_every_replica_is_done_once(store: Store) -> None:
    done = await asyncio.gather(*(World(store).publish(a_prompt(), request_id="r") for _ in range(4)))
    assert done == ["created summarize/v1.0"] * 4


async def test_a_change_reaches_the_watchers_of_another_replica(store: Store) -> None:
    one, other = World(store), World(store)
    await one.registry.refresh()
    following = asyncio.create_task(one.registry.follow(0.005))
    async with aclosing(one.registry.watch()) as catalogs:
        assert (await anext(catalogs)).revision == 0
        await other.publish(a_prompt(), "", "production")
        seen = await anext(catalogs)
        assert (seen.revision, list(seen.versions), list(seen.pointers)) == (
            1,
            ["summarize"],
            [("summarize", "production")],
        )
    following.cancel()
    await asyncio.wait([following])


async def test_replicas_that_start_together_publish_a_directory_once(store: Store) -> None:
    documents = [
        Document("summarize/v1.0.yaml", {"template": "{{document}}", "variables": {"document": None}}),
        Document("registry.yaml", {"prompts": {"summarize": {"production": "v1.0"}}}),
    ]
    await asyncio.gather(*(World(store).registry.publish_directory(documents) for _ in range(3)))
    change = await store.load(-1)
    assert change is not None
    assert (change.revision, len(change.versions), len(change.pointers)) == (1, 1, 1)
