"""The store on PostgreSQL, through asyncpg."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from meshkit.postgres import outages
from services.cache.adapters import statements
from services.cache.core.batch import Mutation, Recorded, answers, first_sendings
from services.cache.core.entries import Change, Entry, Receipt, Reference, Removal, Removed, SemanticRecord, Write
from services.cache.core.errors import EntryNotFound, RequestIdReused, StorageUnavailable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LATEST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_OUTAGES = (*outages(), asyncpg.TransactionRollbackError)


class PostgresEntryStore:
    """An EntryStore. Its tables are found on the pool's search path."""

    def __init__(self, pool: Any, timeout_s: float) -> None:
        """Wires the store.

        Args:
            pool: An asyncpg pool.
            timeout_s: For one use of the database, waiting for a connection included.
        """
        self._pool = pool
        self._timeout_s = timeout_s

    async def put_many(self, writes: Sequence[Write]) -> Sequence[Receipt | BaseException]:
        """See EntryStore."""
        first = first_sendings(writes)
        async with self._connection() as connection:
            rows = await connection.fetch(statements.PUT, *zip(*map(_row, first.values()), strict=True))
            repeated = first.keys() - {(row[0], row[1]) for row in rows}
            recorded = await _recorded(connection, repeated) if repeated else {}
        return answers(writes, first, recorded)

    async def get(self, organisation: str, fingerprint: bytes) -> Entry | None:
        """See EntryStore."""
        async with self._connection() as connection:
            row = await connection.fetchrow(statements.GET, fingerprint, organisation)
        if row is None:
            return None
        return Entry(organisation, fingerprint, row[0], row[1], _microseconds(row[2]), _microseconds(row[3]))

    async def remove(self, removal: Removal) -> Removed:
        """See EntryStore."""
        time = _time(removal.now_us)
        name = (removal.organisation, removal.request_id)
        async with self._connection() as connection, connection.transaction():
            if not await connection.fetchval(statements.RECORD_REMOVAL, *name, removal.payload_digest, time):
                digest, count = await connection.fetchrow(statements.RECORDED_REMOVAL, *name)
                if digest != removal.payload_digest:
                    raise RequestIdReused
                return Removed(count, repeated=True)
            kind = removal.selector.kind
            if kind == "everything":
                count = await connection.fetchval(statements.REMOVE_EVERYTHING, time, removal.organisation)
            else:
                arguments = (time, removal.organisation, removal.selector.value)
                count = await connection.fetchval(statements.REMOVE_BY[kind], *arguments)
            if removal.must_exist and not count:
                # Leaving the transaction by an exception takes the record of the mutation back.
                raise EntryNotFound
            await connection.execute(statements.COUNT_REMOVAL, *name, count)
            return Removed(count, repeated=False)

    async def count(self, organisation: str, now_us: int) -> int:
        """See EntryStore."""
        async with self._connection() as connection:
            return int(await connection.fetchval(statements.COUNT, organisation, _time(now_us)))

    async def list_references(self, after: bytes, limit: int) -> Sequence[Reference]:
        """See EntryStore."""
        async with self._connection() as connection:
            rows = await connection.fetch(statements.REFERENCES, after, limit)
        return [Reference(*row) for row in rows]

    async def list_records(self, partition: bytes, before: tuple[int, bytes], limit: int) -> Sequence[SemanticRecord]:
        """See EntryStore."""
        time = _time(min(before[0], _LATEST_US))
        async with self._connection() as connection:
            rows = await connection.fetch(statements.RECORDS, partition, time, before[1], limit)
        return [_record(row) for row in rows]

    async def get_records(self, fingerprints: Sequence[bytes]) -> Sequence[SemanticRecord]:
        """See EntryStore."""
        async with self._connection() as connection:
            rows = await connection.fetch(statements.RECORDS_OF, list(fingerprints))
        return [_record(row) for row in rows]

    async def horizon(self) -> int:
        """See EntryStore."""
        async with self._connection() as connection:
            return int(await connection.fetchval(statements.HORIZON))

    async def list_written(self, since: int, after: tuple[int, str], limit: int) -> Sequence[Change]:
        """See EntryStore."""
        return await self._changes(statements.WRITTEN, since, after, limit)

    async def list_removed(self, since: int, after: tuple[int, str], limit: int) -> Sequence[Change]:
        """See EntryStore."""
        return await self._changes(statements.REMOVED, since, after, limit)

    async def remove_expired(self, now_us: int, limit: int) -> int:
        """See EntryStore."""
        async with self._connection() as connection:
            return int(await connection.fetchval(statements.REMOVE_EXPIRED, _time(now_us), limit))

    async def remove_oldest(self, organisation: str, keep: int, now_us: int, limit: int) -> int:
        """See EntryStore."""
        async with self._connection() as connection:
            arguments = (_time(now_us), organisation, keep, limit)
            return int(await connection.fetchval(statements.REMOVE_OLDEST, *arguments))

    async def forget(self, mutations_before_us: int, removals_before_us: int, limit: int) -> int:
        """See EntryStore."""
        async with self._connection() as connection:
            mutations = await connection.execute(statements.FORGET_MUTATIONS, _time(mutations_before_us), limit)
            removals = await connection.execute(statements.FORGET_REMOVALS, _time(removals_before_us), limit)
        return max(_affected(mutations), _affected(removals))

    async def _changes(self, statement: str, since: int, after: tuple[int, str], limit: int) -> list[Change]:
        async with self._connection() as connection:
            rows = await connection.fetch(statement, since, *after, limit)
        return [Change(row[0], Reference(row[1], row[2], row[3])) for row in rows]

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(self._timeout_s), self._pool.acquire() as connection:
                yield connection
        except _OUTAGES as error:
            raise StorageUnavailable from error


async def _recorded(connection: Any, names: set[Mutation]) -> dict[Mutation, Recorded]:
    # A statement of its own: PUT's snapshot does not see a mutation that another replica committed meanwhile.
    rows = await connection.fetch(statements.RECORDED, *map(list, zip(*names, strict=True)))
    return {
        (row["organisation"], row["request_id"]): Recorded(
            row["payload_digest"],
            row["entry_id"],
            _microseconds(row["expire_time"]) if row["expire_time"] else 0,
        )
        for row in rows
    }


def _row(write: Write) -> tuple[object, ...]:
    entry, semantic = write.entry, write.semantic
    return (
        entry.organisation,
        write.request_id,
        write.payload_digest,
        entry.fingerprint,
        entry.entry_id,
        entry.body,
        write.prompt_digest,
        write.writer_key_id,
        semantic.partition if semantic else None,
        semantic.vector if semantic else None,
        semantic.signature if semantic else None,
        _time(entry.create_time_us),
        _time(entry.expire_time_us),
    )


def _record(row: Any) -> SemanticRecord:
    return SemanticRecord(
        partition=row["partition"],
        fingerprint=row["fingerprint"],
        entry_id=row["entry_id"],
        create_time_us=_microseconds(row["create_time"]),
        expire_time_us=_microseconds(row["expire_time"]),
        vector=row["vector"],
        signature=row["signature"],
    )


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _affected(command_tag: str) -> int:
    return int(command_tag.rpartition(" ")[2])
