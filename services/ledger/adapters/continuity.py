"""Whether the database still contains what this process saw sealed: one restored from an older copy does not."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from services.ledger.adapters import statements
from services.ledger.adapters.codec import text
from services.ledger.core.errors import LedgerRestored
from services.ledger.core.ports import Witness
from services.ledger.core.seals import Head, head_of, restored_entry

# A state folder that saw more ledgers than this forgets the oldest.
_MAX_LEDGERS = 32


class WitnessFile:
    """See core.ports.Witness: a line per ledger, "origin number:hash". Replaced whole, so it is never half written."""

    def __init__(self, path: Path) -> None:
        """Reads what was written before. Raises ValueError for a file that is none, OSError for one that cannot be."""
        self._path = path
        self._seen = _read(path)

    def seen(self, origin: bytes) -> Head | None:
        """See Witness."""
        return self._seen.get(origin)

    def keep(self, origin: bytes, head: Head) -> None:
        """See Witness. Raises OSError, and ValueError for a file that was spoilt; in memory it is remembered first."""
        self._seen[origin] = head
        # Other processes may write about other ledgers.
        lines = {**_read(self._path), **self._seen}
        lines[origin] = lines.pop(origin)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with beside.open("w", encoding="utf-8") as file:
            file.writelines([f"{known.hex()} {seen}\n" for known, seen in lines.items()][-_MAX_LEDGERS:])
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


def _read(path: Path) -> dict[bytes, Head]:
    if not path.is_file():
        return {}
    found: dict[bytes, Head] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        origin, _, head = line.partition(" ")
        try:
            found[bytes.fromhex(origin)] = head_of(head)
        except ValueError:
            raise ValueError(f"line {number} is not one of a ledger's witness") from None
    return found


class Continuity:
    """Compares the database with a witness outside it.

    Refuses while the newest block that was seen is not there, until an operator accepts it (`restored_entry`).
    """

    def __init__(self, witness: Witness, logger: logging.Logger) -> None:
        self._witness = witness
        self._logger = logger
        self._sure = False
        self._said: Head | None = None
        self._kept = True

    def doubt(self) -> None:
        """Makes `admit` ask again: the writer has a new connection, and behind it may be another database."""
        self._sure = False

    async def admit(self, writer: Any) -> None:
        """As `check`, once per connection of the writer."""
        if not self._sure:
            await self.check(writer)
            self._sure = True

    async def check(self, connection: Any) -> None:
        """Raises LedgerRestored when the database does not contain what was seen. `connection` is one of asyncpg."""
        origin = await origin_of(connection)
        seen = self._witness.seen(origin)
        if seen is None or await connection.fetchval(statements.BLOCK_HASH, seen.number) == seen.hash:
            return
        if seen.number <= (await connection.fetchval(statements.ACCEPTED_NUMBER) or 0):
            fields = {"lost": str(seen)}
            self._logger.warning("an operator accepted a restored database", extra={"fields": fields})
            await self._keep(origin, await _newest(connection) or Head(0, origin))
            return
        self._sure = False
        if self._said != seen:
            self._said = seen
            fields = {"seen": str(seen), "newest": str(await _newest(connection))}
            self._logger.error(
                "the database lacks entries that were seen: nothing is written", extra={"fields": fields}
            )
        raise LedgerRestored(str(seen))

    async def look(self, connection: Any) -> Head | None:
        """Remembers the newest block, if the database contains the one before. Raises LedgerRestored."""
        await self.check(connection)
        origin, newest = await origin_of(connection), await _newest(connection)
        if newest is not None and newest != self._witness.seen(origin):
            await self._keep(origin, newest)
        return newest

    async def _keep(self, origin: bytes, head: Head) -> None:
        try:
            await asyncio.to_thread(self._witness.keep, origin, head)
            self._kept = True
        except (OSError, ValueError) as error:
            if self._kept:
                fields = {"error": type(error).__name__}
                self._logger.warning("the witness of the ledger is in memory only", extra={"fields": fields})
            self._kept = False


async def origin_of(connection: Any) -> bytes:
    """What tells this ledger from every other; its copies have it too."""
    origin: bytes = await connection.fetchval(statements.ORIGIN) or b""
    return origin


async def accept_loss(connection: Any, lost: Head, now_us: int) -> bool:
    """Notes in the journal that an operator accepts the database without `lost`; false where it is there.

    Ledgers that saw a block up to its number go on. Later blocks get higher numbers, so that no later loss passes for
    this one.
    """
    if await connection.fetchval(statements.BLOCK_HASH, lost.number) == lost.hash:
        return False
    newest = await _newest(connection)
    # A ledger that did not know of the loss may have sealed blocks of the same numbers since.
    entry = restored_entry(lost._replace(number=max(lost.number, newest.number if newest else 0)), newest, now_us)
    organisation, kind, request_id = entry.key
    arguments = (now_us, kind, organisation, request_id, entry.fingerprint, text(entry.answer), entry.note)
    await connection.execute(f"{statements.PLAIN_ENTRY} ON CONFLICT DO NOTHING", *arguments)
    return True


async def _newest(connection: Any) -> Head | None:
    row = await connection.fetchrow(statements.NEWEST_BLOCK)
    return None if row is None else Head(row["number"], row["hash"])
