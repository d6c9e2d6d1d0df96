"""What is paid for requests that did not end well: one test per row of docs/billing.md that no other module has.

The ledger is compared with the provider's own bill to the nano-USD where the provider said what it took; where it did
not, with the estimate of docs/billing.md, which is never below the bill.
"""

from __future__ import annotations

import json
import re

import asyncpg
import pytest
from llmops.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from tests.architecture.checkout import ROOT
from tests.support.accounts import Accounts, settled
from tests.support.callers import MeshCallers, user
from tests.support.mesh_settings import ACME, INPUT_USD, OUTPUT_USD, SUSPENDED, THRIFTY, charged_nano_usd

pytestmark = pytest.mark.timeout(120)

FRESH = {"llmops": {"cache": {"bypass": True}}}
_BYTES_PER_TOKEN = 3
_TOKENS_PER_REQUEST = 16


def estimate_nano_usd(text: str, output_bytes: int = 0) -> int:
    """The charge for a call whose end nobody saw."""
    input_tokens = -(-len(text.encode()) // _BYTES_PER_TOKEN) + _TOKENS_PER_REQUEST
    return 1000 * (INPUT_USD * input_tokens + OUTPUT_USD * -(-output_bytes // _BYTES_PER_TOKEN))


async def idle(callers: MeshCallers) -> None:
    """The provider works on nothing any more."""
    sim = callers.deployment.sim
    await sim.wait_until(lambda: sim.stats.in_flight == 0)


async def explained(callers: MeshCallers, request_id: str) -> pb.CallReport:
    """What the orchestrator remembers, once nothing is held any more."""
    await settled(callers)
    found = await callers.explain(request_id)
    assert isinstance(found, pb.ExplainResponse), found
    return found.report


async def left_after(callers: MeshCallers, model: str, text: str, marker: bytes) -> str:
    """Reads a stream until a line holds `marker`, then leaves. Returns the request's id."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **FRESH}
    async with callers.post(body) as (request_id, response):
        async for line in response.content:
            if marker in line:
                break
        response.close()
    return request_id


async def test_left_before_the_first_token(callers: MeshCallers, accounts: Accounts) -> None:
    """BerriAI/litellm#31499: leaving while waiting for the first token was not noticed and cost nothing."""
    accounts.estimated = True
    sim, text = callers.deployment.sim, "I leave before you begin."
    for complete in (True, False):
        before, running = await settled(callers), sim.stats.in_flight
        conversation = pb.Conversation(messages=user(text), model="alpha/late", cache=pb.CacheControl(bypass=True))
        request_id = callers.new_request(ACME)
        stub, metadata = callers.orchestrator, callers.metadata(ACME)
        if complete:
            call = stub.Complete(
                pb.CompleteRequest(request_id=request_id, conversation=conversation), metadata=metadata, timeout=20
            )
        else:
            call = stub.CompleteStream(
                pb.CompleteStreamRequest(request_id=request_id, conversation=conversation),
                metadata=metadata,
                timeout=20,
            )
        await sim.wait_until(lambda running=running: sim.stats.in_flight > running)  # type: ignore[misc]
        call.cancel()
        await idle(callers)
        assert sim.billing[-1].outcome == "cancelled"
        report = await explained(callers, request_id)
        assert report.cost_nano_usd == await settled(callers) - before == estimate_nano_usd(text)


async def test_left_in_mid_stream(callers: MeshCallers, accounts: Accounts) -> None:
    """etalab-ia/OpenGateLLM#1148: interrupted streams were neither billed nor released."""
    accounts.estimated = True
    before = await settled(callers)
    # Well into the answer: what the provider wrote and nobody had read yet is little then.
    request_id = await left_after(callers, "alpha/endless", "Go on.", b"billed")
    await idle(callers)
    report = await explained(callers, request_id)
    booked = await settled(callers) - before
    assert report.usage.estimated
    assert report.usage.output_tokens > 0
    tokens = INPUT_USD * report.usage.input_tokens + OUTPUT_USD * report.usage.output_tokens
    assert report.cost_nano_usd == booked == 1000 * tokens
    assert booked >= charged_nano_usd(callers.deployment.sim.billing[-1])


@pytest.mark.usefixtures("accounts")
async def test_left_after_the_last_token(callers: MeshCallers) -> None:
    """BerriAI/litellm#30527: an answer that had come whole was booked as one that was left."""
    before = await settled(callers)
    request_id = await left_after(callers, "alpha/essay", "Everything, please.", b'"finish_reason":"stop"')
    report = await explained(callers, request_id)
    assert not report.usage.estimated
    assert report.cost_nano_usd == await settled(callers) - before
    assert report.cost_nano_usd == charged_nano_usd(callers.deployment.sim.billing[-1])


@pytest.mark.usefixtures("accounts")
async def test_refused_by_the_provider(callers: MeshCallers) -> None:
    before = await settled(callers)
    outcome = await callers.chat("alpha/failing-alone", "Anyone?", **FRESH)
    assert outcome.http_status == 502
    assert await settled(callers) == before
    assert charged_nano_usd(callers.deployment.sim.billing[-1]) == 0


@pytest.mark.usefixtures("accounts")
async def test_a_retry_costs_what_the_successful_try_costs(callers: MeshCallers) -> None:
    """Augustas11/macprovider#200: each try was billed as if it had succeeded."""
    sim = callers.deployment.sim
    tries = []
    for number in range(2):
        began, before = len(sim.billing), await settled(callers)
        outcome = await callers.chat("again", f"Try twice. {number}", **FRESH)
        assert outcome.error is None
        charged = sum(charged_nano_usd(record) for record in sim.billing[began:])
        assert outcome.cost_nano_usd == await settled(callers) - before == charged
        tries.append(len(outcome.report["attempts"]))
    assert max(tries) == 2, "every second call fails"


async def test_a_stream_whose_budget_runs_out_is_cut_and_billed(callers: MeshCallers, accounts: Accounts) -> None:
    """A long answer spent what nobody had: nothing was asked after the first hold."""
    accounts.estimated = True
    sim = callers.deployment.sim
    conversation = pb.Conversation(
        messages=user("Tell all."), model="alpha/torrent", cache=pb.CacheControl(bypass=True)
    )
    over_grpc = await callers.complete_stream(conversation, THRIFTY)
    await idle(callers)
    assert over_grpc.error is not None
    assert (over_grpc.error.status, over_grpc.reason) == ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED")
    assert over_grpc.error.quota_violations
    assert over_grpc.text.startswith("The simulated provider"), "what had come is delivered"
    assert sim.billing[-1].outcome == "cancelled", "the provider was told"
    found = await callers.explain(over_grpc.request_id, THRIFTY)
    assert isinstance(found, pb.ExplainResponse)
    assert int(over_grpc.error.metadata["billed_nano_usd"]) == found.report.cost_nano_usd > 0
    assert found.report.cost_nano_usd >= charged_nano_usd(sim.billing[-1])


async def test_a_cut_over_http_is_the_last_event(callers: MeshCallers, accounts: Accounts) -> None:
    """BerriAI/litellm#41777: a cut in mid-stream came as a 400; diegosouzapw/OmniRoute#8210: or as an empty success."""
    accounts.estimated = True
    body = {"model": "alpha/torrent", "messages": [{"role": "user", "content": "Tell all."}], "stream": True, **FRESH}
    async with callers.post(body, THRIFTY) as (_, response):
        assert response.status == 200
        lines = [line async for line in response.content if line.startswith(b"data: ")]
    last = json.loads(lines[-1][6:])
    assert last["error"]["code"] == last["error"]["type"] == "insufficient_quota"
    assert int(last["llmops"]["metadata"]["billed_nano_usd"]) > 0
    assert all(b"[DONE]" not in line for line in lines)


async def test_a_provider_that_bills_although_cancelled(callers: MeshCallers) -> None:
    """F29, BerriAI/litellm#36008. What came is charged; the rest is what only the provider's invoice tells."""
    before = await settled(callers)
    request_id = await left_after(callers, "alpha/stubborn", "Bill me.", b'"content":"The')
    await idle(callers)
    report = await explained(callers, request_id)
    booked = await settled(callers) - before
    charged = charged_nano_usd(callers.deployment.sim.billing[-1])
    assert report.cost_nano_usd == booked < charged
    # What the invoice says beyond it is put right by an operator, to the nano-USD.
    stub = ledger_pb2_grpc.LedgerServiceStub(callers.channel("ledger"))
    correction = ledger_pb2.AdjustRequest(
        request_id=f"adjust-{request_id}",
        reservation_id=await _reservation_of(callers, booked),
        delta_nano_usd=charged - booked,
        reason="invoice",
    )
    adjusted: ledger_pb2.AdjustResponse = await stub.Adjust(  # type: ignore[misc]
        correction, metadata=callers.metadata(ACME), timeout=20
    )
    assert adjusted.booked_nano_usd == charged == await settled(callers) - before


@pytest.mark.usefixtures("accounts")
async def test_a_provider_whose_calls_are_read_to_their_end_is_booked_to_the_nano_usd(callers: MeshCallers) -> None:
    """F29, BerriAI/litellm#36008, with `drain_on_cancel`; the test above is its control.

    Left in mid-stream, before the first token, and as a whole answer.
    """
    sim, left = callers.deployment.sim, []
    began = len(sim.billing)
    left.append(await left_after(callers, "gamma/thorough", "Bill me.", b'"content":"The'))
    for complete in (True, False):
        running = sim.stats.in_flight
        left.append(callers.new_request(ACME))
        conversation = pb.Conversation(
            messages=user("I leave."), model="gamma/late", cache=pb.CacheControl(bypass=True)
        )
        request = pb.CompleteRequest if complete else pb.CompleteStreamRequest
        send = callers.orchestrator.Complete if complete else callers.orchestrator.CompleteStream
        call = send(
            request(request_id=left[-1], conversation=conversation), metadata=callers.metadata(ACME), timeout=20
        )
        await sim.wait_until(lambda running=running: sim.stats.in_flight > running)  # type: ignore[misc]
        call.cancel()
    await idle(callers)
    await settled(callers)
    bills = sim.billing[began:]
    assert [bill.outcome for bill in bills] == ["completed"] * 3
    for request_id in left:
        found = await callers.explain(request_id)
        assert isinstance(found, pb.ExplainResponse)
        assert (found.status, found.report.usage.estimated) == ("CANCELLED", False)
        assert found.report.cost_nano_usd in map(charged_nano_usd, bills)


async def test_a_stream_that_is_cut_or_blocked_is_read_to_its_end_too(callers: MeshCallers, accounts: Accounts) -> None:
    """Nothing is saved by ending the call: what is not booked now would be found in the invoice."""
    sim, before = callers.deployment.sim, await settled(callers)
    began = len(sim.billing)
    conversation = pb.Conversation(
        messages=user("Tell all."), model="gamma/torrent", cache=pb.CacheControl(bypass=True)
    )
    cut = await callers.complete_stream(conversation, THRIFTY)
    blocked = await callers.complete_stream(
        pb.Conversation(messages=user("Leak."), model="gamma/spilling", guard_policy="strict")
    )
    assert cut.error is not None
    assert (cut.reason, cut.error.metadata["billed_final"]) == ("BUDGET_EXHAUSTED", "false")
    assert blocked.reason == "OUTPUT_BLOCKED"
    await idle(callers)
    charged = [charged_nano_usd(bill) for bill in sim.billing[began:]]
    assert await settled(callers) - before == sum(charged)
    assert int(cut.error.metadata["billed_nano_usd"]) < max(charged)
    # What the two callers were told was not final.
    accounts.estimated = True


async def _reservation_of(callers: MeshCallers, booked_nano_usd: int) -> str:
    """Callers never see the id; an operator finds it in the journal."""
    connection = await asyncpg.connect(callers.deployment.database_url)
    try:
        question = "SELECT reservation_id FROM ledger.reservations WHERE booked_nano_usd = $1 ORDER BY expire_us DESC"
        return str(await connection.fetchval(question, booked_nano_usd))
    finally:
        await connection.close()


async def test_a_stream_that_broke_off_is_not_begun_again_elsewhere(callers: MeshCallers, accounts: Accounts) -> None:
    """NuGuardAI/nuguard#455, BerriAI/litellm#32835: after a cut the next model's answer came, both were paid."""
    accounts.estimated = True
    began = len(callers.deployment.sim.billing)
    outcome = await callers.chat_stream("after-cut", "Tell me more.", **FRESH)
    await idle(callers)
    assert outcome.reason == "UPSTREAM_STREAM_CUT"
    assert [record.model for record in callers.deployment.sim.billing[began:]] == ["cut"]
    assert outcome.error is not None
    assert len(json.loads(outcome.error.metadata["attempts_json"])) == 1


@pytest.mark.usefixtures("accounts")
async def test_no_path_of_the_edge_reaches_a_model_without_the_ledger(callers: MeshCallers) -> None:
    """maximhq/bifrost#2873: passthrough routes went past the budgets. An organisation without money tries them all."""
    began = len(callers.deployment.sim.billing)
    readme = (ROOT / "services/edge/README.md").read_text()
    paths = re.findall(r"`(GET|POST) (/[^`]*)`", readme)
    assert ("POST", "/v1/chat/completions") in paths
    headers = {"authorization": f"Bearer {SUSPENDED.key}"}
    for stream in (False, True):
        said = {"model": "alpha/words", "stream": stream}
        chat = {**said, "messages": [{"role": "user", "content": "Hello."}]}
        bodies = {
            "/v1/messages": {**chat, "max_tokens": 16},
            "/v1/responses": {**said, "input": "Hello."},
            "/v1/embeddings": {"model": "local/minilm", "input": "Hello."},
        }
        for method, path in paths:
            url = callers.deployment.http_url + path.replace("{name}", "alpha/words")
            sent = {"json": bodies.get(path, chat)} if method == "POST" else {}
            async with callers.http.request(method, url, headers=headers, **sent) as response:
                # Metrics are the admin port's, unless a mesh says otherwise.
                expected = 429 if method == "POST" else 404 if path == "/metrics" else 200
                assert response.status == expected, path
    assert len(callers.deployment.sim.billing) == began
