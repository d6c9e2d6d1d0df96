"""Seals the journal in PostgreSQL, and checks the seals from the columns alone."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import asyncpg

from meshkit.postgres import outages
from services.ledger.adapters import statements
from services.ledger.adapters.continuity import Continuity
from services.ledger.adapters.writer import Connections
from services.ledger.core.errors import LedgerRestored
from services.ledger.core.seals import Block, Chain, Fault, Head, SeenEntry, leaf_of
from services.ledger.core.windows import MICROSECONDS

# How often the log tells the head: whoever keeps logs elsewhere has a witness in them.
_TELL_US = 3600 * MICROSECONDS
# So long may the last seal of a process take.
_LAST_SEAL_S = 2.0
_LEAST_SEQ = -(2**63)
# A sealer shares its cores with the writers, who wait for whatever it does at a stretch: it hashes so many entries,
# half a millisecond's work, and rests in between, at most so many times as long as they took. Whoever has little time
# for each takes up to so many more of them at once: a piece costs a round trip, and a turn of a busy loop.
_PIECE, _MAX_PIECE = 64, 1024
_REST_PER_WORK = 4.0
# Less than the server's patience with a transaction that does nothing.
_MAX_REST_S = 1.0
# So much of its interval it may spread its work over.
_SPREAD = 0.8
# While another process seals, or a writer does not end, the last seal is tried again after this.
_RETRY_S = 0.05


class SealReport(NamedTuple):
    """What was found: the first fault, if any, and what is sealed up to it. `unsealed` are the newest entries."""

    fault: Fault | None
    blocks: int
    entries: int
    unsealed: int
    head: Head | None


class Sealer:
    """Seals what is new. One per process; the database lets one of them at a time."""

    def __init__(
        self,
        database: Connections,
        time_us: Callable[[], int],
        continuity: Continuity,
        logger: logging.Logger,
        max_entries: int,
    ) -> None:
        """`max_entries` is the most that one block covers."""
        self._database = database
        self._time_us = time_us
        self._continuity = continuity
        self._logger = logger
        self._max_entries = max_entries
        self._told_us = 0
        self._kept_out = False

    async def run(self, interval_s: float) -> None:
        """Seals every `interval_s` until it is cancelled. What fails is tried again."""
        while True:
            started_s = time.monotonic()
            await self._try(_SPREAD * interval_s)
            await asyncio.sleep(max(0.0, interval_s - (time.monotonic() - started_s)))

    async def close(self) -> None:
        """Seals what was written last: a copy that is older than this is told from the original."""
        try:
            async with asyncio.timeout(_LAST_SEAL_S):
                done = await self._try()
                while not done:
                    await asyncio.sleep(_RETRY_S)
                    done = await self._try()
        except TimeoutError:
            self._logger.warning("the last entries are not sealed yet; the next start seals them")

    async def seal(self, within_s: float = 0.0) -> int:
        """Seals every entry that is committed by now; returns how many.

        Takes up to `within_s` for it on purpose, and rests between pieces of a block. Returns 0 as well when writers
        kept it waiting, or another process seals. Raises LedgerRestored.
        """
        end_s = time.monotonic() + within_s
        sealed, self._kept_out = 0, False
        async with self._database.pool.acquire() as connection:
            await self._continuity.check(connection)
            newest = await connection.fetchrow(statements.NEWEST_BLOCK)
            # Nothing is waited for when there is nothing new.
            if (await connection.fetchval(statements.NEWEST_ENTRY) or 0) > (newest["last_seq"] if newest else 0):
                settled_seq = await connection.fetchval(statements.SETTLED_SEQ)
                entries = self._max_entries
                while entries == self._max_entries:
                    entries = await self._seal_block(connection, settled_seq, end_s)
                    sealed += entries
            head = await self._continuity.look(connection)
        if head is not None and abs(self._time_us() - self._told_us) >= _TELL_US:
            self._told_us = self._time_us()
            self._logger.info("the journal is sealed", extra={"fields": {"head": str(head)}})
        return sealed

    async def _seal_block(self, connection: Any, settled_seq: int, end_s: float) -> int:
        """One block, its leaves hashed piece by piece. What is settled never changes, so no snapshot is held for it."""
        async with connection.transaction():
            self._kept_out = not await connection.fetchval(statements.TRY_TO_SEAL)
            if self._kept_out:
                return 0
            last_seq, leaves = await connection.fetchval(statements.LAST_SEALED), bytearray()
            left, most = self._max_entries, _PIECE
            while left:
                asked, started_s = min(left, most), time.monotonic()
                piece = await connection.fetchrow(statements.LEAVES, last_seq, settled_seq, asked)
                if piece["entries"]:
                    last_seq, left = piece["last_seq"], left - piece["entries"]
                    leaves += piece["leaves"]
                if piece["entries"] < asked:
                    break
                now_s = time.monotonic()
                most, rest_s = _next_piece(settled_seq - last_seq, now_s - started_s, end_s - now_s)
                await asyncio.sleep(rest_s)
            entries = self._max_entries - left
            if entries:
                await connection.execute(statements.APPEND_BLOCK, last_seq, entries, bytes(leaves), self._time_us())
            return entries

    async def _try(self, within_s: float = 0.0) -> bool:
        """False when it was kept waiting, so that it is worth trying again soon."""
        try:
            await self.seal(within_s)
        except LedgerRestored:
            return True  # said by who found it
        except asyncpg.LockNotAvailableError:
            self._logger.info("the journal is sealed later: a writer did not end")
            return False
        except (asyncpg.PostgresError, *outages()) as error:
            self._logger.warning("the journal was not sealed", extra={"fields": {"error": type(error).__name__}})
            return True
        return not self._kept_out


def _next_piece(entries_left: int, took_s: float, left_s: float) -> tuple[int, float]:
    """How many entries to take next, and how long to rest before, so that all are done in time if each piece takes so.

    Of the entries that are left some may not be there: places that transactions left empty.
    """
    if left_s <= 0:
        return _MAX_PIECE, 0.0
    size = min(_MAX_PIECE, max(_PIECE, math.ceil(entries_left * took_s / left_s)))
    spare_s = left_s / max(1, -(-entries_left // size)) - took_s
    return size, max(0.0, min(_REST_PER_WORK * took_s, spare_s, _MAX_REST_S))


async def verify_seals(connection: Any, expected: Head | None = None) -> SealReport:
    """Recomputes every hash from the journal's columns, in one snapshot. `expected` is a head that must be there."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await recomputed(connection, expected)


async def recomputed(connection: Any, expected: Head | None = None) -> SealReport:
    """See `verify_seals`; in a transaction of the caller's."""
    chain, fault, found = Chain(await connection.fetchval(statements.ORIGIN) or b""), None, None
    async for row in connection.cursor(statements.BLOCKS):
        block = Block(*row)
        # Whatever stands before the first block's entries was inserted: it is read with them.
        from_seq = block.first_seq if chain.blocks else _LEAST_SEQ
        rows = await connection.fetch(statements.SEALED_ENTRIES, from_seq, block.last_seq)
        fault = chain.follow(block, [_seen(row) for row in rows])
        if fault is not None:
            break
        if expected is not None and block.number == expected.number:
            found = block.head
    if fault is None and expected is not None and found != expected:
        problem = f"does not have the hash {expected.hash.hex()}" if found else "is not there: the newest were removed"
        fault = Fault(f"block {expected.number}", problem)
    unsealed = await connection.fetchval(statements.UNSEALED, chain.last_seq if chain.blocks else None)
    return SealReport(fault, chain.blocks, chain.entries, unsealed, chain.head if chain.blocks else None)


def _seen(row: Any) -> SeenEntry:
    return SeenEntry(row["seq"], leaf_of([_as_text(value) for value in row]))


def _as_text(value: Any) -> str:
    """A column as PostgreSQL writes it: numbers, texts and JSON come so, ids as a list."""
    return "{" + ",".join(map(str, value)) + "}" if isinstance(value, list) else str(value)
