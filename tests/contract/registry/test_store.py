from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from meshkit.executors import Executor
from meshkit.postgres import Database, DatabaseSettings, open_database
from meshkit.settings import Secret
from services.registry.adapters.sql import SqlStore
from services.registry.core.errors import StorageUnavailable
from services.registry.core.ports import Change, PastRequest, Store
from services.registry.core.prompt import (
    Arm,
    Message,
    Parameters,
    Pointer,
    PublishedPrompt,
    ResponseFormat,
    Role,
    ToolChoice,
    Variable,
    VariableType,
    Version,
    whole,
)
from services.registry.main import MIGRATIONS
from tests.support.registry_world import NOW, a_prompt, published

V1, V2 = (published(a_prompt(f"{text} {{{{document}}}}"), version) for text, version in (("a", "1.0"), ("b", "1.1")))
FULL = published(
    a_prompt(
        messages=(
            Message(Role.SYSTEM, "é 日本 'quoted' {{document}}{{n}}"),
            Message(Role.USER, "\\ \u2028 %s $1 {{document}}"),
        ),
        variables=(
            Variable("document", description="x"),
            Variable("n", VariableType.NUMBER, required=False, default="0.5"),
        ),
        output_json_schema='{"type":"object","properties":{"b":{},"a":{}}}',
        model="cheap",
        guard_policy="strict",
        author="Ada",
        author_date="2026-11-23",
        description="line\nline",
        parameters=Parameters(
            temperature=0.1,
            stop=("a", "b"),
            seed=-(2**63),
            response_format=ResponseFormat("json_object", strict=False),
            tool_choice=ToolChoice(mode="none"),
            extra_json='{"k":[1.5,null]}',
        ),
    ),
    "999999.999999",
)
POINTER = Pointer("summarize", "production", whole(Version(1, 0)))
REQUEST = PastRequest("r-1", "digest", "summarize", Version(1, 0), True, NOW)


def by_version(change: Change | None) -> list[PublishedPrompt]:
    assert change is not None
    return sorted(change.versions, key=lambda each: each.version)


async def test_a_new_store_is_empty_at_revision_zero(store: Store) -> None:
    assert await store.load(-1) == Change(0)
    assert await store.load(0) is None


async def test_what_is_committed_is_loaded_as_it_was(store: Store) -> None:
    pointer = replace(
        POINTER, arms=(Arm("a", Version(1, 0), 1), Arm("b", Version(1, 1), 9_999)), file_arms=whole(Version(2, 3))
    )
    change = Change(1, (V1, V2, FULL), (pointer,))
    assert await store.commit(change, 0, None)
    loaded = await store.load(-1)
    assert by_version(loaded) == [V1, V2, FULL]
    assert loaded is not None
    assert (loaded.revision, loaded.pointers) == (1, (pointer,))
    assert await store.load(1) is None


async def test_a_load_after_a_revision_has_only_what_changed_since(store: Store) -> None:
    await store.commit(Change(1, (V1,), (POINTER,)), 0, None)
    await store.commit(Change(2, (V2,)), 1, None)
    moved = replace(POINTER, arms=whole(Version(1, 1)))
    await store.commit(Change(3, (), (moved,)), 2, None)
    assert await store.load(1) == Change(3, (V2,), (moved,))
    assert await store.load(2) == Change(3, (), (moved,))
    everything = await store.load(-1)
    assert by_version(everything) == [V1, V2]
    assert everything is not None
    assert everything.pointers == (moved,)


async def test_a_commit_on_another_revision_writes_nothing(store: Store) -> None:
    await store.commit(Change(1, (V1,)), 0, None)
    for expected in (0, 2):
        assert not await store.commit(Change(expected + 1, (V2,), (POINTER,)), expected, REQUEST)
    assert await store.load(-1) == Change(1, (V1,))
    assert await store.find_request("r-1") is None


async def test_a_request_is_found_with_its_answer(store: Store) -> None:
    assert await store.find_request("r-1") is None
    await store.commit(Change(1, (V1,)), 0, REQUEST)
    assert await store.find_request("r-1") == REQUEST


async def test_an_empty_change_keeps_the_revision_and_remembers_the_request(store: Store) -> None:
    await store.commit(Change(1, (V1,)), 0, None)
    assert await store.commit(Change(1), 1, REQUEST)
    assert await store.load(1) is None
    assert await store.find_request("r-1") == REQUEST


async def test_a_request_id_is_remembered_once(store: Store) -> None:
    await store.commit(Change(1, (V1,)), 0, REQUEST)
    assert not await store.commit(Change(2, (V2,)), 1, replace(REQUEST, payload_digest="other"))
    assert await store.find_request("r-1") == REQUEST
    assert await store.load(1) is None


async def test_requests_are_forgotten_by_time(store: Store) -> None:
    later = replace(REQUEST, request_id="r-2", create_time=NOW + timedelta(seconds=1))
    await store.commit(Change(1, (V1,)), 0, REQUEST)
    await store.commit(Change(1), 1, later)
    await store.forget_requests(NOW)
    assert await store.find_request("r-1") == REQUEST
    await store.forget_requests(later.create_time)
    assert (await store.find_request("r-1"), await store.find_request("r-2")) == (None, later)


async def test_a_store_that_is_behind_answers_in_full(store: Store) -> None:
    await store.commit(Change(1, (V1,), (POINTER,)), 0, None)
    assert await store.load(7) == Change(1, (V1,), (POINTER,))


async def test_of_many_commits_on_one_revision_one_is_written(store: Store) -> None:
    changes = [Change(1, (replace(V1, version=Version(n, 0)),)) for n in range(5)]
    written = await asyncio.gather(*(store.commit(change, 0, None) for change in changes))
    assert sorted(written) == [False] * 4 + [True]
    assert await store.load(0) == changes[written.index(True)]


async def test_a_database_that_does_not_answer_is_named_so(postgres_url: str, executor: Executor) -> None:
    database = await open_database(
        DatabaseSettings(url=Secret(postgres_url), pool_size=1), "registry_contract", MIGRATIONS
    )
    store = SqlStore(database.pool, executor, 0.01)
    async with database.pool.acquire():
        with pytest.raises(StorageUnavailable, match="try again shortly") as caught:
            await store.load(0)
    assert isinstance(caught.value.__cause__, TimeoutError)
    await database.close()
    for call in (store.load(0), store.find_request("r"), store.commit(Change(0), 0, None), store.forget_requests(NOW)):
        with pytest.raises(StorageUnavailable):
            await call


async def test_a_lost_connection_is_named_so(
    registry_database: Database, postgres_url: str, executor: Executor
) -> None:
    store = SqlStore(registry_database.pool, executor, 5.0)
    await store.load(-1)
    other = await open_database(DatabaseSettings(url=Secret(postgres_url)), "registry_contract", MIGRATIONS)
    lock = "SELECT revision FROM registry_state FOR UPDATE"
    async with other.pool.acquire() as holder, holder.transaction():
        await holder.execute(lock)
        waiting = asyncio.create_task(store.commit(Change(1, (V1,)), 0, None))
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = $1 AND wait_event_type = 'Lock'"
        # Not the holder's connection: a transaction sees pg_stat_activity as it was when it first looked.
        while not await registry_database.pool.fetch(kill, lock):
            await asyncio.sleep(0)
        with pytest.raises(StorageUnavailable):
            await waiting
    await other.close()
    assert await store.load(-1) == Change(0)
