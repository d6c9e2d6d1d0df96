"""What cannot start says so in one sentence, whatever the mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshkit.lifecycle import EXIT_CONFIGURATION
from tests.support.command_line import Ran, run

pytestmark = pytest.mark.timeout(60)
PORTS = "server: {grpc_port: 0, admin_port: 0, debug_port: -1}\n"


async def llmops(folder: Path, text: str, *words: str) -> Ran:
    (folder / "mesh.yaml").write_text(PORTS + text)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LLMOPS")}
    return await run(inherited | {"LLMOPS_HOME": str(folder / "home")}, folder, *words)


def mistake(ran: Ran) -> str:
    """Its last line, when there is nothing to read beside it."""
    assert ran.code == EXIT_CONFIGURATION, ran.err
    assert "Traceback" not in ran.err
    lines = [line for line in ran.err.splitlines() if "shown this once" not in line]
    assert len(lines) == 1, ran.err
    return lines[0]


async def test_a_service_that_runs_nowhere(tmp_path: Path) -> None:
    text = 'peers: {router: {address: "127.0.0.1:1"}}\nedge: {port: 0}\n'
    told = mistake(await llmops(tmp_path, text, "serve", "--target", "edge"))
    assert told.startswith("llmops: orchestrator does not run in this process and mesh.yaml names no peer for it")


async def test_a_check_says_what_a_start_would(tmp_path: Path) -> None:
    text = "registry: {prompts_dir: nowhere}\n"
    checked = mistake(await llmops(tmp_path, text, "config", "check"))
    assert checked == "llmops: registry.prompts_dir: there is no folder nowhere on this machine"
