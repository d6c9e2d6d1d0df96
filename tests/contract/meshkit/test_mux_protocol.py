"""The protocol of a stream that carries calls, as a client in another language speaks it: bounds, noise, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import DecodeError
from llmops.guard.v1 import guard_pb2 as pb
from llmops.guard.v1 import guard_pb2_grpc
from llmops.mesh.v1 import mesh_pb2

from meshkit.errors import CallError
from meshkit.transports.mux import limits
from meshkit.transports.mux.limits import EXCHANGE
from tests.contract.meshkit.mux_peers import CHECK_INPUT, Gate, Peer, channel_to, guard_of, peer, up
from tests.contract.meshkit.test_transports import AUTHORISED, SERVICE, check, until


@asynccontextmanager
async def raw_stream(there: Peer) -> AsyncIterator[Any]:
    """The protocol as a client in another language speaks it."""
    async with grpc.aio.insecure_channel(there.address) as connection:
        stream: Any = connection.stream_stream(EXCHANGE)()
        assert (await answered(stream)).max_batch_bytes == limits.MAX_BATCH_BYTES
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
        (mesh_pb2.Call(method=CHECK_INPUT, metadata={"x" * 20_000: "y"}), "RESOURCE_EXHAUSTED"),
        (mesh_pb2.Call(method=CHECK_INPUT, metadata={f"x-{n}": "" for n in range(65)}), "RESOURCE_EXHAUSTED"),
        (mesh_pb2.Call(method=CHECK_INPUT, request=b"\xff"), "INTERNAL"),
        (mesh_pb2.Call(method="/no.Service/Method"), "UNIMPLEMENTED"),
        (mesh_pb2.Call(method=f"/{SERVICE}/CheckOutputStream"), "UNIMPLEMENTED"),
        (
            mesh_pb2.Call(method=CHECK_INPUT, request=check("hang").SerializeToString(), timeout_us=200_000),
            "DEADLINE_EXCEEDED",
        ),
    ],
    ids=[
        "large request",
        "large metadata",
        "long name",
        "many names",
        "no message",
        "no service",
        "a stream",
        "deadline",
    ],
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


class Untidy(guard_pb2_grpc.GuardServiceServicer):
    """The first call, when it is cancelled, goes on for a while and then answers all the same; later ones wait."""

    def __init__(self) -> None:
        self.begun = 0
        self.tidied = asyncio.Event()

    async def CheckInput(self, request: pb.CheckInputRequest, context: object) -> pb.CheckInputResponse:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await self.tidied.wait()
        return pb.CheckInputResponse(language="the first")


async def test_the_id_of_a_cancelled_call_is_not_free_while_its_handler_runs() -> None:
    guard = Untidy()
    async with peer(guard) as there, raw_stream(there) as stream:

        def call() -> mesh_pb2.Call:
            return mesh_pb2.Call(id=7, method=CHECK_INPUT, request=check().SerializeToString())

        await stream.write(batch(call()))
        await until(lambda: guard.begun == 1)
        await stream.write(batch(cancelled_ids=[7]))
        await stream.write(batch(call()))
        outcome = (await answered(stream)).outcomes[0]
        assert (outcome.id, outcome.failure.code) == (7, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        (session,) = there.server._mux._sessions
        guard.tidied.set()
        await until(lambda: not session.ending)
        await stream.write(batch(call()))
        await until(lambda: guard.begun == 2)
        stream.cancel()


async def test_handlers_that_clean_up_count_as_calls_in_flight() -> None:
    guard = Untidy()
    async with peer(guard) as there, raw_stream(there) as stream:
        request = check().SerializeToString()
        half = limits.MAX_IN_FLIGHT // 2
        for first in (0, half):
            ids = range(first, first + half)
            await stream.write(batch(*(mesh_pb2.Call(id=i, method=CHECK_INPUT, request=request) for i in ids)))
            await until(lambda first=first: guard.begun == first + half)  # type: ignore[misc]
            await stream.write(batch(cancelled_ids=ids))
        await stream.write(batch(mesh_pb2.Call(id=1 << 20, method=CHECK_INPUT, request=request)))
        assert (await answered(stream)).outcomes[0].failure.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        guard.tidied.set()
        stream.cancel()


TOO_MANY = mesh_pb2.ExchangeRequest(calls=[mesh_pb2.Call()] * (limits.MAX_ITEMS + 1)).SerializeToString()
TOO_MANY_LEAVE = batch(cancelled_ids=range(limits.MAX_ITEMS + 1))
TOO_LONG = batch(cancelled_ids=range(1 << 40, (1 << 40) + limits.MAX_BATCH_BYTES // 6 + 1))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\xff\xff", "INVALID_ARGUMENT"),
        (TOO_LONG, "RESOURCE_EXHAUSTED"),
        (TOO_MANY, "RESOURCE_EXHAUSTED"),
        (TOO_MANY_LEAVE, "RESOURCE_EXHAUSTED"),
    ],
    ids=["noise", "too long", "too many calls", "too many cancellations"],
)
async def test_a_batch_that_is_none_ends_the_stream_and_nothing_else(sent: bytes, code: str) -> None:
    async with peer() as there:
        async with raw_stream(there) as stream:
            await stream.write(sent)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(stream.read(), 5)
            assert caught.value.code().name == code
        async with channel_to(there) as channel:
            await up(channel)
            assert (await guard_of(channel).CheckInput(check(), metadata=AUTHORISED)).language == "acme"


async def test_a_client_that_has_said_all_still_gets_its_answers() -> None:
    gate = Gate()
    async with peer(gate) as there, raw_stream(there) as stream:
        await stream.write(batch(mesh_pb2.Call(id=1, method=CHECK_INPUT, request=check().SerializeToString())))
        await stream.done_writing()
        (session,) = there.server._mux._sessions
        await until(lambda: gate.begun == 1 and session._half_closed)
        await asyncio.sleep(0)
        gate.go.set()
        assert (await answered(stream)).outcomes[0].HasField("response")
        assert await stream.read() is grpc.aio.EOF


async def test_a_client_that_does_not_read_is_not_heard_further() -> None:
    gate = Gate(answer="x" * 100_000)
    gate.go.set()
    count = 300
    async with peer(gate) as there, raw_stream(there) as stream:
        request = check().SerializeToString()
        for number in range(count):
            await stream.write(batch(mesh_pb2.Call(id=number, method=CHECK_INPUT, request=request)))
        (session,) = there.server._mux._sessions
        await until(lambda: session._unsent_bytes > limits.MAX_QUEUED_BYTES)
        async with channel_to(there) as other:
            await up(other)
            for _ in range(20):
                await guard_of(other).CheckInput(check(), metadata=AUTHORISED)
        assert gate.begun - 20 < count, "while others are"
        heard: set[int] = set()
        while len(heard) < count:
            heard |= {outcome.id for outcome in (await answered(stream)).outcomes}


@dataclass
class Silent:
    """A peer that takes calls and says nothing, but what the test tells it to."""

    address: str = ""
    batches: list[mesh_pb2.ExchangeRequest] = field(default_factory=list)
    answers: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)


@asynccontextmanager
async def silent_peer() -> AsyncIterator[Silent]:
    server = grpc.aio.server()
    there = Silent()

    async def exchange(_: Any, context: Any) -> None:
        await context.write(mesh_pb2.ExchangeResponse(max_batch_bytes=50_000).SerializeToString())
        telling = asyncio.ensure_future(tell(context))
        while (raw := await context.read()) is not grpc.aio.EOF:
            there.batches.append(mesh_pb2.ExchangeRequest.FromString(raw))
        telling.cancel()

    async def tell(context: Any) -> None:
        while True:
            await context.write(await there.answers.get())

    handler: Any = grpc.stream_stream_rpc_method_handler(exchange)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(limits.SERVICE, {"Exchange": handler}),))
    there.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield there
    await server.stop(None)


async def test_the_client_keeps_its_deadline_alone_and_calls_off_what_it_began() -> None:
    async with silent_peer() as there, channel_to(there) as channel:
        await up(channel)
        with pytest.raises(CallError) as caught:
            await guard_of(channel).CheckInput(check(), metadata=AUTHORISED, timeout=0.2)
        assert (caught.value.status, caught.value.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        await until(lambda: bool(there.batches[-1].cancelled_ids))
        assert [call.id for one in there.batches for call in one.calls] == list(there.batches[-1].cancelled_ids)


@pytest.mark.parametrize(
    "outcome",
    [
        mesh_pb2.Outcome(id=1, response=b"\xff\xff"),
        mesh_pb2.Outcome(id=1, failure=mesh_pb2.Failure(code=5, details=b"\xff\xff")),
    ],
    ids=["response", "details"],
)
async def test_an_answer_that_cannot_be_read_is_one_callers_alone(outcome: mesh_pb2.Outcome) -> None:
    async with silent_peer() as there, channel_to(there) as channel:
        await up(channel)
        stub = guard_of(channel)
        call, other = (stub.CheckInput(check(), metadata=AUTHORISED) for _ in range(2))
        there.answers.put_nowait(mesh_pb2.ExchangeResponse(outcomes=[outcome]).SerializeToString())
        with pytest.raises(DecodeError):
            await call
        fine = mesh_pb2.Outcome(id=2, response=pb.CheckInputResponse(language="acme").SerializeToString())
        there.answers.put_nowait(mesh_pb2.ExchangeResponse(outcomes=[fine]).SerializeToString())
        assert (await other).language == "acme"


async def test_an_outcome_of_a_kind_that_is_not_known_is_no_success() -> None:
    async with silent_peer() as there, channel_to(there) as channel:
        await up(channel)
        call = guard_of(channel).CheckInput(check(), metadata=AUTHORISED)
        there.answers.put_nowait(mesh_pb2.ExchangeResponse(outcomes=[mesh_pb2.Outcome(id=1)]).SerializeToString())
        with pytest.raises(CallError) as caught:
            await call
        assert caught.value.status == "INTERNAL"


async def test_no_batch_is_longer_than_the_peer_takes() -> None:
    async with silent_peer() as there, channel_to(there) as channel:
        await up(channel)
        request = check()
        request.messages[0].content = "x" * 20_000
        calls = [guard_of(channel).CheckInput(request, metadata=AUTHORISED) for _ in range(5)]
        request.messages[0].content = "x" * 40_000
        with pytest.raises(CallError) as caught:
            await guard_of(channel).CheckInput(request, metadata=AUTHORISED)
        assert caught.value.status == "UNIMPLEMENTED", "by an RPC of its own, which this peer does not serve"
        await until(lambda: sum(len(one.calls) for one in there.batches) == 5)
        assert max(one.ByteSize() for one in there.batches) <= 50_000
        for call in calls:
            call.cancel()
