"""kill -9 of a leaf, and what callers see: guard and ledger close, the cache opens. Also part of `make test`."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.accounts import settled
from tests.support.callers import MeshCallers
from tests.support.faults import Faults, in_flight

pytestmark = pytest.mark.timeout(120)


async def test_without_guard_nothing_passes(callers: MeshCallers, faults: Faults) -> None:
    before = await settled(callers)
    async with in_flight(callers, "alpha/late", "Asked while the guard lived.") as asked:
        faults.kill("guard")
        cut = await asked
    charged = await settled(callers) - before
    calls = len(callers.deployment.sim.billing)
    refused = await callers.chat("alpha/words", "Asked when it was dead.")
    for outcome in (cut, refused):
        assert (outcome.http_status, outcome.reason) == (503, "GUARD_UNAVAILABLE")
        assert outcome.headers["retry-after"]
    assert charged > 0, "the provider had answered, so it is paid for"
    assert len(callers.deployment.sim.billing) == calls, "nothing unguarded leaves"
    await settled(callers)
    await faults.restart("guard")
    assert (await faults.recovered()).http_status == 200


@pytest.mark.chaos
async def test_a_guard_that_dies_in_mid_stream_ends_it_and_stops_the_provider(
    callers: MeshCallers, faults: Faults
) -> None:
    sim = callers.deployment.sim
    left = len(sim.stats.cancelled)
    streaming = asyncio.create_task(callers.chat_stream("alpha/endless", "Until the guard dies."))
    # Past the guard's window, so that text has been shown.
    await sim.wait_until(lambda: sim.stats.in_flight > 0)
    await asyncio.sleep(1)
    faults.kill("guard")
    outcome = await streaming
    assert outcome.text, "what was checked before stays"
    assert (outcome.http_status, outcome.reason, outcome.done) == (200, "GUARD_UNAVAILABLE", False)
    await sim.wait_until(lambda: len(sim.stats.cancelled) > left)


async def test_without_cache_everything_passes_and_says_so(callers: MeshCallers, faults: Faults) -> None:
    async with in_flight(callers, "alpha/late", "Asked while the cache lived.") as asked:
        faults.kill("cache")
        assert (await asked).http_status == 200
    outcome = await callers.chat("alpha/words", "Asked when it was dead.")
    assert outcome.http_status == 200
    assert outcome.headers["x-cache"] == "bypass"
    assert outcome.report["degraded"] == ["cache"]
    await faults.restart("cache")
    assert (await faults.recovered()).report["degraded"] == []


async def test_without_ledger_nothing_is_spent_and_no_commit_is_lost(callers: MeshCallers, faults: Faults) -> None:
    before = await settled(callers)
    async with in_flight(callers, "alpha/late", "Reserved while the ledger lived.") as asked:
        faults.kill("ledger")
        answered = await asked
    assert answered.http_status == 200, "it was reserved for"
    calls = len(callers.deployment.sim.billing)
    refused = await callers.chat("alpha/words", "Asked when it was dead.")
    assert (refused.http_status, refused.reason) == (503, "BUDGET_UNAVAILABLE")
    assert refused.headers["retry-after"]
    assert len(callers.deployment.sim.billing) == calls, "nothing unaccounted leaves"
    await faults.restart("ledger")
    assert await settled(callers) - before == answered.cost_nano_usd > 0
