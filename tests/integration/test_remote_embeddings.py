"""Vectors of a provider's model: the official client gets them, and the ledger books what the provider charges."""

from __future__ import annotations

import base64
import struct
from typing import Any

import openai
import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from llmops_cli.provider_sim.vectors import unit_vectors
from tests.integration.test_dialects import embedded
from tests.integration.test_guard import EMAIL
from tests.support.accounts import Accounts, settled
from tests.support.callers import MeshCallers
from tests.support.mesh_settings import ACME, INPUT_USD, charged_nano_usd

pytestmark = pytest.mark.timeout(120)

TEXTS = ["The ferry leaves at noon.", "Dogs travel free.", "On Sundays at ten."]
SPACE = "vectors"


async def remote(callers: MeshCallers, model: str, wanted: Any, **more: Any) -> Any:
    """As `embedded`, with an id that the accounts remember."""
    return await embedded(callers, wanted, headers={"x-request-id": callers.new_request(ACME)}, model=model, **more)


def expected(texts: list[str], dimensions: int = 1536) -> list[list[float]]:
    found: list[list[float]] = unit_vectors(texts, dimensions).tolist()
    return found


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("encoding_format", ["float", "base64", None])
async def test_vectors_cost_what_the_provider_charges(callers: MeshCallers, encoding_format: str | None) -> None:
    sim, before = callers.deployment.sim, await settled(callers)
    began = len(sim.billing)
    asked = {} if encoding_format is None else {"encoding_format": encoding_format}
    raw = await remote(callers, "alpha/vectors", TEXTS, **asked)
    answer = raw.parse()
    (bill,) = sim.billing[began:]
    assert (bill.path, bill.model, bill.outcome) == ("/v1/embeddings", "vectors", "completed")
    found = [row.embedding for row in answer.data]
    if encoding_format == "base64":  # asked for by name, the client hands it over as it came
        found = [list(struct.unpack("<1536f", base64.b64decode(row))) for row in found]
    assert found == expected(TEXTS)
    assert (answer.llmops["model"], answer.llmops["vector_space"]) == ("alpha/vectors", SPACE)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == bill.billed_input_tokens > 0
    booked = await settled(callers) - before
    assert booked == charged_nano_usd(bill) == 1000 * INPUT_USD * bill.billed_input_tokens
    assert answer.llmops["cost_nano_usd"] == int(raw.headers["x-llmops-cost-nano-usd"]) == booked


@pytest.mark.usefixtures("accounts")
async def test_a_text_by_itself_and_a_length_reach_the_provider(callers: MeshCallers) -> None:
    answer = (await remote(callers, "alpha/vectors", TEXTS[0], dimensions=8)).parse()
    assert [row.embedding for row in answer.data] == expected(TEXTS[:1], 8)


@pytest.mark.usefixtures("accounts")
async def test_the_provider_sees_what_the_guard_left(callers: MeshCallers) -> None:
    answer = (await remote(callers, "alpha/vectors", f"Write to {EMAIL}.")).parse()
    assert answer.llmops["guard"]["input"]["decision"] == "mask"
    assert [row.embedding for row in answer.data] == expected(["Write to <EMAIL_1>."])


@pytest.mark.parametrize("fault", ["429", "500", "timeout"])
async def test_the_second_candidate_answers_in_the_same_space(
    callers: MeshCallers, accounts: Accounts, fault: str
) -> None:
    # A try that timed out may be billed, and nobody said how much.
    accounts.estimated = fault == "timeout"
    answer = (await remote(callers, f"vectors-after-{fault}", TEXTS)).parse()
    assert [row.embedding for row in answer.data] == expected(TEXTS)
    assert (answer.llmops["model"], answer.llmops["vector_space"]) == ("gamma/vectors", SPACE)
    tries = [attempt["outcome"] for attempt in answer.llmops["attempts"]]
    assert tries == [{"429": "rate_limited", "500": "refused", "timeout": "timed_out"}[fault], "succeeded"]


@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        ("limited", 429, "UPSTREAM_RATE_LIMITED"),
        ("failing", 502, "UPSTREAM_UNAVAILABLE"),
        ("hanging", 502, "UPSTREAM_UNAVAILABLE"),
        ("broken", 502, "UPSTREAM_UNAVAILABLE"),
    ],
)
async def test_when_nobody_answers(
    callers: MeshCallers, accounts: Accounts, model: str, status: int, reason: str
) -> None:
    # A provider that refuses charges nothing; one that was left or said nonsense may.
    accounts.estimated = model in {"hanging", "broken"}
    before = await settled(callers)
    with pytest.raises(openai.APIStatusError) as caught:
        await remote(callers, f"alpha/{model}-vectors-alone", TEXTS)
    told = caught.value.response.json()["llmops"]
    assert (caught.value.status_code, told["reason"]) == (status, reason)
    await callers.deployment.sim.wait_until(lambda: callers.deployment.sim.stats.in_flight == 0)
    explained = await callers.explain(callers.sent[-1][1])
    assert isinstance(explained, pb.ExplainResponse)
    booked = await settled(callers) - before
    assert (explained.reason, explained.report.cost_nano_usd) == (reason, booked)
    assert (booked > 0) == accounts.estimated
