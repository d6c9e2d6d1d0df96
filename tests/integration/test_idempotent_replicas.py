"""Duplicates that reach two live orchestrators at the same time are one call and one charge."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from tests.support.accounts import settled
from tests.support.callers import user
from tests.support.mesh_settings import charged_nano_usd
from tests.support.orchestrator_pair import LOCK_S, Pair, orchestrator_pair

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[Pair]:
    async with orchestrator_pair(tmp_path_factory.mktemp("pair") / "home", postgres_url) as running:
        yield running


def asked(text: str, model: str) -> pb.Conversation:
    return pb.Conversation(messages=user(text), model=model, cache=pb.CacheControl(bypass=True))


@pytest.mark.parametrize("each", [1, 20])
async def test_duplicates_over_two_processes_are_one_call(pair: Pair, each: int) -> None:
    """Augustas11/macprovider#762, maximhq/bifrost#3547: what one replica knew the other did not."""
    sim, key = pair.one.deployment.sim, f"pair-{uuid.uuid4().hex}"
    before, spent = len(sim.billing), await settled(pair.one)
    question = asked(f"All at once, {each} each.", "alpha/late")
    calls = [caller.complete(question, idempotency_key=key) for caller in (pair.one, pair.two) for _ in range(each)]
    found = await asyncio.gather(*calls)
    assert {outcome.reason for outcome in found} == {""}
    assert len({(outcome.text, outcome.cost_nano_usd) for outcome in found}) == 1
    assert sum(not outcome.report.get("replayed") for outcome in found) == 1
    assert len(sim.billing) == before + 1
    assert await settled(pair.one) - spent == charged_nano_usd(sim.billing[before]) == found[0].cost_nano_usd


async def test_a_call_longer_than_the_lock_is_not_begun_again(pair: Pair) -> None:
    """Its owner lives and says so: without renewal the second orchestrator would take it over after two seconds."""
    sim, key, before = pair.one.deployment.sim, f"pair-{uuid.uuid4().hex}", len(pair.one.deployment.sim.billing)
    question = asked("Take your time.", "alpha/slow")
    began_s = time.monotonic()
    first = asyncio.ensure_future(pair.one.complete(question, idempotency_key=key))
    await sim.wait_until(lambda: sim.stats.in_flight > 0)
    again = await pair.two.complete(question, idempotency_key=key)
    made = await first
    assert time.monotonic() - began_s > 2 * LOCK_S
    assert made.error is again.error is None
    assert again.report["replayed"] is True
    assert again.text == made.text
    assert len(sim.billing) == before + 1
