"""The migrations make the tables that the metadata describes."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import pool, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from meshkit.postgres import Database, DatabaseSettings, open_database
from meshkit.settings import Secret
from services.identity.adapters.sql import SqlStore
from services.identity.adapters.tables import metadata
from services.identity.main import MIGRATIONS
from tests.support.identity_world import World


async def test_migrated_tables_are_those_of_the_metadata(identity_database: Database, fresh_url: str) -> None:
    def differences(connection: Any) -> list[object]:
        connection.execute(text(f'SET search_path TO "{identity_database.schema}"'))
        ignore = {"include_name": lambda name, kind, _: not (kind == "table" and name == "alembic_version")}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=ignore), metadata)
        return found

    engine = create_async_engine(make_url(fresh_url).set(drivername="postgresql+asyncpg"), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_events SET event = ''", "DELETE FROM audit_events", "TRUNCATE audit_events"]
)
async def test_the_database_refuses_to_change_the_audit_log(identity_database: Database, statement: str) -> None:
    await World(SqlStore(identity_database.pool, 5.0)).administration.bootstrap()
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await identity_database.pool.execute(statement)


async def test_a_copy_of_the_database_holds_no_key(identity_database: Database) -> None:
    # S2 of the threat model, and S3: a key check that an attacker could steer with SQL (CVE-2026-42208 of litellm).
    world = World(SqlStore(identity_database.pool, 5.0))
    secret = await world.administration.bootstrap()
    tables = [
        row["tablename"]
        for row in await identity_database.pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'identity'")
    ]
    assert "key_secrets" in tables
    for table in tables:
        rows = await identity_database.pool.fetch(f"SELECT t::text AS whole FROM {table} t")
        assert not any(secret in row["whole"] or secret[-43:] in row["whole"] for row in rows)
    prefix = secret.split("-")[1]
    for hostile in ("' OR '1'='1", f"{prefix}' --", f"llmops-{prefix}-' OR ''='", f"llmops-{prefix}-{'%' * 43}"):
        assert await world.who(hostile) == "nobody"
    assert await world.who(secret) != "nobody"


async def test_a_user_whom_an_older_program_disabled_is_disabled_since_the_upgrade(
    fresh_url: str, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(MIGRATIONS, older)
    (older / "versions" / "0002_disable_time.py").unlink()
    settings = DatabaseSettings(url=Secret(fresh_url), pool_size=2)
    database = await open_database(settings, "identity", older)
    await database.pool.execute("INSERT INTO organisations VALUES ('acme', '', now())")
    for name, disabled in (("ada", True), ("bob", False)):
        await database.pool.execute("INSERT INTO users VALUES ('acme', $1, '', '', $2, now(), 1)", name, disabled)
    await database.close()
    database = await open_database(settings, "identity", MIGRATIONS)
    bob, ada = [(await SqlStore(database.pool, 5.0).find_user("acme", name))[0] for name in ("bob", "ada")]
    await database.close()
    assert bob is not None
    assert ada is not None
    assert bob.disable_time is None
    assert ada.disable_time is not None
    assert abs(datetime.now(UTC) - ada.disable_time) < timedelta(minutes=1)
