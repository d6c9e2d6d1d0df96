"""`python -m bench.ledger URL`: durable reservations on one hot budget, by group commit and by one statement each.

Both ways do the same work in turns, on the same server: hold an amount on one row if it fits, and remember the hold.
The service's core and store run in this process; its servicer and transports do not.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import asyncpg
import uvloop

from bench.machine import describe
from llmops_cli.launcher import tune
from meshkit.metrics import MetricsRegistry
from meshkit.money import cost_nano_usd
from meshkit.postgres import DatabaseSettings, open_database
from meshkit.settings import Secret
from services.ledger.adapters.continuity import Continuity
from services.ledger.adapters.memory import DeclaredPrices, MemoryWitness
from services.ledger.adapters.sealing import Sealer
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.adapters.telemetry import LedgerTelemetry
from services.ledger.core.limits import EVERY_ORGANISATION, Limit, Payer, Scope, limit_id_of
from services.ledger.core.prices import Price
from services.ledger.core.service import Ledger, Model, Rules
from services.ledger.core.windows import Period, SteadyClock
from services.ledger.main import MIGRATIONS
from services.ledger.settings import LedgerSettings

ROUNDS, ROUND_S, WARM_UP_S, CALLERS = 3, 5.0, 1.0, (64, 1024)
# More connections make a hot row slower, not faster.
CONNECTIONS = 16
PAYER = Payer("acme", "", "ada", "key-1", "")
PRICE = Price("acme-ai", "unit", "bench/1", 0, 10**6, 0, 0)
CAP = 10**17
ONE_STATEMENT = """
WITH held AS (
    UPDATE hot SET held = held + $1 WHERE one AND spent + held + $1 <= cap RETURNING held
)
INSERT INTO holds (hold_id, amount, expire_us) SELECT $2, $1, $3 FROM held RETURNING hold_id
"""
Once = Callable[[], Awaitable[object]]
OpenWay = Callable[[str, str], Awaitable[tuple[Once, Callable[[], Awaitable[None]]]]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One round."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


async def measure(once: Once, callers: int, seconds: float) -> Measured:
    """Callers that ask again as soon as they are answered, for some seconds."""
    waits: list[float] = []
    started, cpu = time.perf_counter(), time.process_time()
    end = started + seconds

    async def caller() -> None:
        while (asked := time.perf_counter()) < end:
            await once()
            waits.append(time.perf_counter() - asked)

    await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    waits.sort()
    p50, p99 = (waits[int(len(waits) * part)] * 1000 for part in (0.5, 0.99))
    return Measured(len(waits) / elapsed, p50, p99, cpu / len(waits) * 1e6)


async def group_commit(url: str, schema: str) -> tuple[Once, Callable[[], Awaitable[None]]]:
    """The service's way, with one limit: what the other way does too. The journal is sealed meanwhile, as it is."""
    database = await open_database(DatabaseSettings(url=Secret(url), pool_size=2), schema, MIGRATIONS)
    clock = SteadyClock(time.time_ns, time.monotonic_ns)
    logger = logging.getLogger("bench")
    continuity = Continuity(MemoryWitness(), logger)
    store = PostgresStore(database, clock, cost_nano_usd, logger, StoreOptions(), continuity)
    limit_id = limit_id_of(EVERY_ORGANISATION, Scope.ORGANISATION, "", Period.DAY)
    await store.declare_limits([Limit(limit_id, EVERY_ORGANISATION, Scope.ORGANISATION, "", Period.DAY, CAP)])
    bits = Random().getrandbits
    prices = DeclaredPrices({("acme-ai", "unit"): PRICE})
    observer = LedgerTelemetry(MetricsRegistry(), logger)
    ledger = Ledger(store, prices, clock, cost_nano_usd, lambda: f"{bits(80):020x}", observer, Rules())
    settings = LedgerSettings()
    sealer = Sealer(database, clock.now_us, continuity, logger, settings.seal_max_entries)
    sealing = asyncio.create_task(sealer.run(settings.seal_interval_s))
    models, numbers = [Model("acme-ai", "unit")], iter(range(2**62))

    async def once() -> object:
        return await ledger.reserve(PAYER, f"r{next(numbers)}", models, 0, 100, 900 * 10**6)

    async def close() -> None:
        sealing.cancel()
        await asyncio.gather(sealing, return_exceptions=True)
        await store.close()
        await database.close()

    return once, close


async def one_by_one(url: str, schema: str) -> tuple[Once, Callable[[], Awaitable[None]]]:
    """One statement per reservation, through a pool."""
    connection = await asyncpg.connect(url)
    await connection.execute(f'CREATE SCHEMA "{schema}"')
    await connection.close()
    there = {"search_path": schema}
    pool: Any = await asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS, server_settings=there)
    columns = "one boolean PRIMARY KEY, spent bigint, held bigint, cap bigint"
    await pool.execute(f"CREATE TABLE hot ({columns}) WITH (fillfactor = 50)")
    await pool.execute("CREATE TABLE holds (hold_id text PRIMARY KEY, amount bigint, expire_us bigint)")
    await pool.execute("INSERT INTO hot VALUES (true, 0, 0, $1)", CAP)
    numbers = iter(range(2**62))

    async def once() -> object:
        return await pool.fetchval(ONE_STATEMENT, 100, f"r{next(numbers)}", time.time_ns() // 1000)

    return once, pool.close


async def main(url: str) -> None:
    """Measures both ways in turns and prints a table."""
    print(f"PostgreSQL: {await settings_of(url)}\n")
    print("| way | callers | reservations/s | p50 ms | p99 ms | CPU µs each |\n|---|---|---|---|---|---|")
    for callers in CALLERS:
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, open_way in (("group commit", group_commit), ("one statement each", one_by_one)):
                got = await in_schema_of_its_own(url, open_way, callers)
                best[name] = max(best.get(name, 0.0), got.per_second)
                numbers = f"{got.per_second:,.0f} | {got.p50_ms:.1f} | {got.p99_ms:.1f} | {got.cpu_us:.0f}"
                print(f"| {name} | {callers} | {numbers} |", flush=True)
        print(
            f"\nbest against best at {callers} callers: {best['group commit'] / best['one statement each']:.1f} times\n"
        )


async def in_schema_of_its_own(url: str, open_way: OpenWay, callers: int) -> Measured:
    """One round. Its tables go with it: the server would vacuum them during the next."""
    schema = f"b_{uuid.uuid4().hex}"
    once, close = await open_way(url, schema)
    await measure(once, callers, WARM_UP_S)
    got = await measure(once, callers, ROUND_S)
    await close()
    connection = await asyncpg.connect(url)
    await connection.execute(f'DROP SCHEMA "{schema}" CASCADE')
    await connection.close()
    return got


async def settings_of(url: str) -> str:
    """What of the server decides how durable a commit is."""
    connection = await asyncpg.connect(url)
    try:
        names = ("server_version", "fsync", "synchronous_commit", "wal_sync_method")
        values = [await connection.fetchval(f"SELECT current_setting('{name}')") for name in names]
    finally:
        await connection.close()
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("url", help="of a PostgreSQL that nothing else uses")
    arguments = parser.parse_args()
    print(describe())
    tune()
    uvloop.run(main(arguments.url))
