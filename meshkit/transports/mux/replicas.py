"""The streams to a peer: one per replica, replaced by fresh ones in time, and begun again when they break."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc
import grpc.aio
from llmops.mesh.v1 import mesh_pb2

from meshkit.methods import method_at
from meshkit.transports.mux.addresses import Replicas
from meshkit.transports.mux.limits import EXCHANGE, MuxTimes
from meshkit.transports.mux.stream import MuxStream
from meshkit.transports.remote import PeerSettings, connection

logger = logging.getLogger("meshkit.mux")

# Looking a name up again after each broken stream must not become a storm.
_MIN_RESOLVE_INTERVAL_S = 0.5


class Streams:
    """Every stream of a peer. Must be made inside the loop that uses it; works until `close()`.

    `ready` is waited for before a stream is opened: that calls of another kind can be made as well. Without it, a peer
    that comes back is back for unary calls while gRPC's own channel still waits before its next attempt.
    """

    def __init__(
        self, peer: PeerSettings, replicas: Replicas, times: MuxTimes, ready: Callable[[], Awaitable[None]]
    ) -> None:
        self._peer = peer
        self._ready = ready
        self._replicas = replicas
        self._times = times
        self._up: list[MuxStream] = []
        self._turn = 0
        self._look_again = asyncio.Event()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._running: dict[MuxStream, asyncio.Task[None]] = {}
        self._watcher = _background(self._watch())

    @property
    def up(self) -> int:
        """Streams that take calls."""
        return sum(stream.takes_calls for stream in self._up)

    def pick(self) -> MuxStream | None:
        """The next stream in turn that has room; None when there is none."""
        up = self._up
        for _ in range(len(up)):
            self._turn = (self._turn + 1) % len(up)
            stream = up[self._turn]
            if stream.takes_calls:
                return stream
        return None

    async def close(self) -> None:
        """Ends every stream. Calls in flight are cancelled."""
        keepers = [self._watcher, *self._keepers.values()]
        for task in keepers:
            task.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        self._up.clear()
        running = dict(self._running)
        for stream in running:
            stream.break_off()
        await asyncio.gather(*running.values(), return_exceptions=True)

    async def _watch(self) -> None:
        """Keeps a stream to whatever replicas there are."""
        while True:
            try:
                async with asyncio.timeout(self._times.resolve_timeout_s):
                    targets = await self._replicas.resolve()
            except (OSError, TimeoutError, UnicodeError) as error:
                # Those that are known go on, as in gRPC.
                logger.debug("a peer's name cannot be looked up", extra={"fields": {"error": type(error).__name__}})
            else:
                self._keep_only(targets)
            if not self._replicas.host:
                return
            self._look_again.clear()
            await asyncio.sleep(_MIN_RESOLVE_INTERVAL_S)
            await _either(self._look_again, self._times.resolve_interval_s)

    def _keep_only(self, targets: frozenset[str]) -> None:
        for target in targets - self._keepers.keys():
            self._keepers[target] = _background(self._keep(target))
        for target in self._keepers.keys() - targets:
            self._keepers.pop(target).cancel()

    async def _keep(self, target: str) -> None:
        """Keeps one stream to one replica up."""
        loop = asyncio.get_running_loop()
        current: MuxStream | None = None
        failures, opened_s = 0, 0.0
        try:
            while True:
                fresh, pause_s = await self._opened(target, failures)
                if fresh is None:
                    failures += 1
                else:
                    self._begin(fresh)
                    self._leave(current)
                    current, opened_s = fresh, loop.time()
                if current is None:
                    await asyncio.sleep(pause_s)
                elif await _either(current.leaving, pause_s):
                    self._leave(current)
                    current = None
                    self._look_again.set()
                    # A peer that drains accepts streams that it ends at once.
                    failures = failures + 1 if loop.time() - opened_s < self._times.max_backoff_s else 0
                    await asyncio.sleep(self._backoff_s(failures - 1) if failures else 0)
        finally:
            self._leave(current)

    async def _opened(self, target: str, failures: int) -> tuple[MuxStream | None, float]:
        """A stream and its age at replacement, or None and the time after which to try again."""
        times = self._times
        try:
            async with asyncio.timeout(times.connect_timeout_s):
                await self._ready()
                stream = await self._open(target)
        except grpc.aio.AioRpcError as error:
            unknown = error.code() is grpc.StatusCode.UNIMPLEMENTED
            return None, times.unknown_backoff_s if unknown else self._backoff_s(failures)
        except (OSError, TimeoutError):
            return None, self._backoff_s(failures)
        except Exception:
            # Calls go by RPCs of their own meanwhile.
            logger.exception("no stream to a replica can be opened", extra={"fields": {"target": target}})
            return None, self._times.unknown_backoff_s
        return stream, times.max_age_s * random.uniform(1 - times.age_jitter, 1 + times.age_jitter)  # noqa: S311

    def _backoff_s(self, failures: int) -> float:
        pause_s: float = min(self._times.max_backoff_s, self._times.first_backoff_s * 2 ** min(failures, 16))
        return pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter

    async def _open(self, target: str) -> MuxStream:
        peer, host = self._peer, self._replicas.host
        options: list[tuple[str, Any]] = [
            # A connection of its own: its age, which the server bounds, is the stream's.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.min_reconnect_backoff_ms", int(self._times.connect_timeout_s * 1000)),
        ]
        if host and not peer.tls:
            options.append(("grpc.default_authority", f"{host}:{self._replicas.port}"))
        channel = connection(target, peer, peer.server_name or host, options)
        # Bytes on both sides: batches are joined before they are sent.
        exchange: Any = channel.stream_stream(EXCHANGE)
        life_s = method_at(EXCHANGE).default_timeout_s
        ends_s = asyncio.get_running_loop().time() + life_s
        call = exchange(timeout=life_s)
        first: Any = grpc.aio.EOF
        try:
            first = await call.read()
        finally:
            if first is grpc.aio.EOF:
                await channel.close()
        if first is grpc.aio.EOF:
            raise ConnectionError("the peer ended the stream at once")
        return MuxStream(channel, call, peer.max_message_bytes, mesh_pb2.ExchangeResponse.FromString(first), ends_s)

    def _begin(self, stream: MuxStream) -> None:
        self._up.append(stream)
        task = _background(stream.run())
        self._running[stream] = task
        task.add_done_callback(lambda _: self._running.pop(stream, None))

    def _leave(self, stream: MuxStream | None) -> None:
        if stream is not None and stream in self._up:
            self._up.remove(stream)
            stream.retire()


def _background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that belongs to no running call, whoever causes it."""
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


async def _either(event: asyncio.Event, timeout_s: float) -> bool:
    """Waits until the event or for a time. Returns whether it was the event."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
