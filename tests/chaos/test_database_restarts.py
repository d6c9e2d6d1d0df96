"""PostgreSQL stops at once and comes back: clear refusals meanwhile, and what was acknowledged is still there."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmops_cli.embedded_postgres import EmbeddedPostgres
from tests.support.accounts import settled
from tests.support.callers import MeshCallers, prompts_arrived
from tests.support.deployments import separate_processes
from tests.support.faults import Faults, in_flight

pytestmark = [pytest.mark.timeout(180), pytest.mark.chaos]


class OwnPostgres:
    """A server that only this test uses, so that stopping it hurts nobody."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedPostgres(folder)
        self.url = self._server.start()

    def stop_at_once(self) -> None:
        """`pg_ctl stop -m immediate`: no goodbye, recovery at the next start."""
        inner = self._server._server
        command = [str(inner.bin_path / "pg_ctl"), "-D", str(inner.pgdata), "-m", "immediate", "stop"]
        subprocess.run(command, check=True, user=inner.system_user, capture_output=True, cwd="/")

    def start(self) -> None:
        """On the same folder and socket."""
        self._server._server.ensure_postgres_running()

    def close(self) -> None:
        """Ends it."""
        self._server.stop()


@pytest.fixture
async def broken(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Faults, OwnPostgres]]:
    folder = tmp_path_factory.mktemp("database")
    postgres = await asyncio.to_thread(OwnPostgres, folder / "pg")
    try:
        async with separate_processes(folder / "home", postgres.url) as running:
            callers = MeshCallers(running)
            await prompts_arrived(callers)
            yield Faults(callers), postgres
            await callers.close()
    finally:
        await asyncio.to_thread(postgres.close)


async def test_an_immediate_stop_of_postgresql(broken: tuple[Faults, OwnPostgres]) -> None:
    faults, postgres = broken
    callers = faults.callers
    before = await faults.recovered()
    assert before.http_status == 200
    booked = await settled(callers)
    assert booked > 0
    async with in_flight(callers, "alpha/late", "Reserved, and then the database went.") as asked:
        await asyncio.to_thread(postgres.stop_at_once)
        answered = await asked
    assert answered.http_status == 200
    calls = len(callers.deployment.sim.billing)
    refused = [await callers.chat("alpha/words", f"Without a database, {number}.") for number in range(3)]
    assert {(outcome.http_status, outcome.reason) for outcome in refused} == {(503, "BUDGET_UNAVAILABLE")}
    assert len(callers.deployment.sim.billing) == calls
    await asyncio.to_thread(postgres.start)
    after = await faults.recovered()
    assert all(child.poll() is None for child in faults.mesh.children.values()), "no process had to be restarted"
    least = booked + answered.cost_nano_usd + after.cost_nano_usd
    assert await settled(callers) >= least, "what was acknowledged is booked, and what was answered meanwhile as well"
