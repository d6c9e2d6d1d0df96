"""The port `Answers` through both adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from meshkit.clock import SystemClock
from meshkit.postgres import Database, DatabaseSettings, open_database
from meshkit.settings import Secret
from services.orchestrator.adapters.memory import MemoryAnswers
from services.orchestrator.adapters.sql import PostgresAnswers
from services.orchestrator.core.errors import AnswersUnavailable
from services.orchestrator.core.idempotency import name_of
from services.orchestrator.core.ports import Answers, Claim, Outcome
from services.orchestrator.main import MIGRATIONS

NAME = name_of("acme", "key-1", "Complete", "k", b"request")
OTHER = name_of("acme", "key-1", "Complete", "k", b"another request")
WHOLE = Outcome(b"\x00an answer", b"")
BROKEN = Outcome(b"a part", b"a status")
Make = Callable[[float, float], Answers]


@pytest.fixture(scope="module")
async def schema(postgres_url: str) -> AsyncIterator[Database]:
    database = await open_database(DatabaseSettings(url=Secret(postgres_url)), "orchestrator_contract", MIGRATIONS)
    yield database
    await database.close()


@pytest.fixture
async def empty_schema(schema: Database) -> Database:
    await schema.pool.execute("TRUNCATE answers")
    return schema


@pytest.fixture(params=["memory", "postgresql"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a store whose claims and answers last as long as the test says."""
    if request.param == "memory":
        return lambda lock_s, retention_s: MemoryAnswers(SystemClock(), lock_s, retention_s, 100)
    database: Database = request.getfixturevalue("empty_schema")
    return lambda lock_s, retention_s: PostgresAnswers(database.pool, lock_s, retention_s, 5.0)


async def test_one_claim_is_granted(make: Make) -> None:
    store = make(60, 60)
    claims = await asyncio.gather(*(store.claim(NAME, f"o-{n}") for n in range(20)))
    assert sum(claim.granted for claim in claims) == 1
    assert all(claim.digest == NAME.digest and claim.outcome is None for claim in claims)


@pytest.mark.parametrize("outcome", [WHOLE, BROKEN])
async def test_what_was_kept_is_found(make: Make, outcome: Outcome) -> None:
    store = make(60, 60)
    assert (await store.claim(NAME, "first")).granted
    await store.keep(NAME, "first", outcome)
    assert await store.claim(NAME, "second") == Claim(granted=False, digest=NAME.digest, outcome=outcome)


async def test_the_name_shows_what_was_asked(make: Make) -> None:
    store = make(60, 60)
    await store.claim(NAME, "first")
    assert await store.claim(OTHER, "second") == Claim(granted=False, digest=NAME.digest)
    await store.keep(NAME, "first", WHOLE)
    assert (await store.claim(OTHER, "second")).digest == NAME.digest


async def test_a_released_name_is_free(make: Make) -> None:
    store = make(60, 60)
    await store.claim(NAME, "first")
    await store.release(NAME, "a stranger")
    assert not (await store.claim(NAME, "second")).granted
    await store.release(NAME, "first")
    assert await store.claim(OTHER, "second") == Claim(granted=True, digest=OTHER.digest)


async def test_an_answer_is_not_released(make: Make) -> None:
    store = make(60, 60)
    await store.claim(NAME, "first")
    await store.keep(NAME, "first", WHOLE)
    await store.release(NAME, "first")
    assert (await store.claim(NAME, "second")).outcome == WHOLE


async def test_a_claim_ends_by_itself_and_its_owner_writes_nothing_any_more(make: Make) -> None:
    store = make(0.01, 60)
    await store.claim(NAME, "crashed")
    async with asyncio.timeout(5):
        while not (await store.claim(OTHER, "second")).granted:
            await asyncio.sleep(0.005)
    await store.keep(NAME, "crashed", WHOLE)
    assert (await store.claim(OTHER, "third")).outcome is None


async def test_an_answer_ends_by_itself(make: Make) -> None:
    store = make(60, 0.01)
    await store.claim(NAME, "first")
    await store.keep(NAME, "first", WHOLE)
    async with asyncio.timeout(5):
        while not (await store.claim(NAME, "second")).granted:
            await asyncio.sleep(0.005)


async def test_memory_forgets_the_oldest_answers_and_no_claim() -> None:
    store = MemoryAnswers(SystemClock(), 60, 60, max_answers=2)
    names = [name_of("acme", "key-1", "Complete", str(n), b"") for n in range(4)]
    assert (await store.claim(names[0], "at work")).granted
    for name in names[1:]:
        await store.claim(name, "o")
        await store.keep(name, "o", WHOLE)
    assert [(await store.claim(name, "again")).granted for name in names] == [False, True, True, False]


async def test_rows_whose_time_is_over_are_deleted(empty_schema: Database) -> None:
    pool = empty_schema.pool
    store, lasting = PostgresAnswers(pool, 0.001, 0.001, 5), PostgresAnswers(pool, 60, 60, 5)
    for number in range(5):
        await store.claim(name_of("acme", "key-1", "Complete", str(number), b""), "o")
    await lasting.claim(NAME, "o")
    async with asyncio.timeout(5):
        deleted = 0
        while deleted < 5:
            deleted += await store.forget(2)
    assert await pool.fetchval("SELECT count(*) FROM answers") == 1


async def test_an_absent_database_is_told(postgres_url: str) -> None:
    database = await open_database(DatabaseSettings(url=Secret(postgres_url)), "orchestrator_contract", MIGRATIONS)
    store = PostgresAnswers(database.pool, 60, 60, 1)
    await database.close()
    for call in (store.claim(NAME, "o"), store.keep(NAME, "o", WHOLE), store.release(NAME, "o"), store.forget(1)):
        with pytest.raises(AnswersUnavailable):
            await call


async def test_a_locked_table_counts_as_absence(empty_schema: Database) -> None:
    store = PostgresAnswers(empty_schema.pool, 60, 60, 0.05)
    blocker = await empty_schema.connect()
    try:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE answers IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(AnswersUnavailable):
                await store.claim(NAME, "o")
    finally:
        await blocker.close()
    assert (await PostgresAnswers(empty_schema.pool, 60, 60, 5).claim(NAME, "o")).granted
