"""Answers that two models are billed for: a hedge and a continuation, from the caller's answer to the ledger."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.accounts import Accounts, settled, usage
from tests.support.callers import MeshCallers
from tests.support.mesh_settings import ACME, INPUT_USD, OUTPUT_USD, charged_nano_usd

pytestmark = pytest.mark.timeout(120)

FRESH = {"llmops": {"cache": {"bypass": True}}}


def _tokens(usage: dict[str, object]) -> int:
    return INPUT_USD * int(str(usage.get("input_tokens", 0))) + OUTPUT_USD * int(str(usage.get("output_tokens", 0)))


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_that_lost_is_booked_beside_the_answer(
    callers: MeshCallers, accounts: Accounts, *, streamed: bool
) -> None:
    accounts.estimated = True
    sim, before = callers.deployment.sim, await settled(callers)
    began = len(sim.billing)
    outcome = await (callers.chat_stream if streamed else callers.chat)("hedged", "Somebody, be quick.", **FRESH)
    await sim.wait_until(lambda: sim.stats.in_flight == 0)
    tries = outcome.report["attempts"]
    assert outcome.error is None
    assert [(attempt["model"], attempt["outcome"]) for attempt in tries] == [
        ("late", "cancelled"),
        ("words", "succeeded"),
    ]
    booked = await settled(callers) - before
    charged = {record.model: charged_nano_usd(record) for record in sim.billing[began:]}
    assert set(charged) == {"late", "words"}
    assert booked >= sum(charged.values())
    assert booked > 2 * charged["words"] - 1000 * OUTPUT_USD, "the lost one is booked at the length of the answer"


async def test_the_hold_covers_a_request_that_lost(callers: MeshCallers, accounts: Accounts) -> None:
    """It covered one call of the two, and each hedge was an overrun."""
    accounts.estimated = True
    before = await settled(callers)
    asking = asyncio.ensure_future(callers.chat("hedged-held", "Somebody, hurry.", max_tokens=16, **FRESH))
    held = 0
    async with asyncio.timeout(10):
        while not held:
            held = (await usage(callers, ACME))[1]
    outcome = await asking
    assert [attempt["outcome"] for attempt in outcome.report["attempts"]] == ["cancelled", "succeeded"]
    await callers.deployment.sim.wait_until(lambda: callers.deployment.sim.stats.in_flight == 0)
    booked = await settled(callers) - before
    assert held // 2 < booked <= held, "the hold of one call would have been overrun"


async def test_both_parts_of_an_answer_are_booked(callers: MeshCallers, accounts: Accounts) -> None:
    accounts.estimated = True
    sim, before = callers.deployment.sim, await settled(callers)
    began = len(sim.billing)
    outcome = await callers.chat_stream("goes-on", "Tell me more.", **FRESH)
    assert outcome.error is None
    assert outcome.done
    assert outcome.report["model"] == "beta/essay"
    assert [attempt["outcome"] for attempt in outcome.report["attempts"]] == ["broken", "succeeded"]
    await sim.wait_until(lambda: sim.stats.in_flight == 0)
    booked = await settled(callers) - before
    charged = {record.model: charged_nano_usd(record) for record in sim.billing[began:]}
    assert set(charged) == {"cut", "essay"}
    assert booked > charged["essay"] > 0
