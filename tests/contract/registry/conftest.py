"""Both stores behind one fixture, and the schema that the real one lives in."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from meshkit.executors import Executor
from meshkit.postgres import Database, DatabaseSettings, open_database
from meshkit.settings import Secret
from services.registry.adapters.memory import MemoryStore
from services.registry.adapters.sql import SqlStore
from services.registry.core.ports import Store
from services.registry.main import MIGRATIONS

_EMPTY = "TRUNCATE prompt_versions, environment_pointers, publish_requests; UPDATE registry_state SET revision = 0"


@pytest.fixture(scope="session")
async def registry_schema(postgres_url: str) -> AsyncIterator[Database]:
    database = await open_database(DatabaseSettings(url=Secret(postgres_url)), "registry_contract", MIGRATIONS)
    yield database
    await database.close()


@pytest.fixture
async def registry_database(registry_schema: Database) -> Database:
    """The schema as a migration leaves it."""
    await registry_schema.pool.execute(_EMPTY)
    return registry_schema


@pytest.fixture(scope="session")
async def service_database(postgres_url: str) -> AsyncIterator[str]:
    """A database for whole processes, whose schema has the service's own name."""
    name = f"registry_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE DATABASE {name}")
    base, _, query = postgres_url.partition("?")
    yield f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def fresh_url(service_database: str) -> str:
    """The address of that database, with an empty registry in it."""
    database = await open_database(DatabaseSettings(url=Secret(service_database)), "registry", MIGRATIONS)
    await database.pool.execute(_EMPTY)
    await database.close()
    return service_database


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
