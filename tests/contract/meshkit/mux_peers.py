"""Servers that take streams of calls, and channels to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import grpc.aio
from llmops.common.v1 import chat_pb2
from llmops.guard.v1 import guard_pb2 as pb
from llmops.guard.v1 import guard_pb2_grpc
from llmops.orchestrator.v1 import orchestrator_pb2 as complete_pb
from llmops.orchestrator.v1 import orchestrator_pb2_grpc

from meshkit.interceptors.admission import AdmissionSettings
from meshkit.metrics import MetricsRegistry
from meshkit.transports.mux.channel import MuxChannel, open_mux_channel
from meshkit.transports.mux.limits import EXCHANGE, MuxTimes
from meshkit.transports.remote import PeerSettings
from meshkit.transports.server import GrpcServer, ServerSettings
from tests.contract.meshkit.test_transports import AUTHORISED, SERVICE, handler_table, until
from tests.support.guard_double import GuardDouble

CHECK_INPUT = f"/{SERVICE}/CheckInput"
ORCHESTRATOR = "llmops.orchestrator.v1.OrchestratorService"
COMPLETE = f"/{ORCHESTRATOR}/Complete"
QUICK = MuxTimes(max_age_s=60, first_backoff_s=0.02, max_backoff_s=0.1, unknown_backoff_s=0.1)


class Seen(grpc.aio.ServerInterceptor):
    """Counts what arrives as an RPC of gRPC; one in a stream of calls is not such."""

    def __init__(self, hidden: str = "") -> None:
        self.methods: Counter[str] = Counter()
        self.hidden = hidden
        self.open = asyncio.Event()
        self.open.set()

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        self.methods[details.method] += 1
        if details.method == EXCHANGE:
            await self.open.wait()
        return None if details.method == self.hidden else await continuation(details)


class Slow(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Complete, which costs money and is never repeated, takes until the test lets it go."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def Complete(self, request: complete_pb.CompleteRequest, context: object) -> complete_pb.CompleteResponse:
        self.begun += 1
        await self.go.wait()
        return complete_pb.CompleteResponse()


class Gate(guard_pb2_grpc.GuardServiceServicer):
    """CheckInput, which may be repeated, takes until the test lets it go."""

    def __init__(self, answer: str = "acme") -> None:
        self.answer = answer
        self.begun = 0
        self.go = asyncio.Event()

    async def CheckInput(self, request: pb.CheckInputRequest, context: object) -> pb.CheckInputResponse:
        self.begun += 1
        await self.go.wait()
        return pb.CheckInputResponse(language=self.answer)


@dataclass
class Peer:
    """A server with a guard and an orchestrator, and what came to it as RPCs."""

    server: GrpcServer
    guard: Any
    slow: Slow
    seen: Seen
    metrics: MetricsRegistry

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def kill(self) -> None:
        """As a process that dies: connections break, nobody drains."""
        await self.server._server.stop(None)


@asynccontextmanager
async def peer(
    guard: Any = None, *, hidden: str = "", port: int = 0, settings: dict[str, Any] | None = None
) -> AsyncIterator[Peer]:
    metrics = MetricsRegistry()
    table = handler_table(metrics, AdmissionSettings(max_in_flight=10_000))
    made = Peer(None, guard or GuardDouble(), Slow(), Seen(hidden), metrics)  # type: ignore[arg-type]
    guard_pb2_grpc.add_GuardServiceServicer_to_server(made.guard, table)
    orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server(made.slow, table)
    options = {"grpc_port": port, "grace_s": 0.2} | (settings or {})
    made.server = GrpcServer(ServerSettings(**options), table, (made.seen,))
    await made.server.start()
    try:
        yield made
    finally:
        await made.server.stop()


class Reachable(Protocol):
    """What a channel leads to."""

    @property
    def address(self) -> str:
        """host:port."""


@asynccontextmanager
async def channel_to(*peers: Reachable, service: str = SERVICE, times: MuxTimes = QUICK) -> AsyncIterator[MuxChannel]:
    addresses = ",".join(one.address for one in peers)
    channel = open_mux_channel(service, PeerSettings(address=f"ipv4:{addresses}"), times)
    assert isinstance(channel, MuxChannel)
    try:
        yield channel
    finally:
        await channel.close()


async def up(channel: MuxChannel, count: int = 1) -> None:
    await until(lambda: channel.streams.up == count)


def guard_of(channel: MuxChannel) -> Any:
    return guard_pb2_grpc.GuardServiceStub(channel)


def complete(channel: Any) -> asyncio.Future[Any]:
    """A call that the contract never repeats."""
    message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="hello")
    request = complete_pb.CompleteRequest(conversation=complete_pb.Conversation(messages=[message]))
    stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
    return asyncio.ensure_future(stub.Complete(request, metadata=AUTHORISED))
