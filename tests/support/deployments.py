"""The mesh as the suites meet it: everything in this process, or a process per service. A test sees the addresses.

Both have the same configuration, a database of their own and a simulated provider in the test's process.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import asyncpg
import yaml

from llmops_cli.configuration import Configuration, load_configuration
from llmops_cli.launcher import prepare, running_targets
from llmops_cli.local_mesh import HOST, LocalMesh, ProcessEntry
from llmops_cli.provider_sim import ProviderSim
from llmops_cli.targets import TARGETS
from tests.support.mesh_settings import MESH_KEY, PEPPER, mesh_yaml, script

# Split further than deploy/local/processes.yaml: the edge has a process of its own, so that it can die alone.
PLACEMENT: Mapping[str, tuple[str, ...]] = {
    "identity": ("identity",),
    "registry": ("registry",),
    "guard": ("guard",),
    "ledger": ("ledger",),
    "cache": ("cache",),
    "orchestrator": ("router", "orchestrator"),
    "edge": ("edge",),
}


@dataclass
class Deployment:
    """A running mesh, configured by mesh.yaml in `home`.

    `grpc` maps each service to host:port; `mesh` is set when services have own processes.
    """

    name: str
    sim: ProviderSim
    grpc: Mapping[str, str]
    http_url: str
    home: Path
    database_url: str
    mesh: LocalMesh | None = None
    admin: Mapping[str, str] = field(default_factory=dict)


def _ports() -> Iterator[int]:
    """Ports, over and over, none of them another test process's, nor one that the kernel gives to clients meanwhile."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(10_000 + own, 32_000, processes)
    # Runs of other checkouts begin elsewhere.
    first = os.getpid() * 61 % len(ports)
    return cycle([*ports[first:], *ports[:first]])


_NEXT_PORTS = _ports()


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody listens on, free again when the block ends; no call gives what another one gave lately."""
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            with suppress(OSError):
                held.append(socket.create_server((HOST, next(_NEXT_PORTS))))
        yield [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def process_entries(placement: Mapping[str, tuple[str, ...]]) -> dict[str, ProcessEntry]:
    """Processes on free ports of loopback."""
    with free_ports(3 * len(placement)) as ports:
        remaining = iter(ports)
        return {
            name: ProcessEntry(
                targets,
                admin_port=next(remaining),
                grpc_port=next(remaining) if any(TARGETS[t].speaks_grpc for t in targets) else 0,
                http_port=next(remaining) if "edge" in targets else 0,
            )
            for name, targets in placement.items()
        }


async def new_database(postgres_url: str) -> str:
    """The URL of an empty database on the same server."""
    name = f"mesh_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    base, _, query = postgres_url.partition("?")
    return f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")


def environment(home: Path, database_url: str) -> dict[str, str]:
    """What a process of the suites has in its environment: the machine's variables and our own, no LLMOPS of others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LLMOPS")}
    inherited.pop("OPENAI_API_KEY", None)
    inherited.pop("ANTHROPIC_API_KEY", None)
    inherited.pop("GEMINI_API_KEY", None)
    return inherited | {
        "LLMOPS_HOME": str(home),
        "LLMOPS_DATABASE_URL": database_url,
        "LLMOPS_KEY_PEPPER": PEPPER,
        "LLMOPS_MESH_KEY": MESH_KEY,
    }


def link_models(home: Path) -> None:
    """The exported models of this checkout."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "models").symlink_to(Path(__file__).parents[2] / ".llmops" / "models")


@asynccontextmanager
async def one_process(home: Path, postgres_url: str) -> AsyncIterator[Deployment]:
    """Every target inside this event loop."""
    link_models(home)
    async with ProviderSim(script=script()) as sim:
        ports = {"server": {"grpc_port": 0, "admin_port": 0, "debug_port": -1}, "edge": {"port": 0}}
        database_url = await new_database(postgres_url)
        environ = environment(home, database_url)
        config = home / "mesh.yaml"
        config.write_text(yaml.safe_dump(mesh_yaml(sim.base_url) | ports))

        def reread() -> Configuration:
            return prepare(load_configuration(config, environ), home)[0]

        async with running_targets(reread(), frozenset(TARGETS), home, report=lambda _: None, reread=reread) as running:
            addresses = {name: f"{host}:{port}" for name, (host, port) in running.addresses.items()}
            yield Deployment(
                "one-process",
                sim,
                dict.fromkeys((t for t in TARGETS if TARGETS[t].speaks_grpc), addresses["grpc"]),
                f"http://{addresses['http']}",
                home,
                database_url,
                admin={"all": addresses["admin"]},
            )


@asynccontextmanager
async def separate_processes(
    home: Path,
    postgres_url: str,
    placement: Mapping[str, tuple[str, ...]] = PLACEMENT,
    extra: Mapping[str, object] | None = None,
) -> AsyncIterator[Deployment]:
    """A process per entry of `placement`. They end with the block, killed where they do not drain in time."""
    link_models(home)
    async with ProviderSim(script=script()) as sim:
        config = home / "mesh.yaml"
        config.write_text(yaml.safe_dump(mesh_yaml(sim.base_url) | dict(extra or {})))
        entries = process_entries(placement)
        database_url = await new_database(postgres_url)
        environ = environment(home, database_url)
        mesh = LocalMesh(entries, config, environ, home)
        try:
            await asyncio.to_thread(mesh.start_all)
            yield Deployment(
                "processes",
                sim,
                {t: f"{HOST}:{e.grpc_port}" for e in entries.values() for t in e.targets if TARGETS[t].speaks_grpc},
                f"http://{HOST}:{next(e.http_port for e in entries.values() if e.http_port)}",
                home,
                database_url,
                mesh,
                {name: f"{HOST}:{entry.admin_port}" for name, entry in entries.items()},
            )
        finally:
            await asyncio.to_thread(mesh.stop)
