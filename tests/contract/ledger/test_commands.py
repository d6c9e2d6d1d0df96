"""`llmops ledger` on a database: what a command may take, and what it says where it cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llmops_cli.configuration import Configuration, build_configuration
from llmops_cli.ledger_books import EXIT_DIFFERENT, export_journal, with_books
from meshkit.settings import SettingsError
from tests.contract.ledger.test_restored import World, world

__all__ = ["world"]


def configured(world: World) -> Configuration:
    """With less patience than a journal of some size needs."""
    return build_configuration("test", {"database": {"url": world.url, "statement_timeout_s": 0.5}}, {})


async def test_a_large_journal_is_read_for_as_long_as_it_takes(world: World, tmp_path: Path) -> None:
    """Statements of a service end after five seconds, and so did `verify` from about a million calls on."""

    async def work(connection: Any) -> int:
        await connection.fetchval("SELECT pg_sleep(0.7)")
        # A pager at the other end of an export reads when somebody turns the page.
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "0"
        return EXIT_DIFFERENT

    assert await with_books(configured(world), tmp_path, work) == EXIT_DIFFERENT


async def test_a_file_that_cannot_be_written_is_said(world: World, tmp_path: Path) -> None:
    """It was a traceback."""
    with pytest.raises(SettingsError, match="No such file or directory; name a file that can be written"):
        await asyncio.to_thread(export_journal, configured(world), tmp_path, tmp_path / "nowhere" / "journal.csv", "")
