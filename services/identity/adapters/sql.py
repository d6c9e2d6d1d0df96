"""The store on PostgreSQL, schema `identity`. Mutations queue on the one row of the state."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from meshkit.postgres import outages
from services.identity.adapters import statements
from services.identity.core.audit import Event, LogHead
from services.identity.core.checkpoints import Checkpoint
from services.identity.core.encoding import Entity
from services.identity.core.errors import StorageUnavailable
from services.identity.core.model import Key, KeySecret, Organisation, Scopes, Team, User
from services.identity.core.paging import MAX_PAGE_BYTES
from services.identity.core.ports import Changes, FoundSecret, PastRequest, Written

Connection = Any
_OUTAGES = (*outages(), asyncpg.TransactionRollbackError)


class SqlStore:
    """See `core.ports.Store`."""

    def __init__(self, pool: asyncpg.Pool[Any], acquire_timeout_s: float) -> None:
        """`pool` must have schema `identity` as its search path; a connection is waited for this long at most."""
        self._pool = pool
        self._acquire_timeout_s = acquire_timeout_s

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[SqlBooks]:
        """See Store."""
        async with self._connection() as connection, connection.transaction():
            row = await connection.fetchrow(statements.LOCK)
            yield SqlBooks(connection, row["revision"], _head(row))

    async def find_secret(self, prefix: str) -> tuple[FoundSecret | None, int]:
        """See Store."""
        row = await self._row(statements.FIND_BY_PREFIX, prefix)
        if row["prefix"] is None:
            return None, row["state_revision"]
        secret = KeySecret(
            row["prefix"], row["pepper_id"], row["digest"], row["secret_create_time"], row["secret_expire_time"]
        )
        return FoundSecret(secret, _key(row, ()), row["user_disable_time"]), row["state_revision"]

    async def find_user(self, organisation: str, name: str) -> tuple[User | None, int]:
        """See Store."""
        row = await self._row(statements.FIND_USER, organisation, name)
        return (None if row["name"] is None else _user(row)), row["state_revision"]

    async def keep_digest(self, prefix: str, old: bytes, pepper_id: str, new: bytes) -> None:
        """See Store."""
        async with self._connection() as connection:
            await connection.execute(statements.KEEP_DIGEST, prefix, old, pepper_id, new)

    async def move_other_peppers(self, current: str) -> int:
        """See Store."""
        async with self._connection() as connection, connection.transaction():
            revision = (await connection.fetchrow(statements.LOCK))["revision"] + 1
            moved = await connection.fetch(statements.MOVE_OTHER_PEPPERS, current, revision)
            if moved:
                await connection.execute(statements.SET_REVISION, revision)
            return len(moved)

    async def secrets_by_pepper(self, ending_after: datetime) -> dict[str, int]:
        """See Store."""
        rows = await self._rows(statements.SECRETS_BY_PEPPER, ending_after)
        return {row["pepper_id"]: row["count"] for row in rows}

    async def revision(self) -> int:
        """See Store."""
        return int((await self._row(statements.REVISION))["revision"])

    async def changes_after(self, revision: int, limit: int) -> Changes:
        """See Store."""
        row = await self._row(statements.CHANGES, revision, limit + 1)
        key_ids, users = tuple(row["key_ids"]), tuple(row["users"])
        if row["revision"] < revision or len(key_ids) > limit or len(users) > limit:
            return Changes(row["revision"], everything=True)
        return Changes(row["revision"], key_ids, users)

    async def organisations(self, only: str, after: str, size: int) -> list[Organisation]:
        """See Store."""
        return [Organisation(**row) for row in await self._rows(statements.ORGANISATIONS, only, after, size)]

    async def teams(self, organisation: str, after: str, size: int) -> list[Team]:
        """See Store."""
        return [Team(**row) for row in await self._rows(statements.TEAMS, organisation, after, size)]

    async def users(self, organisation: str, after: str, size: int) -> list[User]:
        """See Store."""
        return [_user(row) for row in await self._rows(statements.USERS, organisation, after, size)]

    async def keys(self, organisation: str, user: str, after: str, size: int) -> list[Key]:
        """See Store."""
        async with self._connection() as connection:
            rows = await connection.fetch(statements.KEYS, organisation, user, after, size, MAX_PAGE_BYTES)
            return await _with_secrets(connection, rows)

    async def events(self, organisation: str, after: int, size: int) -> list[Event]:
        """See Store."""
        rows = await self._rows(statements.EVENTS, organisation, after, size, MAX_PAGE_BYTES)
        return [Event(row["sequence"], row["organisation"], row["event"], row["leaf_hash"]) for row in rows]

    async def leaf_hashes(self, after: int, size: int) -> list[bytes]:
        """See Store."""
        return [row["leaf_hash"] for row in await self._rows(statements.LEAF_HASHES, after, size)]

    async def checkpoints(self, after: int, size: int) -> list[Checkpoint]:
        """See Store."""
        return [Checkpoint(**row) for row in await self._rows(statements.CHECKPOINTS, after, size)]

    async def head(self) -> LogHead:
        """See Store."""
        return _head(await self._row(statements.HEAD))

    async def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """See Store."""
        async with self._connection() as connection:
            await connection.execute(statements.ADD_CHECKPOINT, checkpoint.leaf_count, checkpoint.note)

    async def forget_requests(self, before: datetime) -> None:
        """See Store."""
        async with self._connection() as connection:
            await connection.execute(statements.FORGET_REQUESTS, before)

    async def check(self) -> None:
        """Raises when the database does not answer: for readiness."""
        await self.revision()

    async def _row(self, statement: str, *values: object) -> Any:
        async with self._connection() as connection:
            return await connection.fetchrow(statement, *values)

    async def _rows(self, statement: str, *values: object) -> list[Any]:
        async with self._connection() as connection:
            found: list[Any] = await connection.fetch(statement, *values)
            return found

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            connection = await self._pool.acquire(timeout=self._acquire_timeout_s)
        except (asyncpg.PostgresError, *_OUTAGES) as error:
            raise StorageUnavailable from error
        try:
            # Giving a broken connection back fails as its use does.
            try:
                yield connection
            finally:
                await self._pool.release(connection)
        except _OUTAGES as error:
            raise StorageUnavailable from error


class SqlBooks:
    """See `core.ports.Books`. The row of the state is locked."""

    def __init__(self, connection: Connection, revision: int, head: LogHead) -> None:
        """Lives as long as the transaction."""
        self._connection = connection
        self.revision = revision
        self.head = head

    async def past_request(self, organisation: str, request_id: str) -> PastRequest | None:
        """See Books."""
        row = await self._connection.fetchrow(statements.FIND_REQUEST, organisation, request_id)
        return None if row is None else PastRequest(**row)

    async def organisation(self, name: str) -> Organisation | None:
        """See Books."""
        row = await self._connection.fetchrow(statements.ORGANISATION, name)
        return None if row is None else Organisation(**row)

    async def team(self, organisation: str, name: str) -> Team | None:
        """See Books."""
        row = await self._connection.fetchrow(statements.TEAM, organisation, name)
        return None if row is None else Team(**row)

    async def user(self, organisation: str, name: str) -> User | None:
        """See Books."""
        row = await self._connection.fetchrow(statements.USER, organisation, name)
        return None if row is None else _user(row)

    async def key(self, organisation: str, key_id: str) -> Key | None:
        """See Books."""
        row = await self._connection.fetchrow(statements.KEY, organisation, key_id)
        return None if row is None else (await _with_secrets(self._connection, [row]))[0]

    async def live_keys(self, organisation: str, now: datetime) -> int:
        """See Books."""
        return int(await self._connection.fetchval(statements.LIVE_KEYS, organisation, now))

    async def write(self, written: Written) -> None:
        """See Books."""
        run, head, event = self._connection.execute, written.head, written.event
        for entity in written.entities:
            await self._put(entity, written.revision)
        await run(statements.ADD_EVENT, event.sequence, event.organisation, event.text, event.leaf_hash)
        await run(statements.MOVE, written.revision, head.count, head.last_hash, head.frontier)
        if (request := written.request) is not None:
            await run(
                statements.ADD_REQUEST,
                request.organisation,
                request.request_id,
                request.payload_digest,
                request.answer,
                request.create_time,
            )

    async def _put(self, entity: Entity, revision: int) -> None:
        run = self._connection.execute
        if isinstance(entity, Organisation):
            await run(statements.PUT_ORGANISATION, entity.name, entity.display_name, entity.create_time)
        elif isinstance(entity, Team):
            await run(statements.PUT_TEAM, entity.organisation, entity.name, entity.display_name, entity.create_time)
        elif isinstance(entity, User):
            await run(
                statements.PUT_USER,
                *(entity.organisation, entity.name, entity.team, entity.display_name),
                *(entity.disabled, entity.create_time, revision, entity.disable_time),
            )
        else:
            await self._put_key(entity, revision)

    async def _put_key(self, key: Key, revision: int) -> None:
        run, scopes = self._connection.execute, key.scopes
        await run(
            statements.PUT_KEY,
            *(key.key_id, key.organisation, key.team, key.user, key.display_name, list(key.roles)),
            *(sorted(scopes.models), sorted(scopes.routes), sorted(scopes.environments), key.guard_policy),
            *(key.create_time, key.expire_time, key.revoke_time, revision),
        )
        await run(statements.DROP_SECRETS, key.key_id, [secret.prefix for secret in key.secrets])
        for secret in key.secrets:
            await run(
                statements.PUT_DIGEST,
                *(secret.prefix, key.key_id, secret.pepper_id, secret.digest),
                *(secret.create_time, secret.expire_time),
            )


async def _with_secrets(connection: Connection, rows: Sequence[Any]) -> list[Key]:
    secrets = await connection.fetch(statements.SECRETS, [row["key_id"] for row in rows])
    return [_key(row, (s for s in secrets if s["key_id"] == row["key_id"])) for row in rows]


def _head(row: Any) -> LogHead:
    return LogHead(row["event_count"], row["last_hash"], row["frontier"])


def _user(row: Any) -> User:
    return User(
        *(row["organisation"], row["name"], row["team"], row["display_name"]),
        disabled=row["disabled"],
        create_time=row["create_time"],
        disable_time=row["disable_time"],
    )


def _key(row: Any, secrets: Iterable[Any]) -> Key:
    return Key(
        key_id=row["key_id"],
        organisation=row["organisation"],
        team=row["team"],
        user=row["user_name"],
        display_name=row["display_name"],
        roles=tuple(row["roles"]),
        scopes=Scopes(frozenset(row["models"]), frozenset(row["routes"]), frozenset(row["environments"])),
        guard_policy=row["guard_policy"],
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        revoke_time=row["revoke_time"],
        secrets=tuple(
            KeySecret(s["prefix"], s["pepper_id"], s["digest"], s["create_time"], s["expire_time"]) for s in secrets
        ),
    )
