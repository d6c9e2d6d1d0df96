"""`llmops ledger verify` and `export`: the books in the database, without a running mesh."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmops_cli.configuration import Configuration
from llmops_cli.embedded_postgres import EmbeddedPostgres
from meshkit.postgres import Database, open_database
from meshkit.settings import Secret
from services.ledger.adapters.audit import export_csv, verify
from services.ledger.main import MIGRATIONS

EXIT_DIFFERENT = 1


def verify_books(configuration: Configuration, folder: Path) -> int:
    """Recounts the books; 1 and the first difference where they are wrong."""

    async def work(connection: Any) -> int:
        difference = await verify(connection)
        if difference is None:
            sys.stdout.write("the books are right: counters, holds, bookings and rates follow from the journal\n")
            return 0
        law, where, expected, found = difference
        sys.stdout.write(f"{law}: not {where}, expected {expected}, found {found}\n")
        return EXIT_DIFFERENT

    return asyncio.run(_with_books(configuration, folder, work))


def export_journal(configuration: Configuration, folder: Path, out: Path | None, organisation: str) -> int:
    """Writes the journal as CSV, to standard output without a file."""

    async def work(connection: Any) -> int:
        if out is None:
            return await export_csv(connection, sys.stdout, organisation)
        with out.open("w", encoding="utf-8", newline="") as file:
            return await export_csv(connection, file, organisation)

    entries = asyncio.run(_with_books(configuration, folder, work))
    sys.stderr.write(f"{entries} entries\n")
    return 0


async def _with_books(configuration: Configuration, folder: Path, work: Callable[[Any], Awaitable[int]]) -> int:
    settings, private = configuration.process.database, EmbeddedPostgres(folder / "pg")
    try:
        if not settings.url:
            settings = replace(settings, url=Secret(private.start()))
        database: Database = await open_database(settings, "ledger", MIGRATIONS)
        try:
            async with database.pool.acquire() as connection:
                return await work(connection)
        finally:
            await database.close()
    finally:
        private.stop()
