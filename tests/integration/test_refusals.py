"""Requests that get no answer, and what their callers learn."""

from __future__ import annotations

import pytest
from llmops.common.v1 import chat_pb2
from llmops.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from openai import APIStatusError, AsyncOpenAI

from tests.support.accounts import settled
from tests.support.callers import MeshCallers, user
from tests.support.golden_files import check_golden
from tests.support.mesh_settings import NOBODY, POOR, SUSPENDED

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("accounts")]

_UNTIL_POOR = 20


async def test_a_budget_that_is_used_up(callers: MeshCallers) -> None:
    asked = {"max_tokens": 20, "llmops": {"cache": {"bypass": True}}}
    answered = 0
    while (found := await callers.chat("alpha/words", "One more.", POOR, **asked)).error is None:
        answered += 1
        assert answered < _UNTIL_POOR
        await settled(callers)
    assert answered > 0, "the first request fits"
    assert found.http_status == 429
    assert found.body["error"]["type"] == "insufficient_quota"
    assert found.headers["x-should-retry"] == "false"
    assert int(found.headers["retry-after"]) > 0, "a month ends: the header says when"
    again = pb.Conversation(messages=user("One more."), model="alpha/words", cache=pb.CacheControl(bypass=True))
    again.parameters.max_output_tokens = 20
    over_grpc = await callers.complete(again, POOR)
    assert over_grpc.error is not None
    assert over_grpc.error.quota_violations
    assert over_grpc.error.retry_after_s
    check_golden("budget", {"http": found.compared(), "reason": over_grpc.reason})


async def test_a_suspended_organisation(callers: MeshCallers) -> None:
    # Without a maximum the amount in the message would depend on what the model wrote for others.
    found = await callers.chat("alpha/words", "Anything?", SUSPENDED, max_tokens=20)
    streamed = await callers.chat_stream("alpha/words", "Anything, streamed?", SUSPENDED, max_tokens=20)
    assert found.reason == streamed.reason == "BUDGET_EXHAUSTED"
    assert "retry-after" not in found.headers
    # Who was refused has this id and no other.
    ledger = ledger_pb2_grpc.LedgerServiceStub(callers.channel("ledger"))
    asked = ledger_pb2.WhyBlockedRequest(request_id=found.headers["x-request-id"])
    why = await ledger.WhyBlocked(asked, metadata=callers.metadata(SUSPENDED))
    assert [violation.limit.cap_nano_usd for violation in why.violations] == [0]
    check_golden("suspended", {"http": found.compared(), "http-stream": streamed.compared()})


async def test_models_without_price_and_without_existence(callers: MeshCallers) -> None:
    calls = len(callers.deployment.sim.billing)
    found = {
        "unpriced": await callers.chat("alpha/unpriced", "What do you cost?"),
        "unknown": await callers.chat("alpha/wrods", "Who are you?"),
        "unknown-stream": await callers.chat_stream("alpha/wrods", "Who are you?"),
    }
    assert len(callers.deployment.sim.billing) == calls
    check_golden("models-refused", {name: outcome.compared() for name, outcome in found.items()})


async def test_invalid_requests_name_the_field(callers: MeshCallers) -> None:
    empty = pb.Conversation(model="alpha/words")
    hot = pb.Conversation(messages=user("Too hot."), model="alpha/words")
    hot.parameters.temperature = 9
    roleless = pb.Conversation(messages=[chat_pb2.ChatMessage(content="Who speaks?")], model="alpha/words")
    image = {"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}
    found = {
        "grpc-empty": await callers.complete(empty),
        "grpc-temperature": await callers.complete(hot),
        "grpc-role": await callers.complete_stream(roleless),
        "http-temperature": await callers.chat("alpha/words", "Too hot.", temperature=9),
        "http-empty": await callers.chat("alpha/words", ""),
        "http-n": await callers.chat("alpha/words", "Twice.", n=2),
        "http-type": await callers.chat("alpha/words", "Hello.", max_tokens="many"),
        "http-image": await callers.chat("alpha/words", "", messages=[{"role": "user", "content": [image]}]),
        "http-unknown": await callers.chat("alpha/words", "Hello.", documents=["unseen"]),
        "http-timeout": await callers.chat("alpha/words", "Hello.", headers={"x-llmops-timeout-s": "soon"}),
    }
    assert {outcome.reason for outcome in found.values()} == {"INVALID_FIELD"}
    check_golden("invalid", {name: outcome.compared() for name, outcome in found.items()})


async def test_credentials(callers: MeshCallers) -> None:
    found = {
        "http-unknown": await callers.chat("alpha/words", "Hello.", NOBODY),
        "http-none": await callers.chat("alpha/words", "Hello.", NOBODY, headers={"authorization": ""}),
        "grpc-unknown": await callers.complete(pb.Conversation(messages=user("Hello."), model="alpha/words"), NOBODY),
    }
    assert found["http-unknown"].http_status == 401
    check_golden("credentials", {name: outcome.compared() for name, outcome in found.items()})


async def test_the_openai_client_raises_its_own_errors(callers: MeshCallers) -> None:
    base_url = f"{callers.deployment.http_url}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key=SUSPENDED.key, max_retries=2) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.chat.completions.create(
                model="alpha/words",
                messages=[{"role": "user", "content": "Hello."}],
                extra_headers={"x-request-id": callers.new_request(SUSPENDED)},
            )
    assert caught.value.status_code == 429
    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")
