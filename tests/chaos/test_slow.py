"""A process that keeps its sockets and says nothing: bounded waits, then the same answers as for a dead one."""

from __future__ import annotations

import time

import pytest

from tests.support.accounts import settled
from tests.support.callers import MeshCallers
from tests.support.faults import Faults

pytestmark = [pytest.mark.timeout(180), pytest.mark.chaos]

_CACHE_PATIENCE_S, _LEDGER_PATIENCE_S, _GUARD_PATIENCE_S = 0.5, 2.0, 5.0
_SLACK_S = 3.0


async def test_a_silent_cache_is_left_out(callers: MeshCallers, faults: Faults) -> None:
    faults.pause("cache")
    assert faults.is_paused("cache")
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
