"""The HTTP surface: paths, methods, limits, slow and broken clients."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import aiohttp
import pytest
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.memory import echo_events
from services.edge.core.errors import CallFailed
from services.edge.settings import EdgeLimits, EdgeSettings
from tests.contract.edge.harness import AUTHORISED, KEY, Edge, data_lines, post, raw_client, running_edge, until

HELLO = {"model": "m", "messages": [{"role": "user", "content": "one two three"}]}
STREAMED = HELLO | {"stream": True}
CHAT = "/v1/chat/completions"
POST = f"POST /v1/chat/completions HTTP/1.1\r\nhost: edge\r\nx-api-key: {KEY}\r\n".encode()


def limited(**limits: object) -> EdgeSettings:
    return EdgeSettings(port=0, limits=EdgeLimits(**limits))  # type: ignore[arg-type]


async def test_the_plain_pages(edge: Edge, http: aiohttp.ClientSession) -> None:
    for path, text in (("/", "LLMOps Mesh"), ("/healthz", "ok"), ("/readyz", '"ready":true')):
        async with http.get(edge.url + path) as answer:
            assert answer.status == 200
            assert text in await answer.text()
    async with http.head(edge.url + "/healthz") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


async def test_readiness_names_what_fails(edge: Edge, http: aiohttp.ClientSession) -> None:
    async def broken() -> None:
        raise ConnectionError("secret address")

    edge.kit.ready_check("database", broken)
    async with http.get(edge.url + "/readyz") as answer:
        assert answer.status == 503
        assert await answer.json() == {"ready": False, "failing": {"edge.database": "ConnectionError"}}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/chat", 404, "not_found"),
        ("GET", "/v1/models/nowhere", 404, "model_not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("OPTIONS", CHAT, 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_has_the_shape_of_openai(
    edge: Edge, http: aiohttp.ClientSession, method: str, path: str, status: int, code: str
) -> None:
    async with http.request(method, edge.url + path, headers=AUTHORISED) as answer:
        body = await answer.json()
    assert (answer.status, body["error"]["code"]) == (status, code)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"] == body["llmops"]["request_id"]


async def test_a_query_or_a_slash_at_the_end_does_not_matter(edge: Edge, http: aiohttp.ClientSession) -> None:
    async with http.post(edge.url + CHAT + "/?api-version=1", json=HELLO, headers=AUTHORISED) as answer:
        assert answer.status == 200


async def test_x_api_key_and_the_clients_ids_are_taken(edge: Edge, http: aiohttp.ClientSession) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"x-api-key": KEY, "x-request-id": "mine-1", "traceparent": f"00-{trace}-b7ad6b7169203331-00"}
    async with http.post(edge.url + CHAT, json=HELLO, headers=headers) as answer:
        assert answer.headers["x-request-id"] == "mine-1"
    call = edge.orchestrator.calls[0]
    assert (call.request_id, call.context.trace.trace_id) == ("mine-1", trace)


async def test_the_clients_time_becomes_the_deadline(edge: Edge, http: aiohttp.ClientSession) -> None:
    edge.orchestrator.hang_at = 0
    headers = AUTHORISED | {"x-llmops-timeout-s": "0.3"}
    async with http.post(edge.url + CHAT, json=HELLO, headers=headers) as answer:
        body = await answer.json()
    assert (answer.status, body["error"]["code"]) == (504, "deadline_exceeded")
    assert answer.headers["x-should-retry"] == "false"


async def test_the_events_of_a_stream(edge: Edge, http: aiohttp.ClientSession) -> None:
    async with http.post(edge.url + CHAT, json=STREAMED, headers=AUTHORISED) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["x-llmops-model"] == "memory/echo"
        assert answer.headers["x-cache"] == "miss"
        lines = data_lines(await answer.text())
    assert lines[-1] == "[DONE]"
    assert "llmops" in lines[-2]
    assert not any("llmops" in line for line in lines[:-2])


async def test_a_failure_in_mid_stream_is_the_last_event(edge: Edge, http: aiohttp.ClientSession) -> None:
    edge.orchestrator.failure = CallFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "cut")
    edge.orchestrator.fail_at = 2
    async with http.post(edge.url + CHAT, json=STREAMED, headers=AUTHORISED) as answer:
        assert answer.status == 200
        lines = data_lines(await answer.text())
    assert lines[-1]["error"]["code"] == "upstream_stream_cut"
    assert "[DONE]" not in lines
    assert all(line["choices"][0]["finish_reason"] is None for line in lines[:-1])
    assert edge.sample("llmops_edge_stream_failures_total", reason="UPSTREAM_STREAM_CUT") == 1


async def test_a_defect_in_mid_stream_is_the_last_event_too(edge: Edge) -> None:
    """A second status line came in the middle of the stream: the reader took it for a malformed chunk at best."""

    def events(conversation: pb.Conversation) -> list[pb.CompleteStreamResponse]:
        *begun, last = echo_events(conversation, "r-1")
        last.finished.report.accept_time.seconds = 2**62
        return [*begun, last]

    edge.orchestrator.events = events
    async with raw_client(edge) as client:
        await client.send(post(STREAMED))
        received = await client.read_until(b"0\r\n\r\n")
    assert received.count(b"HTTP/1.1 ") == 1
    assert b'"code":"internal"' in received
    assert b"[DONE]" not in received


async def test_silence_is_filled_with_pings(http: aiohttp.ClientSession) -> None:
    async with running_edge(EdgeSettings(port=0, ping_after_s=0.02, open_after_s=0.02)) as edge:
        edge.orchestrator.hang_at = 0
        async with http.post(edge.url + CHAT, json=STREAMED, headers=AUTHORISED) as answer:
            for _ in range(3):
                assert await answer.content.readuntil(b"\n\n") == b": ping\n\n"
            edge.orchestrator.released.set()
            assert data_lines(await answer.text())[-1] == "[DONE]"
        assert not edge.orchestrator.left.is_set()


@pytest.mark.parametrize("transport", ["local", "remote"])
@pytest.mark.parametrize(("body", "hang_at"), [(HELLO, 0), (STREAMED, 0), (STREAMED, 2)])
async def test_a_client_that_leaves_cancels_the_call(transport: str, body: dict[str, object], hang_at: int) -> None:
    async with running_edge(transport=transport) as edge:
        edge.orchestrator.hang_at = hang_at
        async with raw_client(edge) as client:
            await client.send(post(body))
            await asyncio.wait_for(edge.orchestrator.waiting.wait(), 5)
            client.abort()
            await asyncio.wait_for(edge.orchestrator.left.wait(), 5)
        await until(lambda: edge.sample("llmops_edge_requests_total", route=CHAT, status="499") == 1)
        assert edge.sample("llmops_edge_requests_in_flight") == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/chat",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: edge\r\nx-slow: ",
        POST + b"content-length: 100\r\n\r\n{",
        POST + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
async def test_a_request_that_drips_in_is_ended(sent: bytes) -> None:
    async with running_edge(limited(receipt_timeout_s=0.3, linger_s=0.05)) as edge, raw_client(edge) as client:
        drip = asyncio.create_task(_drip(client, sent))
        answer = await client.read_all()
        drip.cancel()
        await asyncio.gather(drip, return_exceptions=True)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == "receipt_timeout"


async def _drip(client: object, sent: bytes) -> None:
    await client.send(sent)  # type: ignore[attr-defined]
    while True:
        await asyncio.sleep(0.02)
        await client.send(b"1")  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["chat/completions", "responses", "messages", "embeddings"])
@pytest.mark.parametrize("credential", ["", "authorization: Bearer not-a-key\r\n", "authorization: Basic YQ==\r\n"])
async def test_of_an_unknown_caller_no_body_is_received(edge: Edge, path: str, credential: str) -> None:
    """It was received, held against the limits and parsed, and the answer told of its mistakes."""
    head = f"POST /v1/{path} HTTP/1.1\r\nhost: edge\r\n{credential}content-length: 100\r\n\r\n{{"
    async with raw_client(edge) as client:
        await client.send(head.encode())
        answer = await client.read_until(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in answer.lower(), "what still comes of the body is no next request"
    assert edge.sample("llmops_edge_requests_in_flight") == 0
    assert not edge.orchestrator.calls


async def test_a_connection_outlives_a_wrong_key_that_came_with_its_body(edge: Edge) -> None:
    async with raw_client(edge) as client:
        for _ in range(2):
            await client.send(post(HELLO).replace(b"ada-secret", b"bob-secret"))
            head = await client.read_until(b"\r\n\r\n")
            assert b"HTTP/1.1 401 " in head
            assert b"connection: close" not in head.lower()


async def test_where_only_the_orchestrator_knows_the_keys_it_is_asked() -> None:
    async with running_edge(transport="remote") as edge, raw_client(edge) as client:
        await client.send(post(HELLO).replace(b"ada-secret", b"bob-secret"))
        assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 401 ")


async def test_headers_in_pieces_within_the_time_are_fine(edge: Edge) -> None:
    request = post(HELLO, "connection: close\r\n")
    async with raw_client(edge) as client:
        for start in range(0, len(request), 40):
            await client.send(request[start : start + 40])
            await asyncio.sleep(0)
        assert (await client.read_all()).startswith(b"HTTP/1.1 200 ")


async def test_a_second_request_on_a_connection_has_its_own_time() -> None:
    async with running_edge(limited(receipt_timeout_s=1)) as edge, raw_client(edge) as client:
        for _ in range(2):
            request = post(HELLO)
            await client.send(request[:50])
            await asyncio.sleep(0.6)
            await client.send(request[50:])
            head = await client.read_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await asyncio.wait_for(client.reader.readexactly(length), 5)


async def test_the_time_of_an_earlier_request_is_not_counted_against_a_later_body() -> None:
    async with running_edge(limited(receipt_timeout_s=0.6)) as edge, raw_client(edge) as client:
        for cut, pause_s in ((50, 0.7), (-5, 0.0)):
            request = post(HELLO)
            await client.send(request[:cut])
            await asyncio.sleep(0.05)
            await client.send(request[cut:])
            head = await client.read_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await asyncio.wait_for(client.reader.readexactly(length), 5)
            await asyncio.sleep(pause_s)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(http: aiohttp.ClientSession, *, chunked: bool) -> None:
    async def pieces() -> object:
        for _ in range(20):
            yield b" " * 100

    async with running_edge(limited(max_body_bytes=1000)) as edge:
        data = pieces() if chunked else b" " * 2000
        async with http.post(edge.url + CHAT, data=data, headers=AUTHORISED) as answer:
            assert answer.status == 413
            assert (await answer.json())["error"]["code"] == "body_too_large"
        assert edge.orchestrator.calls == []


async def test_a_body_over_the_limit_is_refused_before_it_is_sent() -> None:
    async with running_edge(limited(max_body_bytes=1000)) as edge, raw_client(edge) as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: e\r\ncontent-length: 5000000000\r\n\r\n")
        assert (await client.read_until(b"\r\n")).startswith(b"HTTP/1.1 413 ")


async def test_expect_100_continue_is_answered(edge: Edge) -> None:
    request = post(HELLO, "expect: 100-continue\r\nconnection: close\r\n")
    head, _, body = request.partition(b"\r\n\r\n")
    async with raw_client(edge) as client:
        await client.send(head + b"\r\n\r\n")
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(body)
        assert (await client.read_all()).startswith(b"HTTP/1.1 200 ")


async def test_a_compressed_body_is_refused(edge: Edge, http: aiohttp.ClientSession) -> None:
    headers = AUTHORISED | {"content-encoding": "gzip"}
    async with http.post(edge.url + CHAT, data=b"\x1f\x8b", headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (415, "media_type_refused")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nhost: e\r\nx-long: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: e\r\n" + b"".join(b"x-%d: 1\r\n" % i for i in range(200)) + b"\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: e\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"secret words that are no request\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused_and_not_repeated(edge: Edge, sent: bytes) -> None:
    async with raw_client(edge) as client:
        await client.send(sent)
        head, _, body = (await client.read_all()).partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert json.loads(body)["error"]["code"] == "malformed_http"
    assert b"secret" not in body
    assert b"aaaa" not in body


async def test_a_malformed_chunked_body_is_refused(edge: Edge) -> None:
    async with raw_client(edge) as client:
        await client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: e\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n"
        )
        assert b" 400 " in (await client.read_all()).partition(b"\r\n")[0]


async def test_too_many_requests_at_once_are_refused_with_a_time(http: aiohttp.ClientSession) -> None:
    async with running_edge(limited(max_requests_in_flight=1)) as edge:
        edge.orchestrator.hang_at = 0
        first = asyncio.ensure_future(http.post(edge.url + CHAT, json=HELLO, headers=AUTHORISED))
        await asyncio.wait_for(edge.orchestrator.waiting.wait(), 5)
        async with http.post(edge.url + CHAT, json=HELLO, headers=AUTHORISED) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "overloaded")
            assert answer.headers["retry-after"] == "1"
        async with http.get(edge.url + "/healthz") as answer:
            assert answer.status == 200
        edge.orchestrator.released.set()
        assert (await first).status == 200
        async with http.post(edge.url + CHAT, json=HELLO, headers=AUTHORISED) as answer:
            assert answer.status == 200


async def test_too_many_connections_are_closed_at_once() -> None:
    async with running_edge(limited(max_connections=2)) as edge, AsyncExitStack() as stack:
        for _ in range(2):
            client = await stack.enter_async_context(raw_client(edge))
            await client.send(b"GET /healthz HTTP/1.1\r\nhost: e\r\n\r\n")
            await client.read_until(b"ok\n")
        third = await stack.enter_async_context(raw_client(edge))
        assert await third.read_all() == b""
        await stack.aclose()
        async with asyncio.timeout(5):
            while not await _served(edge):
                await asyncio.sleep(0.005)


async def _served(edge: Edge) -> bool:
    async with raw_client(edge) as client:
        await client.send(b"GET /healthz HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n")
        return b"200" in await client.read_all()


async def test_an_idle_connection_is_closed() -> None:
    settings = EdgeSettings(port=0, keepalive_timeout_s=0.1)
    async with running_edge(settings) as edge, raw_client(edge) as client:
        assert await client.read_all() == b""


async def test_a_client_that_stops_reading_its_stream_is_cut() -> None:
    async with running_edge(limited(slow_reader_timeout_s=0.2)) as edge:
        words = "x" * 1000 + " "
        body = {"messages": [{"role": "user", "content": words * 3000}], "stream": True}
        async with raw_client(edge, receive_buffer=4096) as client:
            await client.send(post(body))
            await client.read_until(b"\r\n\r\n")
            await until(lambda: edge.sample("llmops_edge_requests_total", route=CHAT, status="408") == 1)
            await asyncio.wait_for(edge.orchestrator.left.wait(), 5)
    assert edge.orchestrator.left.is_set()


async def test_browsers_of_a_configured_origin_may_call(http: aiohttp.ClientSession) -> None:
    settings = EdgeSettings(port=0, cors_origins=("https://app.example",))
    headers = {"origin": "https://app.example", "access-control-request-headers": "authorization"}
    async with running_edge(settings) as edge:
        async with http.options(edge.url + CHAT, headers=headers) as answer:
            assert answer.status == 204
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert answer.headers["access-control-allow-headers"] == "authorization"
        for body in (HELLO, STREAMED):
            async with http.post(edge.url + CHAT, json=body, headers=headers | AUTHORISED) as answer:
                assert answer.headers["access-control-allow-origin"] == "https://app.example"
        async with http.options(edge.url + CHAT, headers={"origin": "https://other.example"}) as answer:
            assert answer.status == 405
            assert "access-control-allow-origin" not in answer.headers


async def test_without_configuration_no_browser_may_call(edge: Edge, http: aiohttp.ClientSession) -> None:
    headers = AUTHORISED | {"origin": "https://app.example"}
    async with http.post(edge.url + CHAT, json=HELLO, headers=headers) as answer:
        assert not any(name.lower().startswith("access-control") for name in answer.headers)
