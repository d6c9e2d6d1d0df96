"""The two stores behind one port: in memory, and on PostgreSQL with its migrations."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from meshkit.money import cost_nano_usd
from meshkit.postgres import Database, DatabaseSettings, open_database
from meshkit.settings import Secret
from services.ledger.adapters.memory import MemoryStore
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.core.ports import Store
from services.ledger.core.windows import SteadyClock
from services.ledger.main import MIGRATIONS
from tests.unit.ledger.builders import TurnableClock

OpenStore = Callable[..., Awaitable[PostgresStore]]


def migrations_before(revision: str, folder: Path) -> Path:
    """Those of an older release, in a folder that is made."""
    shutil.copytree(MIGRATIONS, folder)
    for migration in (folder / "versions").glob("0*.py"):
        if migration.name >= revision:
            migration.unlink()
    return folder


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
async def open_postgres(postgres_url: str, clock: TurnableClock) -> AsyncIterator[OpenStore]:
    """Opens a store in a schema of this test; each call is another replica on it."""
    opened: list[tuple[PostgresStore, Database]] = []
    schema = f"ledger_{uuid.uuid4().hex[:16]}"
    settings = DatabaseSettings(url=Secret(postgres_url), pool_size=2)

    async def open_store(options: StoreOptions | None = None) -> PostgresStore:
        database = await open_database(settings, schema, MIGRATIONS)
        store = PostgresStore(
            database,
            SteadyClock(clock.time_ns, clock.elapsed_ns),
            cost_nano_usd,
            logging.getLogger("llmops.ledger"),
            options or StoreOptions(),
        )
        opened.append((store, database))
        return store

    yield open_store
    for store, database in opened:
        await store.close()
        await database.close()


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, clock: TurnableClock, open_postgres: OpenStore) -> Store:
    if request.param == "memory":
        return MemoryStore(SteadyClock(clock.time_ns, clock.elapsed_ns), cost_nano_usd)
    return await open_postgres()
