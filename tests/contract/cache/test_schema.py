"""The migrations make the tables that the metadata describes."""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import pool, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from meshkit.postgres import Database
from services.cache.adapters.tables import metadata


async def test_migrated_tables_are_those_of_the_metadata(cache_database: Database, postgres_url: str) -> None:
    def differences(connection: Any) -> list[object]:
        connection.execute(text(f'SET search_path TO "{cache_database.schema}"'))
        ignore = {"include_name": lambda name, kind, _: not (kind == "table" and name == "alembic_version")}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=ignore), metadata)
        return found

    engine = create_async_engine(make_url(postgres_url).set(drivername="postgresql+asyncpg"), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
