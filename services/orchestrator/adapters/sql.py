"""Answers by idempotency key in PostgreSQL: one statement per step, on the database's clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from services.orchestrator.core.errors import AnswersUnavailable
from services.orchestrator.core.ports import Claim, Outcome, RequestName

_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
)
# Takes the name, or shows what it has. A row that another session wrote meanwhile is not seen: then there is neither a
# claim nor a row, which means that somebody is at work.
_CLAIM = """
WITH taken AS (
    INSERT INTO answers AS mine (scope, organisation, digest, owner, expire_time)
    VALUES ($1, $2, $3, $4, clock_timestamp() + $5)
    ON CONFLICT (scope) DO UPDATE SET
        digest = excluded.digest, owner = excluded.owner, expire_time = excluded.expire_time,
        finished = false, answer = NULL, failure = NULL
    WHERE mine.expire_time <= clock_timestamp()
    RETURNING true
)
SELECT EXISTS (SELECT FROM taken), kept.digest, kept.finished, kept.answer, kept.failure
FROM (SELECT 1) AS one LEFT JOIN answers AS kept ON kept.scope = $1
"""
_KEEP = """
UPDATE answers SET finished = true, answer = $3, failure = $4, expire_time = clock_timestamp() + $5
WHERE scope = $1 AND owner = $2 AND NOT finished
"""
_RELEASE = "DELETE FROM answers WHERE scope = $1 AND owner = $2 AND NOT finished"
_FORGET = """
DELETE FROM answers WHERE scope IN (
    SELECT scope FROM answers WHERE expire_time <= clock_timestamp() ORDER BY expire_time LIMIT $1
    FOR UPDATE SKIP LOCKED
)
"""


class PostgresAnswers:
    """The port `Answers`. Its table is found on the pool's search path."""

    def __init__(self, pool: Any, lock_s: float, retention_s: float, timeout_s: float) -> None:
        """Wires the store.

        Args:
            pool: An asyncpg pool.
            lock_s: How long a claim holds that nobody ends.
            retention_s: How long an answer stays.
            timeout_s: For one use of the database, waiting for a connection included.
        """
        self._pool = pool
        self._lock = timedelta(seconds=lock_s)
        self._retention = timedelta(seconds=retention_s)
        self._timeout_s = timeout_s

    async def claim(self, name: RequestName, owner: str) -> Claim:
        """See Answers."""
        arguments = (name.scope, name.organisation, name.digest, owner, self._lock)
        async with self._connection() as connection:
            granted, digest, finished, answer, failure = await connection.fetchrow(_CLAIM, *arguments)
        if granted or digest is None:
            return Claim(granted=granted, digest=name.digest)
        outcome = Outcome(answer or b"", failure or b"") if finished else None
        return Claim(granted=False, digest=digest, outcome=outcome)

    async def keep(self, name: RequestName, owner: str, outcome: Outcome) -> None:
        """See Answers."""
        answer, failure = outcome.answer or None, outcome.failure or None
        async with self._connection() as connection:
            await connection.execute(_KEEP, name.scope, owner, answer, failure, self._retention)

    async def release(self, name: RequestName, owner: str) -> None:
        """See Answers."""
        async with self._connection() as connection:
            await connection.execute(_RELEASE, name.scope, owner)

    async def forget(self, limit: int) -> int:
        """Deletes at most `limit` rows whose time is over. Returns how many."""
        async with self._connection() as connection:
            status = await connection.execute(_FORGET, limit)
        return int(status.rsplit(" ", 1)[1])

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(self._timeout_s), self._pool.acquire() as connection:
                yield connection
        except _UNREACHABLE as error:
            raise AnswersUnavailable from error
