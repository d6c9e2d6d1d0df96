"""Both stores behind one fixture, and databases for whole processes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from meshkit.postgres import Database, DatabaseSettings, open_database
from meshkit.settings import Secret
from services.identity.adapters.memory import MemoryStore
from services.identity.adapters.sql import SqlStore
from services.identity.core.ports import Store
from services.identity.main import MIGRATIONS


@pytest.fixture
async def fresh_url(postgres_url: str) -> AsyncIterator[str]:
    """The address of an empty database: the audit log refuses to be emptied."""
    name = f"identity_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE DATABASE {name}")
    base, _, query = postgres_url.partition("?")
    yield f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def identity_database(fresh_url: str) -> AsyncIterator[Database]:
    database = await open_database(DatabaseSettings(url=Secret(fresh_url), pool_size=4), "identity", MIGRATIONS)
    yield database
    await database.close()


@pytest.fixture(params=["memory", "postgresql"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return SqlStore(request.getfixturevalue("identity_database").pool, 5.0)
