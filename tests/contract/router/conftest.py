"""A small real upstream on loopback: raw asyncio, so that a test decides about every byte and sees every disconnect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from llmops_cli.provider_sim import ProviderSim, SimSettings
from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.base import Dialect
from services.router.adapters.dialects.embeddings import EmbeddingsDialect
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.http import Endpoint, HttpLimits, HttpProvider, Signer, open_session
from services.router.settings import RouterSettings
from tests.contract.router.faults import Serve
from tests.support.router_service import start_router

KEY = "sk-contract-test"
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@dataclass
class Received:
    """One request as it came in."""

    line: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    # Of all headers, in order.
    names: tuple[str, ...] = ()

    def json(self) -> Any:
        return json.loads(self.body)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, body: bytes, *, status: int = 200, content_type: str = "application/json", headers: str = ""
    ) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        await self.send(head.encode() + body)

    async def begin_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def stream(self, *pieces: bytes) -> None:
        await self.begin_stream()
        for piece in pieces:
            await self.chunk(piece)
        await self.end_stream()

    async def gone(self) -> None:
        """Waits until the client closes the connection."""
        while await self.reader.read(1024):
            pass


Respond = Callable[[Received], Awaitable[None]]


@dataclass
class Upstream:
    """Serves `respond`; `gone_at` is when a client left, on the loop's clock."""

    respond: Respond
    url: str = ""
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    gone_at: float = 0.0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            while (received := await read_request(reader, writer)) is not None:
                self.requests.append(received)
                await self.respond(received)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone_at = asyncio.get_running_loop().time()
            self.gone.set()
            self.writers.discard(writer)
            writer.close()


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Received | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = await reader.readline()
        if not line:
            return None
        head += line
    first, *rest = head.decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    names = tuple(line.partition(":")[0].lower() for line in rest)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(first, headers, body, reader, writer, names)


StartUpstream = Callable[[Respond], Awaitable[Upstream]]
OpenProvider = Callable[..., Awaitable[HttpProvider]]


@pytest.fixture(autouse=True)
def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests keeps their money."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def sim() -> AsyncIterator[ProviderSim]:
    """A provider that follows a script and keeps the true bill."""
    async with ProviderSim(settings=SimSettings(max_hang_s=30)) as simulator:
        yield simulator


@pytest.fixture(params=["local", "grpc"])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Starts a process that runs the router alone, behind each transport."""
    async with AsyncExitStack() as stack:
        yield lambda settings: start_router(stack, settings, request.param)


@pytest.fixture
async def start_upstream() -> AsyncIterator[StartUpstream]:
    servers: list[tuple[asyncio.Server, Upstream]] = []

    async def start(respond: Respond) -> Upstream:
        upstream = Upstream(respond)
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        servers.append((server, upstream))
        return upstream

    yield start
    for server, upstream in servers:
        server.close()
        for writer in list(upstream.writers):
            writer.transport.abort()
        await server.wait_closed()


@pytest.fixture
async def open_provider() -> AsyncIterator[OpenProvider]:
    async with AsyncExitStack() as sessions:

        async def open_(
            url: str,
            dialect: Dialect | None = None,
            *,
            limits: HttpLimits | None = None,
            embeddings: EmbeddingsDialect | None = None,
            sign: Signer | None = None,
            **changes: Any,
        ) -> HttpProvider:
            endpoint = Endpoint(
                base_url=url,
                api_key=KEY,
                organisation="",
                project="",
                headers={},
                connect_timeout_s=2.0,
                max_connections=16,
                keepalive_s=5.0,
                ca_file="",
                allow_private=False,
                allow_loopback=True,
            )
            endpoint = replace(endpoint, **changes)
            spoken = dialect or OpenAiChat()
            session = await sessions.enter_async_context(open_session(endpoint, spoken))
            return HttpProvider(
                spoken,
                url,
                session,
                limits=limits or HttpLimits(),
                now=lambda: NOW,
                sign=sign,
                embeddings=embeddings,
            )

        yield open_


@pytest.fixture
def anthropic() -> Dialect:
    return AnthropicMessages()


@pytest.fixture(params=["local", "grpc"])
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[RouterSettings], Awaitable[Any]]]:
    """Starts a process that runs the router alone, and gives a stub to it."""
    async with AsyncExitStack() as stack:

        async def start_(router: RouterSettings) -> Any:
            return (await start_router(stack, router, request.param)).stub

        yield start_
