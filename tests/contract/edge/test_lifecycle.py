"""Start, drain, stop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import aiohttp
import pytest

from services.edge.settings import EdgeSettings
from tests.contract.edge.harness import AUTHORISED, Edge, data_lines, post, raw_client, running_edge, until

HELLO = {"messages": [{"role": "user", "content": "one two three"}]}
CHAT = "/v1/chat/completions"


async def test_a_port_in_use_is_said_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"HTTP port {port} on 127.0.0.1 is in use.*LLMOPS__EDGE__PORT"):
            async with running_edge(EdgeSettings(port=port)):
                pass


async def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1 cannot be bound"):
        async with running_edge(EdgeSettings(host="192.0.2.1", port=0)):
            pass


@pytest.mark.parametrize("stream", [False, True])
async def test_running_requests_finish_when_the_process_drains(http: aiohttp.ClientSession, *, stream: bool) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    orchestrators = []

    async def serve() -> None:
        async with running_edge() as edge:
            edge.orchestrator.hang_at = 2 if stream else 0
            orchestrators.append(edge)
            entered.set()
            await leave.wait()

    server = asyncio.create_task(serve())
    await entered.wait()
    [edge] = orchestrators
    async with raw_client(edge) as idle:
        running = asyncio.ensure_future(http.post(edge.url + CHAT, json=HELLO | {"stream": stream}, headers=AUTHORISED))
        await asyncio.wait_for(edge.orchestrator.waiting.wait(), 5)
        leave.set()
        assert await idle.read_all() == b""
        with pytest.raises(OSError):
            await asyncio.open_connection(edge.host, edge.port)
        assert not server.done()
        edge.orchestrator.released.set()
        async with await running as answer:
            text = await answer.text()
        assert data_lines(text)[-1] == "[DONE]" if stream else "one two three" in text
        await asyncio.wait_for(server, 5)


async def test_a_request_whose_body_is_under_way_is_still_answered() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    edges = []

    async def serve() -> None:
        async with running_edge() as edge:
            edges.append(edge)
            entered.set()
            await leave.wait()

    server = asyncio.create_task(serve())
    await entered.wait()
    request = post(HELLO)
    async with raw_client(edges[0]) as client:
        await client.send(request[:-5])
        await until(lambda: edges[0].sample("llmops_edge_requests_in_flight") == 1)
        leave.set()
        await until(lambda: _refuses(edges[0]))
        await client.send(request[-5:])
        answer = await client.read_all()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()
    await asyncio.wait_for(server, 5)


def _refuses(edge: Edge) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((edge.host, edge.port)) != 0


async def test_what_does_not_finish_in_time_is_cut() -> None:
    async with AsyncExitStack() as clients:
        async with running_edge(EdgeSettings(port=0, drain_timeout_s=0.1)) as edge:
            edge.orchestrator.hang_at = 0
            client = await clients.enter_async_context(raw_client(edge))
            await client.send(post(HELLO))
            await asyncio.wait_for(edge.orchestrator.waiting.wait(), 5)
        # The block has ended, so the edge has drained.
        assert await client.read_all() == b""
        assert edge.orchestrator.left.is_set()
