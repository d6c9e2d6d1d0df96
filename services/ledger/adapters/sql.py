"""The books in PostgreSQL: group commit, the pure core over what a batch touches, one write.

One writer per process takes what queued while its last transaction ran. A batch whose rows this process wrote last is
decided from memory, while the batch before it is written, and is written in one round trip, if the rows are as was
thought; any other costs four: begin, lock and load, write, commit. Several processes may share the
database: rows are locked in one order, answers are read after the locks, and the journal's unique key has the last word
on a request id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from meshkit import failpoints
from meshkit.group_commit import GroupCommit
from meshkit.postgres import outages
from services.ledger.adapters import booked_days, limit_rows, statements
from services.ledger.adapters.codec import (
    counter_of,
    decode_answer,
    due_count,
    event_of,
    limit_of,
    loaded_books,
    most_expired,
    touch,
    usage_arguments,
    written,
)
from services.ledger.adapters.continuity import Continuity
from services.ledger.adapters.memory import MemoryWitness
from services.ledger.adapters.recollection import Guess, Recollection
from services.ledger.adapters.writer import Connections, Writer
from services.ledger.core import decide
from services.ledger.core.ending import CostFunction
from services.ledger.core.errors import LedgerError, StorageUnavailable
from services.ledger.core.limits import Limit, LimitSet
from services.ledger.core.operations import Kind, Operation, ReserveAnswer, SetLimit, Sweep
from services.ledger.core.ports import BookedDay, Decision, UsageQuery
from services.ledger.core.windows import SteadyClock

if TYPE_CHECKING:
    from services.ledger.core.books import Books, Counter, Entry
    from services.ledger.core.events import NumberedEvent

# Lost races and deadlocks are rare; more in a row means that something else is wrong.
_MAX_ATTEMPTS = 5
# Below it a batch's own cost at the database, about that of 20 operations, is more than deciding ahead saves.
_AHEAD_FROM = 16
_RETRYABLE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_OUTAGES = (*outages(), asyncpg.LockNotAvailableError, asyncpg.ReadOnlySQLTransactionError)


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """See settings."""

    max_batch: int = 256
    max_queue: int = 4096
    lock_timeout_s: float = 1.0
    max_expiries_per_batch: int = 64
    max_limits_per_organisation: int = 1000


class _Raced(Exception):
    """Limits changed, or another replica decided one of the requests: the batch is decided again."""


class _Contended(Exception):
    """A batch lost too many races."""


class PostgresStore:
    """See core.ports.Store."""

    def __init__(
        self,
        database: Connections,
        clock: SteadyClock,
        cost: CostFunction,
        logger: logging.Logger,
        options: StoreOptions,
        continuity: Continuity | None = None,
    ) -> None:
        """Without `continuity` nothing is remembered beyond this store."""
        self._database = database
        self._clock = clock
        self._cost = cost
        self._logger = logger
        self._options = options
        self._continuity = continuity or Continuity(MemoryWitness(), logger)
        self._limits = LimitSet(-1, ())
        # What the configuration names, and after which acceptance it was applied; None until it was.
        self._declared: tuple[Limit, ...] | None = None
        self._declared_after: int | None = None
        self._writer: Writer | None = None
        self._recollection = Recollection()
        # One batch is written at a time, in the order in which they were begun.
        self._turn = asyncio.Lock()
        self._reading = asyncio.Lock()
        # Batches under way that memory does not know: what is decided from it meanwhile would be wrong.
        self._unknown: set[int] = set()
        self._commits: GroupCommit[Operation, decide.Outcome] = GroupCommit(
            self._flush, max_batch=options.max_batch, max_queue=options.max_queue, ahead_from=_AHEAD_FROM
        )

    async def execute(self, operation: Operation) -> decide.Outcome:
        """See Store."""
        return await self._commits.submit(operation)

    async def close(self) -> None:
        """Writes what is queued and closes the writer's connection."""
        await self._commits.close()
        await self._drop_writer()

    async def check(self) -> None:
        """Raises StorageUnavailable when the database does not answer, LedgerRestored when it lacks what was seen."""
        async with _outages_named(), self._database.pool.acquire() as connection:
            await self._continuity.check(connection)
        await self._declare_again()

    async def limits_version(self) -> int:
        """The version of the set of limits."""
        return int(await self._read("fetchval", statements.LIMITS_VERSION))

    async def limits(self) -> LimitSet:
        """See Store."""
        if await self.limits_version() != self._limits.version:
            await self._reload_limits()
        return self._limits

    async def usage(self, query: UsageQuery) -> list[tuple[str, Counter]]:
        """See Store."""
        return [counter_of(row) for row in await self._read("fetch", statements.USAGE, *usage_arguments(query))]

    async def counters(self, counter_ids: Sequence[str]) -> dict[str, Counter]:
        """See Store."""
        rows = await self._read("fetch", statements.COUNTERS, list(counter_ids))
        return dict(counter_of(row) for row in rows)

    async def decision(self, organisation: str, request_id: str) -> Decision | None:
        """See Store."""
        row = await self._read("fetchrow", statements.DECISION, organisation, request_id)
        if row is None:
            return None
        answer = decode_answer(Kind.RESERVE, row["answer"])
        return Decision(row["request_id"], row["at_us"], answer) if isinstance(answer, ReserveAnswer) else None

    async def events(self, organisation: str, after_revision: int, size: int) -> list[NumberedEvent]:
        """See Store."""
        return [
            event_of(row) for row in await self._read("fetch", statements.EVENTS, organisation, after_revision, size)
        ]

    async def events_head(self, organisation: str) -> int:
        """See Store."""
        return int(await self._read("fetchval", statements.EVENTS_HEAD, organisation) or 0)

    async def booked_by_day(self, organisation: str, provider: str, days: Sequence[tuple[int, int]]) -> list[BookedDay]:
        """See Store. One at a time: what reads for long must not take the connections of all others."""
        async with _outages_named(), self._reading, self._database.pool.acquire() as connection:
            return await booked_days.read(connection, organisation, provider, days)

    async def forget_events(self, before_us: int, max_rows: int) -> int:
        """See Store."""
        async with self._changes() as connection:
            tag = await connection.execute(statements.FORGET_EVENTS, before_us, max_rows)
        return int(tag.rpartition(" ")[2])

    async def forget_reservations(self, before_id: str, max_rows: int) -> int:
        """See Store."""
        async with self._changes() as connection:
            tag = await connection.execute(statements.FORGET, before_id, max_rows)
        return int(tag.rpartition(" ")[2])

    async def declare_limits(self, limits: Sequence[Limit]) -> None:
        """See Store. Where it fails, it is done before the next write, and `check` fails until then."""
        self._declared, self._declared_after = tuple(limits), None
        async with self._changes() as connection:
            accepted_number = self._continuity.accepted_number
            await limit_rows.declare_limits(connection, limits, self._clock.now_us, self._logger)
        self._declared_after = accepted_number
        await self._reload_limits()

    async def _declare_again(self) -> None:
        """A restored database has the limits of its time: nothing is granted, and no other limit set, under those."""
        if self._declared is not None and self._declared_after != self._continuity.accepted_number:
            await self.declare_limits(self._declared)

    async def set_limit(self, operation: SetLimit) -> decide.Outcome:
        """See Store. The lock on the set's version lets one change happen at a time."""
        await self._declare_again()
        async with self._changes() as connection:
            most = self._options.max_limits_per_organisation
            return await limit_rows.set_limit(connection, operation, self._clock.now_us, most)

    async def _flush(self, batch: Sequence[Operation]) -> Sequence[decide.Outcome | BaseException]:
        """Decides a batch from memory while the one before it is written, and writes it when that is done."""
        later = bool(self._unknown)
        guess = None if later else self._guess(batch)
        if guess is None:
            self._unknown.add(id(batch))
        try:
            async with self._turn:
                if later and (guess := self._guess(batch)) is not None:
                    self._unknown.discard(id(batch))
                results = await self._write(batch, guess)
            # The batch whose turn it is sends before the callers of this one wake, or the database would wait for them.
            await asyncio.sleep(0)
            return results
        finally:
            self._unknown.discard(id(batch))
            if guess is not None:
                self._recollection.settle(guess, right=False)

    def _guess(self, batch: Sequence[Operation]) -> Guess | None:
        try:
            return self._recollection.guess(batch, self._limits, self._clock.now_us(), self._cost)
        except Exception as error:  # noqa: BLE001 - decided again under locks, where who caused it is found and told
            self._logger.info("a batch was not decided ahead", extra={"fields": {"error": type(error).__name__}})
            return None

    async def _write(self, batch: Sequence[Operation], guess: Guess | None) -> Sequence[decide.Outcome | BaseException]:
        try:
            failpoints.reach("ledger-before-commit")
            outcomes = await self._transact_with_retries(batch, guess)
            failpoints.reach("ledger-after-commit")
            return outcomes
        except _OUTAGES as error:
            self._logger.warning("the ledger's database failed", extra={"fields": {"error": type(error).__name__}})
            await self._drop_writer()
            raise StorageUnavailable from None
        except LedgerError:
            raise
        except Exception as error:
            if len(batch) == 1:
                raise
            # Something in one of the requests, or a defect that it met: the others must not suffer for it.
            fields = {"error": type(error).__name__, "operations": len(batch)}
            self._logger.error("a batch failed and is written one by one", extra={"fields": fields})  # noqa: TRY400 - the text may quote the request
        return [await self._alone(operation) for operation in batch]

    async def _alone(self, operation: Operation) -> decide.Outcome | BaseException:
        try:
            return (await self._write([operation], None))[0]
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to this request's caller
            return error

    async def _transact_with_retries(self, batch: Sequence[Operation], guess: Guess | None) -> list[decide.Outcome]:
        for _ in range(_MAX_ATTEMPTS):
            try:
                return await self._transact(batch, guess)
            except _Raced:
                await self._reload_limits()
            except _RETRYABLE as error:
                self._logger.info("a batch is retried", extra={"fields": {"error": type(error).__name__}})
        # What one operation meets again and again must not fail the others: `_flush` writes a batch one by one then.
        raise StorageUnavailable if len(batch) == 1 else _Contended

    async def _transact(self, batch: Sequence[Operation], guess: Guess | None) -> list[decide.Outcome]:
        writer = self._writer
        if writer is None or writer.closed():
            writer = self._writer = await Writer.open(self._database, self._options.lock_timeout_s)
            self._continuity.doubt()
        await self._continuity.admit(writer)
        await self._declare_again()
        if guess is not None:
            if await self._holds(writer, guess):
                return guess.outcomes
            self._unknown.add(id(batch))
        return await self._write_locked(writer, batch, self._clock.now_us())

    async def _holds(self, writer: Writer, guess: Guess) -> bool:
        """Writes what was guessed; false when the rows are not so, and nothing was written."""
        right = False
        try:
            # Versions count up again after a restore: only the very set that is in force now is the one of its number.
            if guess.books.limits is self._limits and self._recollection.stands(guess):
                right = await writer.write_if_unchanged(*guess.arguments)
        except _RETRYABLE:
            right = False
        finally:
            self._recollection.settle(guess, right=right)
        return right

    async def _write_locked(self, writer: Writer, batch: Sequence[Operation], now_us: int) -> list[decide.Outcome]:
        """Decides under locks.

        More due holds than are loaded at once end first, each load in a transaction of its own: a decision depends on
        the moment, never on how many holds were forgotten.
        """
        ended: list[Entry] = []
        decided = [operation for operation in batch if not isinstance(operation, Sweep)]
        while True:
            # What a sweep asks for was done by the first load; the others need only what they touch.
            outcomes, more = await self._locked(writer, batch, decided if ended else batch, now_us)
            if not more:
                first = outcomes[0]
                return [first._replace(entries=(*ended, *first.entries)), *outcomes[1:]] if ended else outcomes
            ended.extend(entry for outcome in outcomes for entry in outcome.entries)

    async def _locked(
        self, writer: Writer, batch: Sequence[Operation], loaded: Sequence[Operation], now_us: int
    ) -> tuple[list[decide.Outcome], bool]:
        """One transaction; true when it only ended due holds and there may be more."""
        limits = self._limits
        await writer.execute("BEGIN")
        try:
            arguments = touch(loaded, limits, now_us, self._options.max_expiries_per_batch)
            version, reservations, counters, answers = await writer.load(*arguments)
            if version != limits.version:
                raise _Raced  # noqa: TRY301
            books = loaded_books(limits, reservations, counters, answers)
            most = most_expired(loaded, self._options.max_expiries_per_batch)
            more = any(not isinstance(o, Sweep) for o in batch) and due_count(books, loaded, now_us) >= most
            outcomes, known = self._decided(books, [Sweep(most)] if more else batch, now_us)
            entries: list[Entry] = [entry for outcome in outcomes for entry in outcome.entries]
            if entries and await writer.write(*written(books, known, entries, now_us)) != len(entries):
                raise _Raced  # noqa: TRY301
            await writer.execute("COMMIT")
        except _OUTAGES:
            raise
        except BaseException:
            await self._roll_back(writer)
            raise
        self._recollection.learn(books)
        return outcomes, more

    def _decided(
        self, books: Books, batch: Sequence[Operation], now_us: int
    ) -> tuple[list[decide.Outcome], frozenset[str]]:
        """The outcomes, and the reservations that were there before them."""
        known = frozenset(books.reservations)
        return [decide.run(books, operation, now_us, self._cost) for operation in batch], known

    async def _roll_back(self, writer: Writer) -> None:
        try:
            await writer.execute("ROLLBACK")
        except (asyncpg.PostgresError, *_OUTAGES):
            await self._drop_writer()

    async def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.terminate()

    @asynccontextmanager
    async def _changes(self) -> AsyncIterator[Any]:
        """A transaction beside the writer's, for what is written rarely."""
        async with _outages_named(), self._database.pool.acquire() as connection, connection.transaction():
            await self._continuity.check(connection)
            yield connection

    async def _reload_limits(self) -> None:
        async with (
            _outages_named(),
            self._database.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            version = await connection.fetchval(statements.LIMITS_VERSION)
            rows = await connection.fetch(statements.LIMITS)
        self._limits = LimitSet(version, map(limit_of, rows))

    async def _read(self, method: str, statement: str, *arguments: Any) -> Any:
        async with _outages_named(), self._database.pool.acquire() as connection:
            return await getattr(connection, method)(statement, *arguments)


@asynccontextmanager
async def _outages_named() -> AsyncIterator[None]:
    """Turns a failing database into StorageUnavailable."""
    try:
        yield
    except _OUTAGES as error:
        raise StorageUnavailable from error
