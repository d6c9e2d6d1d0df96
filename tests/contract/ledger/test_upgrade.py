"""Holds that were made before migration 0003 end after it as they should."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

from meshkit.money import cost_nano_usd
from meshkit.postgres import DatabaseSettings, open_database
from meshkit.settings import Secret
from services.ledger.adapters.audit import verify
from services.ledger.adapters.codec import text
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.core.limits import LimitSet, Scope
from services.ledger.core.windows import MICROSECONDS, Period, SteadyClock
from services.ledger.main import MIGRATIONS
from tests.contract.ledger.conftest import migrations_before
from tests.contract.ledger.test_postgres import ledger_on
from tests.unit.ledger.builders import ADA, UNIT, TurnableClock, limit, used_tokens

DAY = limit(Scope.ORGANISATION, Period.DAY, 1000)
OLD_HOLDS = """
INSERT INTO reservations (reservation_id, organisation, state, held_nano_usd, reserved_nano_usd, spent_so_far_nano_usd,
    booked_nano_usd, expire_us, counter_ids, terms)
SELECT id, 'acme', 1, 40, 40, reported, 0, $1, ARRAY[$2::uuid], $3::text::jsonb
FROM (VALUES ('000000000001-a', 0), ('000000000001-b', 15), ('000000000001-c', 0)) AS v (id, reported)
"""
OLD_ENTRIES = """
INSERT INTO journal (at_us, kind, organisation, request_id, fingerprint, reservation_id, held_delta_nano_usd,
    spent_delta_nano_usd, counter_ids, postings, lines, note, answer)
SELECT 1, 1, 'acme', reservation_id, 0, reservation_id, 40, 0, counter_ids, '[]', '[]', '', '[]' FROM reservations
"""
OLD_COUNTER = """
INSERT INTO counters (counter_id, organisation, scope, subject, period, window_start_s, held_nano_usd)
VALUES ($1::uuid, 'acme', 1, '', 3, $2, 120)
"""


async def test_holds_of_an_older_program(postgres_url: str, tmp_path: Path, clock: TurnableClock) -> None:
    schema, settings = f"ledger_{uuid.uuid4().hex[:16]}", DatabaseSettings(url=Secret(postgres_url), pool_size=2)
    now_us = clock.ns // 1000
    (binding,) = LimitSet(1, [DAY]).bindings(ADA, now_us // MICROSECONDS)
    assert binding.key is not None
    old = await open_database(settings, schema, migrations_before("0003", tmp_path / "old"))
    async with old.pool.acquire() as connection:
        terms = text((ADA, (UNIT,)))
        await connection.execute(OLD_HOLDS, now_us + 30 * MICROSECONDS, binding.counter_id, terms)
        await connection.execute(OLD_ENTRIES)
        await connection.execute(OLD_COUNTER, binding.counter_id, binding.key.window_start_s)
    await old.close()
    database = await open_database(settings, schema, MIGRATIONS)
    steady = SteadyClock(clock.time_ns, clock.elapsed_ns)
    store = PostgresStore(database, steady, cost_nano_usd, logging.getLogger("llmops.ledger"), StoreOptions())
    await store.declare_limits([DAY])
    ledger = ledger_on(store, clock, "a")
    assert (await ledger.commit(ADA, "c", "000000000001-c", [used_tokens(30)])).amount_nano_usd == 30
    clock.turn(31)
    assert await ledger.sweep(10) == 2
    (usage,), _ = await ledger.reports.usage("acme", None, "", None, 10, "")
    # What had reported spending counts as sent.
    assert (usage.counter.spent_nano_usd, usage.counter.held_nano_usd) == (45, 0)
    async with database.pool.acquire() as connection:
        assert await verify(connection) is None
    await store.close()
    await database.close()
