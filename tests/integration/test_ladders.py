"""What a caller gets when no model answers, or when the first answer is not trusted; and copies that he never sees."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llmops.identity.v1 import identity_pb2

from tests.integration.test_keys import asking, made_key
from tests.support.accounts import Accounts, settled
from tests.support.callers import MeshCallers
from tests.support.mesh_settings import GLOBEX, SORRY, charged_nano_usd

pytestmark = pytest.mark.timeout(120)

FRESH: dict[str, Any] = {"llmops": {"cache": {"bypass": True}}}
BRIEF: dict[str, Any] = {"llmops": {"cache": {"ttl_class": "volatile"}}}
# The time of a brief answer, and a little.
_OVER_S = 1.2
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CITY = {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": _SCHEMA}}}


@pytest.mark.parametrize("route", ["kept", "kept-rationed"])
async def test_an_answer_past_its_time_outlives_its_model(callers: MeshCallers, accounts: Accounts, route: str) -> None:
    text = f"What was it, {route}?"
    first = await callers.chat(route, text, **BRIEF)
    await settled(callers)
    await asyncio.sleep(_OVER_S)
    # The first of these finds out that the model is gone; of a model that asked for a pause the others know it before.
    again = [await callers.chat(route, text, **BRIEF) for _ in range(2)]
    again.append(await callers.chat_stream(route, text, **BRIEF))
    assert first.headers["x-cache"] == "miss"
    for outcome in again:
        assert (outcome.error, outcome.text) == (None, first.text)
        assert (outcome.headers["x-cache"], outcome.headers["x-llmops-degraded"]) == ("stale", "model")
        assert outcome.report["cache"]["status"] == "stale"
        assert outcome.report["cache"]["entry_id"]
        assert outcome.report["guard"]["output"]["decision"] == "allow", "as it was when it was kept"
        assert outcome.report["cost_nano_usd"] == 0
    other = await callers.chat(route, "Something else.", **BRIEF)
    # Its provider asked for the pause: whoever gets no answer is told so, as by the call that met the limit.
    assert (other.text, other.http_status) == ((SORRY, 200) if route == "kept" else ("", 429))


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_apology_is_marked_and_neither_cached_nor_kept_for_a_duplicate(
    callers: MeshCallers, accounts: Accounts, *, streamed: bool
) -> None:
    ask, route = (callers.chat_stream, "sorry-stream") if streamed else (callers.chat, "sorry")
    key = {"idempotency-key": f"{callers.deployment.name}-{route}"}
    for _ in range(2):
        outcome = await ask(route, "Is anybody there?", headers=key)
        assert (outcome.http_status, outcome.text) == (200, SORRY)
        assert outcome.headers["x-llmops-degraded"] == "model"
        assert outcome.headers["x-cache"] in ("miss", "bypass")
        assert "idempotent-replayed" not in outcome.headers
        assert outcome.report["finish_reason"] == "stop"
        assert [attempt["outcome"] for attempt in outcome.report["attempts"]] == ["refused"]
        assert outcome.report["cost_nano_usd"] == 0
    refused = await callers.chat("sorry", "By a schema?", **CITY)
    assert refused.http_status == 502, "whoever reads an answer by a schema gets the error"


async def test_an_answer_that_is_not_trusted_is_paid_for_and_the_next_model_answers(
    callers: MeshCallers, accounts: Accounts
) -> None:
    sim, before = callers.deployment.sim, await settled(callers)
    began = len(sim.billing)
    outcome = await callers.chat("cascade", "Which city?", **CITY, **FRESH)
    assert (outcome.error, outcome.text) == (None, '{"city": "Paris"}')
    assert [attempt["model"] for attempt in outcome.report["attempts"]] == ["bad-city", "city"]
    assert outcome.report["model"] == "alpha/city"
    charged = [charged_nano_usd(record) for record in sim.billing[began:]]
    assert len(charged) == 2
    booked = await settled(callers) - before
    assert outcome.report["cost_nano_usd"] == booked == sum(charged)
    # Nobody rates answers here, which the call before was to find out: within a minute nobody pays twice for it.
    unrated = await callers.chat("cascade", "Which city, then?", **FRESH)
    assert [attempt["model"] for attempt in unrated.report["attempts"]] == ["city"]
    assert unrated.headers["x-llmops-degraded"] == "confidence"
    assert len(sim.billing) - began == 3


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_copy_is_booked_and_nobody_sees_it(callers: MeshCallers, *, streamed: bool) -> None:
    sim, before = callers.deployment.sim, await settled(callers)
    began = len(sim.billing)
    ask = callers.chat_stream if streamed else callers.chat
    outcome = await ask("shadowed", "Look at this.", **FRESH)
    async with asyncio.timeout(10):
        await sim.wait_until(lambda: len(sim.billing) - began == 2)
    charged = {record.model: charged_nano_usd(record) for record in sim.billing[began:]}
    assert set(charged) == {"words", "capital"}
    assert [attempt["model"] for attempt in outcome.report["attempts"]] == ["words"]
    assert outcome.report["cost_nano_usd"] == charged["words"]
    assert "Paris" not in outcome.text
    await _counted(callers, "answered")
    assert await settled(callers) - before == sum(charged.values())


async def test_a_hit_is_not_copied_and_a_copy_without_budget_is_dropped(
    callers: MeshCallers, accounts: Accounts
) -> None:
    sim = callers.deployment.sim
    began, denied = len(sim.billing), await _count(callers, "denied")
    first = await callers.chat("shadowed", "Once and again.", GLOBEX)
    await _counted(callers, "denied", above=denied)
    again = await callers.chat("shadowed", "Once and again.", GLOBEX)
    assert (first.headers["x-cache"], again.headers["x-cache"]) == ("miss", "exact")
    assert [record.model for record in sim.billing[began:]] == ["words"]
    assert await _count(callers, "denied") == denied + 1


async def test_a_key_that_may_not_use_the_shadows_model_gets_its_answer_and_no_copy(
    callers: MeshCallers, accounts: Accounts
) -> None:
    _, caller = await made_key(callers, scopes=identity_pb2.KeyScopes(models=["alpha/words"]))
    began, failed = len(callers.deployment.sim.billing), await _count(callers, "failed")
    conversation = asking("shadowed")
    assert (await callers.complete(conversation, caller)).error is None
    await _counted(callers, "failed", above=failed)
    assert [record.model for record in callers.deployment.sim.billing[began:]] == ["words"]


async def _counted(callers: MeshCallers, outcome: str, above: float = 0.0) -> None:
    async with asyncio.timeout(10):
        while await _count(callers, outcome) <= above:
            await asyncio.sleep(0.02)


async def _count(callers: MeshCallers, outcome: str) -> float:
    admin = callers.deployment.admin
    address = admin.get("orchestrator") or admin["all"]
    async with callers.http.get(f"http://{address}/metrics") as response:
        text = await response.text()
    named = f'llmops_orchestrator_shadow_calls_total{{model="alpha/capital",outcome="{outcome}"}}'
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(named))
