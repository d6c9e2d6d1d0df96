"""How the work of sealing is divided: into pieces, between processes, and at the end of one."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from meshkit.postgres import DatabaseSettings, open_database
from meshkit.settings import Secret
from services.ledger.adapters import sealing, statements
from services.ledger.adapters.continuity import Continuity
from services.ledger.adapters.memory import MemoryWitness
from services.ledger.adapters.sealing import Sealer, verify_seals
from services.ledger.adapters.sql import PostgresStore
from services.ledger.main import MIGRATIONS
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_postgres import rows
from tests.contract.ledger.test_sealing import ENTRY, connected, sealer_of, verified
from tests.unit.ledger.builders import TurnableClock

ENTRIES = """
INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
    spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
SELECT 1, 8, 'acme', 'e' || n, 0, '', 0, 0, '{}', '[]', '[]', '', '[]' FROM generate_series(1, $1::int) n
"""


async def written(store: PostgresStore, entries: int) -> None:
    async with connected(store) as connection:
        await connection.execute(ENTRIES, entries)


async def begun(store: PostgresStore) -> None:
    """Somebody seals."""
    while not await rows(store, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7312"):
        await asyncio.sleep(0)


async def test_a_block_of_many_pieces_is_one_block(open_postgres: OpenStore, clock: TurnableClock) -> None:
    store = await open_postgres()
    await written(store, 300)
    assert await sealer_of(store, clock, max_entries=200).seal(within_s=0.2) == 300
    report = await verified(store)
    assert (report.fault, report.entries, report.blocks, report.unsealed) == (None, 300, 2, 0)


async def test_a_seal_that_is_given_up_between_pieces_leaves_nothing(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    store = await open_postgres()
    await written(store, 3000)
    giving_up = asyncio.create_task(sealer_of(store, clock, max_entries=3000).seal(within_s=3600))
    await begun(store)
    giving_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await giving_up
    assert (await verified(store)).blocks == 0
    # Nor the sealers' lock.
    assert await sealer_of(store, clock, max_entries=3000).seal() == 3000
    assert (await verified(store)).fault is None


async def test_sealers_seal_each_entry_once(open_postgres: OpenStore, clock: TurnableClock) -> None:
    store = await open_postgres()
    await written(store, 300)
    sealed = await asyncio.gather(*(sealer_of(store, clock, 100).seal(within_s=0.1) for _ in range(3)))
    assert sum(sealed) == 300
    assert (await verified(store)).fault is None


async def test_a_process_that_ends_waits_for_another_that_seals(open_postgres: OpenStore, clock: TurnableClock) -> None:
    """It had nothing to do while the other one had the lock, said nothing, and its last entries were not sealed."""
    store = await open_postgres()
    await written(store, 3000)
    other = asyncio.create_task(sealer_of(store, clock, max_entries=3000).seal(within_s=3600))
    await begun(store)
    async with connected(store) as connection:
        await connection.execute(ENTRY, "last")
    await sealer_of(store, clock).close()
    assert (await verified(store)).unsealed == 0
    await other


async def test_a_process_that_ends_in_vain_says_so(
    open_postgres: OpenStore, clock: TurnableClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_LAST_SEAL_S", 0.2)
    store = await open_postgres()
    await written(store, 1)
    async with connected(store) as connection, connection.transaction():
        await connection.fetchval(statements.TRY_TO_SEAL)
        await sealer_of(store, clock).close()
    assert "the last entries are not sealed yet" in caplog.text


async def test_what_breaks_between_two_statements_ends_no_sealer(
    open_postgres: OpenStore, clock: TurnableClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Sealer):
        async def seal(self, within_s: float = 0.0) -> int:
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")

    logger = logging.getLogger("llmops.ledger")
    database = (await open_postgres())._database
    await Broken(database, lambda: clock.ns // 1000, Continuity(MemoryWitness(), logger), logger, 4).close()
    assert "the journal was not sealed" in caplog.text


class OneConnection:
    """What a sealer needs of a database, with every piece that it asks for noted."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.pool = self
        self.pieces: list[int] = []

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        yield self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetchrow(self, statement: str, *arguments: Any) -> Any:
        if statement == statements.LEAVES:
            self.pieces.append(arguments[2])
        return await self._connection.fetchrow(statement, *arguments)


async def test_a_sealer_that_is_late_takes_larger_pieces(open_postgres: OpenStore, clock: TurnableClock) -> None:
    """64 at a time it had no more than one turn of a busy loop for each, and fell behind for ever."""
    store, logger = await open_postgres(), logging.getLogger("llmops.ledger")
    await written(store, 2000)
    async with connected(store) as connection:
        database = OneConnection(connection)
        continuity = Continuity(MemoryWitness(), logger)
        sealer = Sealer(database, lambda: clock.ns // 1000, continuity, logger, 4096)  # type: ignore[arg-type]
        assert await sealer.seal() == 2000
        assert database.pieces == [64, 1024, 1024]
        await connection.execute(ENTRIES.replace("'e'", "'f'"), 1000)
        database.pieces.clear()
        assert await sealer.seal(within_s=3600) == 1000
    assert set(database.pieces) == {64}
    assert (await verified(store)).fault is None


@pytest.mark.parametrize(
    ("entries_left", "took_s", "left_s", "size", "rest_s"),
    [
        (640, 0.001, 1.0, 64, 0.004),  # ten more: each might take a tenth of a second
        (640, 0.05, 1.0, 64, 0.05),
        (64_000, 0.002, 1.0, 128, 0.0),  # half as many must do
        (64_000, 0.1, 1.0, 1024, 0.0),
        (1, 0.001, 0.0, 1024, 0.0),
        (1, 5.0, 1000.0, 64, 1.0),  # the server ends transactions that do nothing for five seconds
        (0, 0.001, 1.0, 64, 0.004),
    ],
)
def test_pieces_and_rests_fit_the_time(
    entries_left: int, took_s: float, left_s: float, size: int, rest_s: float
) -> None:
    assert sealing._next_piece(entries_left, took_s, left_s) == (size, pytest.approx(rest_s))


async def test_the_newest_block_is_found_by_its_number(open_postgres: OpenStore) -> None:
    """It was looked for in all blocks, each second: after some weeks no seal would have ended in time."""
    store = await open_postgres()
    async with connected(store) as connection:
        await connection.execute(
            "INSERT INTO journal_blocks SELECT n, 1, n, n, 1, 1, '', '', '' FROM generate_series(1, 3000) n"
        )
        await connection.execute("ANALYZE journal_blocks")
        plan = await connection.fetch(f"EXPLAIN {statements.LAST_SEALED}")
    assert any("Index Scan Backward" in row[0] for row in plan), plan
    assert not any("Seq Scan" in row[0] for row in plan), plan


async def test_leaves_are_read_along_the_index(open_postgres: OpenStore) -> None:
    """Of a table without statistics all entries were fetched and sorted, for 128 leaves: 23 ms instead of one."""
    store = await open_postgres()
    await written(store, 20_000)
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT journal_leaves(0, 20000, 128)"
    async with connected(store) as connection:
        for _ in range(3):  # the first plans it, and reads the catalogue for that
            plan = json.loads(await connection.fetchval(explain))[0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50, plan


async def test_leaves_that_do_not_fit_their_entries_are_refused(open_postgres: OpenStore) -> None:
    with pytest.raises(asyncpg.RaiseError, match="32 bytes of leaves for 2 entries"):
        await rows(await open_postgres(), f"SELECT append_block(9999, 2, decode('{'00' * 32}', 'hex'), 1)")


async def test_a_database_in_another_encoding_is_sealed_alike(postgres_url: str, clock: TurnableClock) -> None:
    """Lengths count in UTF-8, also where the database writes other bytes."""
    name = f"latin_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    base, _, query = postgres_url.partition("?")
    url = f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    database = await open_database(DatabaseSettings(url=Secret(url), pool_size=2), "ledger", MIGRATIONS)
    logger = logging.getLogger("llmops.ledger")
    try:
        async with database.pool.acquire() as connection:
            await connection.execute(ENTRY, "été à la café")
            continuity = Continuity(MemoryWitness(), logger)
            assert await Sealer(database, lambda: clock.ns // 1000, continuity, logger, 4).seal() == 1
            report = await verify_seals(connection)
    finally:
        await database.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()
    assert (report.fault, report.entries) == (None, 1)
