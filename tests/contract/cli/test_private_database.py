"""The private PostgreSQL of a laptop, under processes that come, go and are killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llmops_cli.configuration import Configuration, load_configuration
from llmops_cli.launcher import prepare, running_targets

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
