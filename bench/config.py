"""Everything the benchmark assumes about the product: commands, ports, configuration keys.

When a name of mesh.yaml or of the command line changes, this is the only file of bench/ to touch.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from meshkit.identity import key_digest

SHORT_MODEL: Final = "bench-short"
STREAM_MODEL: Final = "bench-stream"
STREAM_CHUNKS: Final = 100
CHAT_PATH: Final = "/v1/chat/completions"
READY_PATH: Final = "/readyz"
API_KEY: Final = "llmops-benchmark-key"
_PEPPER: Final = "benchmark-pepper-not-a-secret"
_MESH_KEY: Final = "llmops-benchmark-mesh-key"
_ENDLESS_USD: Final = "1000000"
_HOST: Final = "127.0.0.1"

# The split layout, as in deploy/local: edge, router and orchestrator share a process. Dependencies first.
PROCESSES: Final = (("registry",), ("ledger",), ("cache",), ("guard",), ("router", "orchestrator", "edge"))

PROVIDER_SCRIPT: Final[dict[str, Any]] = {
    "models": [SHORT_MODEL, STREAM_MODEL],
    "rules": [
        {"model": SHORT_MODEL, "output_tokens": 64},
        {"model": STREAM_MODEL, "output_tokens": STREAM_CHUNKS, "token_interval_ms": 5},
    ],
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the system runs: `split` puts every service into a process of its own, `models` turns the encoder on."""

    name: str
    split: bool
    models: bool


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process of the system: its command and where it says that it is ready."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    ready_url: str


@dataclass(frozen=True, slots=True)
class SystemPlan:
    """The processes of a layout in the order to start them, and where requests go."""

    processes: tuple[ProcessPlan, ...]
    edge_port: int


def plan(layout: Layout, folder: Path, provider_url: str, database_url: str, models: Path | None) -> SystemPlan:
    """Write the configuration files of a layout into `folder` and say what to start."""
    environment = {"LLMOPS_HOME": str(folder / "home"), "LLMOPS_DATABASE_URL": database_url}
    edge_port = free_port()
    base = _mesh(provider_url, models if layout.models else None, edge_port)
    if not layout.split:
        config = base | {"server": {"grpc_port": free_port(), "admin_port": free_port(), "debug_port": -1}}
        path = _write(folder / "mesh.yaml", config)
        ready = f"http://{_HOST}:{edge_port}{READY_PATH}"
        return SystemPlan((ProcessPlan("mesh", _command("up", path), environment, ready),), edge_port)
    grpc_ports = {target: port for targets in PROCESSES for port in [free_port()] for target in targets}
    processes = []
    for targets in PROCESSES:
        admin_port = free_port()
        config = base | {
            "server": {"grpc_port": grpc_ports[targets[0]], "admin_port": admin_port, "debug_port": -1},
            "peers": {
                name: {"address": f"{_HOST}:{port}"}
                for name, port in grpc_ports.items()
                if name not in targets and name != "edge"  # which nobody calls
            },
        }
        name = "-".join(targets)
        path = _write(folder / f"mesh-{name}.yaml", config)
        ready = f"http://{_HOST}:{admin_port}{READY_PATH}"
        argv = _command("serve", path, "--target", ",".join(targets))
        processes.append(ProcessPlan(name, argv, environment, ready))
    return SystemPlan(tuple(processes), edge_port)


def _mesh(provider_url: str, models: Path | None, edge_port: int) -> dict[str, Any]:
    key = {
        "id": "bench",
        "digest": key_digest(_PEPPER.encode(), API_KEY),
        "organisation": "bench",
        "team": "bench",
        "user": "bench",
        "roles": ["caller"],
    }
    provider = {"dialect": "openai", "base_url": provider_url, "api_key": "bench", "allow_private_address": True}
    names = (SHORT_MODEL, STREAM_MODEL)
    price = {"input_usd_per_million": "0.15", "output_usd_per_million": "0.60"}
    return {
        "auth": {"pepper": _PEPPER, "mesh_key": _MESH_KEY, "keys": [key]},
        "edge": {"port": edge_port},
        "models": {"directory": str(models) if models else ""},
        "orchestrator": {"semantic_cache": models is not None},
        "router": {
            "providers": {"sim": provider},
            "models": {name: {"provider": "sim", "model": name} for name in names},
            "routes": {"default": {"candidates": [SHORT_MODEL]}},
        },
        "ledger": {
            "prices": {f"sim/{name}": price for name in names},
            "limits": [
                {"scope": scope, "period": period, "cap_usd": _ENDLESS_USD}
                for scope, period in (("organisation", "day"), ("user", "hour"), ("key", "day"))
            ],
        },
    }


def _command(verb: str, config: Path, *options: str) -> tuple[str, ...]:
    program = str(Path(sys.executable).with_name("llmops"))
    return (program, verb, "--config", str(config), *options)


def _write(path: Path, config: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def free_port() -> int:
    """A port that is free now; another program may take it before it is used."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
