"""Opening a service's schema: processes that start together, and addresses as operators write them."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import asyncpg
import pytest

from meshkit.postgres import DatabaseSettings, migrate, open_database
from meshkit.settings import Secret, SettingsError

_MIGRATION = """
from alembic import op

revision = "{revision}"
down_revision = {before}


def upgrade() -> None:
    op.execute("CREATE TABLE made_by_{revision} (one integer)")
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    versions = tmp_path / "versions"
    versions.mkdir()
    (versions / "0001_first.py").write_text(_MIGRATION.format(revision="0001", before=None))
    return tmp_path


@pytest.fixture
def schema() -> str:
    return f"kit_{uuid.uuid4().hex[:12]}"


async def test_parameters_of_the_address_reach_the_driver_and_not_the_migration_tool(
    postgres_url: str, migrations: Path, schema: str
) -> None:
    url = postgres_url + ("&" if "?" in postgres_url else "?") + "sslmode=prefer"
    database = await open_database(DatabaseSettings(url=Secret(url)), schema, migrations)
    try:
        assert await database.pool.fetchval("SELECT count(*) FROM made_by_0001") == 0
    finally:
        await database.close()


async def test_a_connection_goes_back_to_the_pool_without_another_round_trip(
    postgres_url: str, migrations: Path, schema: str
) -> None:
    database = await open_database(DatabaseSettings(url=Secret(postgres_url), pool_size=1), schema, migrations)
    other = await asyncpg.connect(postgres_url)
    try:
        await database.pool.fetchval("SELECT 42 AS latest")
        latest = await other.fetchval(
            "SELECT query FROM pg_stat_activity WHERE application_name = $1", f"llmops-{schema}"
        )
        assert latest == "SELECT 42 AS latest"
    finally:
        await other.close()
        await database.close()


async def test_a_transaction_that_was_left_open_does_not_reach_the_next_user(
    postgres_url: str, migrations: Path, schema: str
) -> None:
    database = await open_database(DatabaseSettings(url=Secret(postgres_url), pool_size=1), schema, migrations)
    try:
        async with database.pool.acquire() as connection:
            await connection.execute("BEGIN")
        async with database.pool.acquire() as connection:
            assert not connection.is_in_transaction()
    finally:
        await database.close()


async def test_a_process_waits_for_another_ones_migration_longer_than_for_a_statement(
    postgres_url: str, migrations: Path, schema: str
) -> None:
    settings = DatabaseSettings(url=Secret(postgres_url), statement_timeout_s=0.1)
    other = await asyncpg.connect(postgres_url)
    try:
        await other.execute("SELECT pg_advisory_lock(7311018532)")
        starting = asyncio.create_task(migrate(settings, schema, migrations))
        waited_longer = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event = 'advisory' "
            "AND clock_timestamp() - query_start > interval '0.3 s'"
        )
        while not await other.fetchval(waited_longer, f"llmops-{schema}") and not starting.done():
            await asyncio.sleep(0)
        await other.execute("SELECT pg_advisory_unlock(7311018532)")
        await starting
        assert await other.fetchval(f"SELECT version_num FROM {schema}.alembic_version") == "0001"
    finally:
        await other.close()


async def test_processes_that_start_together_migrate_once(postgres_url: str, migrations: Path, schema: str) -> None:
    settings = DatabaseSettings(url=Secret(postgres_url))
    await asyncio.gather(*(migrate(settings, schema, migrations) for _ in range(3)))
    (migrations / "versions" / "0002_second.py").write_text(_MIGRATION.format(revision="0002", before="'0001'"))
    await asyncio.gather(*(migrate(settings, schema, migrations) for _ in range(3)))
    connection = await asyncpg.connect(postgres_url)
    try:
        assert await connection.fetchval(f"SELECT version_num FROM {schema}.alembic_version") == "0002"
    finally:
        await connection.close()


async def test_an_older_program_refuses_a_newer_schema(postgres_url: str, migrations: Path, schema: str) -> None:
    settings = DatabaseSettings(url=Secret(postgres_url))
    second = migrations / "versions" / "0002_second.py"
    second.write_text(_MIGRATION.format(revision="0002", before="'0001'"))
    await migrate(settings, schema, migrations)
    second.unlink()
    with pytest.raises(SettingsError, match="is at revision 0002, this program knows 0001"):
        await migrate(settings, schema, migrations)
