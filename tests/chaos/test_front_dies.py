"""kill -9 of registry, orchestrator and edge."""

from __future__ import annotations

import asyncio
import uuid

import asyncpg
import pytest

from tests.support.accounts import settled, usage
from tests.support.callers import MeshCallers
from tests.support.faults import Faults, in_flight
from tests.support.mesh_settings import ACME, INPUT_USD, charged_nano_usd
from tests.support.outcomes import Outcome

_DISPATCHED = "SELECT count(*) FROM ledger.reservations WHERE state = 1 AND dispatched"
_REPORTED = "SELECT max(spent_so_far_nano_usd) FROM ledger.reservations WHERE state = 1"

pytestmark = [pytest.mark.timeout(180), pytest.mark.chaos]

PROMPT = {"llmops": {"prompt": "greeting", "variables": {"name": "Ada"}, "cache": {"bypass": True}}}


async def test_without_registry_the_last_prompts_serve(callers: MeshCallers, faults: Faults) -> None:
    faults.kill("registry")
    outcome = await callers.chat("alpha/echo", "", **PROMPT)
    assert (outcome.http_status, outcome.text) == (200, "Say hello to Ada in English.")
    assert outcome.report["degraded"] == []


async def test_an_orchestrator_that_never_saw_the_registry_serves_what_needs_no_prompt(
    callers: MeshCallers, faults: Faults
) -> None:
    faults.kill("registry")
    faults.kill("orchestrator")
    await faults.restart("orchestrator")
    assert (await _answered(callers, "No prompt needed.")).error is None
    by_prompt = await callers.chat("alpha/echo", "", **PROMPT)
    assert (by_prompt.http_status, by_prompt.reason) == (503, "REGISTRY_UNAVAILABLE")
    await faults.restart("registry")
    assert (await faults.recovered()).http_status == 200, "it found the registry by itself"


async def test_a_killed_orchestrator_cuts_its_calls_and_its_holds_end(callers: MeshCallers, faults: Faults) -> None:
    """It dies between dispatch and commit: the provider is paid, and nobody is left to say how much."""
    before = await settled(callers)
    began = len(callers.deployment.sim.billing)
    # The hold outlives the request's deadline by half a minute; the deadline is therefore short.
    async with in_flight(callers, "alpha/late", "Cut.", headers={"x-llmops-timeout-s": "2"}) as asked:
        _, held = await usage(callers, ACME)
        await _seen(callers, _DISPATCHED, 0)
        faults.kill("orchestrator")
        cut = await asked
    assert held > 0
    assert (cut.http_status, cut.reason) == (503, "SERVICE_UNAVAILABLE")
    again = await callers.chat("alpha/words", "And now?")
    assert again.http_status == 503
    headers = {"authorization": f"Bearer {ACME.key}"}
    async with callers.http.get(f"{callers.deployment.http_url}/v1/models", headers=headers) as response:
        assert response.status == 503
    await faults.restart("orchestrator")
    answered = await _answered(callers, "And now?")
    async with asyncio.timeout(60):
        while (await usage(callers, ACME))[1]:
            await asyncio.sleep(0.5)
    # By rule: what is known is charged, which is the input that the hold assumed; the rest is released.
    known = await settled(callers) - before - answered.cost_nano_usd
    assert known == 1000 * INPUT_USD * (-(-len("Cut.") // 3) + 16)
    sim = callers.deployment.sim
    assert known >= charged_nano_usd(sim.billing[began])


async def test_a_stream_whose_orchestrator_was_killed_is_charged_what_it_had_reported(
    callers: MeshCallers, faults: Faults
) -> None:
    before = await settled(callers)
    input_nano_usd = 1000 * INPUT_USD * (-(-len("Go on.") // 3) + 16)
    body = {"model": "alpha/endless", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
    async with callers.post(body, headers={"x-llmops-timeout-s": "5"}):
        await _seen(callers, _REPORTED, input_nano_usd)
        faults.kill("orchestrator")
    await faults.restart("orchestrator")
    answered = await _answered(callers, "And what of it?")
    async with asyncio.timeout(60):
        while (await usage(callers, ACME))[1]:
            await asyncio.sleep(0.5)
    known = await settled(callers) - before - answered.cost_nano_usd
    assert known > input_nano_usd


async def test_an_answer_outlives_the_orchestrator_that_made_it(callers: MeshCallers, faults: Faults) -> None:
    """A client whose connection broke with the process asks again under its key: the same answer, and no charge."""
    headers = {"idempotency-key": f"chaos-{uuid.uuid4().hex}"}
    asked = {"headers": headers, "llmops": {"cache": {"bypass": True}}}
    first = await callers.chat("alpha/words", "Outlive me.", **asked)
    spent = await settled(callers)
    faults.kill("orchestrator")
    await faults.restart("orchestrator")
    async with asyncio.timeout(10):
        while (again := await callers.tried("alpha/words", "Outlive me.", **asked)).http_status == 503:
            await asyncio.sleep(0.05)
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.text, again.cost_nano_usd) == (first.text, first.cost_nano_usd)
    assert await settled(callers) == spent


async def test_a_killed_edge_is_a_lost_connection_and_nothing_more(callers: MeshCallers, faults: Faults) -> None:
    sim = callers.deployment.sim
    async with in_flight(callers, "alpha/late", "Over a connection that breaks.") as asked:
        left = len(sim.stats.cancelled)
        faults.kill("edge")
        cut = await asked
    assert cut.reason == "CONNECTION"
    await sim.wait_until(lambda: len(sim.stats.cancelled) > left)
    assert (await callers.tried("alpha/words", "Anyone?")).reason == "CONNECTION"
    await faults.restart("edge")
    assert (await callers.tried("alpha/words", "Anyone?")).http_status == 200


async def _seen(callers: MeshCallers, question: str, more_than: int) -> None:
    """Waits until the ledger's own table says so: no caller can see what it was told about a call under way."""
    connection = await asyncpg.connect(callers.deployment.database_url)
    try:
        async with asyncio.timeout(10):
            while ((await connection.fetchval(question)) or 0) <= more_than:
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def _answered(callers: MeshCallers, text: str) -> Outcome:
    """The first answer after the edge has found the orchestrator again."""
    async with asyncio.timeout(10):
        while (outcome := await callers.chat("alpha/words", text)).http_status != 200:
            await asyncio.sleep(0.05)
    return outcome
