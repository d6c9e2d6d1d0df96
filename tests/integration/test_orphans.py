"""The ledger's database loses a reservation between Reserve and Commit: the money is booked all the same."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from tests.support.accounts import settled
from tests.support.callers import MeshCallers, user
from tests.support.mesh_settings import charged_nano_usd

pytestmark = pytest.mark.timeout(120)

# As a write that never reached the disk: neither the hold nor what the counters held for it is there any more.
_LOSE = """
WITH lost AS (
    DELETE FROM ledger.reservations WHERE state = 1 RETURNING held_nano_usd, counter_ids
), of_counters AS (
    SELECT counter_id, sum(lost.held_nano_usd) AS held
    FROM lost, unnest(lost.counter_ids) AS counter_id GROUP BY counter_id
)
UPDATE ledger.counters SET held_nano_usd = counters.held_nano_usd - of_counters.held
FROM of_counters WHERE counters.counter_id = of_counters.counter_id AND counters.unit = 1
"""
_ORPHANS = "SELECT count(*) FROM ledger.events WHERE kind = 4"


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("stream", [False, True])
async def test_usage_of_a_lost_reservation_is_booked_as_the_provider_bills_it(
    callers: MeshCallers, *, stream: bool
) -> None:
    """The fixture compares once more: what reports say, what is booked and what is charged are one sum."""
    sim, model = callers.deployment.sim, "alpha/unhurried" if stream else "alpha/late"
    began, spent = len(sim.billing), await settled(callers)
    asked = pb.Conversation(messages=user("Lose my hold."), model=model, cache=pb.CacheControl(bypass=True))
    connection = await asyncpg.connect(callers.deployment.database_url)
    try:
        orphans = await connection.fetchval(_ORPHANS)
        asking = asyncio.ensure_future((callers.complete_stream if stream else callers.complete)(asked))
        await sim.wait_until(lambda: sim.stats.in_flight > 0)
        assert await connection.execute(_LOSE) != "UPDATE 0", "a reservation was lost"
        answered = await asking
        assert answered.error is None
        async with asyncio.timeout(10):
            while await connection.fetchval(_ORPHANS) == orphans:
                await asyncio.sleep(0.02)
        assert await connection.fetchval(_ORPHANS) == orphans + 1
    finally:
        await connection.close()
    assert await settled(callers) - spent == charged_nano_usd(sim.billing[began]) == answered.cost_nano_usd
