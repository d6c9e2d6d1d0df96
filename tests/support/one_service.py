"""A process that runs one service alone, reached over either transport: what every room's service tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from meshkit.clock import Clock
from meshkit.identity import key_digest
from meshkit.kit import Kit
from meshkit.lifecycle import Build
from meshkit.postgres import DatabaseSettings
from meshkit.runtime import AuthSettings, KeySettings, ProcessSettings, Runtime
from meshkit.settings import Secret
from meshkit.transports.remote import PeerSettings, open_channel
from meshkit.transports.server import GrpcServer, ServerSettings

PEPPER = "pepper-for-tests-only"
CALLER = (("authorization", "Bearer caller-secret"),)
OPERATOR = (("authorization", "Bearer operator-secret"),)
KEYS = tuple(
    KeySettings(role, key_digest(PEPPER.encode(), f"{role}-secret"), "acme", (role,), user=f"{role}-user")
    for role in ("operator", "caller")
)

# What a process of the mesh shows for a caller.
FOR_CALLER = (*CALLER, ("x-llmops-mesh", "mesh-secret"))
AUTH = AuthSettings(pepper=Secret(PEPPER), mesh_key=Secret("mesh-secret"), keys=KEYS)


@asynccontextmanager
async def running_service(
    name: str,
    build: Build,
    settings: object,
    transport: str,
    url: str,
    clock: Clock | None = None,
    auth: AuthSettings = AUTH,
) -> AsyncIterator[tuple[Any, Runtime]]:
    """A channel to the service, in-process ("local") or over gRPC ("grpc"), and its runtime."""
    process = ProcessSettings(
        server=ServerSettings(grpc_port=0, grace_s=0.2),
        auth=auth,
        database=DatabaseSettings(url=Secret(url), pool_size=2),
    )
    runtime = Runtime(name, process, frozenset({name}), clock)
    kit = Kit(runtime, name)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runtime.close)
        stack.push_async_callback(kit.close)
        await stack.enter_async_context(build(settings, kit))
        stack.push_async_callback(kit.stop_background)
        channel = runtime.channel(name)
        if transport == "grpc":
            server = GrpcServer(process.server, runtime.table)
            await server.start()
            stack.push_async_callback(server.drain)
            service = f"llmops.{name}.v1.{name.capitalize()}Service"
            channel = open_channel(service, PeerSettings(address=f"127.0.0.1:{server.port}"))
            stack.push_async_callback(channel.close)
        yield channel, runtime
