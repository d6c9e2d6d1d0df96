"""An edge on a free port of loopback, with a scripted orchestrator and router behind either transport."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.orchestrator.v1 import orchestrator_pb2_grpc
from llmops.router.v1 import router_pb2, router_pb2_grpc

from meshkit.context import CallContext, current
from meshkit.identity import key_digest
from meshkit.kit import Kit
from meshkit.runtime import AuthSettings, KeySettings, ProcessSettings, Runtime
from meshkit.settings import Secret
from meshkit.transports.remote import PeerSettings
from meshkit.transports.server import GrpcServer, ServerSettings
from services.edge.adapters.memory import echo_events, echo_response, length_vectors
from services.edge.main import build
from services.edge.settings import EdgeSettings

PEPPER = "a-pepper-for-tests"
KEY = "ada-secret"
OPERATOR_KEY = "operator-secret"
AUTHORISED = {"authorization": f"Bearer {KEY}"}

Event = pb.CompleteStreamResponse


@dataclass
class Call:
    """What the orchestrator saw of a call."""

    conversation: pb.Conversation
    request_id: str
    context: CallContext
    remaining_s: float


@dataclass
class ScriptedOrchestrator(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Echoes, or does as the test says. `failure` is raised before event `fail_at`; at `hang_at` it waits for ever."""

    answer: Callable[[pb.Conversation], pb.CompleteResponse] | None = None
    events: Callable[[pb.Conversation], Sequence[Event]] | None = None
    failure: Exception | None = None
    fail_at: int = 0
    hang_at: int | None = None
    calls: list[Call] = field(default_factory=list)
    embeds: list[pb.EmbedRequest] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def Complete(self, request: pb.CompleteRequest, context: object) -> pb.CompleteResponse:
        self._note(request)
        await self._pause(0)
        if self.answer is not None:
            return self.answer(request.conversation)
        return echo_response(request.conversation, current().request_id)

    async def CompleteStream(self, request: pb.CompleteStreamRequest, context: object) -> AsyncIterator[Event]:
        self._note(request)
        events = self.events(request.conversation) if self.events is not None else None
        for position, event in enumerate(events or echo_events(request.conversation, current().request_id)):
            await self._pause(position)
            try:
                yield event
            except GeneratorExit:
                self.left.set()
                raise

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        self.embeds.append(request)
        await self._pause(0)
        return length_vectors(request, current().request_id)

    def _note(self, request: Any) -> None:
        conversation = pb.Conversation()
        conversation.CopyFrom(request.conversation)
        now_s = asyncio.get_running_loop().time()
        deadline_s = current().deadline_s
        assert deadline_s is not None
        self.calls.append(Call(conversation, request.request_id, current(), deadline_s - now_s))

    async def _pause(self, position: int) -> None:
        if self.failure is not None and position == self.fail_at:
            raise self.failure
        if position == self.hang_at:
            self.waiting.set()
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.left.set()
                raise


@dataclass
class ScriptedRouter(router_pb2_grpc.RouterServiceServicer):
    """Lists models, one page each."""

    models: list[router_pb2.Model] = field(default_factory=list)

    async def ListModels(self, request: router_pb2.ListModelsRequest, context: object) -> router_pb2.ListModelsResponse:
        at = int(request.page_token or 0)
        following = str(at + 1) if at + 1 < len(self.models) else ""
        return router_pb2.ListModelsResponse(models=self.models[at : at + 1], next_page_token=following)


@dataclass
class Edge:
    """A running edge."""

    host: str
    port: int
    orchestrator: ScriptedOrchestrator
    router: ScriptedRouter
    kit: Kit

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value."""
        value = self.kit._runtime.metrics.collectors.get_sample_value(name, labels)
        return 0.0 if value is None else value


def process_settings(peers: dict[str, PeerSettings]) -> ProcessSettings:
    keys = tuple(
        KeySettings(id=f"key-{role}", digest=key_digest(PEPPER.encode(), key), organisation="acme", roles=(role,))
        for key, role in ((KEY, "caller"), (OPERATOR_KEY, "operator"))
    )
    return ProcessSettings(auth=AuthSettings(Secret(PEPPER), Secret("mesh-secret"), keys), peers=peers)


@asynccontextmanager
async def mesh(transport: str, servicers: tuple[ScriptedOrchestrator, ScriptedRouter]) -> AsyncIterator[Runtime]:
    """A runtime whose channels lead to the servicers, in this process or over gRPC."""
    targets = frozenset({"edge", "orchestrator", "router"})
    if transport == "local":
        runtime = Runtime("test", process_settings({}), targets, None)
        _serve(runtime, servicers)
        yield runtime
        await runtime.close()
        return
    leaf = Runtime("leaf", process_settings({}), targets - {"edge"}, None)
    _serve(leaf, servicers)
    server = GrpcServer(ServerSettings(grpc_port=0, grace_s=0.1), leaf.table)
    await server.start()
    peer = PeerSettings(f"127.0.0.1:{server.port}")
    runtime = Runtime("test", process_settings({"orchestrator": peer, "router": peer}), frozenset({"edge"}), None)
    yield runtime
    await runtime.close()
    await server.drain()
    await leaf.close()


def _serve(runtime: Runtime, servicers: tuple[ScriptedOrchestrator, ScriptedRouter]) -> None:
    orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server(servicers[0], runtime.table)
    router_pb2_grpc.add_RouterServiceServicer_to_server(servicers[1], runtime.table)


@asynccontextmanager
async def running_edge(settings: EdgeSettings | None = None, transport: str = "local") -> AsyncIterator[Edge]:
    """The whole edge as `build` makes it."""
    orchestrator, router = ScriptedOrchestrator(), ScriptedRouter()
    async with mesh(transport, (orchestrator, router)) as runtime:
        kit = Kit(runtime, "edge")
        try:
            async with build(settings or EdgeSettings(port=0), kit):
                host, port = runtime.addresses["http"]
                yield Edge(host, port, orchestrator, router, kit)
        finally:
            await kit.close()


@dataclass
class RawClient:
    """A socket, for what no HTTP library would send."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_all(self) -> bytes:
        """Until the server closes. A reset counts as the end."""
        received = b""
        try:
            while piece := await asyncio.wait_for(self.reader.read(65536), 10):
                received += piece
        except ConnectionResetError:
            pass
        return received

    async def read_until(self, marker: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(marker), 10)

    def abort(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def raw_client(edge: Edge, receive_buffer: int | None = None) -> AsyncIterator[RawClient]:
    """Connects. A small receive buffer makes a slow reader felt early."""
    plain = socket.socket()
    plain.setblocking(False)
    if receive_buffer is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(plain, (edge.host, edge.port))
    limit = 1024 if receive_buffer is not None else 2**20
    reader, writer = await asyncio.open_connection(sock=plain, limit=limit)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


def post(body: dict[str, Any], headers: str = "") -> bytes:
    """A chat request as bytes."""
    content = json.dumps(body).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: edge\r\nauthorization: Bearer {KEY}\r\n"
        f"content-length: {len(content)}\r\n{headers}\r\n"
    ).encode() + content


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what no event announces: a metric, a port."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def data_lines(text: str) -> list[Any]:
    """The JSON of an event stream's data lines; the final marker stays text."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
