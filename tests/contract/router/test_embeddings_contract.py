"""What every maker of vectors promises, over the built-in encoder, the twin, and each HTTP dialect on real sockets."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from meshkit.encoder_memory import memory_encoder
from meshkit.executors import Executor
from services.router.adapters.dialects.embeddings import (
    AzureEmbeddings,
    BedrockEmbeddings,
    EmbeddingsDialect,
    GeminiEmbeddings,
    OpenAiEmbeddings,
)
from services.router.adapters.local import LocalLimits, LocalProvider, MeshSentenceEncoder
from services.router.adapters.memory import ScriptedEmbedder
from services.router.adapters.tokens import EncoderTokenCounter
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Usage
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.ports import Embedder, EmbedderAnswer, EmbedderRequest, EmbedTexts

if TYPE_CHECKING:
    from tests.contract.router.conftest import OpenProvider, Received, StartUpstream

TEXTS = ("the ferry leaves at noon", "dogs travel free", "on sundays at ten")
MODELS = {"openai": "e-1", "azure": "e-1", "gemini": "gemini-embedding-001", "titan": "amazon.titan-embed-text-v2:0"}
MODELS["cohere"] = "cohere.embed-v4:0"


def vector(text: str) -> list[float]:
    """A vector that tells texts apart."""
    return [float(len(text)), float(ord(text[0])), 1.0]


async def openai(received: Received) -> None:
    rows = [{"index": i, "embedding": _base64(vector(t))} for i, t in enumerate(received.json()["input"])]
    answer = {"data": rows[::-1], "model": "e-1-v2", "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    await received.answer(json.dumps(answer).encode())


async def openai_numbers(received: Received) -> None:
    rows = [{"embedding": vector(text)} for text in received.json()["input"]]
    await received.answer(json.dumps({"data": rows}).encode())


async def gemini(received: Received) -> None:
    texts = [row["content"]["parts"][0]["text"] for row in received.json()["requests"]]
    await received.answer(json.dumps({"embeddings": [{"values": vector(text)} for text in texts]}).encode())


async def titan(received: Received) -> None:
    answer = {"embedding": vector(received.json()["inputText"]), "inputTextTokenCount": 3}
    await received.answer(json.dumps(answer).encode())


async def cohere(received: Received) -> None:
    rows = [vector(text) for text in received.json()["texts"]]
    await received.answer(json.dumps({"id": "x", "embeddings": {"float": rows}}).encode())


def _base64(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


HTTP: dict[str, tuple[EmbeddingsDialect, Any]] = {
    "openai": (OpenAiEmbeddings(), openai),
    "openai-numbers": (OpenAiEmbeddings(), openai_numbers),
    "azure": (AzureEmbeddings("2024-10-21"), openai),
    "gemini": (GeminiEmbeddings(), gemini),
    "titan": (BedrockEmbeddings(), titan),
    "cohere": (BedrockEmbeddings(), cohere),
}


def request(texts: tuple[str, ...] = TEXTS, model: str = "openai", **fields: Any) -> EmbedderRequest:
    return EmbedderRequest(EmbedTexts("", texts, **fields), ModelSpec("m", "p", MODELS.get(model, "e-1")), "req-1")


@pytest.fixture(params=["scripted", "local", *HTTP])
async def embedder(
    request: pytest.FixtureRequest, start_upstream: StartUpstream, open_provider: OpenProvider
) -> AsyncIterator[tuple[str, Embedder]]:
    name = request.param
    if name == "scripted":
        yield name, ScriptedEmbedder(EmbedderAnswer(np.asarray([vector(text) for text in TEXTS], dtype=np.float32)))
    elif name == "local":
        executor, encoder = Executor("router-test", 1, 8), memory_encoder()
        counter = EncoderTokenCounter(encoder, executor, 10_000)
        yield name, LocalProvider(MeshSentenceEncoder(encoder), executor, counter, LocalLimits())
        encoder.close()
        executor.close()
    else:
        dialect, respond = HTTP[name]
        yield name, await open_provider((await start_upstream(respond)).url, embeddings=dialect)


async def test_one_vector_for_each_text_in_their_order(embedder: tuple[str, Embedder]) -> None:
    name, asked = embedder
    answer = await asked.embed(request(model=name))
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.shape[0] == len(TEXTS)
    if name != "local":
        assert answer.vectors.tolist() == [vector(text) for text in TEXTS]
    assert answer.usage is None or answer.usage.input_tokens > 0


@pytest.mark.parametrize(
    ("name", "line", "body"),
    [
        ("openai", "/v1/embeddings", {"input": ["x"], "dimensions": 3}),
        ("azure", "/v1/openai/deployments/e-1/embeddings?api-version=2024-10-21", {"dimensions": 3}),
        ("gemini", "/v1/models/gemini-embedding-001:batchEmbedContents", None),
        ("titan", "/v1/model/amazon.titan-embed-text-v2%3A0/invoke", {"inputText": "x", "dimensions": 3}),
        ("cohere", "/v1/model/cohere.embed-v4%3A0/invoke", {"input_type": "search_query", "output_dimension": 3}),
    ],
)
async def test_where_and_what_is_asked(
    start_upstream: StartUpstream, open_provider: OpenProvider, name: str, line: str, body: dict[str, Any] | None
) -> None:
    dialect, respond = HTTP[name]
    upstream = await start_upstream(respond)
    provider = await open_provider(upstream.url, embeddings=dialect)
    await provider.embed(request(("x",), name, dimensions=3, purpose="query"))
    (received,) = upstream.requests
    assert received.line == f"POST {line} HTTP/1.1"
    if body is not None:
        assert received.json().items() >= body.items()
    else:
        assert received.json()["requests"] == [
            {
                "model": "models/gemini-embedding-001",
                "taskType": "RETRIEVAL_QUERY",
                "outputDimensionality": 3,
                "content": {"parts": [{"text": "x"}]},
            }
        ]


async def test_many_texts_are_many_requests_where_the_api_takes_few(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    upstream = await start_upstream(titan)
    provider = await open_provider(upstream.url, embeddings=BedrockEmbeddings())
    texts = tuple(f"{'x' * n}" for n in range(1, 21))
    answer = await provider.embed(request(texts, "titan"))
    assert [int(row[0]) for row in answer.vectors] == list(range(1, 21))
    assert (answer.usage, len(upstream.requests)) == (Usage(60), 20)


async def test_a_failure_among_many_requests_keeps_what_the_others_cost(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    async def respond(received: Received) -> None:
        if len(received.json()["inputText"]) == 3:
            await received.answer(b'{"message":"no"}', status=503)
        else:
            await titan(received)

    provider = await open_provider((await start_upstream(respond)).url, embeddings=BedrockEmbeddings())
    with pytest.raises(ProviderError) as caught:
        await provider.embed(request(("x", "xx", "xxx", "xxxx"), "titan"))
    assert caught.value.failure == Failure(FailureKind.UNAVAILABLE, "http-503", 503, usage=Usage(9))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        # The first eight of twelve requests go out together. Seven answers without a count of 96 texts each.
        ("429", Failure(FailureKind.RATE_LIMITED, "http-429", 429, usage=Usage(7 * 96 * 5, estimated=True))),
        # The failed one may be on the bill as well.
        ("broken", Failure(FailureKind.BROKEN, "malformed-json", 200, usage=Usage(8 * 96 * 5, estimated=True))),
        # The first failure names the cause; the one behind it that may be billed counts all the same.
        ("429+broken", Failure(FailureKind.RATE_LIMITED, "http-429", 429, usage=Usage(7 * 96 * 5, estimated=True))),
        ("429+429", Failure(FailureKind.RATE_LIMITED, "http-429", 429, usage=Usage(6 * 96 * 5, estimated=True))),
    ],
)
async def test_what_nobody_counted_of_a_call_that_failed_in_part_is_estimated(
    start_upstream: StartUpstream, open_provider: OpenProvider, second: str, expected: Failure
) -> None:
    async def respond(received: Received) -> None:
        at, faults = received.json()["texts"][0].partition(":")[0], dict(enumerate(second.split("+"), 1))
        fault = faults.get(int(at) // 96)
        if fault == "429":
            await received.answer(b'{"message":"slow"}', status=429)
        elif fault == "broken":
            await received.answer(b"{")
        else:
            await cohere(received)

    texts = tuple(f"{number:04d}:" + "x" * 12 for number in range(12 * 96))  # 17 characters: 5 tokens by length
    provider = await open_provider((await start_upstream(respond)).url, embeddings=BedrockEmbeddings())
    with pytest.raises(ProviderError) as caught:
        await provider.embed(request(texts, "cohere"))
    assert caught.value.failure == expected


async def test_a_failure_of_every_request_that_none_can_be_billed_for_costs_nothing(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    upstream = await start_upstream(lambda received: received.answer(b"{}", status=503))
    provider = await open_provider(upstream.url, embeddings=BedrockEmbeddings())
    with pytest.raises(ProviderError) as caught:
        await provider.embed(request(("a", "b", "c"), "titan"))
    assert caught.value.failure == Failure(FailureKind.UNAVAILABLE, "http-503", 503)


@pytest.mark.parametrize(
    ("name", "body", "cause"),
    [
        ("openai", b"{", "malformed-json"),
        ("openai", b"\xff", "invalid-utf8"),
        ("openai", b"{}", "wrong-number-of-vectors"),
        ("openai", b'{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}', "wrong-number-of-vectors"),
        ("openai", b'{"data":[{"embedding":[1]},{"embedding":[1,2]}]}', "vectors-of-different-lengths"),
        ("openai", b'{"data":[{"embedding":[]},{"embedding":[]}]}', "vectors-of-different-lengths"),
        ("openai", b'{"data":[{"embedding":[1e300]},{"embedding":[1]}]}', "malformed-vector"),
        ("openai", b'{"data":[{"embedding":"AA=="},{"embedding":"AA=="}]}', "malformed-vector"),
        ("openai", b'{"data":[{"embedding":"?"},{"embedding":"?"}]}', "malformed-vector"),
        ("openai", b'{"data":[{"embedding":"AADAfw=="},{"embedding":"AADAfw=="}]}', "malformed-vector"),
        ("gemini", b'{"embeddings":[{"values":[1]}]}', "wrong-number-of-vectors"),
        ("cohere", b'{"embeddings":[[1],[1],[1]]}', "wrong-number-of-vectors"),
        ("cohere", b"[" * 100_000, "malformed-json"),
        ("titan", b"{}", "wrong-number-of-vectors"),
    ],
)
async def test_what_is_no_answer_is_a_typed_failure(
    start_upstream: StartUpstream, open_provider: OpenProvider, name: str, body: bytes, cause: str
) -> None:
    upstream = await start_upstream(lambda received: received.answer(body))
    provider = await open_provider(upstream.url, embeddings=HTTP[name][0])
    with pytest.raises(ProviderError) as caught:
        await provider.embed(request(("a", "b"), name))
    # Titan takes one text a request, and both may be billed.
    usage = Usage(2, estimated=True) if name == "titan" else None
    assert caught.value.failure == Failure(FailureKind.BROKEN, cause, 200, usage=usage)


@pytest.mark.parametrize(
    ("name", "usage"), [("openai", Usage(9)), ("gemini", Usage(15, estimated=True)), ("titan", Usage(9))]
)
async def test_vectors_of_another_length_than_was_asked_for_are_none(
    start_upstream: StartUpstream, open_provider: OpenProvider, name: str, usage: Usage
) -> None:
    """Ollama, vLLM and others read past `dimensions`: callers got what fits no table of theirs. It was paid for."""
    dialect, respond = HTTP[name]
    provider = await open_provider((await start_upstream(respond)).url, embeddings=dialect)
    with pytest.raises(ProviderError) as caught:
        await provider.embed(request(model=name, dimensions=7))
    failure = caught.value.failure
    assert (failure.kind, failure.provider_code, failure.usage) == (FailureKind.UNSUPPORTED, "dimensions", usage)
    assert (await provider.embed(request(model=name, dimensions=3))).vectors.shape == (3, 3)


async def test_what_cannot_be_made_is_left_to_others(open_provider: OpenProvider) -> None:
    executor, encoder = Executor("router-test", 1, 8), memory_encoder()
    counter = EncoderTokenCounter(encoder, executor, 10_000)
    local = LocalProvider(MeshSentenceEncoder(encoder), executor, counter, LocalLimits())
    without = LocalProvider(None, executor, counter, LocalLimits())
    chat_only = await open_provider("http://127.0.0.1:9/v1")
    claude = await open_provider("http://127.0.0.1:9/v1", embeddings=BedrockEmbeddings())
    cases: list[tuple[Embedder, EmbedderRequest, str]] = [
        (local, request(dimensions=7), "dimensions"),
        (without, request(), "embeddings-without-encoder"),
        (chat_only, request(), "embeddings"),
        (claude, request(model="other"), "embeddings-of-this-model"),
    ]
    for embedder, wanted, feature in cases:
        with pytest.raises(ProviderError) as caught:
            await embedder.embed(wanted)
        assert (caught.value.failure.kind, caught.value.failure.provider_code) == (FailureKind.UNSUPPORTED, feature)
    encoder.close()
    executor.close()
