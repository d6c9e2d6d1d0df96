"""The gRPC transport, client side: one channel per peer, the behaviour of the local one.

A wrapper rather than client interceptors: grpc.aio registers an interceptor for one arity only, and silently.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from meshkit.context import current_or_none
from meshkit.errors import CallError, describe
from meshkit.methods import Method, method_at, methods_of
from meshkit.transports.outgoing import Metadata, deadline_for, headers_of
from meshkit.transports.status import decode

_KEEPALIVE_MS = 30_000
_MAX_BACKOFF_S = "1s"
# Of a failure: a hundred tries, the most of a call, have 30 KiB in its details. By itself gRPC takes 8 KiB, and up to
# 16 KiB by chance; what has more is RESOURCE_EXHAUSTED, whatever it was.
_MAX_TRAILER_BYTES = 64 * 1024
# gRPC's throttle: a failure takes a token, a success gives a part of one, and below half of them nothing is repeated.
RETRY_TOKENS = 10
RETRY_TOKEN_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Where a service is reached. `dns:///name:port` over a headless service balances over all replicas.

    With `multiplex`, unary calls and streams of few messages share one stream per replica (docs/adr/0001). Set it to
    false where a proxy in between balances single calls: it would see one long call per replica that it chose once.
    """

    address: str = ""
    tls: bool = False
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    server_name: str = ""
    max_message_bytes: int = 32 * 1024 * 1024
    multiplex: bool = True

    def validate(self) -> None:
        """Raises ValueError for half a client certificate or an empty address."""
        if not self.address:
            raise ValueError("address is empty; write host:port or dns:///name:port")
        if bool(self.client_cert_file) != bool(self.client_key_file):
            raise ValueError("client_cert_file and client_key_file go together: set both or none")
        if not self.tls and (self.ca_file or self.client_cert_file or self.server_name):
            raise ValueError("certificates are given but tls is false; set tls: true")


def service_config(service: str) -> str:
    """gRPC's service config: round robin, and retries only where the contract calls an RPC safe to repeat.

    Only UNAVAILABLE is retried (AIP-194). Throttling stops retries when a tenth of the calls fail.
    """
    retryable = [{"service": service, "method": m.name} for m in methods_of(service).values() if m.retryable]
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.05s",
        "maxBackoff": _MAX_BACKOFF_S,
        "backoffMultiplier": 3,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "retryThrottling": {"maxTokens": RETRY_TOKENS, "tokenRatio": RETRY_TOKEN_RATIO},
    }
    if retryable:
        config["methodConfig"] = [{"name": retryable, "retryPolicy": policy}]
    return json.dumps(config)


def open_channel(service: str, peer: PeerSettings, mesh_key: str = "") -> RemoteChannel:
    """Opens the channel of a peer. Must run inside the loop that uses it. Connecting happens in the background.

    `mesh_key` goes with calls by which the contract tells the mesh from others, and with no other.
    """
    options = [
        ("grpc.service_config", service_config(service)),
        ("grpc.enable_retries", 1),
        # A replica that comes back is found within this time, not after two minutes of backoff.
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
    ]
    return RemoteChannel(connection(peer.address, peer, peer.server_name, options), mesh_key)


def connection(target: str, peer: PeerSettings, server_name: str, options: list[tuple[str, Any]]) -> grpc.aio.Channel:
    """A channel of gRPC to `target`, secured and kept alive as the peer's settings say.

    With `server_name`, that is the name that the server must prove. Raises OSError for files that cannot be read.
    """
    options = [
        *options,
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", peer.max_message_bytes),
        ("grpc.max_send_message_length", peer.max_message_bytes),
        ("grpc.max_metadata_size", _MAX_TRAILER_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_TRAILER_BYTES),
    ]
    if not peer.tls:
        return grpc.aio.insecure_channel(target, options=options)
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    credentials = grpc.ssl_channel_credentials(
        _read(peer.ca_file), _read(peer.client_key_file), _read(peer.client_cert_file)
    )
    return grpc.aio.secure_channel(target, credentials, options=options)


def _read(file: str) -> bytes | None:
    return Path(file).read_bytes() if file else None


class RemoteChannel:
    """A channel to a peer. Give it to a generated stub."""

    def __init__(self, channel: grpc.aio.Channel, mesh_key: str = "") -> None:
        self._channel = channel
        self._mesh_key = mesh_key

    def unary_unary(self, path: str, *arguments: Any, **options: Any) -> Callable[..., asyncio.Task[Any]]:
        """Called by generated stubs."""
        return self._awaited(path, self._channel.unary_unary(path, *arguments, **options))

    def stream_unary(self, path: str, *arguments: Any, **options: Any) -> Callable[..., asyncio.Task[Any]]:
        """Called by generated stubs."""
        return self._awaited(path, self._channel.stream_unary(path, *arguments, **options))

    def unary_stream(self, path: str, *arguments: Any, **options: Any) -> Callable[..., RemoteStream]:
        """Called by generated stubs."""
        return self._iterated(path, self._channel.unary_stream(path, *arguments, **options))

    def stream_stream(self, path: str, *arguments: Any, **options: Any) -> Callable[..., RemoteStream]:
        """Called by generated stubs."""
        return self._iterated(path, self._channel.stream_stream(path, *arguments, **options))

    async def ready(self) -> None:
        """Connects, and returns when some replica is connected. Waits as long as it takes."""
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Closes the connections."""
        await self._channel.close(grace)

    def _awaited(self, path: str, multi: Any) -> Callable[..., asyncio.Task[Any]]:
        method = method_at(path)
        mesh_key = self._mesh_key if method.shows_mesh_key else ""

        async def run(request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
            call = _begin(method, multi, request, timeout_s, metadata, mesh_key)
            try:
                return await call
            except grpc.aio.AioRpcError as error:
                raise _call_error(error, path) from None

        def call(request: Any, *, timeout: float | None = None, metadata: Metadata = None, **_: Any) -> Any:
            return asyncio.get_running_loop().create_task(run(request, timeout, metadata))

        return call

    def _iterated(self, path: str, multi: Any) -> Callable[..., RemoteStream]:
        method = method_at(path)
        mesh_key = self._mesh_key if method.shows_mesh_key else ""

        def call(request: Any, *, timeout: float | None = None, metadata: Metadata = None, **_: Any) -> RemoteStream:
            requests = _Requests(request) if method.client_streaming else None
            outgoing = requests.sent() if requests is not None else request
            return RemoteStream(_begin(method, multi, outgoing, timeout, metadata, mesh_key), path, requests)

        return call


class RemoteStream:
    """The reading side of a remote stream: iterate it, `cancel()` it, or close it with `aclosing`."""

    def __init__(self, call: Any, path: str, requests: _Requests | None) -> None:
        self._call = call
        self._responses: AsyncIterator[Message] = call.__aiter__()
        self._path = path
        self._requests = requests

    def __aiter__(self) -> RemoteStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._responses.__anext__()
        except grpc.aio.AioRpcError as error:
            raise _call_error(error, self._path) from None
        except asyncio.CancelledError:
            self._call.cancel()
            if self._requests is not None and self._requests.failure is not None and not _is_cancelled():
                raise CallError(describe(self._requests.failure)) from None
            raise

    def cancel(self) -> bool:
        """Ends the stream; the callee is told. Since grpcio 1.83 an abandoned call is never collected: always close."""
        return bool(self._call.cancel())

    async def aclose(self) -> None:
        """Ends the stream, and returns when nobody reads the client's messages any more: their source can be closed."""
        self._call.cancel()
        if self._requests is not None:
            await self._requests.stop()


class _Requests:
    """The client's messages on their way out, read by a task of grpc.aio (1.85).

    That task answers a failing source by cancelling the call, so that the reader sees a cancellation that nobody asked
    for; and it goes on reading when the server has ended the call. A local stream does neither, so the reason is kept
    here and the task is stopped from here.
    """

    def __init__(self, source: AsyncIterator[Message]) -> None:
        self._source = source
        self._reader: asyncio.Task[Any] | None = None
        self.failure: Exception | None = None

    async def sent(self) -> AsyncIterator[Message]:
        """The messages."""
        self._reader = asyncio.current_task()
        try:
            async for request in self._source:
                yield request
        except Exception as error:
            self.failure = error
            raise

    async def stop(self) -> None:
        """Returns when nobody reads the source any more."""
        if self._reader is not None and not self._reader.done():
            self._reader.cancel()
            await asyncio.wait({self._reader})
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _begin(method: Method, multi: Any, request: Any, timeout_s: float | None, metadata: Metadata, mesh_key: str) -> Any:
    loop = asyncio.get_running_loop()
    caller = current_or_none()
    remaining_s = deadline_for(loop, method, caller, timeout_s) - loop.time()
    call = multi(request, timeout=remaining_s, metadata=tuple(headers_of(caller, metadata, mesh_key).items()))
    if method.client_streaming:
        call._cython_call = _TrueStatus(call._cython_call)  # noqa: SLF001
    return call


class _TrueStatus:
    """Lets a call that the server ended report the server's status.

    When a server refuses a stream while its client still writes, the failed write makes grpc.aio (1.85) set INTERNAL
    "Internal error from Core" before the real status is read, and keep it. Ignoring that word is enough: the write
    then waits for the real status. The contract suite of the transports fails without this.
    """

    def __init__(self, call: Any) -> None:
        self._call = call

    def set_internal_error(self, _: str) -> None:
        """Not believed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _call_error(error: grpc.aio.AioRpcError, path: str) -> CallError:
    trailers = tuple(error.trailing_metadata() or ())
    return CallError(decode(error.code(), error.details() or "", trailers, path))
