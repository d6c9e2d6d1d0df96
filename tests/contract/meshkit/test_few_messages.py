"""Streams of few messages: alike on every transport, and carried with unary calls between processes of the mesh."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from llmops.common.v1 import chat_pb2
from llmops.mesh.v1 import mesh_pb2
from llmops.router.v1 import router_pb2 as pb
from llmops.router.v1 import router_pb2_grpc

from meshkit.actions import NoLog
from meshkit.calls import HandlerTable
from meshkit.context import current
from meshkit.errors import CallError, Overloaded
from meshkit.identity import ConfiguredKeys, StoredKey, key_digest
from meshkit.interceptors import build_chain
from meshkit.interceptors.admission import AdmissionSettings
from meshkit.methods import method_at
from meshkit.metrics import MetricsRegistry
from meshkit.tracing import Tracing, TracingSettings
from meshkit.transports.local import LocalChannel
from meshkit.transports.mux import limits
from meshkit.transports.mux.channel import MuxChannel, open_mux_channel
from meshkit.transports.mux.limits import EXCHANGE
from meshkit.transports.mux.server import MeshServicer
from meshkit.transports.outgoing import MESH_HEADER
from meshkit.transports.remote import PeerSettings, open_channel
from meshkit.transports.server import GrpcServer, ServerSettings
from tests.contract.meshkit.mux_peers import QUICK, Seen
from tests.contract.meshkit.test_transports import ADA, PEPPER, until
from tests.contract.meshkit.test_transports import AUTHORISED as KEYED

SERVICE = "llmops.router.v1.RouterService"
PATH = f"/{SERVICE}/CompleteWithTries"
MESH_KEY = "key-of-the-mesh-for-tests"
AUTHORISED = (*KEYED, (MESH_HEADER, MESH_KEY))
KEYS = ConfiguredKeys(PEPPER, [StoredKey(key_digest(PEPPER, "ada-secret"), ADA)])


def asking(words: str) -> pb.CompleteWithTriesRequest:
    """The double does what the words say."""
    message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=words)
    return pb.CompleteWithTriesRequest(request_id="r", call=pb.ModelCall(messages=[message]))


def tries(*names: str) -> pb.CompleteWithTriesResponse:
    return pb.CompleteWithTriesResponse(tries=pb.TriesSoFar(attempts=[pb.Attempt(model_name=name) for name in names]))


@dataclass
class Double(router_pb2_grpc.RouterServiceServicer):
    """Tells of a try, and then of another, fails, waits or answers at length."""

    seen: list[Any] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def Plan(self, request: pb.PlanRequest, context: object) -> pb.PlanResponse:
        return pb.PlanResponse(strategy="ordered")

    async def CompleteWithTries(
        self, request: pb.CompleteWithTriesRequest, context: object
    ) -> AsyncIterator[pb.CompleteWithTriesResponse]:
        self.seen.append(current())
        words = request.call.messages[0].content
        try:
            yield tries("one")
            self.begun.set()
            if words == "wait":
                await self.go.wait()
            if words == "fail":
                raise Overloaded("too much")
            if words == "long":
                yield tries("x" * 70_000)
            yield tries("one", "two")
        finally:
            self.closed.set()


@dataclass
class Bench:
    stub: Any
    double: Any
    channel: Any
    server: Any = None
    seen: Seen = field(default_factory=Seen)


@asynccontextmanager
async def opened(transport: str, kind: type[Double] = Double, **peer: Any) -> AsyncIterator[Bench]:
    chain = build_chain(
        Tracing(TracingSettings(), "test"),
        MetricsRegistry(),
        AdmissionSettings(),
        KEYS,
        asyncio.get_running_loop().time,
        NoLog(),
        MESH_KEY,
    )
    table: Any = HandlerTable(chain)
    double: Any = kind()
    router_pb2_grpc.add_RouterServiceServicer_to_server(double, table)
    if transport == "local":
        local: Any = LocalChannel(table)
        yield Bench(router_pb2_grpc.RouterServiceStub(local), double, local)
        return
    seen = Seen()
    server = GrpcServer(ServerSettings(grpc_port=0, grace_s=0.1), table, (seen,))
    await server.start()
    settings = PeerSettings(address=f"127.0.0.1:{server.port}", **peer)
    channel: Any
    if transport == "mux":
        channel = open_mux_channel(SERVICE, settings, QUICK, MESH_KEY)
        await until(lambda: channel.streams.up == 1)
    else:
        channel = open_channel(SERVICE, settings, MESH_KEY)
    try:
        yield Bench(router_pb2_grpc.RouterServiceStub(channel), double, channel, server, seen)
    finally:
        await channel.close()
        await server.stop()


@pytest.fixture(params=["local", "grpc", "mux"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with opened(request.param) as made:
        yield made


@pytest.fixture
async def mux() -> AsyncIterator[Bench]:
    async with opened("mux") as made:
        yield made


async def heard(stream: Any) -> list[list[str]]:
    async with aclosing(stream) as messages:
        return [[attempt.model_name for attempt in message.tries.attempts] async for message in messages]


async def test_every_message_comes_in_order_and_then_the_end(bench: Bench) -> None:
    for _ in range(3):
        stream = bench.stub.CompleteWithTries(asking("go"), metadata=AUTHORISED)
        assert await heard(stream) == [["one"], ["one", "two"]]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert [call.principal for call in bench.double.seen] == [ADA] * 3


async def test_a_message_is_there_before_the_next_one_is_made(bench: Bench) -> None:
    async with aclosing(bench.stub.CompleteWithTries(asking("wait"), metadata=AUTHORISED)) as stream:
        async with asyncio.timeout(5):
            assert (await anext(stream)).tries.attempts[0].model_name == "one"
            bench.double.go.set()
            assert len((await anext(stream)).tries.attempts) == 2


async def test_a_failure_comes_after_what_was_said(bench: Bench) -> None:
    stream = bench.stub.CompleteWithTries(asking("fail"), metadata=AUTHORISED)
    assert (await anext(stream)).tries.attempts[0].model_name == "one"
    with pytest.raises(CallError) as caught:
        await anext(stream)
    assert (caught.value.status, caught.value.reason, str(caught.value)) == (
        "RESOURCE_EXHAUSTED",
        "OVERLOADED",
        "too much",
    )
    await stream.aclose()


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_who_may_not_hears_so_and_nothing_else(bench: Bench, key: str) -> None:
    metadata = ((MESH_HEADER, MESH_KEY), *([("authorization", f"Bearer {key}")] if key else []))
    with pytest.raises(CallError) as caught:
        await heard(bench.stub.CompleteWithTries(asking("go"), metadata=metadata))
    assert caught.value.status == "UNAUTHENTICATED"
    assert not bench.double.seen


async def test_its_deadline_ends_it_on_both_sides(bench: Bench) -> None:
    with pytest.raises(CallError) as caught:
        await heard(bench.stub.CompleteWithTries(asking("wait"), metadata=AUTHORISED, timeout=0.2))
    assert caught.value.status == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(bench.double.closed.wait(), 5)


@pytest.mark.parametrize("way", ["task", "close", "cancel"])
async def test_whoever_leaves_ends_the_handler(bench: Bench, way: str) -> None:
    stream = bench.stub.CompleteWithTries(asking("wait"), metadata=AUTHORISED)
    if way == "task":
        reading = asyncio.create_task(heard(stream))
        await asyncio.wait_for(bench.double.begun.wait(), 5)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    else:
        await anext(stream)
        await (stream.aclose() if way == "close" else asyncio.sleep(0, stream.cancel()))
    await asyncio.wait_for(bench.double.closed.wait(), 5)


async def test_it_shares_the_stream_of_unary_calls(mux: Bench) -> None:
    streams = [mux.stub.CompleteWithTries(asking("go"), metadata=AUTHORISED) for _ in range(50)]
    assert await asyncio.gather(*map(heard, streams)) == [[["one"], ["one", "two"]]] * 50
    assert mux.seen.methods == {EXCHANGE: 1}


async def test_a_large_request_is_an_rpc_of_its_own(mux: Bench) -> None:
    assert await heard(mux.stub.CompleteWithTries(asking("x" * limits.MAX_REQUEST_BYTES), metadata=AUTHORISED))
    assert mux.seen.methods[PATH] == 1


async def test_what_may_last_longer_than_the_shared_stream_is_an_rpc_of_its_own(mux: Bench) -> None:
    """It was lost when that reached its own deadline, however much time its caller had."""
    longest_s = method_at(EXCHANGE).default_timeout_s
    assert await heard(mux.stub.CompleteWithTries(asking("go"), metadata=AUTHORISED, timeout=longest_s + 1))
    assert await mux.stub.Plan(pb.PlanRequest(), metadata=AUTHORISED, timeout=longest_s + 1)
    assert mux.seen.methods == {EXCHANGE: 1, PATH: 1, f"/{SERVICE}/Plan": 1}


async def test_a_peer_of_the_release_before_is_asked_by_rpcs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = MeshServicer.__init__

    def before(self: MeshServicer, *arguments: Any) -> None:
        made(self, *arguments)
        self._opening = mesh_pb2.ExchangeResponse(max_batch_bytes=limits.MAX_BATCH_BYTES).SerializeToString()

    monkeypatch.setattr(MeshServicer, "__init__", before)
    async with opened("mux") as mux:
        assert len(await heard(mux.stub.CompleteWithTries(asking("go"), metadata=AUTHORISED))) == 2
        assert mux.seen.methods[PATH] == 1


async def test_a_message_is_no_longer_than_the_client_takes() -> None:
    async with opened("mux", max_message_bytes=65_536) as mux:
        with pytest.raises(CallError) as caught:
            await heard(mux.stub.CompleteWithTries(asking("long"), metadata=AUTHORISED))
        assert caught.value.status == "RESOURCE_EXHAUSTED"
        await asyncio.wait_for(mux.double.closed.wait(), 5)


async def test_what_was_never_written_is_sent_by_itself_when_the_stream_breaks(mux: Bench) -> None:
    stream = mux.stub.CompleteWithTries(asking("go"), metadata=AUTHORISED)
    mux.channel.streams._up[0]._call.cancel()
    assert await heard(stream) == [["one"], ["one", "two"]]
    assert len(mux.double.seen) == mux.seen.methods[PATH] == 1


async def test_whoever_leaves_what_was_sent_by_itself_ends_that(mux: Bench) -> None:
    stream = mux.stub.CompleteWithTries(asking("wait"), metadata=AUTHORISED)
    mux.channel.streams._up[0]._call.cancel()
    assert (await anext(stream)).tries
    await stream.aclose()
    await asyncio.wait_for(mux.double.closed.wait(), 5)


async def test_what_was_written_is_not_sent_again(mux: Bench) -> None:
    stream = mux.stub.CompleteWithTries(asking("wait"), metadata=AUTHORISED)
    assert (await anext(stream)).tries
    await mux.server._server.stop(None)
    with pytest.raises(CallError) as caught:
        await anext(stream)
    assert (caught.value.status, caught.value.unheard) == ("UNAVAILABLE", True)
    assert len(mux.double.seen) == 1


async def test_a_client_that_closes_ends_its_readers_and_handlers(mux: Bench) -> None:
    stream = mux.stub.CompleteWithTries(asking("wait"), metadata=AUTHORISED)
    reading = asyncio.create_task(heard(stream))
    await asyncio.wait_for(mux.double.begun.wait(), 5)
    await mux.channel.close()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await asyncio.wait_for(mux.double.closed.wait(), 5)


async def test_one_that_was_read_is_freed_without_the_collector(mux: Bench) -> None:
    gc.collect()
    gc.disable()
    try:
        stream = mux.stub.CompleteWithTries(asking("go"), metadata=AUTHORISED)
        await heard(stream)
        gone = weakref.ref(stream)
        del stream
        freed = gone() is None
        assert freed
    finally:
        gc.enable()


async def test_unary_calls_go_on_beside_one_that_waits(mux: Bench) -> None:
    assert isinstance(mux.channel, MuxChannel)
    waiting = mux.stub.CompleteWithTries(asking("wait"), metadata=AUTHORISED)
    assert (await anext(waiting)).tries
    assert (await mux.stub.Plan(pb.PlanRequest(), metadata=AUTHORISED)).strategy == "ordered"
    assert await heard(mux.stub.CompleteWithTries(asking("go"), metadata=AUTHORISED)) == [["one"], ["one", "two"]]
    await waiting.aclose()
    await asyncio.wait_for(mux.double.closed.wait(), 5)
