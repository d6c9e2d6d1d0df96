"""The gRPC transport, server side: the handlers of this process, with health, reflection and a clean drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from meshkit.calls import Chain, HandlerTable, ServerCall
from meshkit.errors import CallError
from meshkit.methods import Method
from meshkit.transports.mux.limits import SERVICE as MUX_SERVICE
from meshkit.transports.mux.server import MeshServicer
from meshkit.transports.status import encode

_MIN_PING_INTERVAL_MS = 10_000
# The longest credential that identity takes (16 KiB), the mesh's own key and the rest. By itself gRPC takes 8 KiB, and
# of calls with more it lets some through, by chance.
_MAX_METADATA_BYTES = 24 * 1024
# grpc sends a timeout as few digits, rounded up: 1 ms below 1 s, 10 ms below 10 s, 100 ms below 100 s, then whole
# seconds. That is up to 1 % more than the caller waits, so a handler counts on 1 % less than the header says.
_TIMEOUT_ROUNDING = 0.01


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificates of a server. With `client_ca_file`, clients must show a certificate of that authority (mTLS)."""

    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""

    def validate(self) -> None:
        """Raises ValueError for half a certificate."""
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together: set both or none")
        if self.client_ca_file and not self.cert_file:
            raise ValueError("client_ca_file asks clients for certificates, so the server needs cert_file and key_file")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The gRPC, admin and debug ports of a process. Port 0 takes a free one; debug_port -1 turns channelz off."""

    host: str = "127.0.0.1"
    grpc_port: int = 50051
    admin_port: int = 9464
    debug_port: int = 50052
    reflection: bool = True
    drain_delay_s: float = 0.0
    grace_s: float = 10.0
    max_message_bytes: int = 32 * 1024 * 1024
    # Clients reconnect after this time, and so find new replicas. What runs on the old connection has so long to end:
    # longer than any answer takes, for what is cut then is paid for.
    max_connection_age_s: float = 300.0
    max_connection_age_grace_s: float = 900.0
    tls: TlsSettings = field(default_factory=TlsSettings)

    def validate(self) -> None:
        """Raises ValueError for ports and durations that cannot be."""
        for name in ("grpc_port", "admin_port"):
            if not 0 <= getattr(self, name) <= 65535:  # noqa: PLR2004
                raise ValueError(f"{name} must be between 0 and 65535")
        if self.drain_delay_s < 0 or self.grace_s < 0:
            raise ValueError("drain_delay_s and grace_s must not be negative")
        if self.max_connection_age_s <= 0 or self.max_connection_age_grace_s <= 0:
            raise ValueError("max_connection_age_s and max_connection_age_grace_s must be positive")


class GrpcServer:
    """Serves a handler table. Health is NOT_SERVING until `serving()` and again from `drain()` on."""

    def __init__(self, settings: ServerSettings, table: HandlerTable, interceptors: tuple[Any, ...] = ()) -> None:
        self._settings = settings
        self._table = table
        self._server = grpc.aio.server(
            interceptors=interceptors,
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
                # Strictly less than the client's 30 s: equal values fail on jitter with "too_many_pings".
                ("grpc.http2.min_recv_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
                ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000)),
                ("grpc.max_connection_age_grace_ms", int(settings.max_connection_age_grace_s * 1000)),
            ],
        )
        self._health = health.aio.HealthServicer()
        # A connection's age ends its streams after the grace; half of it leaves calls in flight the other half.
        self._mux = MeshServicer(table, settings.max_message_bytes, settings.max_connection_age_s / 2)
        self.port = 0

    async def start(self) -> None:
        """Binds and begins to answer; health says NOT_SERVING. Raises OSError when the port is taken."""
        names = sorted(self._table.services)
        for service in names:
            await self._health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        self._register()
        self._mux.add_to(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._settings.reflection:
            known = (*names, MUX_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(known, self._server)
        address = f"{self._settings.host}:{self._settings.grpc_port}"
        try:
            self.port = self._bind(address)
        except RuntimeError:
            raise OSError(
                f"gRPC port {address} cannot be bound; is another process there? server.grpc_port takes another port"
            ) from None
        await self._server.start()

    def _register(self) -> None:
        by_service: dict[str, dict[str, Any]] = {}
        for method, handler in self._table.items().values():
            by_service.setdefault(method.service, {})[method.name] = rpc_handler(self._table.chain, method, handler)
        for service, handlers in by_service.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
            self._server.add_registered_method_handlers(service, handlers)

    def _bind(self, address: str) -> int:
        tls = self._settings.tls
        if not tls.cert_file:
            return int(self._server.add_insecure_port(address))
        pair = (Path(tls.key_file).read_bytes(), Path(tls.cert_file).read_bytes())
        authority = Path(tls.client_ca_file).read_bytes() if tls.client_ca_file else None
        credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
        return int(self._server.add_secure_port(address, credentials))

    async def set_serving(self, *, serving: bool) -> None:
        """Tells health checks."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in (*sorted(self._table.services), ""):
            await self._health.set(service, status)

    async def announce_drain(self) -> None:
        """NOT_SERVING, and a pause in which load balancers and the peers' streams notice."""
        self._mux.drain()
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._settings.drain_delay_s)

    async def drain(self) -> None:
        """Both halves of an end."""
        await self.announce_drain()
        await self.stop()

    async def stop(self) -> None:
        """No new calls, and a grace for the running ones."""
        self._mux.drain()
        await self._server.stop(self._settings.grace_s)


def _accepted(method: Method, context: Any) -> ServerCall:
    remaining_s = context.time_remaining()
    deadline_s = None
    if remaining_s is not None:
        deadline_s = asyncio.get_running_loop().time() + remaining_s * (1 - _TIMEOUT_ROUNDING)
    metadata = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
    return ServerCall(method, metadata, deadline_s, context.peer())


def rpc_handler(chain: Chain, method: Method, handler: Any) -> Any:
    """A handler in grpc's terms. A coroutine stays a coroutine and a generator a generator: grpc looks."""

    async def unary(request: Any, context: Any) -> Any:
        call = _accepted(method, context)
        try:
            response = await chain.unary(call, request, handler)
        except CallError as error:
            await _abort(context, error, call)
        _tell(context, call)
        return response

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        call = _accepted(method, context)
        try:
            async for response in chain.stream(call, request, handler):
                yield response
        except CallError as error:
            await _abort(context, error, call)
        _tell(context, call)

    factories = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    behaviour = stream if method.server_streaming else unary
    factory = factories[method.client_streaming, method.server_streaming]
    return factory(
        behaviour,
        request_deserializer=method.request_type.FromString,
        response_serializer=method.response_type.SerializeToString,
    )


def _tell(context: Any, call: ServerCall) -> None:
    if call.trailers:
        context.set_trailing_metadata(call.trailers)


async def _abort(context: Any, error: CallError, call: ServerCall) -> NoReturn:
    code, message, trailers = encode(error.failure)
    await context.abort(code, message, (*trailers, *call.trailers))
    raise error
