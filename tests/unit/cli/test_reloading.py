"""mesh.yaml changed under a running process: row 40 of the failures of peers (agentgateway#3035, PraisonAI#5144).

A reload there showed configuration that had been rejected, or drained first and failed then.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmops_cli.configuration import load_configuration
from llmops_cli.reloading import RunningConfiguration
from meshkit.runtime import ProcessSettings, ReloadSettings, Runtime

GOOD = "router:\n  stream_join_s: 0.01\n"
BETTER = "router:\n  stream_join_s: 0.05\n"


class World:
    """A runtime, a file, and what the router was given."""

    def __init__(self, file: Path, interval_s: float) -> None:
        self.file = file
        self.taken: list[float] = []
        self.refusal = ""
        self.kind: type[Exception] = ValueError
        self.runtime = Runtime(
            "test", ProcessSettings(reload=ReloadSettings(interval_s)), frozenset({"router", "guard"}), None
        )
        self.runtime.reload_callbacks["router"] = self.prepare
        self.running = RunningConfiguration(load_configuration(file, {}), lambda: load_configuration(file, {}))

    async def prepare(self, settings: Any) -> Callable[[], None]:
        if self.refusal:
            raise self.kind(self.refusal)
        return lambda: self.taken.append(settings.stream_join_s)

    def state(self) -> dict[str, Any]:
        shown: Any = self.running.effective()
        return {**shown["running"], "stream_join_s": shown["router"]["stream_join_s"]}


@pytest.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(text: str = GOOD, interval_s: float = 0.01) -> World:
        file = tmp_path / "mesh.yaml"
        file.write_text(text)
        worlds.append(World(file, interval_s))
        return worlds[-1]

    yield make
    for world in worlds:
        await world.runtime.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("router: [", "not valid YAML"),
        ("router:\n  stream_joins: 0.05\n", "did you mean 'stream_join_s'"),
        ("router:\n  stream_join_s: 99\n", "must be between 0"),
        ("router:\n  default_route: nowhere\n", "'nowhere'"),
        ("router:\n  providers:\n    a: {base_url: '${NOT_SET}'}\n", "NOT_SET"),
        ("", "empty"),
        ("# router:\n#   stream_join_s: 0.05\n", "empty"),
    ],
)
async def test_a_wrong_file_changes_nothing_and_is_told(make_world: Callable[..., World], text: str, says: str) -> None:
    world = make_world()
    version = world.state()["version"]
    world.file.write_text(text)
    assert not await world.running.reload(world.runtime)
    state = world.state()
    assert (state["version"], state["stream_join_s"], world.taken) == (version, 0.01, [])
    assert says in state["error"]
    world.file.write_text(BETTER)
    assert await world.running.reload(world.runtime)
    state = world.state()
    assert (state["error"], state["stream_join_s"], world.taken) == ("", 0.05, [0.05])
    assert state["version"] != version


async def test_what_a_target_cannot_use_changes_nothing(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.refusal = "the certificates of provider a cannot be read"
    world.file.write_text(BETTER)
    assert not await world.running.reload(world.runtime)
    assert world.state()["stream_join_s"] == 0.01
    assert world.refusal in world.state()["error"]


async def test_a_target_that_fails_does_not_end_the_watch(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.refusal, world.kind = "weights are not as released", RuntimeError
    watching = asyncio.ensure_future(world.running.watch(world.runtime))
    world.file.write_text(BETTER)
    await until(lambda: "RuntimeError" in world.state()["error"])
    world.refusal = ""
    world.file.write_text("router:\n  stream_join_s: 0.07\n")
    await until(lambda: world.taken == [0.07])
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def test_what_cannot_change_while_running_is_named(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.file.write_text(GOOD + "logs:\n  level: debug\nguard:\n  scan_threads: 2\nledger:\n  max_batch: 7\n")
    assert await world.running.reload(world.runtime)
    # The ledger does not run in this process.
    assert world.state()["needs_restart"] == ["logs", "guard"]
    assert world.taken == []


async def test_a_file_that_is_gone_changes_nothing(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.file.unlink()
    assert not await world.running.reload(world.runtime)
    assert "No such file" in world.state()["error"]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def test_the_file_is_watched_also_behind_a_link(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world()
    watching = asyncio.ensure_future(world.running.watch(world.runtime))
    world.file.write_text(BETTER)
    await until(lambda: world.taken == [0.05])
    # As Kubernetes changes a ConfigMap: another file under the old name.
    other = tmp_path / "next.yaml"
    other.write_text("router:\n  stream_join_s: 0.07\n")
    link = tmp_path / "link"
    link.symlink_to(other)
    link.replace(world.file)
    await until(lambda: world.taken == [0.05, 0.07])
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def test_a_signal_reads_it_at_once(make_world: Callable[..., World]) -> None:
    world = make_world(interval_s=0.0)
    watching = asyncio.ensure_future(world.running.watch(world.runtime))
    await asyncio.sleep(0)
    world.file.write_text(BETTER)
    await asyncio.sleep(0.05)
    assert world.taken == []
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: world.taken == [0.05])
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
