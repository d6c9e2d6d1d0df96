"""kill -9 of an orchestrator in the middle of a keyed request: who asks again elsewhere has the answer soon."""

from __future__ import annotations

import asyncio
import time
import uuid

import asyncpg
import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from tests.support.accounts import settled, usage
from tests.support.callers import user
from tests.support.mesh_settings import ACME, INPUT_USD, charged_nano_usd
from tests.support.orchestrator_pair import LOCK_S, orchestrator_pair

pytestmark = [pytest.mark.timeout(240), pytest.mark.chaos]

# Beside the lock: the answer itself (1 s), and a busy machine.
_SLACK_S = 8.0
_DISPATCHED = "SELECT count(*) FROM ledger.reservations WHERE state = 1 AND dispatched"
_TEXT = "Outlive your orchestrator."


async def test_a_duplicate_takes_over_from_a_killed_orchestrator(
    tmp_path_factory: pytest.TempPathFactory, postgres_url: str
) -> None:
    async with orchestrator_pair(tmp_path_factory.mktemp("takeover") / "home", postgres_url) as pair:
        sim, key = pair.one.deployment.sim, f"takeover-{uuid.uuid4().hex}"
        spent, began = await settled(pair.two), len(sim.billing)
        conversation = pb.Conversation(messages=user(_TEXT), model="alpha/late", cache=pb.CacheControl(bypass=True))
        # The hold outlives the request's deadline by half a minute; the deadline is therefore short.
        asking = asyncio.ensure_future(pair.one.complete(conversation, timeout_s=3, idempotency_key=key))
        await sim.wait_until(lambda: sim.stats.in_flight > 0)
        await _dispatched(pair.two.deployment.database_url)
        pair.faults.kill("one")
        killed_s = time.monotonic()
        assert (await asking).error is not None
        again = await pair.two.complete(conversation, idempotency_key=key)
        took_s = time.monotonic() - killed_s
        assert again.error is None
        assert not again.report.get("replayed"), "nobody else had an answer"
        assert took_s < LOCK_S + _SLACK_S
        third = await pair.two.complete(conversation, idempotency_key=key)
        assert (third.text, third.report["replayed"]) == (again.text, True)
        async with asyncio.timeout(90):
            while (await usage(pair.two, ACME))[1]:
                await asyncio.sleep(0.5)
        # docs/billing.md: of the killed one what is known, the input that its hold assumed; of the second its count.
        known = 1000 * INPUT_USD * (-(-len(_TEXT) // 3) + 16)
        assert await settled(pair.two) - spent == known + again.cost_nano_usd
        cancelled, answered = sim.billing[began:]
        assert again.cost_nano_usd == charged_nano_usd(answered)
        assert known >= charged_nano_usd(cancelled)


async def _dispatched(database_url: str) -> None:
    """Waits for the mark that a call has left: it goes to the ledger beside the call."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(10):
            while not await connection.fetchval(_DISPATCHED):
                await asyncio.sleep(0.01)
    finally:
        await connection.close()
