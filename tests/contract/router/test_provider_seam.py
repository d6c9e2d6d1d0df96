"""The seam to a provider: what it sends ends as a typed failure with all that is known, never as our mistake."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from services.router.adapters.dialects.embeddings import OpenAiEmbeddings
from services.router.adapters.dialects.openai_chat import OpenAiChat, OpenAiStreamDecoder
from services.router.adapters.http import HttpLimits, HttpProvider
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Message, ModelCall
from services.router.core.failure import ErrorBody, Failure, FailureKind, ProviderError
from services.router.core.ports import EmbedderAnswer, EmbedderRequest, EmbedTexts, ProviderAnswer, ProviderRequest

if TYPE_CHECKING:
    from tests.contract.router.conftest import OpenProvider, Received, StartUpstream

SPEC = ModelSpec("m", "p", "model-1")
SAID = "what the provider said"
ANSWER = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()


def request(request_id: str = "req-1") -> ProviderRequest:
    return ProviderRequest(ModelCall("", (Message("user", "hello"),)), SPEC, request_id)


async def failure_of(provider: HttpProvider, how: str) -> Failure:
    with pytest.raises(ProviderError) as caught:
        if how == "complete":
            await provider.complete(request())
        elif how == "stream":
            await anext(provider.stream(request()))
        else:
            await provider.embed(EmbedderRequest(EmbedTexts("", ("x",)), SPEC))
    return caught.value.failure


class Surprised(OpenAiChat):
    """A dialect with a mistake in it that answers bring to light."""

    __slots__ = ()

    def decode(self, body: bytes) -> ProviderAnswer:
        raise KeyError(SAID)

    def error_body(self, body: bytes, headers: Mapping[str, str]) -> ErrorBody:
        raise ValueError(SAID)

    def stream_decoder(self) -> OpenAiStreamDecoder:
        raise ZeroDivisionError(SAID)


class SurprisedEmbeddings(OpenAiEmbeddings):
    """The same for vectors."""

    __slots__ = ()

    def decode(self, body: bytes, texts: int) -> EmbedderAnswer:
        raise KeyError(SAID)


@pytest.mark.parametrize("how", ["complete", "stream", "embed"])
@pytest.mark.parametrize("status", [200, 500])
async def test_what_nobody_foresaw_is_a_broken_answer_and_its_text_stays_here(
    start_upstream: StartUpstream,
    open_provider: OpenProvider,
    caplog: pytest.LogCaptureFixture,
    how: str,
    status: int,
) -> None:
    kind = "text/event-stream" if how == "stream" else "application/json"
    upstream = await start_upstream(lambda received: received.answer(ANSWER, status=status, content_type=kind))
    provider = await open_provider(upstream.url, Surprised(), embeddings=SurprisedEmbeddings())
    assert await failure_of(provider, how) == Failure(FailureKind.BROKEN, "unexpected-answer")
    assert "Error" in caplog.text
    assert SAID not in caplog.text


@pytest.mark.parametrize("code", ["²", "9" * 5_000, "٤٢٩", "0429", "999"])
async def test_a_code_that_only_looks_like_a_status_is_a_code(
    start_upstream: StartUpstream, open_provider: OpenProvider, code: str
) -> None:
    body = json.dumps({"error": {"code": code, "message": "x"}}).encode()
    upstream = await start_upstream(lambda received: received.answer(body))
    failure = await failure_of(await open_provider(upstream.url), "complete")
    assert failure.kind is FailureKind.UNAVAILABLE


PAGE = b"<html>" + b"x" * 70_000


@pytest.mark.parametrize("how", ["complete", "stream", "embed"])
async def test_a_large_error_page_leaves_status_and_wait(
    start_upstream: StartUpstream, open_provider: OpenProvider, how: str
) -> None:
    upstream = await start_upstream(
        lambda received: received.answer(PAGE, status=429, content_type="text/html", headers="retry-after: 30\r\n")
    )
    provider = await open_provider(upstream.url, embeddings=OpenAiEmbeddings())
    assert await failure_of(provider, how) == Failure(FailureKind.RATE_LIMITED, "http-429", 429, retry_after_s=30.0)


@pytest.mark.parametrize("how", ["complete", "stream"])
async def test_an_error_page_that_is_cut_leaves_its_status(
    start_upstream: StartUpstream, open_provider: OpenProvider, how: str
) -> None:
    async def cut(received: Received) -> None:
        await received.send(b"HTTP/1.1 503 X\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{")
        received.writer.close()

    upstream = await start_upstream(cut)
    failure = await failure_of(await open_provider(upstream.url), how)
    assert failure == Failure(FailureKind.UNAVAILABLE, "http-503", 503)


@pytest.mark.parametrize("how", ["complete", "stream", "embed"])
async def test_an_error_page_that_stalls_leaves_status_and_wait(
    start_upstream: StartUpstream, open_provider: OpenProvider, how: str
) -> None:
    """It was waited for until the step's time was over: no limit was kept, and the call counted as billed."""

    async def stall(received: Received) -> None:
        head = b"HTTP/1.1 429 X\r\ncontent-type: application/json\r\ncontent-length: 200\r\nretry-after: 30\r\n\r\n{"
        await received.send(head)
        await received.gone()

    upstream = await start_upstream(stall)
    provider = await open_provider(upstream.url, limits=HttpLimits(error_body_s=0.1), embeddings=OpenAiEmbeddings())
    async with asyncio.timeout(5):
        failure = await failure_of(provider, how)
        assert failure == Failure(FailureKind.RATE_LIMITED, "http-429", 429, retry_after_s=30.0)
        await upstream.gone.wait()


async def test_after_a_large_error_page_the_next_call_is_served(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    async def respond(received: Received) -> None:
        await (received.answer(PAGE, status=500) if len(upstream.requests) == 1 else received.answer(ANSWER))

    upstream = await start_upstream(respond)
    provider = await open_provider(upstream.url, limits=HttpLimits(max_error_bytes=1_000))
    assert (await failure_of(provider, "complete")).http_status == 500
    assert (await provider.complete(request())).completion.content == "hi"


@pytest.mark.parametrize("request_id", ["a\r\nx-evil: 1", "a\x00b", "a\tb", "grüße", "\x7f"])
async def test_an_id_that_no_header_can_carry_stays_here(
    start_upstream: StartUpstream, open_provider: OpenProvider, request_id: str
) -> None:
    upstream = await start_upstream(lambda received: received.answer(ANSWER))
    answer = await (await open_provider(upstream.url)).complete(request(request_id))
    assert answer.completion.content == "hi"
    assert not {"x-client-request-id", "x-evil"} & upstream.requests[0].headers.keys()
