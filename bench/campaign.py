"""Runs the scenarios: targets of a scenario take turns round by round, so that all see the same machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from bench import config, machine, processes, usage
from bench.config import Layout
from bench.loadgen import Job, Outcome
from bench.processes import Cores, StartError, System
from bench.results import ClosedRound, Measurement, OpenRound, Results, Start
from bench.scenarios import Scenario

DIRECT: Final = "provider"
OURS: Final = "mesh"
_OPEN_CONNECTIONS: Final = 128
_GENERATOR_TIMEOUT_S: Final = 300.0
_MAX_REASON_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Target:
    """Where the load goes; `pids` are the processes it is charged to, none for a peer whose processes are unknown."""

    name: str
    host: str
    port: int
    path: str
    pids: tuple[int, ...] = ()

    @classmethod
    def parse_peer(cls, text: str) -> Target:
        """`name=http://host:port/v1` with `#pid` behind it to charge CPU; ValueError says what is wrong."""
        name, equals, url = text.partition("=")
        parts = urlsplit(url)
        if not equals or not name or parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{text!r} must be written name=http://host:port/v1 or name=http://host:port/v1#pid")
        if name in (DIRECT, OURS):
            raise ValueError(f"a peer cannot be called {name!r}; that name is taken")
        pids = (int(parts.fragment),) if parts.fragment.isdigit() else ()
        return cls(name, parts.hostname, parts.port or 80, f"{parts.path.rstrip('/')}/chat/completions", pids)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and what: `open_s` and `closed_s` per round and target."""

    scenarios: Sequence[Scenario]
    peers: Sequence[Target] = ()
    rounds: int = 3
    open_s: float = 6.0
    closed_s: float = 4.0
    warm_up_s: float = 1.5
    models: Path | None = None
    provider_port: int = 0


@dataclass(slots=True)
class _World:
    """What lives through the whole run."""

    plan: Plan
    cores: Cores
    folder: Path
    provider: Target
    database_url: str
    others: tuple[int, ...]
    say: Callable[[str], None]
    seed: int = 0
    starts: list[Start] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def run(plan: Plan, say: Callable[[str], None]) -> Results:
    """Run everything. A layout that does not start skips its scenarios with the reason; StartError for the rest."""
    conditions = machine.describe()
    cores = Cores.of_this_machine()
    os.sched_setaffinity(0, cores.others)
    with tempfile.TemporaryDirectory(prefix="llmops-bench-") as name:
        folder = Path(name)
        port = plan.provider_port or config.free_port()
        with _database(folder / "pg") as (url, postgres), processes.provider(folder, port, cores.others) as provider:
            pid = provider.popen.pid
            direct = Target(DIRECT, "127.0.0.1", port, config.CHAT_PATH, (pid,))
            world = _World(plan, cores, folder, direct, url, (pid, postgres), say)
            for layout in dict.fromkeys(scenario.layout for scenario in plan.scenarios):
                _layout(world, layout, [one for one in plan.scenarios if one.layout == layout])
    return Results(
        machine=conditions,
        rounds=plan.rounds,
        open_s=plan.open_s,
        closed_s=plan.closed_s,
        starts=world.starts,
        measurements=world.measurements,
        skipped=world.skipped,
    )


@contextmanager
def _database(folder: Path) -> Iterator[tuple[str, int]]:
    """An embedded PostgreSQL on the cores of this process; its URL and the postmaster's pid."""
    from llmops_cli.embedded_postgres import EmbeddedPostgres  # noqa: PLC0415 (slow to import)

    server = EmbeddedPostgres(folder)
    url = server.start()
    try:
        yield url, int((folder / "postmaster.pid").read_text().splitlines()[0])
    finally:
        server.stop()


def _layout(world: _World, layout: Layout, scenarios: list[Scenario]) -> None:
    """Start a layout twice (the second start is the one people wait for), then measure its scenarios."""
    world.say(f"layout: {layout.name}")
    if layout.models and world.plan.models is None:
        world.skipped |= dict.fromkeys((one.name for one in scenarios), "no exported models; run `make models`")
        return
    provider_url = f"http://127.0.0.1:{world.provider.port}/v1"
    folder = world.folder / layout.name.replace(" ", "-").replace(",", "")
    plan = config.plan(layout, folder, provider_url, world.database_url, world.plan.models)
    try:
        with processes.running(plan, folder, world.cores.system) as first:
            first_s = first.ready_after_s
        with processes.running(plan, folder, world.cores.system) as system:
            idle = usage.read(system.pids).rss_bytes
            world.starts.append(
                Start(layout=layout.name, first_s=first_s, second_s=system.ready_after_s, idle_rss_bytes=idle)
            )
            for scenario in scenarios:
                _scenario(world, scenario, system)
    except StartError as error:
        world.say(str(error))
        reason = " ".join(str(error).splitlines()[:2])[:_MAX_REASON_CHARS]
        world.skipped |= dict.fromkeys((one.name for one in scenarios), reason)


def _scenario(world: _World, scenario: Scenario, system: System) -> None:
    """All targets in turn, round by round: the schedule first, then saturation of what is not the provider."""
    ours = Target(OURS, "127.0.0.1", system.edge_port, config.CHAT_PATH, system.pids)
    targets = (world.provider, ours, *world.plan.peers)
    found = {
        target.name: Measurement(
            scenario=scenario.name, target=target.name, expected_cache=scenario.cache if target is ours else ""
        )
        for target in targets
    }
    for number in range(world.plan.rounds):
        world.say(f"  {scenario.name}: round {number + 1} of {world.plan.rounds}")
        for target in targets:
            outcome = _generate(world, scenario, target, "open")
            found[target.name].open_rounds.append(OpenRound.of(outcome))
        for target in targets[1:]:
            outcome = _generate(world, scenario, target, "closed")
            found[target.name].closed_rounds.append(ClosedRound.of(outcome))
    world.measurements += found.values()


def _generate(world: _World, scenario: Scenario, target: Target, mode: str) -> Outcome:
    """One run of the generator in its own process. StartError when it fails."""
    world.seed += 1
    plan = world.plan
    job = Job(
        mode="open" if mode == "open" else "closed",
        host=target.host,
        port=target.port,
        path=target.path,
        api_key=config.API_KEY,
        prompts=scenario.prompts,
        duration_s=plan.open_s if mode == "open" else plan.closed_s,
        warm_up_s=plan.warm_up_s,
        connections=_OPEN_CONNECTIONS if mode == "open" else scenario.saturation_connections,
        seed=world.seed,
        rate_per_s=scenario.rate_per_s,
        cores=world.cores.others,
        watch={"others": world.others} | ({"system": target.pids} if target.pids else {}),
    )
    command = [sys.executable, "-m", "bench.loadgen"]
    done = subprocess.run(
        command, input=msgspec.json.encode(job), capture_output=True, timeout=_GENERATOR_TIMEOUT_S, check=False
    )
    if done.returncode:
        error = done.stderr.decode(errors="replace").strip().splitlines()
        raise StartError(f"the load on {target.name} failed: {error[-1] if error else done.returncode}")
    return msgspec.json.decode(done.stdout, type=Outcome)
