"""Fixtures that every tier shares: one PostgreSQL per run, a fresh schema per test module."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from meshkit.postgres import Database, DatabaseSettings
from meshkit.postgres import open_database as open_schema
from meshkit.settings import Secret

# What a case takes, or its making, says how busy the machine is: no test is about that, and `timeout` ends what hangs.
_PATIENT = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# The same cases each time: what was green stays green until something is changed. `make soak` looks for new ones.
hypothesis.settings.register_profile("same-cases", _PATIENT, derandomize=True)
hypothesis.settings.register_profile("new-cases", _PATIENT)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same-cases"))

OpenDatabase = Callable[[str, Path], Awaitable[Database]]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """LLMOPS_TEST_DATABASE_URL, or a private PostgreSQL that ends with the run."""
    given = os.environ.get("LLMOPS_TEST_DATABASE_URL")
    if given:
        yield given
        return
    from llmops_cli.embedded_postgres import EmbeddedPostgres  # noqa: PLC0415 - only where one is needed

    folder = Path(tempfile.mkdtemp(prefix="llmops-test-pg-"))
    server = EmbeddedPostgres(folder)
    try:
        url = server.start()
        asyncio.run(_forget_disks(url))
        yield url
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _forget_disks(url: str) -> None:
    """No test pulls the machine's plug, and thousands of new tables need not reach a disk before they are dropped."""
    import asyncpg  # noqa: PLC0415

    connection = await asyncpg.connect(url)
    for setting in ("fsync", "full_page_writes"):
        await connection.execute(f"ALTER SYSTEM SET {setting} = off")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


@pytest.fixture
async def open_database(postgres_url: str) -> AsyncIterator[OpenDatabase]:
    """Opens a schema in a database that only this test uses; calling twice gives two replicas on it."""
    name = f"test_{uuid.uuid4().hex}"
    opened: list[Database] = []

    async def open_fresh(schema: str, migrations: Path) -> Database:
        settings = DatabaseSettings(url=Secret(await _create(postgres_url, name)))
        opened.append(await open_schema(settings, schema, migrations))
        return opened[-1]

    yield open_fresh
    for database in opened:
        await database.close()


async def _create(url: str, name: str) -> str:
    import asyncpg  # noqa: PLC0415

    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    base, _, query = url.partition("?")
    return f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
