"""Where the contract tells the mesh from others: who is taken for what, on every transport and inside a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from llmops.cache.v1 import cache_pb2 as pb
from llmops.cache.v1 import cache_pb2_grpc
from llmops.common.v1 import chat_pb2

from meshkit.actions import NoLog
from meshkit.calls import HandlerTable
from meshkit.context import current
from meshkit.errors import CallError
from meshkit.identity import ConfiguredKeys, StoredKey, key_digest
from meshkit.interceptors import build_chain
from meshkit.interceptors.admission import AdmissionSettings
from meshkit.metrics import MetricsRegistry
from meshkit.testing import call_context
from meshkit.tracing import Tracing, TracingSettings
from meshkit.transports.local import LocalChannel
from meshkit.transports.mux.channel import MuxChannel, open_mux_channel
from meshkit.transports.outgoing import MESH_HEADER
from meshkit.transports.remote import PeerSettings, open_channel
from meshkit.transports.server import GrpcServer, ServerSettings
from tests.contract.meshkit.test_transports import ADA, AUTHORISED, PEPPER, until
from tests.support.cache_double import CacheDouble

KEY = pb.CacheKey(messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="hello")])
LOOK = pb.LookupRequest(key=KEY)
STORE = pb.StoreRequest(request_id="s", key=KEY, completion=chat_pb2.Completion(content="hi"))
SERVICE = "llmops.cache.v1.CacheService"
MESH_KEY = "key-of-the-mesh"
KEYS = ConfiguredKeys(PEPPER, [StoredKey(key_digest(PEPPER, "ada-secret"), ADA)])


class Seen(CacheDouble):
    """Notes for what each caller is taken; a Store looks up first, in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.within_mesh: list[bool] = []
        self.shown: list[bool] = []
        self.inner: Any = None

    async def Lookup(self, request: pb.LookupRequest, context: Any) -> pb.LookupResponse:
        self.within_mesh.append(current().within_mesh)
        self.shown.append(MESH_HEADER in context.metadata)
        return pb.LookupResponse()

    async def Store(self, request: pb.StoreRequest, context: object) -> pb.StoreResponse:
        await self.inner.Lookup(LOOK)
        self.within_mesh.append(current().within_mesh)
        return pb.StoreResponse()

    async def GetStats(self, request: pb.GetStatsRequest, context: Any) -> pb.GetStatsResponse:
        self.within_mesh.append(current().within_mesh)
        self.shown.append(MESH_HEADER in context.metadata)
        return pb.GetStatsResponse()


def served(seen: Seen, mesh_key: str) -> HandlerTable:
    """The handlers of a process whose own key is `mesh_key`."""
    clock_s, tracing = asyncio.get_running_loop().time, Tracing(TracingSettings(), "test")
    chain = build_chain(tracing, MetricsRegistry(), AdmissionSettings(), KEYS, clock_s, NoLog(), mesh_key)
    table = HandlerTable(chain)
    cache_pb2_grpc.add_CacheServiceServicer_to_server(seen, table)
    seen.inner = cache_pb2_grpc.CacheServiceStub(LocalChannel(table))
    return table


@asynccontextmanager
async def reached(transport: str, seen: Seen, mesh_key: str, shown: str) -> AsyncIterator[Any]:
    """A stub of a process that shows `shown` to one whose own key is `mesh_key`."""
    server = GrpcServer(ServerSettings(grpc_port=0, grace_s=0.1), served(seen, mesh_key))
    await server.start()
    opening = open_mux_channel if transport == "mux" else open_channel
    channel = opening(SERVICE, PeerSettings(address=f"127.0.0.1:{server.port}"), mesh_key=shown)
    if isinstance(channel, MuxChannel):
        await until(lambda: channel.streams.up == 1)
    try:
        yield cache_pb2_grpc.CacheServiceStub(channel)
    finally:
        await channel.close()
        await server.stop()


@pytest.mark.parametrize("transport", ["grpc", "mux"])
@pytest.mark.parametrize(
    ("mesh_key", "shown", "within_mesh"),
    [
        (MESH_KEY, MESH_KEY, True),
        (MESH_KEY, "", False),
        ("", "", False),
    ],
)
async def test_between_processes_the_mesh_is_who_shows_its_key(
    transport: str, mesh_key: str, shown: str, *, within_mesh: bool
) -> None:
    seen = Seen()
    async with reached(transport, seen, mesh_key, shown) as stub:
        await stub.Lookup(LOOK, metadata=AUTHORISED)
    assert seen.within_mesh == [within_mesh]


@pytest.mark.parametrize("transport", ["grpc", "mux"])
@pytest.mark.parametrize("mesh_key", [MESH_KEY, ""])
async def test_who_shows_another_key_is_not_taken_for_a_caller(transport: str, mesh_key: str) -> None:
    """Keys of two processes may differ by mistake: what callers stored must not be given as the mesh's then."""
    seen = Seen()
    async with reached(transport, seen, mesh_key, "another") as stub:
        with pytest.raises(CallError) as refused:
            await stub.Lookup(LOOK, metadata=AUTHORISED)
    assert (refused.value.status, seen.within_mesh) == ("PERMISSION_DENIED", [])
    assert "LLMOPS_MESH_KEY" in str(refused.value)


async def test_inside_a_process_the_mesh_is_who_calls_for_a_running_call() -> None:
    seen = Seen()
    stub: Any = cache_pb2_grpc.CacheServiceStub(LocalChannel(served(seen, MESH_KEY)))
    with call_context(ADA):
        await stub.Lookup(LOOK)
    # Without a running call it is somebody at the door, as a test or a tool is.
    await stub.Lookup(LOOK, metadata=AUTHORISED)
    assert seen.within_mesh == [True, False]


@pytest.mark.parametrize("transport", ["grpc", "mux"])
async def test_what_a_handler_asks_for_an_outsider_is_the_meshs_and_the_handlers_own_call_is_not(
    transport: str,
) -> None:
    seen = Seen()
    async with reached(transport, seen, MESH_KEY, "") as stub:
        await stub.Store(STORE, metadata=AUTHORISED)
    assert seen.within_mesh == [True, False]


@pytest.mark.parametrize("transport", ["grpc", "mux"])
async def test_the_key_stays_at_home_where_the_contract_tells_nobody_apart(transport: str) -> None:
    seen = Seen()
    async with reached(transport, seen, MESH_KEY, MESH_KEY) as stub:
        await stub.Lookup(LOOK, metadata=AUTHORISED)
        await stub.GetStats(pb.GetStatsRequest(), metadata=AUTHORISED)
    assert seen.shown == [True, False]
    assert seen.within_mesh == [True, False]
