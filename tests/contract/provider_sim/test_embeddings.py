"""Embeddings: the official OpenAI client works against the simulator, and rules and bill are those of a chat call."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import orjson
import pytest

from llmops_cli.provider_sim import ProviderSim, Rule
from tests.contract.provider_sim.raw_client import post, wire

PATH = "/v1/embeddings"
TEXTS = ["the ferry leaves at noon", "dogs travel free"]


def asking(model: str = "m", wanted: Any = "hello", **fields: object) -> bytes:
    return orjson.dumps({"model": model, "input": wanted, **fields})


@pytest.fixture
async def client(sim: ProviderSim) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key="sk-test", max_retries=0) as opened:
        yield opened


async def vectors(client: openai.AsyncOpenAI, wanted: Any, model: str = "m", **fields: Any) -> list[list[float]]:
    answer = await client.embeddings.create(model=model, input=wanted, **fields)
    assert [row.index for row in answer.data] == list(range(len(answer.data)))
    return [row.embedding for row in answer.data]


def product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_a_text_has_one_vector_of_length_one_and_texts_have_different_ones(client: openai.AsyncOpenAI) -> None:
    one, other = await vectors(client, TEXTS)
    assert (len(one), len(other)) == (1536, 1536)
    assert product(one, one) == pytest.approx(1.0, abs=1e-5)
    assert abs(product(one, other)) < 0.2
    assert await vectors(client, TEXTS[1], "another-model") == [other]
    # Known answers: a run of another day, machine or release of numpy gives them too.
    assert one[:3] == pytest.approx([0.0046617, -0.0364999, 0.0303006], abs=1e-6)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
async def test_both_encodings_are_the_same_numbers(sim: ProviderSim, encoding_format: str) -> None:
    [plain] = (await post(sim, asking(), PATH)).json()["data"]
    [asked] = (await post(sim, asking(encoding_format=encoding_format), PATH)).json()["data"]
    found = asked["embedding"]
    if encoding_format == "base64":
        found = list(struct.unpack("<1536f", base64.b64decode(found)))
    assert found == pytest.approx(plain["embedding"], abs=1e-7)
    assert type(asked["embedding"]) is (str if encoding_format == "base64" else list)


async def test_the_length_is_the_requests_else_the_rules(sim: ProviderSim, client: openai.AsyncOpenAI) -> None:
    sim.script = [Rule(model="small", dimensions=8)]
    [small], [long] = await vectors(client, "x", "small"), await vectors(client, "x", "small", dimensions=16)
    assert (len(small), len(long)) == (8, 16)
    # The beginning of the longer one, at length one again.
    assert product(small, small) == pytest.approx(1.0, abs=1e-5)
    assert product(small, long[:8]) == pytest.approx(product(long[:8], long[:8]) ** 0.5, abs=1e-5)


async def test_what_is_used_is_what_is_billed(sim: ProviderSim, client: openai.AsyncOpenAI) -> None:
    sim.script = [Rule(model="dear", input_tokens=1000)]
    answer = await client.embeddings.create(model="m", input=TEXTS, extra_headers={"x-client-request-id": "call-1"})
    dear = await client.embeddings.create(model="dear", input="x")
    assert (answer.object, answer.model) == ("list", "m")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (10, 10)
    assert dear.usage.prompt_tokens == 1000
    first, second = sim.billing
    assert (first.path, first.model, first.status, first.outcome, first.stream) == (PATH, "m", 200, "completed", False)
    assert (first.billed_input_tokens, first.billed_output_tokens, first.output_tokens) == (10, 0, 0)
    assert (first.client_request_id, len(first.key_hash)) == ("call-1", 12)
    assert (second.billed_input_tokens, second.billed_output_tokens) == (1000, 0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "invalid"),
        (b"{}", "model"),
        (asking(wanted=[]), "between 1 and 2048 texts"),
        (asking(wanted=["x"] * 2049), "between 1 and 2048 texts"),
        (asking(wanted=""), "no empty text"),
        (asking(wanted=["x", ""]), "number 1"),
        (asking(wanted=[1, 2]), "$.input"),
        (asking(dimensions=0), "$.dimensions"),
        (asking(dimensions=16_385), "$.dimensions"),
        (asking(encoding_format="hex"), "$.encoding_format"),
    ],
)
async def test_a_bad_body_is_refused_in_openais_words_and_not_billed(sim: ProviderSim, body: bytes, said: str) -> None:
    reply = await post(sim, body, PATH)
    error = reply.json()["error"]
    assert (reply.status, error["type"], error["param"], error["code"]) == (400, "invalid_request_error", None, None)
    assert said in error["message"]
    assert sim.billing == []


async def test_an_unknown_model_and_scripted_refusals(sim: ProviderSim, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await vectors(client, "x", "sim-typo")
    assert (unknown.value.code, sim.billing) == ("model_not_found", [])
    with pytest.raises(openai.RateLimitError) as limited:
        await vectors(client, "x", "sim-429-retry-7")
    assert (limited.value.code, limited.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "7")
    with pytest.raises(openai.InternalServerError):
        await vectors(client, "x", "sim-503")
    assert [(record.status, record.outcome, record.billed_input_tokens) for record in sim.billing] == [
        (429, "refused", 0),
        (503, "refused", 0),
    ]


async def test_a_rule_counts_the_calls_of_its_path(sim: ProviderSim) -> None:
    sim.script = [Rule(path=PATH, last_call=1, status=500)]
    assert [(await post(sim, asking(), PATH)).status for _ in range(2)] == [500, 200]


@pytest.mark.parametrize("directive", ["latency-60", "first-60", "latency-30+first-30"])
async def test_delays(sim: ProviderSim, directive: str) -> None:
    started = asyncio.get_running_loop().time()
    assert (await post(sim, asking(f"sim-{directive}"), PATH)).status == 200
    assert asyncio.get_running_loop().time() - started >= 0.06


async def test_faults_of_a_whole_answer(sim: ProviderSim) -> None:
    assert (await post(sim, asking("sim-cut"), PATH)).status == 0
    assert not (await post(sim, asking("sim-cut-after-0"), PATH)).complete
    assert (await post(sim, asking("sim-error-after-0"), PATH)).json()["error"]["type"] == "server_error"
    assert "usage" not in (await post(sim, asking("sim-no-usage"), PATH)).json()
    with pytest.raises(orjson.JSONDecodeError):
        (await post(sim, asking("sim-malformed"), PATH)).json()
    outcomes = [(record.outcome, record.billed_input_tokens) for record in sim.billing]
    assert outcomes == [("cut", 2), ("cut", 2), ("failed", 2), ("completed", 2), ("completed", 2)]


async def test_a_client_that_leaves_pays_for_its_texts(sim: ProviderSim) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(wire("POST", PATH, asking("sim-hang")))
    await sim.wait_until(lambda: sim.stats.in_flight == 1)
    writer.close()
    await sim.wait_until(lambda: len(sim.billing) == 1)
    [record] = sim.billing
    assert (record.outcome, record.billed_input_tokens, record.billed_output_tokens) == ("cancelled", 2, 0)


async def test_gemini_makes_vectors_of_one_length_a_call(sim: ProviderSim) -> None:
    rows = [{"content": {"parts": [{"text": "x"}]}, "outputDimensionality": length} for length in (4, 8)]
    path = "/v1beta/models/m:batchEmbedContents"
    same = await post(sim, orjson.dumps({"requests": rows[:1] * 2}), path)
    assert [len(row["values"]) for row in same.json()["embeddings"]] == [4, 4]
    mixed = await post(sim, orjson.dumps({"requests": rows}), path)
    assert (mixed.status, mixed.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
