"""L16: the journal in PostgreSQL is sealed while it is written; what is done to it afterwards is found and located."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit.postgres import Database
from services.ledger.adapters.continuity import Continuity
from services.ledger.adapters.memory import MemoryWitness
from services.ledger.adapters.sealing import Sealer, SealReport, recomputed, verify_seals
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.core.limits import Limit, Scope
from services.ledger.core.seals import COLUMNS, Head
from services.ledger.core.windows import Period
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_audit import LIMITS, busy
from tests.contract.ledger.test_postgres import ledger_on, rows
from tests.unit.ledger.builders import ADA, UNIT, TurnableClock, limit

MODELS = [(UNIT.provider, UNIT.model)]
ENTRY = """
INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
    spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
VALUES (1, 8, 'acme', $1, 0, '', 0, 0, '{}', '[]', '[]', '', '[]')
"""
# An entry as a caller of no verb would forge it.
FORGED = """
INSERT INTO journal (seq, at_us, organisation, kind, request_id, fingerprint, reservation_id, held_delta_nano_usd,
    spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
OVERRIDING SYSTEM VALUE VALUES ($1, 1, 'acme', 8, 'forged', 0, '', 0, 0, '{}', '[]', '[]', '', '[]')
"""


def sealer_of(store: PostgresStore, clock: TurnableClock, max_entries: int = 4) -> Sealer:
    logger = logging.getLogger("llmops.ledger")
    continuity = Continuity(MemoryWitness(), logger)
    return Sealer(store._database, lambda: clock.ns // 1000, continuity, logger, max_entries)


@asynccontextmanager
async def connected(store: PostgresStore) -> AsyncIterator[Any]:
    async with store._database.pool.acquire() as connection:
        yield connection


async def verified(store: PostgresStore, head: Head | None = None) -> SealReport:
    async with connected(store) as connection:
        return await verify_seals(connection, head)


async def damaged(store: PostgresStore, *damages: tuple[Any, ...], head: Head | None = None) -> SealReport:
    """What is found after statements of a superuser who has put the triggers to sleep; it is all undone."""
    async with connected(store) as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("SET LOCAL session_replication_role = replica")
            for statement, *arguments in damages:
                await connection.execute(statement, *arguments)
            return await recomputed(connection, head)
        finally:
            await transaction.rollback()


@pytest.fixture
async def sealed(open_postgres: OpenStore, clock: TurnableClock) -> PostgresStore:
    """Books that saw every verb and text of any script, sealed in several blocks."""
    store = await open_postgres()
    await store.declare_limits(LIMITS)
    ledger = ledger_on(store, clock, "a")
    await busy(ledger, clock)
    await ledger.set_limit(ADA, 'ü"日:,\U0001f600', Limit("", "acme", Scope.TEAM, "o'é", Period.DAY, 5))
    await sealer_of(store, clock).seal()
    return store


async def test_python_and_the_database_hash_alike(sealed: PostgresStore) -> None:
    entries = (await rows(sealed, "SELECT count(*) AS n FROM journal"))[0]["n"]
    report = await verified(sealed)
    assert report.fault is None
    assert (report.entries, report.unsealed, report.blocks) == (entries, 0, -(-entries // 4))
    assert report.head is not None
    assert await verified(sealed, report.head) == report


async def test_the_log_tells_the_head_once_an_hour(
    sealed: PostgresStore, clock: TurnableClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llmops.ledger")
    sealer, head = sealer_of(sealed, clock), (await verified(sealed)).head
    for _ in range(3):
        await sealer.seal()
    clock.turn(3600)
    await sealer.seal()
    told = [record.fields["head"] for record in caplog.records if record.msg == "the journal is sealed"]  # type: ignore[attr-defined]
    assert told == [str(head)] * 2


async def test_every_column_of_the_journal_is_sealed(sealed: PostgresStore) -> None:
    """A migration that adds a column must seal it, under a new format."""
    columns = await rows(
        sealed,
        "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'journal'"
        " AND table_schema = current_schema()",
    )
    assert {row[0] for row in columns} == set(COLUMNS)


async def test_what_is_new_is_sealed_later_and_counted_until_then(sealed: PostgresStore, clock: TurnableClock) -> None:
    before = await verified(sealed)
    await ledger_on(sealed, clock, "b").reserve(ADA, "new", MODELS, 0, 1, 0)  # type: ignore[arg-type]
    assert await verified(sealed) == before._replace(unsealed=1)
    assert await sealer_of(sealed, clock).seal() == 1
    after = await verified(sealed, before.head)
    assert (after.entries, after.unsealed, after.fault) == (before.entries + 1, 0, None)
    assert await sealer_of(sealed, clock).seal() == 0


# Every column, and how a value of it becomes another.
CHANGES = {
    "at_us": "at_us + {by}",
    "organisation": "organisation || '{by}'",
    "kind": "kind + {by}::smallint",
    "request_id": "overlay(request_id placing chr(33 + {by}) from 1 for 1) || '!'",
    "fingerprint": "fingerprint # {by}",
    "reservation_id": "reservation_id || ' '",
    "held_delta_nano_usd": "held_delta_nano_usd + {by}",
    "spent_delta_nano_usd": "spent_delta_nano_usd # {by}",
    "counter_ids": "counter_ids || '00000000-0000-0000-0000-00000000000{by}'::uuid",
    "postings": "postings || '[{by}]'",
    "lines": "jsonb_build_array(lines, {by})",
    "note": "note || chr({by})",
    "answer": "answer || '[{by}]'",
    "meters": "meters || '[[{by}]]'",
}
BLOCK_CHANGES = {
    "format": "format + {by}::smallint",
    "first_seq": "first_seq + {by}",
    "last_seq": "last_seq + {by}",
    "entries": "entries + {by}",
    "sealed_at_us": "sealed_at_us # {by}",
    "prev_hash": "set_byte(prev_hash, 3 * {by}, get_byte(prev_hash, 3 * {by}) # {by})",
    "leaves": "set_byte(leaves, 3 * {by}, get_byte(leaves, 3 * {by}) # {by})",
    "hash": "set_byte(hash, 3 * {by}, get_byte(hash, 3 * {by}) # {by})",
}


def explored(loop: asyncio.AbstractEventLoop, check: Callable[..., Any], *given_: Any) -> None:
    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.tuples(*given_))
    def explore(drawn: tuple[Any, ...]) -> None:
        asyncio.run_coroutine_threadsafe(check(*drawn), loop).result(30)

    explore()


async def test_l16_any_changed_column_of_any_entry_is_found_and_located(sealed: PostgresStore) -> None:
    assert {*CHANGES, "seq"} == set(COLUMNS)
    seqs = [row["seq"] for row in await rows(sealed, "SELECT seq FROM journal ORDER BY seq")]

    async def check(seq: int, column: str, by: int) -> None:
        change = CHANGES[column].format(by=by)
        report = await damaged(sealed, (f"UPDATE journal SET {column} = {change} WHERE seq = $1", seq))
        assert report.fault is not None
        assert report.fault.where == f"entry {seq}"
        assert report.fault.problem.startswith("was changed")

    draws = (st.sampled_from(seqs), st.sampled_from(sorted(CHANGES)), st.integers(1, 9))
    await asyncio.to_thread(explored, asyncio.get_running_loop(), check, *draws)


async def test_l16_any_changed_column_of_any_block_is_found_and_located(sealed: PostgresStore) -> None:
    blocks = (await verified(sealed)).blocks

    async def check(number: int, column: str, by: int) -> None:
        change = BLOCK_CHANGES[column].format(by=by)
        report = await damaged(sealed, (f"UPDATE journal_blocks SET {column} = {change} WHERE number = $1", number))
        assert report.fault is not None
        assert report.fault.where == f"block {number}"

    draws = (st.integers(1, blocks), st.sampled_from(sorted(BLOCK_CHANGES)), st.integers(1, 9))
    await asyncio.to_thread(explored, asyncio.get_running_loop(), check, *draws)
    renumbered = await damaged(sealed, ("UPDATE journal_blocks SET number = 100 WHERE number = 2",))
    assert renumbered.fault is not None
    assert renumbered.fault.where == "block 3"


async def test_l16_an_entry_that_was_removed_or_inserted_is_located(sealed: PostgresStore) -> None:
    seqs = [row["seq"] for row in await rows(sealed, "SELECT seq FROM journal ORDER BY seq")]
    for before, seq, after in zip(seqs, seqs[1:], seqs[2:], strict=False):
        removed = await damaged(sealed, ("DELETE FROM journal WHERE seq = $1", seq))
        assert removed.fault is not None
        assert removed.fault.where == f"entry between {before} and {after}"
        free = ("ALTER TABLE journal ALTER seq DROP IDENTITY",)
        moved = await damaged(sealed, free, ("UPDATE journal SET seq = -5 WHERE seq = $1", seq))
        assert moved.fault is not None
        assert moved.fault.where == "entry -5"
        replaced = await damaged(sealed, ("DELETE FROM journal WHERE seq = $1", seq), (FORGED, seq))
        assert replaced.fault is not None
        assert replaced.fault.where == f"entry {seq}"


@pytest.mark.parametrize("seq", [-(2**63), -(2**63) + 1, -1, 0])
async def test_l16_an_entry_before_the_first_is_located(sealed: PostgresStore, seq: int) -> None:
    report = await damaged(sealed, (FORGED, seq))
    assert report.fault is not None
    assert report.fault.where == f"entry {seq}"
    # A journal without any block covers nothing: it counts as not sealed, wherever it stands.
    unsealed = await damaged(sealed, ("DELETE FROM journal_blocks",), (FORGED, seq))
    assert (unsealed.fault, unsealed.unsealed) == (None, (await verified(sealed)).entries + 1)


async def test_l16_an_entry_after_the_last_block_is_counted_and_sealed_next(
    sealed: PostgresStore, clock: TurnableClock
) -> None:
    whole = await verified(sealed)
    [(last,)] = await rows(sealed, "SELECT max(last_seq) FROM journal_blocks")
    for seq in (last + 1, last + 1000, 2**63 - 1):
        assert await damaged(sealed, (FORGED, seq)) == whole._replace(unsealed=1)
    # Once the last place of all is sealed, whatever comes stands before it.
    async with connected(sealed) as connection:
        await connection.execute(FORGED, 2**63 - 1)
    assert await sealer_of(sealed, clock).seal() == 1
    assert (await verified(sealed)).fault is None
    async with connected(sealed) as connection:
        await connection.execute(ENTRY, "late")
    late = await verified(sealed)
    assert late.fault is not None
    assert late.fault.where == f"entry {last + 1}"


async def test_l16_the_tail_is_missed_only_by_who_noted_the_head(sealed: PostgresStore) -> None:
    whole = await verified(sealed)
    assert whole.head is not None
    last = ("DELETE FROM journal_blocks WHERE number = $1", whole.head.number)
    cut = await damaged(sealed, last)
    assert cut.fault is None
    assert cut.unsealed > 0
    noted = await damaged(sealed, last, head=whole.head)
    assert noted.fault is not None
    assert noted.fault.problem.startswith("is not there")
    other = await verified(sealed, whole.head._replace(hash=bytes(32)))
    assert other.fault is not None
    assert other.fault.problem.startswith("does not have the hash")
    # Who rewrites an entry and every block from it on leaves no other trace.
    rewriting = [
        ("UPDATE journal SET note = 'forged' WHERE seq = (SELECT max(seq) FROM journal)",),
        last,
        ("SELECT seal_block((SELECT max(seq) FROM journal), 4, 1)",),
    ]
    assert (await damaged(sealed, *rewriting)).fault is None
    assert (await damaged(sealed, *rewriting, head=whole.head)).fault is not None


async def test_blocks_and_origin_are_append_only(sealed: PostgresStore) -> None:
    for statement in (
        "UPDATE journal_blocks SET sealed_at_us = 1",
        "DELETE FROM journal_blocks",
        "TRUNCATE journal_blocks",
        "DELETE FROM journal_origin",
    ):
        with pytest.raises(asyncpg.RaiseError, match="never changed"):
            await rows(sealed, statement)


async def write_slowly(store: PostgresStore, number: int) -> None:
    """Others get later places meanwhile and commit before it; every third is undone."""
    database = store._database
    assert isinstance(database, Database)
    connection = await database.connect()
    for turn in range(20):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(ENTRY, f"slow-{number}-{turn}")
        await asyncio.sleep(0.004)
        await (transaction.rollback() if turn % 3 == 0 else transaction.commit())
    await connection.close()


async def test_l16_no_entry_is_skipped_while_replicas_write(open_postgres: OpenStore, clock: TurnableClock) -> None:
    stores = [await open_postgres(StoreOptions(max_batch=3)) for _ in range(2)]
    await stores[0].declare_limits([limit(Scope.USER, Period.DAY, 10**9)])
    ledgers = [ledger_on(store, clock, name) for store, name in zip(stores, "ab", strict=True)]
    sealers = [sealer_of(store, clock, 16) for store in stores]
    ended = asyncio.Event()

    async def write(number: int) -> None:
        for turn in range(12):
            payer = ADA._replace(user=f"u{number}", organisation=f"o{number}")
            await ledgers[number % 2].reserve(payer, f"r{turn}", MODELS, 0, 1, 0)  # type: ignore[arg-type]

    async def seal(sealer: Sealer) -> int:
        total = 0
        while not ended.is_set():
            try:
                total += await sealer.seal()
            except asyncpg.LockNotAvailableError:
                continue
        return total

    sealing = [asyncio.create_task(seal(sealer)) for sealer in sealers]
    await asyncio.gather(
        *(write(number) for number in range(16)), *(write_slowly(stores[0], number) for number in range(3))
    )
    ended.set()
    total = sum(await asyncio.gather(*sealing)) + await sealers[0].seal()
    report = await verified(stores[0])
    written = 16 * 12 + 3 * 13
    assert (report.fault, report.entries, report.unsealed, total) == (None, written, 0, written)
    assert report.blocks > 1


async def test_l16_an_entry_that_commits_late_is_waited_for(sealed: PostgresStore, clock: TurnableClock) -> None:
    """Its place is before entries that are there already: a seal over them would leave it out for ever."""
    sealer = sealer_of(sealed, clock)
    before = await verified(sealed)
    async with connected(sealed) as late, late.transaction():
        await late.execute(ENTRY, "late")
        async with connected(sealed) as soon:
            await soon.execute(ENTRY, "soon")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await sealer.seal()
    assert await sealer.seal() == 2
    after = await verified(sealed)
    assert (after.fault, after.entries) == (None, before.entries + 2)
