"""mesh.yaml changed under a whole mesh, in one process and in many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from tests.support.callers import MeshCallers, user

PATIENCE_S = 20.0
STREAMS = 4


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


def write(file: Path, raw: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(raw))


@pytest.fixture
async def file(callers: MeshCallers) -> AsyncIterator[Path]:
    """The mesh's file, as it was again afterwards."""
    path = callers.deployment.home / "mesh.yaml"
    before = read(path)
    yield path
    write(path, before)
    await until_running(callers, error=False)


async def state(callers: MeshCallers) -> dict[str, Any]:
    """What the router's process says about its configuration."""
    admin = callers.deployment.admin
    address = admin.get("orchestrator", admin.get("all"))
    async with callers.http.get(f"http://{address}/debug/config") as response:
        found: dict[str, Any] = await response.json()
        return found


async def until_running(callers: MeshCallers, *, error: bool, default: str = "") -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            shown = await state(callers)
            if bool(shown["running"]["error"]) == error and default in {"", shown["router"]["default_route"]}:
                return
            await asyncio.sleep(0.05)


async def test_the_route_changes_while_streams_run_and_a_broken_file_changes_nothing(
    callers: MeshCallers, file: Path
) -> None:
    raw = read(file)
    asked = pb.Conversation(messages=user("Take your time."), model="alpha/endless")
    asked.parameters.max_output_tokens = 1000  # five seconds
    streams = [asyncio.ensure_future(callers.complete_stream(asked)) for _ in range(STREAMS)]
    here = pb.Conversation(messages=user("Where am I?"))
    here.cache.bypass = True
    first = await callers.complete(here)
    assert first.report["model"] == "alpha/words"

    raw["router"]["default_route"] = "beta/words"
    write(file, raw)
    await until_running(callers, error=False, default="beta/words")
    second = await callers.complete(here)
    assert second.report["model"] == "beta/words"

    raw["router"]["default_route"] = "nowhere"
    write(file, raw)
    await until_running(callers, error=True)
    shown = await state(callers)
    assert "'nowhere'" in shown["running"]["error"]
    assert shown["router"]["default_route"] == "beta/words"
    third = await callers.complete(here)
    assert third.report["model"] == "beta/words"

    outcomes = await asyncio.gather(*streams)
    assert [(outcome.reason, bool(outcome.text)) for outcome in outcomes] == [("", True)] * STREAMS
