"""A channel to a peer that speaks this transport, with a channel of gRPC beside it for all that does not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from meshkit.context import current_or_none
from meshkit.methods import method_at
from meshkit.transports.mux.addresses import replicas_of
from meshkit.transports.mux.call import MuxCall, RetryBudget, Rpc, framed
from meshkit.transports.mux.limits import MAX_HEADER_BYTES, MuxTimes
from meshkit.transports.mux.messages import MuxMessages
from meshkit.transports.mux.replicas import Streams
from meshkit.transports.mux.stream import MuxStream
from meshkit.transports.outgoing import Metadata, deadline_for, headers_of
from meshkit.transports.remote import PeerSettings, RemoteChannel, RemoteStream, open_channel

_DEFAULT_TIMES = MuxTimes()
C = TypeVar("C", MuxCall, MuxMessages)


def open_mux_channel(
    service: str, peer: PeerSettings, times: MuxTimes = _DEFAULT_TIMES, mesh_key: str = ""
) -> MuxChannel | RemoteChannel:
    """Opens the channel of a peer. Must run inside the loop that uses it. Connecting happens in the background.

    An address whose replicas only gRPC can find is spoken to by gRPC. For `mesh_key` see `open_channel`.
    """
    remote = open_channel(service, peer, mesh_key)
    replicas = replicas_of(peer.address)
    return remote if replicas is None else MuxChannel(remote, Streams(peer, replicas, times, remote.ready), mesh_key)


class MuxChannel:
    """A channel to a peer. Give it to a generated stub.

    A unary call, or a stream of few messages, goes into a stream when one is up, the request is small and its deadline
    comes before the stream's; else by an RPC of its own, as on a RemoteChannel: fail fast, retried by the contract's
    word, over all replicas in turn.
    """

    def __init__(self, remote: RemoteChannel, streams: Streams, mesh_key: str = "") -> None:
        self._remote = remote
        self._mesh_key = mesh_key
        self._budget = RetryBudget()
        self.streams = streams

    def unary_unary(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **options: Any
    ) -> Callable[..., asyncio.Future[Any]]:
        """Called by generated stubs."""
        rpc = Rpc(
            method_at(path),
            self._budget,
            request_serializer,
            response_deserializer,
            self._remote.unary_unary(path, request_serializer, response_deserializer, **options),
            self._remote.unary_unary(path, None, response_deserializer, **options),
        )
        pick = self.streams.pick
        mesh_key = self._mesh_key if rpc.method.shows_mesh_key else ""

        def call(request: Any, *, timeout: float | None = None, metadata: Metadata = None, **_: Any) -> Any:
            stream = pick()
            if stream is None:
                return rpc.alone(request, timeout=timeout, metadata=metadata)
            loop = asyncio.get_running_loop()
            try:
                sent = _send(MuxCall, loop, rpc, stream, request, timeout, metadata, mesh_key)
            except Exception as error:  # noqa: BLE001 - raised where the call is awaited, as by a task
                failed = loop.create_future()
                failed.set_exception(error)
                return failed
            return rpc.alone(request, timeout=timeout, metadata=metadata) if sent is None else sent

        return call

    def stream_unary(self, path: str, *arguments: Any, **options: Any) -> Callable[..., asyncio.Future[Any]]:
        """Called by generated stubs."""
        return self._remote.stream_unary(path, *arguments, **options)

    def unary_stream(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **options: Any
    ) -> Callable[..., RemoteStream | MuxMessages]:
        """Called by generated stubs."""
        method = method_at(path)
        alone = self._remote.unary_stream(path, request_serializer, response_deserializer, **options)
        if not method.few_messages:
            return alone
        again = self._remote.unary_stream(path, None, response_deserializer, **options)
        rpc = Rpc(method, self._budget, request_serializer, response_deserializer, alone, again)
        pick = self.streams.pick
        mesh_key = self._mesh_key if method.shows_mesh_key else ""

        def call(request: Any, *, timeout: float | None = None, metadata: Metadata = None, **_: Any) -> Any:
            stream, sent = pick(), None
            if stream is not None and stream.carries_messages:
                loop = asyncio.get_running_loop()
                sent = _send(MuxMessages, loop, rpc, stream, request, timeout, metadata, mesh_key)
            return alone(request, timeout=timeout, metadata=metadata) if sent is None else sent

        return call

    def stream_stream(self, path: str, *arguments: Any, **options: Any) -> Callable[..., RemoteStream]:
        """Called by generated stubs."""
        return self._remote.stream_stream(path, *arguments, **options)

    async def close(self, grace: float | None = None) -> None:
        """Closes the connections. Calls in flight are cancelled."""
        await self.streams.close()
        await self._remote.close(grace)


def _send(
    kind: type[C],
    loop: asyncio.AbstractEventLoop,
    rpc: Rpc,
    stream: MuxStream,
    request: Any,
    timeout_s: float | None,
    metadata: Metadata,
    mesh_key: str,
) -> C | None:
    """Begins a call in the stream. Returns None for what is too large for it, or may last longer than it."""
    caller = current_or_none()
    deadline_s = deadline_for(loop, rpc.method, caller, timeout_s)
    if deadline_s > stream.ends_s:
        return None
    serialised = rpc.serialize(request)
    if len(serialised) > stream.max_request_bytes:
        return None
    headers = headers_of(caller, metadata, mesh_key)
    call_id = stream.next_id()
    batch = framed(rpc.method.path, call_id, serialised, headers, deadline_s - loop.time())
    if len(batch) - len(serialised) > MAX_HEADER_BYTES:
        return None
    call = kind(loop, rpc, stream, call_id, batch, serialised, headers, deadline_s)
    stream.send(call)
    return call
