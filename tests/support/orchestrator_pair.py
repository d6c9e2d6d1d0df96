"""Two orchestrators over one database, each spoken to by callers of its own; everything else in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from llmops_cli.local_mesh import HOST
from tests.support.callers import MeshCallers, prompts_arrived
from tests.support.deployments import separate_processes
from tests.support.faults import Faults

LOCK_S = 2.0
_PLACEMENT = {
    "leaves": ("identity", "registry", "guard", "ledger", "cache"),
    "one": ("router", "orchestrator"),
    "two": ("router", "orchestrator"),
    "edge": ("edge",),
}
_EXTRA = {"orchestrator": {"idempotency": {"lock_s": LOCK_S, "storage_timeout_s": 0.5}}}


@dataclass
class Pair:
    """`one` and `two` ask one orchestrator each; `faults` knows the processes by these names."""

    one: MeshCallers
    two: MeshCallers
    faults: Faults


@asynccontextmanager
async def orchestrator_pair(home: Path, postgres_url: str) -> AsyncIterator[Pair]:
    """Both are ready when the block begins."""
    async with separate_processes(home, postgres_url, _PLACEMENT, _EXTRA) as running:
        assert running.mesh is not None
        addresses = {name: f"{HOST}:{running.mesh.processes[name].grpc_port}" for name in ("one", "two")}
        callers = [
            MeshCallers(replace(running, grpc={**running.grpc, "orchestrator": address, "router": address}))
            for address in addresses.values()
        ]
        try:
            for each in callers:
                await prompts_arrived(each)
            yield Pair(*callers, Faults(callers[0]))
        finally:
            for each in callers:
                await each.close()
