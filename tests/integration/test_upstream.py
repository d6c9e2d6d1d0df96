"""Providers that fail: the next candidate answers, or the caller learns what happened; what may be billed is booked."""

from __future__ import annotations

import asyncio

import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from tests.support.accounts import Accounts
from tests.support.callers import MeshCallers, user
from tests.support.golden_files import check_golden
from tests.support.mesh_settings import ACME

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("fault", ["429", "500", "timeout"])
async def test_the_second_candidate_answers(callers: MeshCallers, accounts: Accounts, fault: str) -> None:
    # A try that timed out may be billed, and nobody said how much.
    accounts.estimated = fault == "timeout"
    found = await callers.complete(pb.Conversation(messages=user("Somebody, answer."), model=f"after-{fault}"))
    streamed = await callers.chat_stream(f"after-{fault}-stream", "Somebody, answer in pieces.")
    assert found.report["model"] == "beta/words"
    assert streamed.report["model"] == "beta/essay"
    tries = [attempt["outcome"] for attempt in streamed.report["attempts"]]
    assert tries[-1] == "succeeded"
    assert len(tries) == 2
    check_golden(f"fallback-{fault}", {"grpc": found.compared(), "http-stream": streamed.compared()})


async def test_when_nobody_answers(callers: MeshCallers, accounts: Accounts) -> None:
    accounts.estimated = True
    found = {
        "429": await callers.chat("alpha/limited-alone", "Anyone?"),
        "500": await callers.chat("alpha/failing-alone", "Anyone?"),
        "timeout": await callers.chat("alpha/hanging-alone", "Anyone?"),
    }
    assert [outcome.http_status for outcome in found.values()] == [429, 502, 502]
    check_golden("upstream-failed", {name: outcome.compared() for name, outcome in found.items()})


async def test_while_a_provider_limits_us_callers_are_told_so_and_until_when(callers: MeshCallers) -> None:
    """The first call meets the limit, the second finds the model shut: one fact, one answer."""
    found = [await callers.chat("alpha/limited-alone", f"Anyone, call {number}?") for number in range(2)]
    assert [(outcome.http_status, outcome.reason) for outcome in found] == [(429, "UPSTREAM_RATE_LIMITED")] * 2
    assert all(0 < outcome.body["llmops"]["retry_after_s"] <= 60 for outcome in found), "the simulator asks for 60 s"


async def test_a_stream_that_breaks_off_keeps_its_text_and_says_so(callers: MeshCallers, accounts: Accounts) -> None:
    accounts.estimated = True
    over_grpc = await callers.complete_stream(pb.Conversation(messages=user("Tell me more."), model="alpha/cut"))
    over_http = await callers.chat_stream("alpha/cut", "Tell me even more.")
    for outcome in (over_grpc, over_http):
        assert outcome.reason == "UPSTREAM_STREAM_CUT", outcome.error
        assert len(outcome.text) > 100, "what was checked before the cut is delivered"
        assert not outcome.done
    assert over_http.http_status == 200
    # How much of the text had left the guard's window when the connection broke is a race of packets.
    full = "The simulated provider answers with plain words"
    assert over_grpc.text.startswith(full)
    assert over_http.text.startswith(full)
    failures = {name: outcome.compared()["error"] for name, outcome in (("grpc", over_grpc), ("http", over_http))}
    check_golden("stream-cut", failures)


async def test_explain_tells_what_happened(callers: MeshCallers, accounts: Accounts) -> None:
    answered = await callers.chat("alpha/words", "Explain this later.")
    refused = await callers.chat("alpha/unpriced", "Explain this refusal.")
    found = await callers.explain(answered.request_id)
    failed = await callers.explain(refused.request_id)
    assert isinstance(found, pb.ExplainResponse)
    assert isinstance(failed, pb.ExplainResponse)
    assert (found.status, found.report.cost_nano_usd) == ("OK", answered.cost_nano_usd)
    assert (failed.status, failed.reason) == ("FAILED_PRECONDITION", "MODEL_UNPRICED")
    assert failed.message == refused.body["error"]["message"]


async def test_explain_keeps_organisations_apart(callers: MeshCallers, accounts: Accounts) -> None:
    from tests.support.mesh_settings import GLOBEX  # noqa: PLC0415

    answered = await callers.chat("alpha/words", "Not for others.", ACME)
    foreign = await callers.explain(answered.request_id, GLOBEX)
    assert not isinstance(foreign, pb.ExplainResponse)
    assert foreign.reason == "NOT_FOUND"


@pytest.mark.parametrize("stream", [False, True])
async def test_no_caller_names_the_address_that_the_providers_key_goes_to(
    callers: MeshCallers, accounts: Accounts, *, stream: bool
) -> None:
    """BerriAI/litellm#37053, #24952, #31467: a request's api_base, also a nested one, led the operator's key away."""
    accounts.estimated = True
    reached: list[bytes] = []

    async def trap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(trap, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    names = ("api_base", "base_url", "api_base_url", "endpoint")
    asks: list[dict[str, object]] = [{name: url} for name in names]
    asks += [{"extra_body": {name: url}} for name in names]
    asks += [{"llmops": {name: url}} for name in names]
    asks += [{"metadata": dict.fromkeys(names, url)}, {"extra_headers": {"x-api-base": url}}]
    asks += [{"litellm_params": {"api_base": url}}, {"provider": {"base_url": url}}, {"model": f"{url}/alpha/words"}]
    statuses = set()
    async with server:
        for ask in asks:
            body = {"model": "alpha/words", "messages": [{"role": "user", "content": "Where to?"}], "stream": stream}
            headers = {"x-api-base": url, "x-forwarded-host": url, "x-litellm-api-base": url}
            async with callers.post(body | ask, headers=headers) as (_, response):
                statuses.add(response.status)
                await response.read()
    assert statuses <= {200, 400, 404}
    assert 200 in statuses, "what nobody knows is passed on to the provider that the operator named"
    assert reached == []
