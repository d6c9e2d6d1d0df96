"""What cannot start says so in one sentence, whatever the mistake."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from llmops_cli.call import call
from llmops_cli.configuration import load_configuration
from llmops_cli.launcher import prepare, running_targets
from meshkit.lifecycle import EXIT_CONFIGURATION
from meshkit.settings import SettingsError
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


async def test_a_call_to_a_process_without_the_service(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text(PORTS)
    configuration, key = prepare(load_configuration(tmp_path / "mesh.yaml", {}), tmp_path)
    assert key is not None
    async with running_targets(configuration, frozenset({"router"}), tmp_path, report=lambda _: None) as running:
        host, port = running.addresses["grpc"]
        for rpc in ("guard.CheckInput", "GuardService/CheckInput", "llmops.guard.v1.GuardService/CheckInput"):
            with pytest.raises(SettingsError) as caught:
                await asyncio.to_thread(call, f"{host}:{port}", rpc, "{}", key.key)
            assert str(caught.value) == (
                "guard does not run behind this address; in a mesh of processes each service has its own: "
                "name guard's with --address"
            )
        with pytest.raises(SettingsError, match="there is no RPC 'gaurd.CheckInput' here; known: "):
            await asyncio.to_thread(call, f"{host}:{port}", "gaurd.CheckInput", "{}", key.key)
