"""Start and stop of a process: targets in dependency order, drained in reverse.

Exit codes: 0 after a clean stop, 1 when a target failed, 2 for a wrong configuration, 3 when a port is taken,
130 after a second signal.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from meshkit.admin import AdminServer
from meshkit.kit import Kit
from meshkit.runtime import Runtime
from meshkit.settings import SettingsError, nearest
from meshkit.transports.server import GrpcServer

EXIT_OK, EXIT_FAILED, EXIT_CONFIGURATION, EXIT_PORT = 0, 1, 2, 3
EXIT_SECOND_SIGNAL = 130
_LAG_INTERVAL_S = 0.25
_SAME_WISH_S = 1.0
_STDIN, _INPUT_BYTES = 0, 4096

logger = logging.getLogger("meshkit.lifecycle")

Build = Callable[[Any, Kit], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Target:
    """A service as the launcher knows it, by import path ("package.module:name"): an image needs only what it runs."""

    name: str
    settings_path: str
    build_path: str
    depends_on: tuple[str, ...] = ()
    speaks_grpc: bool = True
    needs_database: bool = False

    def settings_type(self) -> type:
        """The settings class. Light: importing it imports no adapter."""
        found: type = _imported(self.settings_path)
        return found

    def build(self) -> Build:
        """The service's `build`. Raises SettingsError when a package of an extra is missing."""
        try:
            found: Build = _imported(self.build_path)
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"target {self.name} needs the package {error.name}; install it with "
                f"`pip install 'llmops-mesh[{self.name}]'`"
            ) from None
        return found


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def start_order(table: Mapping[str, Target], chosen: frozenset[str]) -> list[Target]:
    """The chosen targets, dependencies first. Raises SettingsError for unknown names and cycles."""
    for name in sorted(chosen):
        if name not in table:
            known = ", ".join(sorted(table))
            raise SettingsError(f"there is no target {name!r}{nearest(name, table)}; targets are {known}")
    order: list[Target] = []
    visiting: list[str] = []

    def visit(name: str) -> None:
        if name in visiting:
            raise SettingsError(f"targets depend on each other in a circle: {' -> '.join([*visiting, name])}")
        if name not in table:
            raise SettingsError(f"target {visiting[-1]!r} depends on {name!r}, which does not exist")
        visiting.append(name)
        for dependency in table[name].depends_on:
            visit(dependency)
        visiting.pop()
        if name in chosen and table[name] not in order:
            order.append(table[name])

    for name in table:
        visit(name)
    return order


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A started process: its addresses by name ("grpc", "admin", "http")."""

    runtime: Runtime
    addresses: Mapping[str, tuple[str, int]]


@asynccontextmanager
async def running_process(
    runtime: Runtime,
    order: list[Target],
    settings: Mapping[str, object],
    effective_config: Callable[[], object],
) -> AsyncIterator[RunningProcess]:
    """Runs targets until the block ends. `settings` holds each target's own settings by name."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runtime.close)
        for target in order:
            await _enter(stack, runtime, target, settings[target.name])
        admin = AdminServer(runtime, effective_config)
        await admin.start()
        stack.push_async_callback(admin.close)
        runtime.addresses["admin"] = (runtime.settings.server.host, admin.port)
        server = None
        if any(t.speaks_grpc for t in order):
            server = await _serve(stack, runtime)
        lag = asyncio.get_running_loop().create_task(_watch_lag(runtime))
        stack.push_async_callback(_cancelled(lag))
        # Everything built so far lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        try:
            yield RunningProcess(runtime, runtime.addresses)
        finally:
            admin.draining = True
            if server is not None:
                await server.announce_drain()
            await asyncio.gather(*(_logged(end) for end in runtime.drain_callbacks))
            if server is not None:
                await server.stop()


async def _logged(end: Callable[[], Awaitable[None]]) -> None:
    """One service that cannot end its streams must not keep the others from ending theirs."""
    try:
        await end()
    except Exception:
        logger.exception("draining failed")


async def _enter(stack: AsyncExitStack, runtime: Runtime, target: Target, settings: object) -> None:
    build = target.build()
    kit = Kit(runtime, target.name)
    stack.push_async_callback(kit.close)
    await stack.enter_async_context(build(settings, kit))
    stack.push_async_callback(kit.stop_background)


async def _serve(stack: AsyncExitStack, runtime: Runtime) -> GrpcServer:
    server = GrpcServer(runtime.settings.server, runtime.table, _contrib_tracing(runtime))
    await server.start()
    # Stopped after a drain already; this is for a start that fails from here on.
    stack.push_async_callback(server.stop)
    runtime.addresses["grpc"] = (runtime.settings.server.host, server.port)
    await server.set_serving(serving=True)
    debug = await _start_channelz(runtime)
    if debug is not None:
        stack.push_async_callback(debug.stop, 0)
    return server


def _contrib_tracing(runtime: Runtime) -> tuple[Any, ...]:
    """OpenTelemetry's own server interceptor, where the public meets the mesh and spans are wanted.

    It costs as much as the hop, so processes of inner services and untraced processes do without.
    """
    if not runtime.tracing.enabled or "orchestrator" not in runtime.targets:
        return ()
    from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters  # noqa: PLC0415

    provider = runtime.tracing.open_provider()
    # A stream that carries other calls is none itself; those in it have spans of their own.
    keep = filters.negate(filters.any_of(filters.service_prefix("grpc."), filters.service_prefix("llmops.mesh.")))
    return (aio_server_interceptor(tracer_provider=provider, filter_=keep),)  # type: ignore[no-untyped-call]


async def _start_channelz(runtime: Runtime) -> Any:
    port = runtime.settings.server.debug_port
    if port < 0:
        return None
    import grpc.aio  # noqa: PLC0415
    from grpc_channelz.v1 import channelz  # noqa: PLC0415

    debug = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    channelz.add_channelz_servicer(debug)
    try:
        bound = debug.add_insecure_port(f"127.0.0.1:{port}")
    except RuntimeError:
        raise OSError(
            f"debug port 127.0.0.1:{port} cannot be bound; is another process there? server.debug_port: -1 turns it off"
        ) from None
    await debug.start()
    runtime.addresses["channelz"] = ("127.0.0.1", bound)
    return debug


async def _watch_lag(runtime: Runtime) -> None:
    """Tells how late the loop runs its timers: the sign of CPU work that should be in an executor."""
    gauge = runtime.metrics.gauge("llmops_loop_lag_seconds", "How late the event loop ran its last timer")
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + _LAG_INTERVAL_S
        await asyncio.sleep(_LAG_INTERVAL_S)
        gauge.set(max(0.0, loop.time() - due_s))


def _cancelled(task: asyncio.Task[None]) -> Callable[[], Awaitable[None]]:
    async def cancel() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return cancel


class StopSignals:
    """What the signals so far ask for: the first one an end, a second one an end at once.

    SIGTERM right behind the first is the same wish on another way: systemd tells every process of a unit, and `make`
    tells its child once more.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._since_s: float | None = None
        self.at_once = False

    @property
    def stopping(self) -> bool:
        """Somebody wants an end."""
        return self._since_s is not None

    def begin(self) -> None:
        """An end is wanted, by a signal or by whoever decides here."""
        if self._since_s is None:
            self._since_s = self._clock_s()

    def note(self, number: int) -> None:
        """A signal arrived."""
        if self._since_s is None:
            self.begin()
        elif number != signal.SIGTERM or self._clock_s() - self._since_s >= _SAME_WISH_S:
            self.at_once = True


def stop_event(last_act: Callable[[], None], *, until_stdin_closes: bool = False) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends the process after `last_act`, without draining.

    With `until_stdin_closes`, it is set when standard input ends, and signals before that say nothing.
    """
    stop = asyncio.Event()
    signals = StopSignals()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if until_stdin_closes and not signals.stopping:
            return
        signals.note(number)
        stop.set()
        if signals.at_once:
            try:
                last_act()
            finally:
                sys.stderr.flush()
                os._exit(EXIT_SECOND_SIGNAL)

    def on_input() -> None:
        if not os.read(_STDIN, _INPUT_BYTES):
            loop.remove_reader(_STDIN)
            signals.begin()
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    if until_stdin_closes:
        loop.add_reader(_STDIN, on_input)
    return stop
