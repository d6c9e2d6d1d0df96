"""Both stores behind one fixture, and the schema that the real one lives in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from meshkit.executors import Executor
from meshkit.postgres import Database, DatabaseSettings, open_database
from meshkit.settings import Secret
from services.registry.adapters.memory import MemoryStore
from services.registry.adapters.sql import SqlStore
from services.registry.core.ports import Store
from services.registry.main import MIGRATIONS


@pytest.fixture(scope="session")
async def registry_schema(postgres_url: str) -> AsyncIterator[Database]:
    database = await open_database(DatabaseSettings(url=Secret(postgres_url)), "registry_contract", MIGRATIONS)
    yield database
    await database.close()


@pytest.fixture
async def registry_database(registry_schema: Database) -> Database:
    """The schema as a migration leaves it."""
    await registry_schema.pool.execute(
        "TRUNCATE prompt_versions, environment_pointers, publish_requests; UPDATE registry_state SET revision = 0"
    )
    return registry_schema


@pytest.fixture
def executor() -> Iterator[Executor]:
    pool = Executor("registry-test", 1, 100)
    yield pool
    pool.close()


@pytest.fixture(params=["memory", "postgresql"])
def store(request: pytest.FixtureRequest, executor: Executor) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return SqlStore(request.getfixturevalue("registry_database").pool, executor, 5.0)
