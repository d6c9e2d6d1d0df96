"""Faults of a mesh of processes: killed, stopped in their tracks, started again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from llmops_cli.local_mesh import LocalMesh
from tests.support.callers import MeshCallers, user
from tests.support.outcomes import Outcome

_RECOVERED_WITHIN_S = 20.0
_POLL_S = 0.05


class Faults:
    """Makes processes of a mesh fail, and knows how to bring them back."""

    def __init__(self, callers: MeshCallers) -> None:
        assert callers.deployment.mesh is not None
        self.callers = callers
        self.mesh: LocalMesh = callers.deployment.mesh
        self._paused: set[str] = set()

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the process is gone."""
        child = self.mesh.children[name]
        assert child.poll() is None, f"{name} was not running, so killing it would show nothing"
        self.mesh.kill(name)
        assert child.returncode == -signal.SIGKILL

    def pause(self, name: str) -> None:
        """SIGSTOP: the process keeps its sockets and says nothing. Returns when the kernel has stopped it."""
        child = self.mesh.children[name]
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        self._paused.add(name)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.mesh.children[name].send_signal(signal.SIGCONT)
        self._paused.discard(name)

    async def restart(self, name: str) -> None:
        """Starts a process that was killed, on its old ports, and waits until it says that it is ready."""
        self.mesh.start(name)
        await asyncio.to_thread(self.mesh.wait_ready, name)

    async def heal(self) -> None:
        """Everything runs again, and a request passes every service."""
        for name in list(self._paused):
            self.resume(name)
        for name, child in self.mesh.children.items():
            if child.poll() is not None:
                await self.restart(name)
        await self.recovered()

    async def recovered(self) -> Outcome:
        """Waits until a request over HTTP, by prompt, is answered with nothing degraded. Returns that answer."""
        asked = {"llmops": {"prompt": "greeting", "variables": {"name": "Ada"}, "cache": {"refresh": True}}}
        probe = pb.Conversation(messages=user(f"Is everybody there? {os.urandom(4).hex()}"), model="alpha/words")
        async with asyncio.timeout(_RECOVERED_WITHIN_S):
            while True:
                outcome = await self.callers.tried("alpha/words", "", **asked)
                looked_up = await self.callers.complete(probe)
                if not (outcome.error or looked_up.error or looked_up.report.get("degraded")):
                    return outcome
                await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def in_flight(callers: MeshCallers, model: str, text: str, **body: Any) -> AsyncIterator[asyncio.Task[Outcome]]:
    """A request over HTTP that the provider is working on when the block begins."""
    sim = callers.deployment.sim
    running = sim.stats.in_flight
    task = asyncio.create_task(callers.tried(model, text, **body))
    try:
        await sim.wait_until(lambda: sim.stats.in_flight > running)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
