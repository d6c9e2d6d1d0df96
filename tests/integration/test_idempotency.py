"""Requests with an idempotency key: one answer, one charge, over both protocols and in both deployments."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc.aio
import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from openai import AsyncOpenAI

from tests.support.accounts import Accounts, settled
from tests.support.callers import MeshCallers, user
from tests.support.mesh_settings import ACME, GLOBEX, SUSPENDED
from tests.support.outcomes import Outcome

pytestmark = pytest.mark.timeout(120)

FRESH = {"llmops": {"cache": {"bypass": True}}}
REPLAYED = "idempotent-replayed"


def new_key() -> dict[str, str]:
    return {"idempotency-key": f"it-{uuid.uuid4().hex}"}


def asked(text: str, model: str = "alpha/words") -> pb.Conversation:
    return pb.Conversation(messages=user(text), model=model, cache=pb.CacheControl(bypass=True))


def calls(callers: MeshCallers) -> int:
    return len(callers.deployment.sim.billing)


@pytest.mark.usefixtures("accounts")
async def test_later_duplicates_get_the_answer_and_no_charge(callers: MeshCallers) -> None:
    key, before = new_key(), calls(callers)
    first = await callers.chat("alpha/words", "Once, please.", headers=key, **FRESH)
    again = await callers.chat("alpha/words", "Once, please.", headers=key, **FRESH)
    assert calls(callers) == before + 1
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    assert again.text == first.text
    assert again.report.pop("replayed") is True
    assert again.report == first.report, "the report is that of the request that was paid for"
    assert again.body["id"] == first.body["id"]


@pytest.mark.usefixtures("accounts")
async def test_over_grpc_metadata_says_so(callers: MeshCallers) -> None:
    key, before = tuple(new_key().items()), calls(callers)
    found = []
    for _ in range(2):
        request = pb.CompleteRequest(request_id=callers.new_request(ACME), conversation=asked("Once over gRPC."))
        call = callers.orchestrator.Complete(request, metadata=(*callers.metadata(ACME), *key), timeout=20)
        response = await call
        trailers = {str(name): value for name, value in await call.trailing_metadata()}
        found.append((response.report.replayed, trailers.get(REPLAYED), response.completion))
    assert calls(callers) == before + 1
    assert [(replayed, trailer) for replayed, trailer, _ in found] == [(False, None), (True, "true")]
    assert found[0][2] == found[1][2]


@pytest.mark.usefixtures("accounts")
async def test_fifty_at_once_are_one_call(callers: MeshCallers) -> None:
    """Augustas11/macprovider#762: retries that were billed twice."""
    key, before = new_key(), calls(callers)
    found = await asyncio.gather(*(callers.chat("alpha/late", "All at once.", headers=key, **FRESH) for _ in range(50)))
    assert {outcome.http_status for outcome in found} == {200}
    assert len({outcome.text for outcome in found}) == 1
    assert sum(REPLAYED in outcome.headers for outcome in found) == 49
    assert calls(callers) == before + 1


@pytest.mark.usefixtures("accounts")
async def test_another_body_is_refused(callers: MeshCallers) -> None:
    key, before = new_key(), calls(callers)
    await callers.chat("alpha/words", "This one.", headers=key, **FRESH)
    other = await callers.chat("alpha/words", "That one.", headers=key, **FRESH)
    hotter = await callers.chat("alpha/words", "This one.", headers=key, temperature=1, **FRESH)
    over_grpc = await callers.complete(asked("Another RPC has keys of its own."), idempotency_key="shared")
    reused = await callers.complete(asked("Not the same."), idempotency_key="shared")
    for outcome in (other, hotter):
        assert (outcome.http_status, outcome.reason) == (409, "REQUEST_ID_REUSED")
        assert outcome.headers["x-should-retry"] == "false"
    assert over_grpc.error is None
    assert reused.error is not None
    assert (reused.error.status, reused.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert calls(callers) == before + 2


@pytest.mark.usefixtures("accounts")
async def test_keys_of_others_are_others(callers: MeshCallers) -> None:
    key, before = new_key(), calls(callers)
    mine = await callers.chat("alpha/words", "Mine.", ACME, headers=key, **FRESH)
    theirs = await callers.chat("alpha/words", "Mine.", GLOBEX, headers=key, **FRESH)
    assert mine.error is theirs.error is None
    assert REPLAYED not in theirs.headers
    assert calls(callers) == before + 2


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("sent", ["", "two words", "k" * 256])
async def test_what_cannot_be_a_key_is_refused_in_one_sentence(callers: MeshCallers, sent: str) -> None:
    over_http = await callers.chat("alpha/words", "Hello.", headers={"idempotency-key": sent})
    over_grpc = await callers.complete(asked("Hello."), idempotency_key=sent)
    for outcome in (over_http, over_grpc):
        assert outcome.reason == "INVALID_FIELD"
        assert outcome.error is not None
        assert "1 to 255 printable ASCII characters without spaces" in outcome.error.message
    assert over_http.http_status == 400


@pytest.mark.usefixtures("accounts")
async def test_a_refusal_that_cost_nothing_is_decided_anew(callers: MeshCallers) -> None:
    key = new_key()
    for _ in range(2):
        refused = await callers.chat("alpha/words", "No money.", SUSPENDED, headers=key)
        assert refused.reason == "BUDGET_EXHAUSTED"
        assert REPLAYED not in refused.headers
    first = await callers.chat("alpha/unpriced", "Anything?", headers=key)
    other = await callers.chat("alpha/words", "Something else.", headers=key, **FRESH)
    assert (first.reason, other.error) == ("MODEL_UNPRICED", None), "an unspent key is free again"


async def test_a_failure_that_cost_something_is_kept(callers: MeshCallers, accounts: Accounts) -> None:
    accounts.estimated = True
    key, before = new_key(), calls(callers)
    first = await callers.chat("alpha/hanging-alone", "Anyone?", headers=key, **FRESH)
    spent = await settled(callers)
    again = await callers.chat("alpha/hanging-alone", "Anyone?", headers=key, **FRESH)
    assert first.http_status == again.http_status == 502
    assert first.reason == again.reason
    assert (again.headers[REPLAYED], again.headers["x-should-retry"]) == ("true", "false")
    assert await settled(callers) == spent
    sim = callers.deployment.sim
    await sim.wait_until(lambda: sim.stats.in_flight == 0)
    assert calls(callers) == before + 1


@pytest.mark.usefixtures("accounts")
async def test_who_lost_the_connection_gets_the_answer_that_was_paid_for(callers: MeshCallers) -> None:
    sim, key, before = callers.deployment.sim, new_key(), calls(callers)
    lost = asyncio.ensure_future(callers.chat("alpha/late", "Do not forget me.", headers=key, **FRESH))
    await sim.wait_until(lambda: sim.stats.in_flight > 0)
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    again = await callers.chat("alpha/late", "Do not forget me.", headers=key, **FRESH)
    assert again.error is None
    assert again.headers[REPLAYED] == "true"
    assert again.cost_nano_usd > 0
    assert calls(callers) == before + 1


@pytest.mark.usefixtures("accounts")
async def test_a_duplicate_that_leaves_does_not_end_the_first(callers: MeshCallers) -> None:
    sim, key, before = callers.deployment.sim, tuple(new_key().items()), calls(callers)

    def ask(timeout_s: float) -> Any:
        request = pb.CompleteRequest(request_id=callers.new_request(ACME), conversation=asked("Wait.", "alpha/late"))
        return callers.orchestrator.Complete(request, metadata=(*callers.metadata(ACME), *key), timeout=timeout_s)

    first = ask(20)
    await sim.wait_until(lambda: sim.stats.in_flight > 0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED, "its own deadline"
    assert not (await first).report.replayed
    assert calls(callers) == before + 1


@pytest.mark.usefixtures("accounts")
async def test_a_streamed_answer_is_shown_again_as_a_stream(callers: MeshCallers) -> None:
    key, before = new_key(), calls(callers)
    first, again = [await callers.chat_stream("alpha/weather", "Stream once.", headers=key, **FRESH) for _ in range(2)]
    assert first.done
    assert again.done
    assert (again.text, again.tool_calls, again.finish) == (first.text, first.tool_calls, first.finish)
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    assert calls(callers) == before + 1


async def test_a_stream_under_way_is_refused_and_one_that_was_left_is_not_paid_for_again(
    callers: MeshCallers, accounts: Accounts
) -> None:
    accounts.estimated = True
    sim, key, before = callers.deployment.sim, new_key(), calls(callers)
    body = {"model": "alpha/endless", "messages": [{"role": "user", "content": "Go on."}], "stream": True, **FRESH}
    async with callers.post(body, headers=key) as (_, response):
        async for line in response.content:
            if b'"content":"The' in line:
                break
        meanwhile = await callers.chat_stream("alpha/endless", "Go on.", headers=key, **FRESH)
        assert (meanwhile.http_status, meanwhile.reason) == (409, "IDEMPOTENCY_IN_PROGRESS")
        assert meanwhile.headers["retry-after"] == "1"
        assert meanwhile.headers["x-should-retry"] == "true"
        response.close()
    await sim.wait_until(lambda: sim.stats.in_flight == 0)
    again = await _once_ended(callers, key)
    assert again.reason == "CANCELLED"
    assert again.text.startswith("The ")
    assert not again.done
    assert calls(callers) == before + 1


async def _once_ended(callers: MeshCallers, key: dict[str, str]) -> Outcome:
    async with asyncio.timeout(10):
        while True:
            again = await callers.chat_stream("alpha/endless", "Go on.", headers=key, **FRESH)
            if again.reason != "IDEMPOTENCY_IN_PROGRESS":
                return again
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("accounts")
async def test_the_official_client_repeats_with_its_key_and_pays_once(callers: MeshCallers) -> None:
    base_url, key, before = f"{callers.deployment.http_url}/v1", new_key(), calls(callers)
    async with AsyncOpenAI(base_url=base_url, api_key=ACME.key, max_retries=0) as client:
        found = []
        for _ in range(2):
            raw = await client.chat.completions.with_raw_response.create(
                model="alpha/words",
                messages=[{"role": "user", "content": "By the official client."}],
                extra_headers=key | {"x-request-id": callers.new_request(ACME)},
                extra_body=FRESH,
            )
            found.append((raw.parse().choices[0].message.content, raw.headers.get(REPLAYED)))
    assert found[0][0] == found[1][0]
    assert [replayed for _, replayed in found] == [None, "true"]
    assert calls(callers) == before + 1
