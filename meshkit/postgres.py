"""PostgreSQL for services that own tables: a pool per service on one database, a schema each, migrated at start.

Alembic and SQLAlchemy are imported only when there is something to migrate: a second start asks one row instead.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from meshkit.settings import Secret, SettingsError

if TYPE_CHECKING:
    import asyncpg

_REVISION = re.compile(r"^(\d{4})_[a-z0-9_]+\.py$")
_SCHEMA = re.compile(r"^[a-z][a-z0-9_]{0,40}$")
# Any constant: one migration at a time per database.
_MIGRATION_LOCK = 7_311_018_532


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where the data lives. An empty URL lets the launcher start a private PostgreSQL."""

    url: Secret = Secret()  # noqa: RUF009 - immutable
    pool_size: int = 8
    statement_timeout_s: float = 5.0
    connect_timeout_s: float = 10.0
    # Waiting for another process's migration, and each step of one's own.
    migration_timeout_s: float = 120.0

    def validate(self) -> None:
        """Raises ValueError for a URL that is not PostgreSQL's."""
        url = self.url.reveal()
        if url and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("url must begin with postgresql://; other databases are not supported")
        _require_ports(url)
        if self.pool_size < 1:
            raise ValueError("pool_size must be at least 1")
        if min(self.statement_timeout_s, self.connect_timeout_s, self.migration_timeout_s) <= 0:
            raise ValueError("timeouts must be above 0")


def _require_ports(url: str) -> None:
    """Raises ValueError, which shows nothing: what stands where a port is expected may be part of a password."""
    try:
        for host in urlsplit(url).netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        raise ValueError(
            "url: a port must be a number from 0 to 65535, and IPv6 addresses stand in brackets; in a password, write "
            "/ ? # [ ] @ as %2F %3F %23 %5B %5D %40"
        ) from None


def outages() -> tuple[type[Exception], ...]:
    """What says that PostgreSQL is away, not that a statement was wrong; adapters add what means it in their use."""
    import asyncpg  # noqa: PLC0415 - only services with tables need it

    return (
        OSError,  # TimeoutError is one
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,  # what the driver raises on a connection that died unnoticed
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
    )


class Database:
    """A service's schema: `pool` for statements, `connect()` for a connection of one's own."""

    def __init__(self, pool: asyncpg.Pool[Any], url: str, schema: str, settings: DatabaseSettings) -> None:
        self.pool = pool
        self.schema = schema
        self._url = url
        self._settings = settings

    async def connect(self) -> asyncpg.Connection[Any]:
        """A connection outside the pool, for one writer's prepared statements. The caller closes it."""
        return await _connect(self._url, self.schema, self._settings)

    async def close(self) -> None:
        """Closes the pool; waits at most a second for running statements."""
        try:
            async with asyncio.timeout(1):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()


async def open_database(settings: DatabaseSettings, schema: str, migrations: Path) -> Database:
    """Migrates `schema` to the newest revision of `migrations` and opens a pool. Raises SettingsError."""
    import asyncpg  # noqa: PLC0415 - only services with tables need it

    url = settings.url.reveal()
    if not url:
        raise SettingsError("database.url is empty; set LLMOPS_DATABASE_URL or start with `llmops up`")
    if not _SCHEMA.match(schema):
        raise ValueError(f"{schema!r} is not a schema name")
    try:
        await migrate(settings, schema, migrations)
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=settings.pool_size,
            timeout=settings.connect_timeout_s,
            command_timeout=settings.statement_timeout_s,
            server_settings=_server_settings(schema, settings),
            reset=_keep_session,
        )
    except (asyncpg.PostgresError, *outages()) as error:
        raise SettingsError(f"database.url: {type(error).__name__}: {error}; is PostgreSQL running there?") from None
    return Database(pool, url, schema, settings)


async def _keep_session(_: object) -> None:
    """Instead of a round trip after every use: nobody sets, locks or listens on a pool's connection.

    A transaction that is still open is rolled back all the same.
    """


async def migrate(settings: DatabaseSettings, schema: str, migrations: Path) -> None:
    """Brings a schema to the newest revision. Two processes that start together do it once."""
    head = newest_revision(migrations)
    patient = replace(settings, statement_timeout_s=settings.migration_timeout_s)
    connection = await _connect(settings.url.reveal(), schema, patient)
    try:
        if await _revision(connection, schema) == head:
            return
        await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
        try:
            await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            current = await _revision(connection, schema)
            if current != head:
                _refuse_newer(schema, current, head)
                await asyncio.to_thread(_upgrade, patient, schema, migrations)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK)
    finally:
        await connection.close()


def _refuse_newer(schema: str, current: str | None, head: str) -> None:
    if current is not None and current > head:
        raise SettingsError(
            f"schema {schema} is at revision {current}, this program knows {head}: a newer release wrote it; upgrade"
        )


def newest_revision(migrations: Path) -> str:
    """The newest revision by file name (`0001_first.py`): revisions are numbered and linear."""
    found = [m[1] for p in (migrations / "versions").iterdir() if (m := _REVISION.match(p.name))]
    if not found:
        raise ValueError(f"no migrations in {migrations / 'versions'}")
    return max(found)


async def _revision(connection: Any, schema: str) -> str | None:
    if await connection.fetchval("SELECT to_regclass($1)", f"{schema}.alembic_version") is None:
        return None
    value = await connection.fetchval(f'SELECT version_num FROM "{schema}".alembic_version')  # noqa: S608
    return None if value is None else str(value)


def _upgrade(settings: DatabaseSettings, schema: str, migrations: Path) -> None:
    """Runs Alembic in a thread with a loop of its own; its API is synchronous."""
    from alembic.migration import MigrationContext  # noqa: PLC0415
    from alembic.operations import Operations  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from sqlalchemy import pool  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    script = ScriptDirectory(str(migrations))

    def run(connection: Any) -> None:
        context = MigrationContext.configure(
            connection,
            opts={"fn": lambda current, _: script._upgrade_revs("head", current)},  # noqa: SLF001 - alembic's own idiom
        )
        with context.begin_transaction(), Operations.context(context):
            context.run_migrations()
        connection.commit()

    async def upgrade() -> None:
        # The driver reads the address: SQLAlchemy would not know its parameters, `sslmode` for one.
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: _connect(settings.url.reveal(), schema, settings),
            poolclass=pool.NullPool,
        )
        try:
            async with engine.connect() as connection:
                await connection.run_sync(run)
        finally:
            await engine.dispose()

    asyncio.run(upgrade())


async def _connect(url: str, schema: str, settings: DatabaseSettings) -> Any:
    import asyncpg  # noqa: PLC0415

    return await asyncpg.connect(
        url,
        timeout=settings.connect_timeout_s,
        command_timeout=settings.statement_timeout_s,
        server_settings=_server_settings(schema, settings),
    )


def _server_settings(schema: str, settings: DatabaseSettings) -> dict[str, str]:
    return {
        "search_path": schema,
        "application_name": f"llmops-{schema}",
        "statement_timeout": str(int(settings.statement_timeout_s * 1000)),
        "idle_in_transaction_session_timeout": "5000",
        "jit": "off",
    }
