"""The same server on uvloop, the event loop of production: its transports are a type of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from services.edge.settings import EdgeLimits, EdgeSettings
from tests.contract.edge.harness import post, raw_client, running_edge

HELLO = {"messages": [{"role": "user", "content": "one two three"}]}


async def plain_and_streamed() -> None:
    async with running_edge() as edge:
        for stream, marker in ((False, b"one two three"), (True, b"data: [DONE]")):
            async with raw_client(edge) as client:
                await client.send(post(HELLO | {"stream": stream}, "connection: close\r\n"))
                answer = await client.read_all()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert marker in answer


async def slow_headers_are_ended() -> None:
    settings = EdgeSettings(port=0, limits=EdgeLimits(receipt_timeout_s=0.2))
    async with running_edge(settings) as edge, raw_client(edge) as client:
        await client.send(b"POST /v1/chat")
        assert (await client.read_all()).startswith(b"HTTP/1.1 408 ")


async def too_many_connections_are_closed() -> None:
    settings = EdgeSettings(port=0, limits=EdgeLimits(max_connections=1))
    async with running_edge(settings) as edge, raw_client(edge) as first:
        await first.send(b"GET /healthz HTTP/1.1\r\nhost: e\r\n\r\n")
        await first.read_until(b"ok\n")
        async with raw_client(edge) as second:
            assert await second.read_all() == b""


async def a_client_that_leaves_cancels_the_call() -> None:
    async with running_edge() as edge:
        edge.orchestrator.hang_at = 1
        async with raw_client(edge) as client:
            await client.send(post(HELLO | {"stream": True}))
            await asyncio.wait_for(edge.orchestrator.waiting.wait(), 5)
        await asyncio.wait_for(edge.orchestrator.left.wait(), 5)


async def a_client_that_stops_reading_is_cut() -> None:
    settings = EdgeSettings(port=0, limits=EdgeLimits(slow_reader_timeout_s=0.2))
    async with running_edge(settings) as edge:
        body = {"messages": [{"role": "user", "content": ("x" * 1000 + " ") * 3000}], "stream": True}
        async with raw_client(edge, receive_buffer=4096) as client:
            await client.send(post(body))
            await client.read_until(b"\r\n\r\n")
            await asyncio.wait_for(edge.orchestrator.left.wait(), 5)


async def what_does_not_finish_is_cut_at_the_end() -> None:
    async with running_edge(EdgeSettings(port=0, drain_timeout_s=0.1)) as edge:
        edge.orchestrator.hang_at = 0
        async with raw_client(edge) as client:
            await client.send(post(HELLO))
            await asyncio.wait_for(edge.orchestrator.waiting.wait(), 5)
    assert edge.orchestrator.left.is_set()


@pytest.mark.parametrize(
    "scenario",
    [
        plain_and_streamed,
        slow_headers_are_ended,
        too_many_connections_are_closed,
        a_client_that_leaves_cancels_the_call,
        a_client_that_stops_reading_is_cut,
        what_does_not_finish_is_cut_at_the_end,
    ],
)
def test_on_uvloop(scenario: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(scenario())
