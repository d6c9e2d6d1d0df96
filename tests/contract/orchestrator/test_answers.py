"""The port `Answers` through both adapters."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from meshkit.clock import SystemClock
from meshkit.postgres import Database, DatabaseSettings, open_database
from meshkit.settings import Secret
from services.orchestrator.adapters.memory import MemoryAnswers
from services.orchestrator.adapters.sql import PostgresAnswers
from services.orchestrator.core.errors import AnswersUnavailable, AnswerUnreadable, TooManyKept
from services.orchestrator.core.ports import Answers, Claim, Outcome
from services.orchestrator.core.request_names import name_of
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
    return lambda lock_s, retention_s: PostgresAnswers(database.pool, lock_s, retention_s, 5.0, 100)


async def test_one_claim_is_granted(make: Make) -> None:
    store = make(60, 60)
    claims = await asyncio.gather(*(store.claim(NAME, f"o-{n}") for n in range(20)))
    assert sum(claim.granted for claim in claims) == 1
    assert all(claim.digest == NAME.digest and claim.outcome is None for claim in claims)


@pytest.mark.parametrize("outcome", [WHOLE, BROKEN])
async def test_what_was_kept_is_found(make: Make, outcome: Outcome) -> None:
    store = make(60, 60)
    assert (await store.claim(NAME, "first")).granted
    assert await store.keep(NAME, "first", outcome) is None
    assert await store.claim(NAME, "second") == Claim(granted=False, digest=NAME.digest, outcome=outcome)


async def test_the_name_shows_what_was_asked(make: Make) -> None:
    store = make(60, 60)
    await store.claim(NAME, "first")
    assert await store.claim(OTHER, "second") == Claim(granted=False, digest=NAME.digest)
    await store.keep(NAME, "first", WHOLE)
    assert await store.claim(OTHER, "second") == Claim(granted=False, digest=NAME.digest)


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
    assert await store.keep(NAME, "crashed", WHOLE) is None
    assert (await store.claim(OTHER, "third")).outcome is None


async def test_a_renewed_claim_lives_on_and_one_that_is_not_ends(make: Make) -> None:
    store = make(0.3, 60)
    left = name_of("acme", "key-1", "Complete", "left alone", b"request")
    await store.claim(NAME, "at work")
    await store.claim(left, "crashed")
    async with asyncio.timeout(5):
        while not (await store.claim(left, "second")).granted:
            assert await store.renew([(NAME, "at work")]) == {"at work"}
            await asyncio.sleep(0.02)
    assert not (await store.claim(NAME, "second")).granted


async def test_a_claim_whose_time_is_over_is_renewed_while_nobody_else_has_it(make: Make) -> None:
    store = make(0.01, 60)
    await store.claim(NAME, "slow")
    await asyncio.sleep(0.03)
    if isinstance(store, PostgresAnswers):
        assert await store.forget(10) == 0, "its owner may be there again when the database is"
    assert await store.renew([(NAME, "slow")]) == {"slow"}
    await _taken_over(store)
    assert await store.renew([(NAME, "slow")]) == frozenset(), "nobody renews what another has"
    assert await store.renew([(NAME, "slow"), (NAME, "second")]) == {"second"}
    await store.keep(NAME, "second", WHOLE)
    assert await store.renew([(NAME, "second")]) == frozenset(), "an answer is nobody's claim"
    assert await store.renew([]) == frozenset()


async def _taken_over(store: Answers) -> None:
    async with asyncio.timeout(5):
        while not (await store.claim(NAME, "second")).granted:
            await asyncio.sleep(0.005)


async def test_of_two_answers_the_first_that_is_kept_stands(make: Make) -> None:
    store = make(0.01, 60)
    await store.claim(NAME, "slow")
    await _taken_over(store)
    assert await store.keep(NAME, "slow", WHOLE) is None, "it was paid for, and nobody has another answer yet"
    late = Outcome(b"another answer")
    assert await store.keep(NAME, "second", late) == WHOLE
    assert await store.keep(NAME, "second", BROKEN) == WHOLE
    assert (await store.claim(NAME, "third")).outcome == WHOLE


async def test_a_failure_of_an_owner_that_lost_its_claim_is_not_kept(make: Make) -> None:
    store = make(0.01, 60)
    await store.claim(NAME, "slow")
    await _taken_over(store)
    assert await store.keep(NAME, "slow", BROKEN) is None
    await store.release(NAME, "slow")
    assert await store.keep(NAME, "second", WHOLE) is None
    assert (await store.claim(NAME, "third")).outcome == WHOLE


async def test_answers_kept_at_the_same_time_are_one(make: Make) -> None:
    store = make(60, 60)
    await store.claim(NAME, "o-0")
    stands = await asyncio.gather(*(store.keep(NAME, f"o-{n}", Outcome(b"%d" % n)) for n in range(10)))
    kept = (await store.claim(NAME, "later")).outcome
    assert kept is not None
    assert sorted(stands, key=repr) == sorted([None, *[kept] * 9], key=repr)


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
    store, lasting = PostgresAnswers(pool, 0.001, 0.001, 5, 100), PostgresAnswers(pool, 60, 60, 5, 100)
    for number in range(5):
        name = name_of("acme", "key-1", "Complete", str(number), b"")
        await store.claim(name, "o")
        await store.keep(name, "o", WHOLE)
    await lasting.claim(NAME, "o")
    async with asyncio.timeout(5):
        deleted = 0
        while deleted < 5:
            deleted += await store.forget(2)
    assert await pool.fetchval("SELECT count(*) FROM answers") == 1


async def test_an_absent_database_is_told(postgres_url: str) -> None:
    database = await open_database(DatabaseSettings(url=Secret(postgres_url)), "orchestrator_contract", MIGRATIONS)
    store = PostgresAnswers(database.pool, 60, 60, 1, 100)
    await database.close()
    reads = (store.claim(NAME, "o"), store.renew([(NAME, "o")]), store.forget(1), store.count())
    for call in (*reads, store.keep(NAME, "o", WHOLE), store.release(NAME, "o")):
        with pytest.raises(AnswersUnavailable):
            await call


async def test_a_locked_table_counts_as_absence(empty_schema: Database) -> None:
    store = PostgresAnswers(empty_schema.pool, 60, 60, 0.05, 100)
    blocker = await empty_schema.connect()
    try:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE answers IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(AnswersUnavailable):
                await store.claim(NAME, "o")
    finally:
        await blocker.close()
    assert (await PostgresAnswers(empty_schema.pool, 60, 60, 5, 100).claim(NAME, "o")).granted


async def test_an_organisation_with_too_many_rows_gets_no_new_ones(empty_schema: Database) -> None:
    store = PostgresAnswers(empty_schema.pool, 60, 60, 5, max_kept=2)
    for number in range(3):
        await store.claim(name_of("acme", "key-1", "Complete", str(number), b""), "o")
    await store.keep(name_of("acme", "key-1", "Complete", "0", b""), "o", WHOLE)
    new = name_of("acme", "key-1", "Complete", "new", b"")
    await store.count()
    with pytest.raises(TooManyKept, match="more than 2 answers kept"):
        await store.claim(new, "o")
    assert (await store.claim(name_of("acme", "key-1", "Complete", "0", b""), "o-2")).outcome == WHOLE
    assert (await store.claim(name_of("globex", "key-2", "Complete", "new", b""), "o")).granted
    await store.release(name_of("acme", "key-1", "Complete", "1", b""), "o")
    await store.count()
    assert (await store.claim(new, "o")).granted


async def test_the_table_alone_reveals_nothing(empty_schema: Database) -> None:
    """Neither key, question nor answer is in it, nor a plain hash of them that a guess could be compared with."""
    store = PostgresAnswers(empty_schema.pool, 60, 60, 5, 100)
    key, request, said = "client-key-7f3a", b"what was asked", b"what was answered"
    name = name_of("acme", "key-1", "Complete", key, request)
    await store.claim(name, "o")
    await store.keep(name, "o", Outcome(said, b"a failure"))
    row = await empty_schema.pool.fetchrow("SELECT * FROM answers")
    stored = b"|".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
    secrets = (key.encode(), request, said, b"a failure")
    for plain in (*secrets, *(hashlib.sha256(secret).digest() for secret in secrets), name.seal_key):
        assert plain not in stored
    assert name.seal_key.hex() not in repr(name)
    assert (await store.claim(name, "later")).outcome == Outcome(said, b"a failure")


async def test_a_row_that_was_changed_does_not_open(empty_schema: Database, caplog: pytest.LogCaptureFixture) -> None:
    """A flipped bit, a lost end, an answer in another's place: an error that says what to do, never a wrong answer."""
    store, pool = PostgresAnswers(empty_schema.pool, 60, 60, 5, 100), empty_schema.pool
    twin = name_of("acme", "key-1", "Complete", "twin", b"request")
    for name in (NAME, twin):
        await store.claim(name, "o")
        await store.keep(name, "o", WHOLE)
    sealed = await pool.fetchval("SELECT sealed FROM answers WHERE scope = $1", NAME.scope)
    others = await pool.fetchval("SELECT sealed FROM answers WHERE scope = $1", twin.scope)
    assert sealed != others
    flipped = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for damaged in (*flipped, sealed[:-1], sealed[:5], b"", others):
        await pool.execute("UPDATE answers SET sealed = $2 WHERE scope = $1", NAME.scope, damaged)
        with pytest.raises(AnswerUnreadable, match="a new key asks and pays anew"):
            await store.claim(NAME, "later")
    assert caplog.records[0].name == "services.orchestrator.adapters.sql"
    assert "an answer" not in caplog.text
    await pool.execute("UPDATE answers SET sealed = $2 WHERE scope = $1", NAME.scope, sealed)
    assert (await store.claim(NAME, "later")).outcome == WHOLE


async def test_callers_that_leave_leave_no_connection_behind(empty_schema: Database) -> None:
    """sqlalchemy/sqlalchemy#12077, #6652, #11125: connections of cancelled callers never came back to the pool."""
    pool = empty_schema.pool
    store = PostgresAnswers(pool, 60, 60, 5, 100)
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    blocker = await empty_schema.connect()
    try:
        for _ in range(5):
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE answers IN ACCESS EXCLUSIVE MODE")
                names = [name_of("acme", "key-1", "Complete", str(n), b"") for n in range(30)]
                leaving = [asyncio.ensure_future(store.claim(name, "o")) for name in names]
                await asyncio.sleep(0.05)
                for caller in leaving:
                    caller.cancel()
                await asyncio.gather(*leaving, return_exceptions=True)
            assert pool.get_idle_size() == pool.get_size(), "everything is back"
        before = await blocker.fetchval(count)
        assert (await store.claim(NAME, "o")).granted
        assert await blocker.fetchval(count) <= before <= pool.get_max_size() + 5
    finally:
        await blocker.close()


async def test_what_lay_in_clear_is_dropped(postgres_url: str, tmp_path: Path) -> None:
    old = tmp_path / "versions"
    old.mkdir()
    shutil.copy(MIGRATIONS / "versions" / "0001_answers.py", old)
    settings = DatabaseSettings(url=Secret(postgres_url))
    before = await open_database(settings, "orchestrator_sealing", tmp_path)
    await before.pool.execute(
        "INSERT INTO answers VALUES ($1, 'acme', $2, 'o', true, 'clear', NULL, now() + interval '1 day')",
        NAME.scope,
        NAME.digest,
    )
    await before.close()
    after = await open_database(settings, "orchestrator_sealing", MIGRATIONS)
    try:
        assert await after.pool.fetchval("SELECT count(*) FROM answers") == 0
        store = PostgresAnswers(after.pool, 60, 60, 5, 100)
        assert (await store.claim(NAME, "o")).granted
        await store.keep(NAME, "o", WHOLE)
        assert (await store.claim(NAME, "o-2")).outcome == WHOLE
    finally:
        await after.pool.execute("DROP SCHEMA orchestrator_sealing CASCADE")
        await after.close()
