"""The protocol of a stream that carries calls, as a client in another language speaks it: bounds, noise, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from llmops.mesh.v1 import mesh_pb2

from meshkit.transports.mux import limits
from meshkit.transports.mux.limits import EXCHANGE
from tests.contract.meshkit.mux_peers import CHECK_INPUT, Gate, Peer, channel_to, guard_of, peer, up
from tests.contract.meshkit.test_transports import AUTHORISED, SERVICE, check


@asynccontextmanager
async def raw_stream(there: Peer) -> AsyncIterator[Any]:
    """The protocol as a client in another language speaks it."""
    async with grpc.aio.insecure_channel(there.address) as connection:
        stream: Any = connection.stream_stream(EXCHANGE)()
        assert await stream.read() == b""
        yield stream


def batch(*calls: mesh_pb2.Call, **rest: Any) -> bytes:
    for call in calls:
        call.authorization = AUTHORISED[0][1]
    return mesh_pb2.ExchangeRequest(calls=calls, **rest).SerializeToString()


async def answered(stream: Any) -> mesh_pb2.ExchangeResponse:
    return mesh_pb2.ExchangeResponse.FromString(await asyncio.wait_for(stream.read(), 5))


async def test_a_call_that_reaches_a_draining_peer_is_answered_while_the_stream_is_open() -> None:
    async with peer() as there, raw_stream(there) as stream:
        there.server._mux.drain()
        assert (await answered(stream)).draining
        await stream.write(batch(mesh_pb2.Call(id=1, method=CHECK_INPUT, request=check().SerializeToString())))
        assert (await answered(stream)).outcomes[0].id == 1
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


LARGE = check()
LARGE.messages[0].content = "x" * limits.MAX_REQUEST_BYTES


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (mesh_pb2.Call(method=CHECK_INPUT, request=LARGE.SerializeToString()), "RESOURCE_EXHAUSTED"),
        (mesh_pb2.Call(method=CHECK_INPUT, metadata={"x-much": "y" * 20_000}), "RESOURCE_EXHAUSTED"),
        (mesh_pb2.Call(method=CHECK_INPUT, request=b"\xff"), "INTERNAL"),
        (mesh_pb2.Call(method="/no.Service/Method"), "UNIMPLEMENTED"),
        (mesh_pb2.Call(method=f"/{SERVICE}/CheckOutputStream"), "UNIMPLEMENTED"),
        (
            mesh_pb2.Call(method=CHECK_INPUT, request=check("hang").SerializeToString(), timeout_us=200_000),
            "DEADLINE_EXCEEDED",
        ),
    ],
    ids=["large request", "large metadata", "no message", "no service", "a stream", "deadline"],
)
async def test_what_breaks_a_bound_fails_alone(call: mesh_pb2.Call, code: str) -> None:
    async with peer() as there, raw_stream(there) as stream:
        call.id = 7
        await stream.write(batch(call))
        outcome = (await answered(stream)).outcomes[0]
        assert (outcome.id, outcome.failure.code) == (7, getattr(grpc.StatusCode, code).value[0])
        good = mesh_pb2.Call(id=8, method=CHECK_INPUT, request=check().SerializeToString())
        await stream.write(batch(good))
        assert (await answered(stream)).outcomes[0].HasField("response")


async def test_a_response_is_no_longer_than_the_client_takes() -> None:
    async with peer() as there, raw_stream(there) as stream:
        call = mesh_pb2.Call(id=1, method=CHECK_INPUT, request=check().SerializeToString())
        await stream.write(batch(call, max_response_bytes=2))
        assert (await answered(stream)).outcomes[0].failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


async def test_more_calls_in_flight_than_a_stream_may_have_are_refused() -> None:
    gate = Gate()
    async with peer(gate) as there, raw_stream(there) as stream:
        request = check().SerializeToString()
        calls = [mesh_pb2.Call(id=i, method=CHECK_INPUT, request=request) for i in range(limits.MAX_IN_FLIGHT + 1)]
        await stream.write(batch(*calls))
        refused = (await answered(stream)).outcomes
        assert [(o.id, o.failure.code) for o in refused] == [(limits.MAX_IN_FLIGHT, 8)]
        stream.cancel()


@pytest.mark.parametrize("sent", [b"\xff\xff", b"\x00" * (limits.MAX_BATCH_BYTES + 1)], ids=["noise", "too large"])
async def test_a_batch_that_is_none_ends_the_stream_and_nothing_else(sent: bytes) -> None:
    async with peer() as there:
        async with raw_stream(there) as stream:
            await stream.write(sent)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(stream.read(), 5)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with channel_to(there) as channel:
            await up(channel)
            assert (await guard_of(channel).CheckInput(check(), metadata=AUTHORISED)).language == "acme"
