"""Whether the database still contains what this process saw sealed: one restored from an older copy does not."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.ledger.adapters import statements
from services.ledger.adapters.codec import text
from services.ledger.core.errors import LedgerRestored
from services.ledger.core.ports import Witness
from services.ledger.core.seals import HASH_BYTES, Head, head_of, newer, restored_entry

# A state folder that saw more ledgers than this forgets the oldest.
_MAX_LEDGERS = 32
_LOCK_TIMEOUT_S = 2.0
_LOCK_RETRY_S = 0.005


class WitnessFile:
    """See core.ports.Witness: a line per ledger, "origin number:hash", in one file for the processes of several.

    It is replaced whole, so it is never half written; a file that is empty or torn was damaged, and is no first start.
    """

    def __init__(self, path: Path) -> None:
        """Reads what was written before. Raises ValueError for a file that is none, OSError for one that cannot be."""
        self._path = path
        self._seen = _read(path)

    def seen(self, origin: bytes) -> Head | None:
        """See Witness."""
        return self._seen.get(origin)

    def keep(self, origin: bytes, head: Head, accepted_number: int = 0) -> None:
        """See Witness. Raises OSError, and ValueError for a file that was spoilt; in memory it is remembered first."""
        self._seen[origin] = newer(self._seen.get(origin), head, accepted_number)
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder) as entry:
            # Others write about this ledger and about others: nothing but this line is ours, and only if it is newer.
            lines = _read(self._path)
            self._seen[origin] = newer(lines.pop(origin, None), self._seen[origin], accepted_number)
            lines[origin] = self._seen[origin]
            _replace(self._path, "".join([f"{known.hex()} {seen}\n" for known, seen in lines.items()][-_MAX_LEDGERS:]))
            os.fsync(entry)


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """The folder's descriptor, locked against other writers, also those of other containers. Raises OSError."""
    entry = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # Who holds it writes a few lines; one that was stopped meanwhile must not stop us.
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(_LOCK_RETRY_S)
        yield entry
    finally:
        os.close(entry)


def _replace(path: Path, text: str) -> None:
    # Not named after the process: the first process of every container has the same number.
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            # Readable by whoever runs the command line, as the file was.
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777 if path.exists() else 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[bytes, Head]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if not text:
        raise ValueError("the file is empty")
    found: dict[bytes, Head] = {}
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        origin, _, head = line.partition(" ")
        try:
            known = bytes.fromhex(origin)
            if len(known) != HASH_BYTES or not head.endswith("\n"):
                raise ValueError  # noqa: TRY301
            found[known] = head_of(head[:-1])
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
        # Up to which block the database's newest acceptance says that they are lost: when it changes, the database is
        # another, and of an older time.
        self.accepted_number = 0
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
        accepted_number = await connection.fetchval(statements.ACCEPTED_NUMBER) or 0
        if seen is None or await connection.fetchval(statements.BLOCK_HASH, seen.number) == seen.hash:
            self.accepted_number = accepted_number
            return
        if seen.number <= accepted_number:
            self.accepted_number = accepted_number
            fields = {"lost": str(seen)}
            self._logger.warning("an operator accepted a restored database", extra={"fields": fields})
            await self._keep(origin, await _newest(connection) or Head(0, origin), accepted_number)
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

    async def _keep(self, origin: bytes, head: Head, accepted_number: int = 0) -> None:
        try:
            await asyncio.to_thread(self._witness.keep, origin, head, accepted_number)
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
