"""Processes that run identity, or ask it: for the suites that need keys which the configuration does not know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from llmops.cache.v1 import cache_pb2_grpc
from llmops.common.v1 import chat_pb2
from llmops.guard.v1 import guard_pb2, guard_pb2_grpc
from llmops.identity.v1 import identity_pb2_grpc
from llmops.registry.v1 import registry_pb2_grpc

from meshkit.authentication import IdentityCacheSettings
from meshkit.clock import Clock
from meshkit.errors import CallError
from meshkit.identity import key_digest
from meshkit.kit import Kit
from meshkit.postgres import DatabaseSettings
from meshkit.runtime import AuthSettings, KeySettings, ProcessSettings, Runtime
from meshkit.settings import Secret
from meshkit.transports.remote import PeerSettings, open_channel
from meshkit.transports.server import GrpcServer, ServerSettings
from services.identity.main import build
from services.identity.settings import IdentitySettings
from tests.support.cache_double import CacheDouble
from tests.support.guard_double import GuardDouble
from tests.support.one_service import PEPPER, running_service
from tests.support.registry_double import RegistryDouble

MESH_KEY = "llmops-mesh-key-of-the-identity-suite"
ALL_ROLES = ("approver", "auditor", "author", "caller", "operator", "publisher", "viewer")
SETTINGS = IdentitySettings(
    peppers={"test": Secret("the-pepper-of-all-tests")}, current_pepper="test", poll_interval_s=0.05
)


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


ADMIN, ACME, GLOBEX = (bearer(f"{name}-secret") for name in ("platform", "acme", "globex"))
MESH = bearer(MESH_KEY)


def auth(cache: IdentityCacheSettings | None = None) -> AuthSettings:
    """What every process of a mesh has: its key, and keys of mesh.yaml."""
    keys = tuple(
        KeySettings(f"{name}-key", key_digest(PEPPER.encode(), f"{name}-secret"), name, roles, user="root")
        for name, roles in (
            ("platform", ALL_ROLES),
            ("acme", ("operator", "caller")),
            ("globex", ("operator", "caller")),
        )
    )
    return AuthSettings(Secret(PEPPER), Secret(MESH_KEY), keys, cache or IdentityCacheSettings())


@asynccontextmanager
async def identity(
    url: str, transport: str = "grpc", settings: IdentitySettings = SETTINGS, clock: Clock | None = None
) -> AsyncIterator[tuple[Any, Runtime]]:
    """A process that runs identity; yields a stub to it and its runtime."""
    async with running_service("identity", build, settings, transport, url, clock, auth()) as (channel, runtime):
        yield identity_pb2_grpc.IdentityServiceStub(channel), runtime


def _stubs(channel: Any) -> tuple[Any, Any, Any]:
    stubs = guard_pb2_grpc.GuardServiceStub, identity_pb2_grpc.IdentityServiceStub, cache_pb2_grpc.CacheServiceStub
    return stubs[0](channel), stubs[1](channel), stubs[2](channel)


@dataclass
class Server:
    """A process of the mesh: where it answers, and what it says to a credential."""

    port: int
    guard: Any
    identity: Any
    cache: Any
    runtime: Runtime
    admin: CacheDouble
    channel: Any
    registry: RegistryDouble

    async def says(self, secret: str) -> str:
        """What a call to its guard with a credential ends with: OK, or its status."""
        message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="x")
        request = guard_pb2.CheckInputRequest(messages=[message])
        try:
            await self.guard.CheckInput(request, metadata=bearer(secret), timeout=10)
        except CallError as error:
            return error.status
        return "OK"


@asynccontextmanager
async def process(
    *,
    url: str = "",
    identity_port: int = 0,
    port: int = 0,
    settings: IdentitySettings = SETTINGS,
    cache: IdentityCacheSettings | None = None,
    clock: Clock | None = None,
    mesh_key: str = MESH_KEY,
) -> AsyncIterator[Server]:
    """A process over gRPC that serves a guard, a cache and a registry which do nothing.

    With a database beside identity, with `identity_port` asking it, else in a mesh without one.
    """
    targets = frozenset({"guard", "identity"} if url else {"guard"})
    peers = {} if url or not identity_port else {"identity": PeerSettings(address=f"127.0.0.1:{identity_port}")}
    of_process = ProcessSettings(
        server=ServerSettings(grpc_port=port, grace_s=0.2),
        auth=replace(auth(cache), mesh_key=Secret(mesh_key)),
        database=DatabaseSettings(url=Secret(url), pool_size=4),
        peers=peers,
    )
    runtime = Runtime("test", of_process, targets, clock)
    kit = Kit(runtime, "identity")
    admin, watched = CacheDouble(), RegistryDouble()
    guard_pb2_grpc.add_GuardServiceServicer_to_server(GuardDouble(), runtime.table)
    cache_pb2_grpc.add_CacheServiceServicer_to_server(admin, runtime.table)
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(watched, runtime.table)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runtime.close)
        stack.push_async_callback(kit.close)
        if url:
            await stack.enter_async_context(build(settings, kit))
            stack.push_async_callback(kit.stop_background)
        server = GrpcServer(of_process.server, runtime.table)
        await server.start()
        stack.push_async_callback(server.drain)
        channel = open_channel("llmops.guard.v1.GuardService", PeerSettings(f"127.0.0.1:{server.port}"))
        stack.push_async_callback(channel.close)
        yield Server(server.port, *_stubs(channel), runtime, admin, channel, watched)


async def until(what: Callable[[], Awaitable[bool]], within_s: float = 5.0) -> float:
    """Waits for something to become true. Returns how long that took, in seconds."""
    started_s = time.monotonic()
    async with asyncio.timeout(within_s):
        while not await what():
            await asyncio.sleep(0.002)
    return time.monotonic() - started_s
