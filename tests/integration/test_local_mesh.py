"""A mesh of processes as it starts and ends: told to end in mid-stream, it completes and books every answer."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import pytest
import yaml

from llmops_cli.local_mesh import HOST
from llmops_cli.provider_sim import ProviderSim
from meshkit.lifecycle import EXIT_OK, EXIT_SECOND_SIGNAL
from tests.support.command_line import Up, run
from tests.support.deployments import environment, link_models, new_database, process_entries
from tests.support.mesh_settings import ACME, charged_nano_usd, mesh_yaml, script

pytestmark = pytest.mark.timeout(120)

STREAMS = 3
# The front stands between those it calls: the order of the file is not the order of an end.
PLACEMENT = {
    "ledger": ("ledger", "guard"),
    "front": ("router", "orchestrator", "edge"),
    "rest": ("registry", "cache", "identity"),
}


@dataclass
class World:
    """A mesh of processes, and its simulated provider."""

    up: Up
    sim: ProviderSim
    folder: Path
    environ: dict[str, str]
    http_url: str

    def everybody(self) -> list[int]:
        """The process and those it started, as systemd finds them."""
        children = Path(f"/proc/{self.up.pid}/task/{self.up.pid}/children").read_text()
        return [self.up.pid, *map(int, children.split())]

    async def stream(self, model: str, max_tokens: int, words: list[str]) -> str:
        """Streams an answer into `words`. Returns its last line."""
        body = {
            "model": model,
            "stream": True,
            "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": f"Go on. {os.urandom(4).hex()}"}],
        }
        headers, last = {"authorization": f"Bearer {ACME.key}"}, ""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.http_url}/v1/chat/completions", json=body, headers=headers) as response,
        ):
            assert response.status == 200, await response.text()
            async for line in response.content:
                if text := line.decode().strip():
                    last = text
                    words.append(text)
        return last

    async def journal(self) -> list[dict[str, str]]:
        """What the ledger wrote, read without a mesh."""
        exported = await run(self.environ, self.folder, "ledger", "export")
        assert exported.code == 0, exported.err
        return list(csv.DictReader(io.StringIO(exported.out)))


@asynccontextmanager
async def mesh(tmp_path: Path, postgres_url: str, says: str) -> AsyncIterator[World]:
    """A mesh of processes that has said this much."""
    link_models(tmp_path / "home")
    environ = environment(tmp_path / "home", await new_database(postgres_url))
    entries = process_entries(PLACEMENT)
    placed = {name: asdict(entry) | {"targets": list(entry.targets)} for name, entry in entries.items()}
    (tmp_path / "processes.yaml").write_text(yaml.safe_dump({"processes": placed}, sort_keys=False))
    async with ProviderSim(script=script()) as sim:
        (tmp_path / "mesh.yaml").write_text(yaml.safe_dump(mesh_yaml(sim.base_url)))
        up = await Up.start(environ, tmp_path, "--processes", "processes.yaml", says=says)
        made = World(up, sim, tmp_path, environ, f"http://{HOST}:{entries['front'].http_port}")
        everybody = made.everybody()
        try:
            yield made
        finally:
            # They hold the pipe of its output: it has not ended before they have.
            for pid in filter(runs, everybody[1:]):
                os.kill(pid, signal.SIGKILL)
            await up.kill()


@pytest.fixture
async def world(tmp_path: Path, postgres_url: str) -> AsyncIterator[World]:
    async with mesh(tmp_path, postgres_url, "the mesh is ready") as made:
        yield made


def runs(pid: int) -> bool:
    """False also for one that has ended and that nobody has asked how."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def until_under_way(answers: list[list[str]]) -> None:
    async with asyncio.timeout(20):
        while not all(answers):
            await asyncio.sleep(0.01)


async def test_the_front_is_ready_when_those_it_calls_are(world: World) -> None:
    """A process that looked for others too early waits before it looks again, and refuses calls meanwhile."""
    ready = [line.rpartition(": ")[2].strip() for line in world.up.lines if line.startswith("ready after")]
    assert ready == ["cache, identity, registry", "guard, ledger", "edge, orchestrator, router"]


async def test_ctrl_c_ends_a_start(tmp_path: Path, postgres_url: str) -> None:
    async with mesh(tmp_path, postgres_url, "ready after") as starting:
        starting.up.interrupt()
        assert await starting.up.ended() == EXIT_OK, starting.up.lines
        assert not [line for line in starting.up.lines if "edge" in line or "the mesh is ready" in line]


@pytest.mark.parametrize("told", ["the parent", "everybody"])
async def test_what_is_under_way_is_finished_and_booked(world: World, told: str) -> None:
    answers: list[list[str]] = [[] for _ in range(STREAMS)]
    streams = [asyncio.ensure_future(world.stream("alpha/endless", 500, words)) for words in answers]
    await until_under_way(answers)
    for pid in world.everybody() if told == "everybody" else [world.up.pid]:
        os.kill(pid, signal.SIGTERM)
    assert await asyncio.gather(*streams) == ["data: [DONE]"] * STREAMS
    assert await world.up.ended() == EXIT_OK, world.up.lines
    journal = await world.journal()
    commits = [entry for entry in journal if entry["kind"] == "commit"]
    assert len(commits) == STREAMS
    assert sum(int(entry["spent_delta_nano_usd"]) for entry in commits) == sum(map(charged_nano_usd, world.sim.billing))
    assert sum(int(entry["held_delta_nano_usd"]) for entry in journal) == 0, "nothing waits for its expiry"


async def test_a_second_ctrl_c_ends_everybody_at_once(world: World) -> None:
    words: list[str] = []
    stream = asyncio.ensure_future(world.stream("alpha/endless", 4000, words))  # twenty seconds
    await until_under_way([words])
    children = world.everybody()[1:]
    world.up.interrupt()
    await world.up.said("a second signal ends at once")
    world.up.interrupt()
    async with asyncio.timeout(8):
        assert await world.up.ended() == EXIT_SECOND_SIGNAL
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream
    assert not list(filter(runs, children))


async def test_nobody_outlives_a_parent_that_was_killed(world: World) -> None:
    children = world.everybody()[1:]
    os.kill(world.up.pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while list(filter(runs, children)):
            await asyncio.sleep(0.05)
