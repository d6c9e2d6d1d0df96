"""A process that keeps its sockets and says nothing: bounded waits, then the same answers as for a dead one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.support.accounts import settled
from tests.support.callers import MeshCallers
from tests.support.faults import Faults
from tests.support.mesh_settings import ACME

pytestmark = [pytest.mark.timeout(180), pytest.mark.chaos]

_CACHE_PATIENCE_S, _LEDGER_PATIENCE_S, _GUARD_PATIENCE_S = 0.5, 2.0, 5.0
_SLACK_S = 3.0


async def test_a_silent_cache_is_left_out(callers: MeshCallers, faults: Faults) -> None:
    faults.pause("cache")
    began_s = time.monotonic()
    outcome = await callers.chat("alpha/words", "While the cache is silent.")
    assert (outcome.http_status, outcome.cache, outcome.report["degraded"]) == (200, "bypass", ["cache"])
    # Once for the exact tier and once for meaning.
    assert _CACHE_PATIENCE_S <= time.monotonic() - began_s < 2 * _CACHE_PATIENCE_S + _SLACK_S


async def test_a_silent_guard_closes(callers: MeshCallers, faults: Faults) -> None:
    calls = len(callers.deployment.sim.billing)
    faults.pause("guard")
    began_s = time.monotonic()
    outcome = await callers.chat("alpha/words", "While the guard is silent.")
    assert (outcome.http_status, outcome.reason) == (503, "GUARD_UNAVAILABLE")
    assert _GUARD_PATIENCE_S <= time.monotonic() - began_s < _GUARD_PATIENCE_S + _SLACK_S
    hurried = await callers.chat("alpha/words", "In a hurry.", headers={"x-llmops-timeout-s": "0.5"})
    assert (hurried.http_status, hurried.reason) == (504, "DEADLINE_EXCEEDED")
    assert len(callers.deployment.sim.billing) == calls
    faults.resume("guard")
    assert (await faults.recovered()).http_status == 200


async def test_a_silent_ledger_closes(callers: MeshCallers, faults: Faults) -> None:
    calls = len(callers.deployment.sim.billing)
    faults.pause("ledger")
    began_s = time.monotonic()
    outcome = await callers.chat("alpha/words", "While the ledger is silent.")
    assert (outcome.http_status, outcome.reason) == (503, "BUDGET_UNAVAILABLE")
    assert _LEDGER_PATIENCE_S <= time.monotonic() - began_s < _LEDGER_PATIENCE_S + _SLACK_S
    assert len(callers.deployment.sim.billing) == calls
    faults.resume("ledger")
    assert (await faults.recovered()).http_status == 200
    # A reservation that nobody waits for any more is not made when it wakes up.
    await settled(callers)


async def test_a_silent_router_times_the_list_of_models_out(callers: MeshCallers, faults: Faults) -> None:
    faults.pause("orchestrator")  # the router shares its process
    headers = {"authorization": f"Bearer {ACME.key}", "x-llmops-timeout-s": "0.5"}
    async with callers.http.get(f"{callers.deployment.http_url}/v1/models", headers=headers) as response:
        assert response.status == 504
    outcome = await callers.chat("alpha/words", "While it is silent.", headers={"x-llmops-timeout-s": "0.5"})
    assert (outcome.http_status, outcome.reason) == (504, "DEADLINE_EXCEEDED")
    faults.resume("orchestrator")
    assert (await faults.recovered()).http_status == 200


@asynccontextmanager
async def locked(database_url: str, schema: str) -> AsyncIterator[None]:
    """Somebody else holds every table of a schema for the length of the block."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
            tables = ", ".join(f'"{schema}"."{row["tablename"]}"' for row in found)
            await connection.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def test_tables_that_somebody_locked(callers: MeshCallers, faults: Faults) -> None:
    url = callers.deployment.database_url
    prompt = {"llmops": {"prompt": "greeting", "variables": {"name": "Ada"}, "cache": {"bypass": True}}}
    async with locked(url, "registry"):
        assert (await callers.chat("alpha/echo", "", **prompt)).http_status == 200
    async with locked(url, "cache"):
        open_ = await callers.chat("alpha/words", "While the cache's tables are locked.")
    # What was never stored the cache knows without its tables.
    assert (open_.http_status, open_.cache in {"miss", "bypass"}) == (200, True)
    calls = len(callers.deployment.sim.billing)
    async with locked(url, "ledger"):
        began_s = time.monotonic()
        closed = await callers.chat("alpha/words", "While the ledger's tables are locked.")
        assert time.monotonic() - began_s < _LEDGER_PATIENCE_S + _SLACK_S
    assert (closed.http_status, closed.reason) == (503, "BUDGET_UNAVAILABLE")
    assert len(callers.deployment.sim.billing) == calls
    assert (await faults.recovered()).http_status == 200
    await settled(callers)
