"""The HTTP/1.1 server below the simulator: framing, pipelining, limits."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from llmops_cli.provider_sim import ProviderSim, Rule, SimSettings
from llmops_cli.provider_sim.connection import HttpLimits
from tests.contract.provider_sim.raw_client import chat, exchange, parse, post, wire

PATH = "/v1/chat/completions"


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_request_may_arrive_in_pieces(sim: ProviderSim, size: int) -> None:
    data = wire("POST", PATH, chat())
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await writer.drain()
        await asyncio.sleep(0)
    reply = parse(await reader.read())
    writer.close()
    assert (reply.status, len(sim.billing)) == (200, 1)


async def test_pipelined_requests_are_answered_in_order(sim: ProviderSim) -> None:
    sim.script = [Rule(model="slow", text="first", latency_ms=20), Rule(model="fast", text="second")]
    slow = wire("POST", PATH, chat("slow"), Connection="keep-alive")
    received = (await exchange(sim, slow + wire("POST", PATH, chat("fast")))).raw_body
    assert received.index(b"first") < received.index(b"second")


async def test_a_chunked_request_body(sim: ProviderSim) -> None:
    body = chat()
    head = f"POST {PATH} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
    chunked = b"5;x=y\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
    assert (await exchange(sim, head + chunked)).status == 200


async def test_expect_continue(sim: ProviderSim) -> None:
    body = chat()
    head = wire("POST", PATH, b"", Content_Length=str(len(body)), Expect="100-continue")
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(head)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body[:10])
    await post(sim, chat())  # the simulator has seen the first piece by the time this is answered
    writer.write(body[10:])
    assert parse(await reader.read()).status == 200
    writer.close()


async def test_a_flood_of_pipelined_bytes_ends_the_connection() -> None:
    limits = SimSettings(http=HttpLimits(max_head_bytes=1000, max_body_bytes=1000))
    async with ProviderSim(settings=limits) as sim:
        reply = await exchange(sim, wire("POST", PATH, chat("sim-hang")) + b"x" * 4000)
        assert (reply.status, [record.outcome for record in sim.billing]) == (0, ["cancelled"])


async def test_a_connection_is_kept_open_and_closed_on_request(sim: ProviderSim) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    for _ in range(2):
        writer.write(wire("GET", "/v1/models", Connection="keep-alive"))
        await reader.readuntil(b'"provider-sim"}]}')
    assert sim.stats.connections_opened == 1
    writer.write(wire("GET", "/v1/models"))
    assert (await reader.read()).endswith(b"}")
    writer.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2000\r\n\r\n", 413),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 2000, 431),
    ],
)
async def test_what_cannot_be_read_is_refused_and_the_connection_closed(data: bytes, status: int) -> None:
    limits = SimSettings(http=HttpLimits(max_head_bytes=1000, max_body_bytes=1000))
    async with ProviderSim(settings=limits) as sim:
        assert (await exchange(sim, data)).status == status


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":"m"}', b'{"model":1,"messages":[]}', b"\xff\xfe"])
async def test_a_body_that_is_no_chat_request_is_refused(sim: ProviderSim, body: bytes) -> None:
    reply = await post(sim, body)
    assert (reply.status, reply.json()["error"]["type"]) == (400, "invalid_request_error")
    assert sim.billing == []


@pytest.mark.parametrize("rounds", range(4))
async def test_whoever_connects_while_it_stops_is_let_go(rounds: int) -> None:
    """In whichever round of the event loop the stop finds the new connection."""
    sim = ProviderSim()
    await sim.__aenter__()
    with socket.create_connection(("127.0.0.1", sim.port)) as client:
        client.setblocking(False)
        for _ in range(rounds):
            await asyncio.sleep(0)
        await sim.__aexit__()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(client, 1) == b""
        await sim.wait_until(lambda: sim.stats.connections == 0)
