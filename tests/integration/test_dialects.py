"""The same mesh behind every HTTP dialect: guard, cache, budgets, keys and scopes hold on each as they hold on chat.

BerriAI/litellm#35257: a guard that chat had was skipped on streamed /v1/messages, and the audit row said success.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from llmops.identity.v1 import identity_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from openai import AsyncOpenAI

from tests.integration.test_guard import EMAIL, INJECTION
from tests.integration.test_keys import made_key
from tests.support.accounts import Accounts
from tests.support.callers import TIMEOUT_S, MeshCallers
from tests.support.mesh_settings import ACME, LEAKED, MINILM, NOBODY, SUSPENDED, Caller

pytestmark = pytest.mark.timeout(120)

BYPASS = {"cache": {"bypass": True}}
DIALECTS = ("responses", "messages")
RUNS = [(dialect, stream) for dialect in DIALECTS for stream in (False, True)]
by_run = pytest.mark.parametrize(("dialect", "stream"), RUNS)


@dataclass
class Found:
    """What a client saw: text and reports, or the body of the error."""

    text: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    ended: bool = False
    http_status: int = 200
    error: dict[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        return str(self.error["llmops"]["reason"]) if self.error else ""


class Clients:
    """The official clients of both vendors, with keys of the suite."""

    def __init__(self, callers: MeshCallers) -> None:
        self._callers = callers

    async def ask(
        self,
        dialect: str,
        model: str,
        text: str,
        caller: Caller = ACME,
        *,
        stream: bool = False,
        headers: Mapping[str, str] | None = None,
        llmops: Mapping[str, Any] = BYPASS,
    ) -> Found:
        """One question. Errors of the client are found, not raised."""
        sent = {"x-request-id": self._callers.new_request(caller), **(headers or {})}
        found, url = Found(), self._callers.deployment.http_url
        more: dict[str, Any] = {"extra_headers": sent, "extra_body": {"llmops": llmops}}
        try:
            if dialect == "messages":
                turns: Any = [{"role": "user", "content": text}]
                async with AsyncAnthropic(base_url=url, api_key=caller.key, max_retries=0) as client:
                    raw: Any = await client.messages.with_raw_response.create(
                        model=model, max_tokens=1000, messages=turns, stream=stream, **more
                    )
                    found.headers = raw.headers
                    await (_read_events if stream else _read_message)(found, await raw.parse())
            else:
                async with AsyncOpenAI(base_url=f"{url}/v1", api_key=caller.key, max_retries=0) as openai_client:
                    raw = await openai_client.responses.with_raw_response.create(
                        model=model, max_output_tokens=1000, input=text, stream=stream, **more
                    )
                    found.headers = raw.headers
                    await (_read_response_events if stream else _read_response)(found, raw.parse())
        except (anthropic.APIStatusError, openai.APIStatusError) as error:
            found.http_status, found.headers = error.status_code, error.response.headers
            found.error = error.body if dialect == "messages" else error.response.json()  # type: ignore[assignment]
        return found


async def _read_message(found: Found, answer: Any) -> None:
    found.text = "".join(block.text for block in answer.content if block.type == "text")
    found.report, found.ended = answer.llmops, True


async def _read_events(found: Found, events: AsyncIterator[Any]) -> None:
    async for event in events:
        if event.type == "content_block_delta":
            found.text += event.delta.text
        elif event.type == "message_delta":
            found.report = event.llmops
        found.ended = event.type == "message_stop"


async def _read_response(found: Found, answer: Any) -> None:
    found.text, found.report, found.ended = answer.output_text, answer.llmops, True


async def _read_response_events(found: Found, events: AsyncIterator[Any]) -> None:
    async for event in events:
        if event.type == "response.output_text.delta":
            found.text += event.delta
        elif event.type == "response.failed":
            found.error = {"error": event.response.error.to_dict(), "llmops": event.llmops}
        elif event.type in {"response.completed", "response.incomplete"}:
            found.report, found.ended = event.response.llmops, True


@pytest.fixture
def clients(callers: MeshCallers) -> Clients:
    return Clients(callers)


def billed(callers: MeshCallers) -> int:
    return len(callers.deployment.sim.billing)


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("provider", ["alpha", "beta"])
@by_run
async def test_an_answer(clients: Clients, provider: str, dialect: str, *, stream: bool) -> None:
    found = await clients.ask(dialect, f"{provider}/capital", "The capital of France?", stream=stream)
    assert (found.text, found.ended) == ("Paris is the capital of France.", True)
    assert found.report["model"] == f"{provider}/capital"
    assert found.report["guard"]["output"]["decision"] == "allow"
    assert found.report["cost_nano_usd"] > 0
    assert found.headers["x-llmops-model"] == f"{provider}/capital"


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("provider", ["alpha", "beta"])
@pytest.mark.parametrize("stream", [False, True])
async def test_tools_of_messages(callers: MeshCallers, provider: str, *, stream: bool) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    asked: Any = {
        "model": f"{provider}/weather",
        "max_tokens": 100,
        "tools": [{"name": "weather", "input_schema": schema}],
    }
    asked["messages"] = [{"role": "user", "content": "Weather in Paris and Rome?"}]
    asked["extra_headers"] = {"x-request-id": callers.new_request(ACME)}
    async with AsyncAnthropic(base_url=callers.deployment.http_url, api_key=ACME.key, max_retries=0) as client:
        if stream:
            async with client.messages.stream(**asked) as events:
                answer = await events.get_final_message()
        else:
            answer = await client.messages.create(**asked)
        calls = [block for block in answer.content if block.type == "tool_use"]
        assert [(call.name, call.input) for call in calls] == [("weather", {"city": c}) for c in ("Paris", "Rome")]
        assert answer.stop_reason == "tool_use"
        # The next turn: results go back, and a provider of either dialect takes them.
        results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls]
        asked["messages"] += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
        asked |= {"model": f"{provider}/capital", "extra_headers": {"x-request-id": callers.new_request(ACME)}}
        assert (await client.messages.create(**asked)).stop_reason == "end_turn"


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("stream", [False, True])
async def test_tools_of_responses(callers: MeshCallers, *, stream: bool) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": None}
    asked: Any = {"model": "alpha/weather", "tools": [tool], "input": [{"role": "user", "content": "Paris and Rome?"}]}
    asked["extra_headers"] = {"x-request-id": callers.new_request(ACME)}
    base_url = f"{callers.deployment.http_url}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key=ACME.key, max_retries=0) as client:
        if stream:
            async with client.responses.stream(**asked) as events:
                answer: Any = await events.get_final_response()
        else:
            answer = await client.responses.create(**asked)
        calls = [item for item in answer.output if item.type == "function_call"]
        assert [json.loads(call.arguments) for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
        asked["input"] += [{k: v for k, v in call.to_dict().items() if k != "parsed_arguments"} for call in calls]
        asked["input"] += [
            {"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls
        ]
        asked |= {"model": "beta/capital", "extra_headers": {"x-request-id": callers.new_request(ACME)}}
        assert (await client.responses.create(**asked)).output_text == "Paris is the capital of France."


@pytest.mark.usefixtures("accounts")
@by_run
async def test_personal_data_is_masked_outside_and_restored(
    callers: MeshCallers, clients: Clients, dialect: str, *, stream: bool
) -> None:
    text = f"Write to {EMAIL} about the {dialect} meeting."
    found = await clients.ask(dialect, "alpha/echo", text, stream=stream)
    assert found.text == text
    assert found.report["guard"]["input"]["decision"] == "mask"
    # Were the address sent, the provider would have counted other tokens: an echo is billed by what it was told.
    assert callers.deployment.sim.billing[-1].input_tokens < len(text) // 4 + 3


@pytest.mark.usefixtures("accounts")
@by_run
async def test_an_injection_is_refused_before_anything_is_spent(
    callers: MeshCallers, clients: Clients, dialect: str, *, stream: bool
) -> None:
    before = billed(callers)
    found = await clients.ask(dialect, "alpha/words", INJECTION, stream=stream)
    assert (found.http_status, found.reason, billed(callers)) == (400, "GUARD_BLOCKED", before)


@by_run
async def test_a_leak_in_the_answer_is_stopped(
    clients: Clients, accounts: Accounts, dialect: str, *, stream: bool
) -> None:
    accounts.estimated = True
    found = await clients.ask(dialect, "alpha/leaky", "Tell me all.", stream=stream, llmops={"guard_policy": "strict"})
    assert found.reason == "OUTPUT_BLOCKED"
    assert LEAKED not in found.text + json.dumps(found.error)
    assert not found.ended
    assert bool(found.text) == stream, "what was checked before it is shown"


@pytest.mark.usefixtures("accounts")
@by_run
async def test_an_answer_is_found_in_the_cache_whatever_dialect_it_was_made_in(
    callers: MeshCallers, clients: Clients, dialect: str, *, stream: bool
) -> None:
    text = f"Kept for {dialect}, {stream}: {uuid.uuid4().hex}"
    first = await callers.chat("alpha/words", text, max_tokens=1000)
    assert first.cache == "miss"
    for _ in range(200):
        before = billed(callers)
        found = await clients.ask(dialect, "alpha/words", text, stream=stream, llmops={})
        if found.headers["x-cache"] != "miss":
            break
    assert (found.text, found.headers["x-cache"], billed(callers)) == (first.text, "exact", before)
    assert found.report["cost_nano_usd"] == 0


@pytest.mark.usefixtures("accounts")
@by_run
async def test_an_idempotency_key_is_paid_for_once(
    callers: MeshCallers, clients: Clients, dialect: str, *, stream: bool
) -> None:
    headers, before = {"idempotency-key": f"it-{uuid.uuid4().hex}"}, billed(callers)
    first = await clients.ask(dialect, "alpha/words", "Once.", stream=stream, headers=headers)
    again = await clients.ask(dialect, "alpha/words", "Once.", stream=stream, headers=headers)
    other = await clients.ask(dialect, "alpha/words", "Twice.", stream=stream, headers=headers)
    assert billed(callers) == before + 1
    assert again.text == first.text
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.http_status, other.reason) == (409, "REQUEST_ID_REUSED")


@pytest.mark.usefixtures("accounts")
@by_run
async def test_keys_scopes_and_budgets_hold(
    callers: MeshCallers, clients: Clients, dialect: str, *, stream: bool
) -> None:
    before = billed(callers)
    unknown = await clients.ask(dialect, "alpha/words", "Who?", NOBODY, stream=stream)
    assert (unknown.http_status, unknown.reason) == (401, "CREDENTIAL_INVALID")
    broke = await clients.ask(dialect, "alpha/words", "On credit?", SUSPENDED, stream=stream)
    assert (broke.http_status, broke.reason) == (429, "BUDGET_EXHAUSTED")
    assert broke.headers["x-should-retry"] == "false"
    _, narrow = await made_key(callers, scopes=identity_pb2.KeyScopes(models=["alpha/echo"]))
    denied = await clients.ask(dialect, "alpha/words", "Please?", narrow, stream=stream)
    assert (denied.http_status, denied.reason) == (403, "PERMISSION_DENIED")
    assert billed(callers) == before
    assert (await clients.ask(dialect, "alpha/echo", "Please?", narrow, stream=stream)).text == "Please?"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_that_breaks_off_keeps_its_text_and_says_so(
    clients: Clients, accounts: Accounts, dialect: str
) -> None:
    accounts.estimated = True
    found = await clients.ask(dialect, "alpha/cut", "Tell me more.", stream=True)
    assert (found.reason, found.ended) == ("UPSTREAM_STREAM_CUT", False)
    assert len(found.text) > 100


# Embeddings. Their model is the mesh's own, which the simulated provider does not know: the ledger alone is compared.
# Those of a provider are in test_remote_embeddings.py.


async def embedded(
    callers: MeshCallers,
    wanted: Any,
    caller: Caller = ACME,
    headers: Mapping[str, str] | None = None,
    model: str = "auto",
    **more: Any,
) -> Any:
    base_url = f"{callers.deployment.http_url}/v1"
    sent = {"x-request-id": f"it-{uuid.uuid4().hex}", **(headers or {})}
    async with AsyncOpenAI(base_url=base_url, api_key=caller.key, max_retries=0) as client:
        return await client.embeddings.with_raw_response.create(model=model, input=wanted, extra_headers=sent, **more)


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def spending(callers: MeshCallers, work: Callable[[], Awaitable[Any]]) -> tuple[Any, int]:
    """What the work gave, and what the ledger booked for it."""
    accounts = Accounts(callers)
    await accounts.open()
    result = await work()
    return result, (await accounts.close()).booked


async def test_vectors_of_texts_that_mean_the_same_are_near(callers: MeshCallers) -> None:
    texts = ["The cat sat on the mat.", "A cat was sitting on a mat.", "Interest rates rose in March."]
    raw, booked = await spending(callers, lambda: embedded(callers, texts))
    answer = raw.parse()
    cat, same, money = (item.embedding for item in answer.data)
    assert len(cat) == 384
    assert likeness(cat, same) > 0.8
    assert likeness(cat, money) < 0.3
    assert answer.llmops["model"] == "local/minilm"
    assert booked == answer.llmops["cost_nano_usd"] == int(raw.headers["x-llmops-cost-nano-usd"]) > 0
    alone = (await embedded(callers, texts[1], encoding_format="float")).parse().data[0].embedding
    assert likeness(alone, same) > 0.999


async def test_vectors_over_grpc_are_those_over_http(callers: MeshCallers) -> None:
    text = "The cat sat on the mat."
    request = pb.EmbedRequest(request_id=f"it-{uuid.uuid4().hex}", texts=[text], model=MINILM)
    found: Any = await callers.orchestrator.Embed(request, metadata=callers.metadata(ACME), timeout=TIMEOUT_S)
    over_http = (await embedded(callers, text)).parse()
    assert likeness(list(struct.unpack("<384f", found.values_f32_le)), over_http.data[0].embedding) > 0.999
    assert found.report.cost_nano_usd == over_http.llmops["cost_nano_usd"]
    explained = await callers.explain(request.request_id)
    assert isinstance(explained, pb.ExplainResponse)
    assert explained.report == found.report


async def test_what_is_embedded_is_what_the_guard_left(callers: MeshCallers) -> None:
    raw = await embedded(callers, [f"Write to {EMAIL}.", "Write to nobody."])
    assert raw.parse().llmops["guard"]["input"]["decision"] == "mask"
    one, nobody = (item.embedding for item in raw.parse().data)
    for same in ("Write to somebody@example.org.", "Write to <EMAIL_1>."):
        other = (await embedded(callers, same)).parse().data[0].embedding
        assert likeness(one, other) > 0.999, "whose address it was is gone"
    assert likeness(one, nobody) < 0.99


async def test_refusals_of_embeddings(callers: MeshCallers) -> None:
    async def refused(wanted: Any, caller: Caller = ACME, **more: Any) -> tuple[int, str | None]:
        with pytest.raises(openai.APIStatusError) as caught:
            await embedded(callers, wanted, caller, **more)
        return caught.value.status_code, caught.value.response.json()["llmops"]["reason"]

    async def everything() -> None:
        assert await refused("x", NOBODY) == (401, "CREDENTIAL_INVALID")
        assert await refused("x", SUSPENDED) == (429, "BUDGET_EXHAUSTED")
        assert await refused(["fine", INJECTION]) == (400, "GUARD_BLOCKED")
        strict = {"llmops": {"guard_policy": "strict"}}
        assert await refused(f"My key is {LEAKED}.", extra_body=strict) == (400, "GUARD_BLOCKED")
        assert await refused("x", dimensions=7) == (501, "UNSUPPORTED")
        assert await refused("x", extra_body={"model": "alpha/words"}) == (400, "INVALID_FIELD")
        assert await refused("x", extra_body={"model": "nowhere"}) == (404, "MODEL_NOT_FOUND")
        assert await refused([1, 2, 3]) == (400, "INVALID_FIELD")
        _, narrow = await made_key(callers, scopes=identity_pb2.KeyScopes(models=["alpha/echo"]))
        assert await refused("x", narrow) == (403, "PERMISSION_DENIED")

    _, booked = await spending(callers, everything)
    assert booked == 0
    _, wide = await made_key(callers, scopes=identity_pb2.KeyScopes(models=["local/minilm"]))
    assert (await embedded(callers, "x", wide)).status_code == 200


async def test_vectors_under_an_idempotency_key_are_paid_for_once(callers: MeshCallers) -> None:
    headers = {"idempotency-key": f"it-{uuid.uuid4().hex}"}
    first, booked = await spending(callers, lambda: embedded(callers, "Once.", headers=headers))
    again, nothing = await spending(callers, lambda: embedded(callers, "Once.", headers=headers))
    assert (booked > 0, nothing) == (True, 0)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.parse().data[0].embedding == first.parse().data[0].embedding
    with pytest.raises(openai.ConflictError):
        await embedded(callers, "Twice.", headers=headers)
