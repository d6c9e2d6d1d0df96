"""What every provider promises, run over the scripted twin, both HTTP dialects and the built-in model."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from meshkit.encoder_memory import memory_encoder
from meshkit.executors import Executor
from services.router.adapters.local import LocalLimits, LocalProvider, MeshSentenceEncoder
from services.router.adapters.memory import ScriptedProvider
from services.router.adapters.tokens import CharacterTokenCounter, EncoderTokenCounter
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import (
    Completion,
    Delta,
    FinishReason,
    Message,
    ModelCall,
    Parameters,
    ResponseFormat,
    ToolDefinition,
    Usage,
)
from services.router.core.failure import FailureKind, ProviderError
from services.router.core.ports import Chunk, Provider, ProviderAnswer, ProviderRequest

if TYPE_CHECKING:
    from services.router.adapters.dialects.base import Dialect
    from tests.contract.router.conftest import OpenProvider, Received, StartUpstream

DOCUMENT = "The ferry leaves at noon on weekdays. On Sundays it leaves at ten. Dogs travel free of charge on all days."
REQUEST = ProviderRequest(
    ModelCall("", (Message("user", f"<document>{DOCUMENT}</document>\nWhen does the ferry leave on Sundays?"),)),
    ModelSpec("m", "p", "model-1"),
    "req-1",
)


async def openai(received: Received) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    if not received.json().get("stream"):
        choice = {"message": {"content": "At ten."}, "finish_reason": "stop"}
        await received.answer(json.dumps({"id": "x", "model": "m", "choices": [choice], "usage": usage}).encode())
        return
    rows = [
        {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"content": "At "}}]},
        {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"content": "ten."}, "finish_reason": "stop"}]},
        {"id": "x", "model": "m", "choices": [], "usage": usage},
    ]
    await received.stream(*(f"data: {json.dumps(row)}\n\n".encode() for row in rows), b"data: [DONE]\n\n")


async def anthropic_messages(received: Received) -> None:
    message = {"id": "x", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 2}}
    if not received.json().get("stream"):
        body = message | {"content": [{"type": "text", "text": "At ten."}], "stop_reason": "end_turn"}
        await received.answer(json.dumps(body).encode())
        return
    rows = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "At "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ten."}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    await received.stream(*(f"event: {row['type']}\ndata: {json.dumps(row)}\n\n".encode() for row in rows))


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    executor = Executor("router-test", 1, 8)
    yield executor
    executor.close()


@pytest.fixture(params=["scripted-unary", "openai", "anthropic", "local", "local-lexical"])
async def provider(
    request: pytest.FixtureRequest,
    start_upstream: StartUpstream,
    open_provider: OpenProvider,
    anthropic: Dialect,
    executor: Executor,
) -> AsyncIterator[Provider]:
    kind = request.param
    if kind == "openai":
        yield await open_provider((await start_upstream(openai)).url)
    elif kind == "anthropic":
        yield await open_provider((await start_upstream(anthropic_messages)).url, anthropic)
    elif kind == "local":
        encoder = memory_encoder()
        counter = EncoderTokenCounter(encoder, executor, 10_000)
        yield LocalProvider(MeshSentenceEncoder(encoder), executor, counter, LocalLimits())
        encoder.close()
    elif kind == "local-lexical":
        yield LocalProvider(None, executor, CharacterTokenCounter(), LocalLimits())
    else:
        yield Twin()


class Twin:
    """The scripted provider with one script for each way of asking."""

    def __init__(self) -> None:
        usage = Usage(3, 2)
        stop = FinishReason.STOP
        self._whole = ScriptedProvider(ProviderAnswer(Completion("At ten.", finish_reason=stop), usage, "m", "x"))
        last = Chunk(None, "m", "x", finished=True, finish_reason=stop, usage=usage)
        self._pieces = ScriptedProvider([Chunk(Delta("At "), "m", "x"), Chunk(Delta("ten."), "m", "x"), last])
        self.complete = self._whole.complete
        self.stream = self._pieces.stream


async def test_an_answer_is_whole(provider: Provider) -> None:
    answer = await provider.complete(REQUEST)
    assert "ten." in answer.completion.content
    assert answer.completion.finish_reason is FinishReason.STOP
    assert answer.usage is not None
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0
    assert answer.served_model
    assert answer.response_id


async def test_a_stream_says_the_same_as_the_whole_and_ends_with_one_finished_chunk(provider: Provider) -> None:
    answer = await provider.complete(REQUEST)
    chunks = [chunk async for chunk in provider.stream(REQUEST)]
    deltas = [chunk.delta for chunk in chunks if chunk.delta is not None]
    assert "".join(delta.content for delta in deltas) == answer.completion.content
    assert tuple(citation for delta in deltas for citation in delta.citations) == answer.completion.citations
    assert [chunk.finished for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert (chunks[-1].finish_reason, chunks[-1].usage) == (answer.completion.finish_reason, answer.usage)
    assert all(chunk.served_model and chunk.response_id for chunk in chunks)


async def test_a_stream_may_be_left_at_any_time(provider: Provider) -> None:
    stream = provider.stream(REQUEST)
    await anext(stream)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_providers_serve_several_callers_at_once(provider: Provider) -> None:
    answers = await asyncio.gather(*(provider.complete(REQUEST) for _ in range(5)))
    assert len({answer.completion.content for answer in answers}) == 1


@pytest.mark.parametrize(
    ("call", "feature"),
    [
        (ModelCall("", REQUEST.call.messages, (ToolDefinition("t"),)), "tools"),
        (
            ModelCall("", REQUEST.call.messages, (), Parameters(response_format=ResponseFormat("json_object"))),
            "structured-output",
        ),
    ],
)
async def test_the_built_in_model_says_what_it_cannot_do(call: ModelCall, feature: str, executor: Executor) -> None:
    provider = LocalProvider(None, executor, CharacterTokenCounter(), LocalLimits())
    with pytest.raises(ProviderError) as caught:
        await provider.complete(ProviderRequest(call, REQUEST.spec))
    assert (caught.value.failure.kind, caught.value.failure.provider_code) == (FailureKind.UNSUPPORTED, feature)


async def test_too_much_work_for_the_built_in_model_reads_as_a_rate_limit() -> None:
    executor = Executor("router-test-full", 0 + 1, -1)
    provider = LocalProvider(None, executor, CharacterTokenCounter(), LocalLimits())
    with pytest.raises(ProviderError) as caught:
        await provider.complete(REQUEST)
    assert (caught.value.failure.kind, caught.value.failure.cause) == (FailureKind.RATE_LIMITED, "overloaded")
    executor.close()


async def test_counting_by_length_beyond_the_limit(executor: Executor) -> None:
    encoder = memory_encoder()
    counter = EncoderTokenCounter(encoder, executor, 20)
    assert await counter.count(["one two", "three"]) == 3
    assert await counter.count(["x" * 41]) == 11
    encoder.close()


async def test_a_full_queue_makes_counts_rougher_and_loses_no_answer() -> None:
    """It raised after the provider had answered: the answer and what it cost were lost."""
    encoder, full = memory_encoder(), Executor("router-test-full", 0 + 1, -1)
    assert await EncoderTokenCounter(encoder, full, 1000).count(["x" * 41]) == 11
    full.close()
    encoder.close()


async def test_large_requests_go_out_whole(start_upstream: StartUpstream, open_provider: OpenProvider) -> None:
    upstream = await start_upstream(openai)
    provider = await open_provider(upstream.url)
    text = "x" * (3 << 20)
    await provider.complete(ProviderRequest(ModelCall("", (Message("user", text),)), REQUEST.spec))
    assert upstream.requests[0].json()["messages"][0]["content"] == text


async def test_keys_and_content_stay_out_of_logs_and_errors(
    start_upstream: StartUpstream, open_provider: OpenProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = b'{"error":{"message":"you said hello with sk-contract-test","code":"bad hello"}}'
    upstream = await start_upstream(lambda received: received.answer(body, status=400))
    provider = await open_provider(upstream.url)
    with pytest.raises(ProviderError) as caught:
        await provider.complete(REQUEST)
    for place in (caplog.text, str(caught.value), repr(caught.value.failure)):
        assert "sk-contract-test" not in place
        assert "hello" not in place
