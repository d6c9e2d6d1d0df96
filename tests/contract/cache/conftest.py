"""Both stores and both indexes behind one fixture each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import services.cache
from meshkit.postgres import Database, DatabaseSettings, open_database
from meshkit.settings import Secret
from services.cache.adapters.faiss import FaissVectorIndex
from services.cache.adapters.memory import MemoryEntryStore, MemoryVectorIndex
from services.cache.adapters.sql import PostgresEntryStore
from services.cache.core.ports import EntryStore, VectorIndex

MIGRATIONS = Path(services.cache.__file__).parent / "migrations"
TABLES = "entries, removals, mutations"


@pytest.fixture(scope="module")
async def module_database(postgres_url: str) -> AsyncIterator[Database]:
    database = await open_database(DatabaseSettings(url=Secret(postgres_url)), "cache_contract", MIGRATIONS)
    yield database
    await database.close()


@pytest.fixture(scope="module")
async def cache_service_database(postgres_url: str) -> AsyncIterator[Database]:
    """The schema that the service itself opens."""
    database = await open_database(DatabaseSettings(url=Secret(postgres_url)), "cache", MIGRATIONS)
    yield database
    await database.close()


@pytest.fixture
async def cache_database(module_database: Database) -> Database:
    """The schema of this room's tests, empty."""
    await module_database.pool.execute(f"TRUNCATE {TABLES}")
    return module_database


@pytest.fixture(params=["memory", "postgresql"])
def store(request: pytest.FixtureRequest) -> EntryStore:
    if request.param == "memory":
        return MemoryEntryStore()
    return PostgresEntryStore(request.getfixturevalue("cache_database").pool, timeout_s=5.0)


@pytest.fixture(params=["memory", "faiss"])
def new_index(request: pytest.FixtureRequest) -> Callable[[int, int], VectorIndex]:
    return MemoryVectorIndex if request.param == "memory" else FaissVectorIndex
