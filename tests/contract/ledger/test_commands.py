"""`llmops ledger` on a database: what a command may take, and what it says where it cannot."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmops_cli.configuration import Configuration, build_configuration
from llmops_cli.ledger_books import EXIT_DIFFERENT, export_journal, with_books
from meshkit.money import cost_nano_usd
from meshkit.postgres import DatabaseSettings, open_database
from meshkit.settings import Secret, SettingsError
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.core.windows import MICROSECONDS, SteadyClock
from services.ledger.main import MIGRATIONS
from tests.contract.ledger.test_restored import World, world
from tests.unit.ledger.builders import TurnableClock

__all__ = ["world"]
DAY_US = 86_400 * MICROSECONDS
# Every second one is of another day.
MANY_ENTRIES = f"""
INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
    spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
SELECT (1 + n % 2) * {DAY_US}::bigint + n, 3, 'acme', n::text, 0, n::text, 0, 7, '{{}}',
    '[["key:k", 7], ["provider:p", -5], ["provider:unattributed", -2]]',
    '[["p", "m", 1, [1, 2, 0, 0, 0, true], 3, "v"], ["p", "m", 2, [1, 2, 0, 0, 0, false], 2, "v"]]', '', '[]'
FROM generate_series(1, 250000) n
"""


def configured(world: World) -> Configuration:
    """With less patience than a journal of some size needs."""
    return build_configuration("test", {"database": {"url": world.url, "statement_timeout_s": 0.5}}, {})


async def test_a_large_journal_is_read_for_as_long_as_it_takes(world: World, tmp_path: Path) -> None:
    """Statements of a service end after five seconds, and so did `verify` from about a million calls on."""

    async def work(connection: Any) -> int:
        await connection.fetchval("SELECT pg_sleep(0.7)")
        # A pager at the other end of an export reads when somebody turns the page.
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "0"
        return EXIT_DIFFERENT

    assert await with_books(configured(world), tmp_path, work) == EXIT_DIFFERENT


async def test_a_day_of_a_busy_mesh_is_compared_with_its_invoice(world: World) -> None:
    """A month of twelve thousand calls a day was `STORAGE_UNAVAILABLE` each time it was asked for."""
    settings = DatabaseSettings(url=Secret(world.url), pool_size=1)
    database = await open_database(settings, "ledger", MIGRATIONS)
    await database.pool.execute(MANY_ENTRIES, timeout=60)
    await database.close()
    hasty = await open_database(replace(settings, statement_timeout_s=1.0), "ledger", MIGRATIONS)
    clock = SteadyClock(TurnableClock().time_ns, TurnableClock().elapsed_ns)
    store = PostgresStore(hasty, clock, cost_nano_usd, logging.getLogger("llmops.ledger"), StoreOptions())
    try:
        booked = await store.booked_by_day("acme", "p", [(DAY_US, 2 * DAY_US), (0, DAY_US)])
        assert [tuple(day) for day in booked] == [(125_000 * 5, 125_000 * 3, 125_000 * 2), (0, 0, 0)]
        assert await hasty.pool.fetchval("SHOW statement_timeout") == "1s"
    finally:
        await store.close()
        await hasty.close()


async def test_a_file_that_cannot_be_written_is_said(world: World, tmp_path: Path) -> None:
    """It was a traceback."""
    with pytest.raises(SettingsError, match="No such file or directory; name a file that can be written"):
        await asyncio.to_thread(export_journal, configured(world), tmp_path, tmp_path / "nowhere" / "journal.csv", "")
