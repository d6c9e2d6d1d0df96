"""The private PostgreSQL of a laptop, under processes that come, go and are killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llmops_cli.configuration import Configuration, load_configuration
from llmops_cli.embedded_postgres import EmbeddedPostgres
from llmops_cli.launcher import prepare, running_targets
from meshkit.settings import SettingsError
from tests.support.command_line import ROOT

pytestmark = pytest.mark.timeout(60)
MESH = """
server: {grpc_port: 0, admin_port: 0, debug_port: -1}
reload: {interval_s: 0.05}
ledger: {price_table: %s}
"""


async def test_it_is_not_what_a_changed_file_waits_for(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH % "false")

    def reread() -> Configuration:
        return prepare(load_configuration(file, {}), tmp_path)[0]

    chosen = frozenset({"ledger"})
    async with (
        running_targets(reread(), chosen, tmp_path, report=lambda _: None, reread=reread) as running,
        aiohttp.ClientSession() as session,
    ):
        host, port = running.addresses["admin"]

        async def state() -> dict[str, Any]:
            async with session.get(f"http://{host}:{port}/debug/config") as response:
                found: dict[str, Any] = (await response.json())["running"]
                return found

        before = await state()
        file.write_text(MESH % "true")
        async with asyncio.timeout(20):
            while (after := await state())["version"] == before["version"]:
                await asyncio.sleep(0.05)
    assert (after["error"], after["needs_restart"]) == ("", ["ledger"])


USE = """
import pathlib, sys
from llmops_cli.embedded_postgres import EmbeddedPostgres
database = EmbeddedPostgres(pathlib.Path(sys.argv[1]))
database.start()
print("up", flush=True)
sys.stdin.read()
database.stop()
"""


def user(folder: Path) -> subprocess.Popen[str]:
    """A process that uses the database until its input ends, or until it is killed."""
    command = [sys.executable, "-c", USE, str(folder)]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_who_was_killed_uses_it_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "pg"
    running = folder / "postmaster.pid"
    with user(folder) as killed, user(folder) as living:
        killed.kill()
        killed.wait()
        with user(folder) as leaving:
            leaving.communicate("")
        assert running.exists(), "another process still uses it"
        living.communicate("")
    assert not running.exists()


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    database = EmbeddedPostgres(tmp_path)
    with pytest.raises(SettingsError, match="did not start"):
        database.start()
    database.stop()
    assert (tmp_path / "notes.txt").read_text() == "mine"
