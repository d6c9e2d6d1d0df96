"""What a provider can do to us, on real sockets. Fault numbers (F12 to F19) are those of the reliability notes."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import TYPE_CHECKING

import pytest

from services.router.adapters.http import HttpLimits, HttpProvider
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Delta, FinishReason, Message, ModelCall, Usage
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest

if TYPE_CHECKING:
    from tests.contract.router.conftest import OpenProvider, Received, StartUpstream

REQUEST = ProviderRequest(ModelCall("", (Message("user", "hello"),)), ModelSpec("m", "p", "model-1"), "req-1")
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "model": "model-1-0613",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
).encode()
FINISH = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def piece(text: str) -> bytes:
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


async def complete(provider: HttpProvider) -> ProviderAnswer | Failure:
    try:
        return await provider.complete(REQUEST)
    except ProviderError as error:
        return error.failure


async def collect(provider: HttpProvider, seen: asyncio.Event | None = None) -> tuple[list[Chunk], Failure | None]:
    """All chunks until the end or the failure; sets `seen` with the first one."""
    chunks: list[Chunk] = []
    try:
        async for chunk in provider.stream(REQUEST):
            chunks.append(chunk)
            if seen is not None:
                seen.set()
    except ProviderError as error:
        return chunks, error.failure
    return chunks, None


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.delta.content for chunk in chunks if chunk.delta is not None)


async def test_an_answer_and_what_was_sent_for_it(start_upstream: StartUpstream, open_provider: OpenProvider) -> None:
    upstream = await start_upstream(lambda received: received.answer(ANSWER))
    answer = await complete(await open_provider(upstream.url, organisation="org-1", headers={"x-extra": "1"}))
    assert isinstance(answer, ProviderAnswer)
    assert (answer.completion.content, answer.usage, answer.served_model) == ("hi", Usage(3, 1), "model-1-0613")
    (received,) = upstream.requests
    assert received.line == "POST /v1/chat/completions HTTP/1.1"
    assert received.headers["authorization"] == "Bearer sk-contract-test"
    assert received.headers["openai-organization"] == "org-1"
    assert received.headers["x-client-request-id"] == "req-1"
    assert received.headers["x-extra"] == "1"
    assert received.headers["accept-encoding"] == "identity"


async def test_connections_are_kept_for_the_next_call(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    async def respond(received: Received) -> None:
        if b'"stream"' in received.body:
            await received.stream(piece("a"), FINISH, DONE)
        else:
            await received.answer(ANSWER)

    upstream = await start_upstream(respond)
    provider = await open_provider(upstream.url)
    for _ in range(2):
        assert isinstance(await complete(provider), ProviderAnswer)
        assert (await collect(provider))[1] is None
    assert upstream.connections == 1


async def test_f12_refused_connections_were_certainly_not_billed(open_provider: OpenProvider) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    provider = await open_provider(f"http://127.0.0.1:{port}/v1")
    assert await complete(provider) == Failure(FailureKind.NOT_CONNECTED, "connection-refused")
    assert (await collect(provider))[1] == Failure(FailureKind.NOT_CONNECTED, "connection-refused")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("retry-after: 7\r\n", 7.0),
        ("retry-after: Mon, 23 Nov 2026 12:00:09 GMT\r\n", 9.0),
        ("retry-after-ms: 1500\r\n", 1.5),
        ("retry-after: tomorrow\r\n", None),
        ("", None),
    ],
)
async def test_f13_rate_limits_with_their_waiting_time(
    start_upstream: StartUpstream, open_provider: OpenProvider, header: str, seconds: float | None
) -> None:
    body = b'{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}'
    upstream = await start_upstream(lambda received: received.answer(body, status=429, headers=header))
    provider = await open_provider(upstream.url)
    expected = Failure(
        FailureKind.RATE_LIMITED, "http-429", 429, retry_after_s=seconds, provider_code="rate_limit_exceeded"
    )
    assert await complete(provider) == expected
    assert (await collect(provider))[1] == expected


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, b"<html>oops</html>", FailureKind.UNAVAILABLE),
        (529, b'{"error":{"type":"overloaded_error"}}', FailureKind.UNAVAILABLE),
        (401, b'{"error":{"code":"invalid_api_key"}}', FailureKind.CREDENTIAL),
        (404, b'{"error":{"code":"model_not_found"}}', FailureKind.UNKNOWN_MODEL),
        (400, b'{"error":{"code":"context_length_exceeded"}}', FailureKind.CONTEXT_TOO_LONG),
        (400, b'{"error":{"message":"bad","param":"temperature","code":"unsupported_value"}}', FailureKind.REJECTED),
        (400, b'{"error":"maximum context length is 10"}', FailureKind.CONTEXT_TOO_LONG),
        (400, b"\xff\xfe{", FailureKind.REJECTED),
    ],
)
async def test_f14_error_answers_by_class(
    start_upstream: StartUpstream, open_provider: OpenProvider, status: int, body: bytes, kind: FailureKind
) -> None:
    upstream = await start_upstream(lambda received: received.answer(body, status=status))
    failure = await complete(await open_provider(upstream.url))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.http_status, failure.cause) == (kind, status, f"http-{status}")


async def test_redirects_are_not_followed(start_upstream: StartUpstream, open_provider: OpenProvider) -> None:
    other = await start_upstream(lambda received: received.answer(ANSWER))
    upstream = await start_upstream(
        lambda received: received.answer(b"", status=307, headers=f"location: {other.url}/chat/completions\r\n")
    )
    failure = await complete(await open_provider(upstream.url))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.cause) == (FailureKind.UNREACHABLE, "http-307")
    assert other.requests == []


async def hang_in_stream(received: Received) -> None:
    await received.begin_stream()
    await received.chunk(piece("a"))
    await received.gone()


async def test_f15_a_hanging_provider_is_left_within_200_ms(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    asked = asyncio.Event()

    async def hang(received: Received) -> None:
        asked.set()
        await received.gone()

    upstream = await start_upstream(hang)
    provider = await open_provider(upstream.url)
    task = asyncio.create_task(complete(provider))
    await asked.wait()
    left_at = asyncio.get_running_loop().time()
    task.cancel()
    await asyncio.wait_for(upstream.gone.wait(), 5)
    assert upstream.gone_at - left_at < 0.2
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_f28_closing_a_stream_closes_the_connection_within_200_ms(
    start_upstream: StartUpstream, open_provider: OpenProvider, how: str
) -> None:
    upstream = await start_upstream(hang_in_stream)
    stream = (await open_provider(upstream.url)).stream(REQUEST)
    assert (await anext(stream)).delta == Delta("a")
    loop = asyncio.get_running_loop()
    if how == "close":
        left_at = loop.time()
        await stream.aclose()
    else:
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        left_at = loop.time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.wait_for(upstream.gone.wait(), 5)
    assert upstream.gone_at - left_at < 0.2


async def test_f16_a_stream_cut_in_the_middle_keeps_what_came_and_fails(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(piece("half an ans"))
        received.writer.transport.abort()

    upstream = await start_upstream(respond)
    chunks, failure = await collect(await open_provider(upstream.url))
    assert text_of(chunks) == "half an ans"
    assert failure is not None
    assert failure.kind is FailureKind.BROKEN
    assert failure.cause in {"cut-mid-answer", "connection-reset"}


async def test_f16_an_answer_cut_in_the_middle(start_upstream: StartUpstream, open_provider: OpenProvider) -> None:
    async def respond(received: Received) -> None:
        await received.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{")
        received.writer.close()

    upstream = await start_upstream(respond)
    failure = await complete(await open_provider(upstream.url))
    assert failure == Failure(FailureKind.BROKEN, "cut-mid-answer", http_status=200)


async def test_a_connection_closed_without_an_answer_may_have_been_billed(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    async def respond(received: Received) -> None:
        received.writer.close()

    upstream = await start_upstream(respond)
    assert await complete(await open_provider(upstream.url)) == Failure(FailureKind.BROKEN, "disconnected")
    assert len(upstream.requests) == 1, "a model call is never repeated behind our back"


@pytest.mark.parametrize(
    ("pieces", "text", "failure"),
    [
        ((piece("a"), FINISH), "a", None),
        ((piece("a"),), "a", Failure(FailureKind.BROKEN, "stream-ended-early", http_status=200)),
        ((piece("a"), DONE), "a", Failure(FailureKind.BROKEN, "no-finish-reason", http_status=200)),
        ((piece("a"), b"data: {oops}\n\n"), "a", Failure(FailureKind.BROKEN, "malformed-json", http_status=200)),
        ((piece("a"), b"data: \xff\n\n"), "a", Failure(FailureKind.BROKEN, "invalid-utf8", http_status=200)),
        (
            (piece("a"), b'data: {"error":{"type":"server_error","message":"boom"}}\n\n', DONE),
            "a",
            Failure(FailureKind.UNAVAILABLE, "in-band-server-error", provider_code="server_error"),
        ),
        (
            (b'data: {"error":{"code":429,"message":"slow"}}\n\n',),
            "",
            Failure(FailureKind.RATE_LIMITED, "in-band-429", provider_code="429"),
        ),
    ],
    ids=["no-done", "no-finish", "done-only", "malformed", "invalid-utf8", "in-band", "in-band-status"],
)
async def test_f17_f18_streams_that_do_not_end_as_they_should(
    start_upstream: StartUpstream,
    open_provider: OpenProvider,
    pieces: tuple[bytes, ...],
    text: str,
    failure: Failure | None,
) -> None:
    """diegosouzapw/OmniRoute#8210: an error inside the stream of a provider was read as an empty success."""
    seen = asyncio.Event()

    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(pieces[0])
        if text:  # what came before a failure must be delivered
            await seen.wait()
        await received.chunk(b"".join(pieces[1:]) or b": nothing more\n\n")
        await received.end_stream()

    upstream = await start_upstream(respond)
    chunks, actual = await collect(await open_provider(upstream.url), seen)
    assert (text_of(chunks), actual) == (text, failure)


async def test_f18_one_byte_packets(start_upstream: StartUpstream, open_provider: OpenProvider) -> None:
    wire = b": ping\r\n\r\n" + piece("grüße").replace(b"\n", b"\r\n") + piece("!") + FINISH + DONE

    async def respond(received: Received) -> None:
        await received.begin_stream()
        for byte in wire:
            await received.chunk(bytes([byte]))
        await received.end_stream()

    upstream = await start_upstream(respond)
    chunks, failure = await collect(await open_provider(upstream.url))
    assert (text_of(chunks), failure, chunks[-1].finish_reason) == ("grüße!", None, FinishReason.STOP)


async def test_f18_lines_events_and_streams_have_a_limit(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    async def endless(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(b"data: ")
        while True:
            await received.chunk(b"x" * 65536)

    upstream = await start_upstream(endless)
    limits = HttpLimits(max_line_bytes=1 << 18)
    _, failure = await collect(await open_provider(upstream.url, limits=limits))
    assert failure == Failure(FailureKind.BROKEN, "line-too-long", http_status=200)
    _, failure = await collect(await open_provider(upstream.url, limits=HttpLimits(max_stream_bytes=1 << 18)))
    assert failure == Failure(FailureKind.BROKEN, "stream-too-large", http_status=200)


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_f19_a_gzip_bomb_is_not_unpacked_to_its_end(
    start_upstream: StartUpstream, open_provider: OpenProvider, content_type: str
) -> None:
    bomb = gzip.compress(b" " * (256 << 20), 1)
    upstream = await start_upstream(
        lambda received: received.answer(bomb, content_type=content_type, headers="content-encoding: gzip\r\n")
    )
    provider = await open_provider(
        upstream.url, limits=HttpLimits(max_response_bytes=1 << 20, max_stream_bytes=1 << 20)
    )
    started = time.process_time()
    if content_type == "application/json":
        assert await complete(provider) == Failure(FailureKind.BROKEN, "response-too-large", http_status=200)
    else:
        assert (await collect(provider))[1] in {
            Failure(FailureKind.BROKEN, "stream-too-large", http_status=200),
            Failure(FailureKind.BROKEN, "line-too-long", http_status=200),
        }
    assert time.process_time() - started < 0.2, "unpacking 256 MiB takes longer"


async def test_an_answer_that_is_no_json_or_empty_is_broken(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    bodies: list[tuple[bytes, str]] = [
        (b"<html>", "malformed-json"),
        (b'{"choices":[]}', "no-choices"),
        (b'{"choices":[{"message":{"content":""}}]}', "empty-answer"),
        (b"[" * 100_000, "malformed-json"),
    ]
    for body, cause in bodies:
        upstream = await start_upstream(lambda received, body=body: received.answer(body))
        assert await complete(await open_provider(upstream.url)) == Failure(FailureKind.BROKEN, cause, http_status=200)


async def test_a_stream_that_comes_as_json_is_an_error_or_no_stream(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    upstream = await start_upstream(lambda received: received.answer(b'{"error":{"type":"server_error"}}'))
    _, failure = await collect(await open_provider(upstream.url))
    assert failure == Failure(FailureKind.UNAVAILABLE, "in-band-server-error", provider_code="server_error")
    upstream = await start_upstream(lambda received: received.answer(ANSWER))
    _, failure = await collect(await open_provider(upstream.url))
    assert failure == Failure(FailureKind.BROKEN, "not-a-stream", http_status=200)


async def test_private_addresses_are_refused_unless_allowed(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    upstream = await start_upstream(lambda received: received.answer(ANSWER))
    refused = Failure(FailureKind.UNREACHABLE, "address-refused")
    by_name = upstream.url.replace("127.0.0.1", "localhost")
    for url in (upstream.url, by_name):
        assert await complete(await open_provider(url, allow_loopback=False)) == refused
    metadata = "http://169.254.169.254/v1"
    assert await complete(await open_provider(metadata, allow_private=True)) == refused
    assert upstream.connections == 0
    assert isinstance(await complete(await open_provider(upstream.url, allow_private=True)), ProviderAnswer)


async def test_events_that_arrive_together_travel_together(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    wire = b"".join(piece(str(number)) for number in range(20)) + FINISH + DONE
    upstream = await start_upstream(lambda received: received.stream(wire))
    chunks, failure = await collect(await open_provider(upstream.url))
    assert failure is None
    assert len(chunks) == 1
    assert text_of(chunks) == "".join(str(number) for number in range(20))
