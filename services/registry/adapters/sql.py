"""The store on PostgreSQL, schema `registry`. asyncpg prepares each statement once per connection."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import asyncpg

from meshkit.postgres import outages
from services.registry.core.encoding import arms_from_json, arms_to_json, from_json, to_json
from services.registry.core.errors import StorageUnavailable
from services.registry.core.ports import Change, Executor, PastRequest
from services.registry.core.prompt import Pointer, PublishedPrompt, Version

Connection = Any
_OUTAGES = (*outages(), asyncpg.TransactionRollbackError)

_REVISION = "SELECT revision FROM registry_state"
# The row lock makes publishers queue: the revision that one compared is the revision that it raises.
_LOCK_REVISION = "SELECT revision FROM registry_state FOR UPDATE"
_SET_REVISION = "UPDATE registry_state SET revision = $1"
_VERSIONS = """
SELECT prompt_name, major, minor, digest, content, create_time FROM prompt_versions WHERE revision > $1
ORDER BY prompt_name, major, minor
"""
_POINTERS = """
SELECT prompt_name, environment, arms, file_arms FROM environment_pointers WHERE revision > $1
ORDER BY prompt_name, environment
"""
_ADD_VERSIONS = """
INSERT INTO prompt_versions (prompt_name, major, minor, digest, content, create_time, revision)
SELECT *, $7::bigint FROM unnest($1::text[], $2::int[], $3::int[], $4::text[], $5::text[], $6::timestamptz[])
"""
_MOVE_POINTERS = """
INSERT INTO environment_pointers (prompt_name, environment, arms, file_arms, revision)
SELECT *, $5::bigint FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
ON CONFLICT (prompt_name, environment)
DO UPDATE SET arms = excluded.arms, file_arms = excluded.file_arms, revision = excluded.revision
"""
_FIND_REQUEST = """
SELECT payload_digest, prompt_name, major, minor, created, create_time FROM publish_requests WHERE request_id = $1
"""
_ADD_REQUEST = """
INSERT INTO publish_requests (request_id, payload_digest, prompt_name, major, minor, created, create_time)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (request_id) DO NOTHING RETURNING true
"""
_FORGET_REQUESTS = "DELETE FROM publish_requests WHERE create_time < $1"


class _Outrun(Exception):
    """Another publisher was first."""


class SqlStore:
    """See `core.ports.Store`. Rows are decoded in the executor: a first load may be megabytes."""

    def __init__(self, pool: asyncpg.Pool[Any], executor: Executor, acquire_timeout_s: float) -> None:
        """`pool` must have schema `registry` as its search path; a connection is waited for this long at most."""
        self._pool = pool
        self._acquire_timeout_s = acquire_timeout_s
        self._executor = executor

    async def load(self, after_revision: int) -> Change | None:
        """See Store. A poll without news is one statement of one row."""
        async with self._connection() as connection:
            if await connection.fetchval(_REVISION) == after_revision:
                return None
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                revision = int(await connection.fetchval(_REVISION))
                since = -1 if after_revision > revision else after_revision
                versions = await connection.fetch(_VERSIONS, since)
                pointers = await connection.fetch(_POINTERS, since)
        return await self._executor.run(_decode, revision, versions, pointers)

    async def find_request(self, request_id: str) -> PastRequest | None:
        """See Store."""
        async with self._connection() as connection:
            row = await connection.fetchrow(_FIND_REQUEST, request_id)
        if row is None:
            return None
        version = Version(row["major"], row["minor"])
        return PastRequest(
            request_id, row["payload_digest"], row["prompt_name"], version, row["created"], row["create_time"]
        )

    async def commit(self, change: Change, expected_revision: int, request: PastRequest | None) -> bool:
        """See Store."""
        contents = await self._executor.run(_encode, change)
        with contextlib.suppress(_Outrun):
            async with self._connection() as connection, connection.transaction():
                if await connection.fetchval(_LOCK_REVISION) != expected_revision:
                    raise _Outrun
                await _write(connection, change, contents)
                if request is not None and not await _remember(connection, request):
                    raise _Outrun
            return True
        return False

    async def forget_requests(self, before: datetime) -> None:
        """See Store."""
        async with self._connection() as connection:
            await connection.execute(_FORGET_REQUESTS, before)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire(timeout=self._acquire_timeout_s) as connection:
                yield connection
        except _OUTAGES as error:
            raise StorageUnavailable from error


async def _write(connection: Connection, change: Change, contents: list[str]) -> None:
    if change.empty:
        return
    versions, pointers = change.versions, change.pointers
    await connection.execute(_SET_REVISION, change.revision)
    await connection.execute(
        _ADD_VERSIONS,
        [each.name for each in versions],
        [each.version.major for each in versions],
        [each.version.minor for each in versions],
        [each.digest for each in versions],
        contents,
        [each.create_time for each in versions],
        change.revision,
    )
    await connection.execute(
        _MOVE_POINTERS,
        [each.prompt_name for each in pointers],
        [each.environment for each in pointers],
        [arms_to_json(each.arms) for each in pointers],
        [arms_to_json(each.file_arms) for each in pointers],
        change.revision,
    )


async def _remember(connection: Connection, request: PastRequest) -> bool:
    stored = await connection.fetchval(
        _ADD_REQUEST,
        request.request_id,
        request.payload_digest,
        request.prompt_name,
        request.version.major,
        request.version.minor,
        request.created,
        request.create_time,
    )
    return stored is True


def _encode(change: Change) -> list[str]:
    return [to_json(each.prompt) for each in change.versions]


def _decode(revision: int, versions: list[Any], pointers: list[Any]) -> Change:
    return Change(
        revision,
        tuple(
            PublishedPrompt(
                from_json(row["content"]),
                Version(row["major"], row["minor"]),
                row["digest"],
                row["create_time"],
                len(row["content"]),
            )
            for row in versions
        ),
        tuple(
            Pointer(
                row["prompt_name"],
                row["environment"],
                arms_from_json(row["arms"]),
                arms_from_json(row["file_arms"]),
            )
            for row in pointers
        ),
    )
