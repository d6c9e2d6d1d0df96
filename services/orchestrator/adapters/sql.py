"""Answers by idempotency key in PostgreSQL, sealed: one statement per step, on the database's clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from meshkit.postgres import outages
from services.orchestrator.adapters.sealing import seal, unseal
from services.orchestrator.core.errors import AnswersUnavailable, AnswerUnreadable, TooManyKept
from services.orchestrator.core.ports import Claim, Outcome, RequestName

_OUTAGES = (*outages(), asyncpg.TransactionRollbackError)
# Takes the name, or shows what it has. A row that another session wrote meanwhile is not seen: then there is neither a
# claim nor a row, which means that somebody is at work.
_CLAIM = """
WITH taken AS (
    INSERT INTO answers AS mine (scope, organisation, digest, owner, expire_time)
    VALUES ($1, $2, $3, $4, clock_timestamp() + $5)
    ON CONFLICT (scope) DO UPDATE SET
        digest = excluded.digest, owner = excluded.owner, expire_time = excluded.expire_time,
        finished = false, sealed = NULL
    WHERE mine.expire_time <= clock_timestamp()
    RETURNING true
)
SELECT EXISTS (SELECT FROM taken), kept.digest, kept.finished, kept.sealed
FROM (SELECT 1) AS one LEFT JOIN answers AS kept ON kept.scope = $1
"""
_RENEW = """
UPDATE answers SET expire_time = clock_timestamp() + $3
FROM unnest($1::bytea[], $2::text[]) AS held (scope, owner)
WHERE answers.scope = held.scope AND answers.owner = held.owner AND NOT answers.finished
RETURNING answers.owner
"""
# Whoever comes first is kept: $7 says that it is a whole answer, which an owner that lost its claim keeps too.
_KEEP = """
INSERT INTO answers AS mine (scope, organisation, digest, owner, finished, sealed, expire_time)
VALUES ($1, $2, $3, $4, true, $5, clock_timestamp() + $6)
ON CONFLICT (scope) DO UPDATE SET
    finished = true, owner = excluded.owner, sealed = excluded.sealed, expire_time = excluded.expire_time
WHERE NOT mine.finished AND mine.digest = excluded.digest AND (mine.owner = excluded.owner OR $7)
RETURNING true
"""
_KEPT = "SELECT sealed FROM answers WHERE scope = $1 AND digest = $2 AND finished"
_RELEASE = "DELETE FROM answers WHERE scope = $1 AND owner = $2 AND NOT finished"
_FORGET = """
DELETE FROM answers WHERE scope IN (
    SELECT scope FROM answers
    WHERE expire_time <= clock_timestamp() AND (finished OR expire_time <= clock_timestamp() - $2::interval)
    ORDER BY expire_time LIMIT $1
    FOR UPDATE SKIP LOCKED
)
"""
_HAS = "SELECT EXISTS (SELECT FROM answers WHERE scope = $1)"
_COUNT = "SELECT organisation FROM answers GROUP BY organisation HAVING count(*) > $1"
# A claim whose time is over is left for so long: after a pause of the database its owner may still renew it.
_ABANDONED_AFTER = timedelta(hours=1)
logger = logging.getLogger(__name__)


class PostgresAnswers:
    """The port `Answers`. Its table is found on the pool's search path."""

    def __init__(self, pool: Any, lock_s: float, retention_s: float, timeout_s: float, max_kept: int) -> None:
        """Wires the store.

        Args:
            pool: An asyncpg pool.
            lock_s: How long a claim holds that nobody ends or renews.
            retention_s: How long an answer stays.
            timeout_s: For one use of the database, waiting for a connection included.
            max_kept: Rows of an organisation above which it gets no new ones, from one count to the next.
        """
        self._pool = pool
        self._lock = timedelta(seconds=lock_s)
        self._retention = timedelta(seconds=retention_s)
        self._timeout_s = timeout_s
        self._max_kept = max_kept
        self._full: frozenset[str] = frozenset()

    async def claim(self, name: RequestName, owner: str) -> Claim:
        """See Answers."""
        arguments = (name.scope, name.organisation, name.digest, owner, self._lock)
        async with self._connection() as connection:
            if name.organisation in self._full and not await connection.fetchval(_HAS, name.scope):
                raise TooManyKept(self._max_kept)
            granted, digest, finished, sealed = await connection.fetchrow(_CLAIM, *arguments)
        if granted or digest is None:
            return Claim(granted=granted, digest=name.digest)
        outcome = _opened(name, sealed) if finished and digest == name.digest else None
        return Claim(granted=False, digest=digest, outcome=outcome)

    async def renew(self, held: Sequence[tuple[RequestName, str]]) -> frozenset[str]:
        """See Answers."""
        scopes, owners = [name.scope for name, _ in held], [owner for _, owner in held]
        async with self._connection() as connection:
            rows = await connection.fetch(_RENEW, scopes, owners, self._lock)
        return frozenset(row["owner"] for row in rows)

    async def keep(self, name: RequestName, owner: str, outcome: Outcome) -> Outcome | None:
        """See Answers."""
        sealed, whole = seal(name, outcome), not outcome.failure
        arguments = (name.scope, name.organisation, name.digest, owner, sealed, self._retention, whole)
        async with self._connection() as connection:
            if await connection.fetchval(_KEEP, *arguments):
                return None
            # Another statement: the row that stood in the way may be newer than what the first one saw.
            earlier = await connection.fetchval(_KEPT, name.scope, name.digest)
        try:
            return None if earlier is None else _opened(name, earlier)
        except AnswerUnreadable:
            # Whoever asks now gets the answer at hand; only later duplicates learn of the damage.
            return None

    async def release(self, name: RequestName, owner: str) -> None:
        """See Answers."""
        async with self._connection() as connection:
            await connection.execute(_RELEASE, name.scope, owner)

    async def forget(self, limit: int) -> int:
        """Deletes at most `limit` rows whose time is over. Returns how many."""
        async with self._connection() as connection:
            status = await connection.execute(_FORGET, limit, _ABANDONED_AFTER)
        return int(status.rsplit(" ", 1)[1])

    async def count(self) -> None:
        """Finds the organisations that have too many rows; until the next count they get no new ones."""
        async with self._connection() as connection:
            rows = await connection.fetch(_COUNT, self._max_kept)
        self._full = frozenset(row["organisation"] for row in rows)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(self._timeout_s), self._pool.acquire() as connection:
                yield connection
        except _OUTAGES as error:
            raise AnswersUnavailable from error


def _opened(name: RequestName, sealed: bytes) -> Outcome:
    try:
        return unseal(name, sealed)
    except AnswerUnreadable:
        fields = {"organisation": name.organisation, "scope": name.scope.hex()}
        logger.error("a kept answer does not open: its row was damaged or changed", extra={"fields": fields})  # noqa: TRY400
        raise
