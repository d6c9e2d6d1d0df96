"""Answers that two models are billed for: a hedge and a continuation, from the caller's answer to the ledger."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.router.v1 import router_pb2

from tests.support.accounts import Accounts, settled, usage
from tests.support.callers import MeshCallers, user
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


async def _read(call: Any) -> None:
    async for _ in call:
        pass


async def _wait(call: Any) -> None:
    await call


@pytest.mark.parametrize(
    ("route", "streamed", "tries"),
    [
        ("left-after-500", False, ["REFUSED", "UNSPECIFIED"]),
        ("left-after-500-stream", True, ["REFUSED", "UNSPECIFIED"]),
        ("left-after-timeout", False, ["TIMED_OUT", "UNSPECIFIED"]),
        ("left-after-timeout", True, ["TIMED_OUT", "UNSPECIFIED"]),
        ("left-hedged", False, ["UNSPECIFIED", "UNSPECIFIED"]),
        ("left-hedged", True, ["UNSPECIFIED", "UNSPECIFIED"]),
        ("left-going-on", True, ["BROKEN", "UNSPECIFIED"]),
    ],
)
async def test_who_leaves_pays_for_every_model_that_is_at_work(
    callers: MeshCallers, accounts: Accounts, route: str, tries: list[str], *, streamed: bool
) -> None:
    """It was one call of the plan's first candidate: half the bill of two, and at another's price where that failed."""
    accounts.estimated = True
    sim, before = callers.deployment.sim, await settled(callers)
    began, asked, request_id = len(sim.billing), sim.stats.requests, callers.new_request(ACME)
    at_work = tries.count("UNSPECIFIED")
    conversation = pb.Conversation(messages=user("I leave. " * 50), model=route, cache=pb.CacheControl(bypass=True))
    stub, metadata = callers.orchestrator, callers.metadata(ACME)
    if streamed:
        request = pb.CompleteStreamRequest(request_id=request_id, conversation=conversation)
        call = stub.CompleteStream(request, metadata=metadata, timeout=20)
        reading = asyncio.ensure_future(_read(call))
    else:
        whole = pb.CompleteRequest(request_id=request_id, conversation=conversation)
        call = stub.Complete(whole, metadata=metadata, timeout=20)
        reading = asyncio.ensure_future(_wait(call))
    await sim.wait_until(lambda: (sim.stats.requests - asked, sim.stats.in_flight) == (2, at_work))
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await sim.wait_until(lambda: sim.stats.in_flight == 0)
    booked = await settled(callers) - before
    found = await callers.explain(request_id)
    assert isinstance(found, pb.ExplainResponse)
    outcomes = [router_pb2.AttemptOutcome.Name(attempt.outcome) for attempt in found.report.attempts]
    assert outcomes == [f"ATTEMPT_OUTCOME_{name}" for name in tries]
    assert booked == found.report.cost_nano_usd >= sum(charged_nano_usd(record) for record in sim.billing[began:]) > 0
