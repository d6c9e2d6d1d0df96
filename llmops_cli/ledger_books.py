"""`llmops ledger verify`, `export` and `accept-restored`: the books in the database, without a running mesh."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmops_cli.configuration import Configuration
from llmops_cli.development import with_witness
from llmops_cli.embedded_postgres import EmbeddedPostgres
from meshkit.postgres import Database, open_database
from meshkit.settings import Secret, SettingsError
from services.ledger.adapters.audit import export_csv, verify
from services.ledger.adapters.continuity import accept_loss, origin_of
from services.ledger.adapters.sealing import verify_seals
from services.ledger.core.seals import Head, head_of
from services.ledger.main import MIGRATIONS, witness_of

EXIT_DIFFERENT = 1
# A whole journal is read, and whoever reads what is exported may take breaks: a service's limits are not for that. An
# hour ends what hangs.
_STATEMENT_TIMEOUT_S = 3600.0
_MAY_STAND_IDLE = "SET idle_in_transaction_session_timeout = 0"


def verify_books(configuration: Configuration, folder: Path, head: str) -> int:
    """Recomputes the seals and recounts the books; 1 and the first difference where they are wrong.

    `head` is one that was noted, NUMBER:HASH, or empty. Raises SettingsError for one that is none.
    """
    noted = _head(head) if head else None

    async def work(connection: Any) -> int:
        report = await verify_seals(connection, noted)
        if report.fault is not None:
            sys.stdout.write(f"the journal is not what was sealed: {report.fault.where} {report.fault.problem}\n")
            return EXIT_DIFFERENT
        sealed = f"{report.entries} entries in {report.blocks} blocks are what was sealed"
        sys.stdout.write(f"{sealed}; the newest {report.unsealed} are not sealed yet\n")
        if report.head is not None:
            sys.stdout.write(f"head: {report.head}\n")
        difference = await verify(connection)
        if difference is None:
            sys.stdout.write("the books are right: counters, holds, bookings and rates follow from the journal\n")
            return 0
        law, where, expected, found = difference
        sys.stdout.write(f"{law}: not {where}, expected {expected}, found {found}\n")
        return EXIT_DIFFERENT

    return asyncio.run(with_books(configuration, folder, work))


def export_journal(configuration: Configuration, folder: Path, out: Path | None, organisation: str) -> int:
    """Writes the journal as CSV, to standard output without a file.

    Raises SettingsError for a file that cannot be written.
    """

    async def work(connection: Any) -> int:
        if out is None:
            return await export_csv(connection, sys.stdout, organisation)
        try:
            file = out.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise SettingsError(f"{out}: {error.strerror}; name a file that can be written") from None
        with file:
            return await export_csv(connection, file, organisation)

    entries = asyncio.run(with_books(configuration, folder, work))
    sys.stderr.write(f"{entries} entries\n")
    return 0


def accept_restored(configuration: Configuration, folder: Path, head: str) -> int:
    """Lets the ledger write to a database that lacks the newest block that was seen, and notes it in the journal.

    Without `head`, the block is the one that the witness file remembers. Raises SettingsError where nothing is lost.
    """
    settings = with_witness(configuration, folder).targets["ledger"]
    witness = witness_of(settings)

    async def work(connection: Any) -> int:
        if head:
            lost = _head(head)
        elif (seen := witness.seen(await origin_of(connection))) is not None:
            lost = seen
        else:
            raise SettingsError(f"{settings.witness_path or 'no file'} knows nothing of this ledger; name the --head")
        if not await accept_loss(connection, lost, time.time_ns() // 1000):
            raise SettingsError(f"block {lost} is in the database: nothing was lost, and nothing needs to be accepted")
        sys.stdout.write(
            f"accepted without block {lost.number}; the journal says so, running ledgers go on by themselves\n"
        )
        return 0

    return asyncio.run(with_books(configuration, folder, work))


def _head(text: str) -> Head:
    try:
        return head_of(text)
    except ValueError as error:
        raise SettingsError(f"--head: {error}") from None


async def with_books(configuration: Configuration, folder: Path, work: Callable[[Any], Awaitable[int]]) -> int:
    """What `work` returns, given a connection to the books. Raises SettingsError where there is none."""
    settings, private = configuration.process.database, EmbeddedPostgres(folder / "pg")
    try:
        if not settings.url:
            settings = replace(settings, url=Secret(private.start()))
        patient = replace(settings, statement_timeout_s=_STATEMENT_TIMEOUT_S)
        database: Database = await open_database(patient, "ledger", MIGRATIONS)
        try:
            async with database.pool.acquire() as connection:
                await connection.execute(_MAY_STAND_IDLE)
                return await work(connection)
        finally:
            await database.close()
    finally:
        private.stop()
