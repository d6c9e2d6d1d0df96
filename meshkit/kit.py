"""What a service gets to build itself with: the process around it, behind one small interface."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Gauge, Histogram

from meshkit.clock import Clock
from meshkit.context import CallContext, TraceContext, new_request_id, running
from meshkit.executors import Executor
from meshkit.identity import NOBODY, Authenticator
from meshkit.postgres import Database, open_database
from meshkit.reloading import Prepare
from meshkit.runtime import Runtime
from meshkit.settings import Secret

if TYPE_CHECKING:
    from meshkit.encoder import Encoder

_RESTART_BACKOFF_S = (0.1, 0.5, 2.0, 10.0)


class Kit:
    """One target's view of its process. Everything it hands out is closed when the target ends."""

    def __init__(self, runtime: Runtime, target: str) -> None:
        self._runtime = runtime
        self._target = target
        self._resources = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self.clock: Clock = runtime.clock
        self.process = runtime.process
        self.logger = logging.getLogger(f"llmops.{target}")

    def serve(self, add_to_server: Callable[[Any, Any], None], servicer: object) -> None:
        """Registers a servicer with the generated `add_…_to_server`. Raises ValueError when it is there already."""
        add_to_server(servicer, self._runtime.table)

    def channel(self, service: str) -> Any:
        """The channel to a service ("guard"): in this process when it runs here, else to its configured peer.

        Raises SettingsError when there is neither.
        """
        return self._runtime.channel(service)

    def authenticator_of(self, service: str) -> Authenticator | None:
        """Who identifies the callers of a service that runs here; None elsewhere: its configuration may know others."""
        return self._runtime.authenticator_of(service)

    @property
    def has_database(self) -> bool:
        """Whether one is configured: for services that can do without."""
        return bool(self._runtime.settings.database.url)

    async def database(self, schema: str, migrations: Path) -> Database:
        """The service's schema, migrated. Raises SettingsError when no database is configured or none answers."""
        database = await open_database(self._runtime.settings.database, schema, migrations)
        self._resources.push_async_callback(database.close)
        return database

    def executor(self, name: str, threads: int, max_queue: int, niceness: int = 0) -> Executor:
        """A thread pool of the target's own."""
        executor = Executor(f"{self._target}-{name}", threads, max_queue, niceness)
        self._resources.callback(executor.close)
        return executor

    async def encoder(self) -> Encoder | None:
        """The sentence encoder, one per process; None when no model is installed."""
        return await self._runtime.encoder()

    def background(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Runs a loop until the target ends. A crash is logged and the loop begun again, later each time."""
        self._tasks.append(asyncio.get_running_loop().create_task(self._supervise(name, run)))

    def on_drain(self, end: Callable[[], Awaitable[None]]) -> None:
        """Runs `end` when the process begins to drain: to end streams that would outlive every grace."""
        self._runtime.drain_callbacks.append(end)

    def on_reload(self, prepare: Prepare) -> None:
        """Takes new settings of the target while it runs; without it, a change waits for the next start."""
        self._runtime.reload_callbacks[self._target] = prepare

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Runs `close` when the target ends, after its background loops have stopped."""
        self._resources.push_async_callback(close)

    def ready_check(self, name: str, check: Callable[[], Awaitable[None]]) -> None:
        """Adds a check to readiness; an exception means not ready."""
        self._runtime.ready_checks[f"{self._target}.{name}"] = check

    async def readiness(self) -> dict[str, str]:
        """Failing checks by name; empty means ready."""
        return await self._runtime.readiness()

    def bound(self, name: str, host: str, port: int) -> None:
        """Publishes an address that the target listens on."""
        self._runtime.addresses[name] = (host, port)

    def exposition(self) -> bytes:
        """The process's metrics as Prometheus text. Blocks for milliseconds: call it off the loop."""
        return self._runtime.metrics.exposition()

    def root_trace(self) -> TraceContext:
        """A new trace, sampled as the process samples: for calls that come from outside without one."""
        return self._runtime.tracing.root()

    def derived_key(self, purpose: str) -> bytes:
        """32 bytes that only who knows the process's secrets can make; others for each purpose."""
        auth = self._runtime.settings.auth
        secret = f"{auth.pepper.reveal()}\0{auth.mesh_key.reveal()}".encode()
        return hashlib.sha256(b"derived\0" + purpose.encode() + b"\0" + secret).digest()

    def as_service(self, timeout_s: float | None = None) -> AbstractContextManager[CallContext]:
        """Calls made in this block carry the mesh's own credential instead of a caller's."""
        return self.as_key(self._runtime.settings.auth.mesh_key, timeout_s)

    @contextmanager
    def as_key(self, key: Secret, timeout_s: float | None = None) -> Iterator[CallContext]:
        """Calls made in this block carry this API key, so its roles, limits and budgets apply."""
        deadline_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        credential = key.reveal()
        call = CallContext(new_request_id(), NOBODY, credential, self._runtime.tracing.root(), deadline_s)
        with running(call):
            yield call

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        """A counter of this process."""
        return self._runtime.metrics.counter(name, text, labels)

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A gauge of this process."""
        return self._runtime.metrics.gauge(name, text, labels)

    def histogram(
        self, name: str, text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] | None = None
    ) -> Histogram:
        """A histogram of this process."""
        return self._runtime.metrics.histogram(name, text, labels, buckets)

    async def stop_background(self) -> None:
        """Cancels the background loops and waits for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def close(self) -> None:
        """Closes what was handed out, newest first."""
        await self._resources.aclose()

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            started_s = self.clock.monotonic()
            try:
                await run()
                return
            except asyncio.CancelledError:
                raise
            except Exception:
                if self.clock.monotonic() - started_s > _RESTART_BACKOFF_S[-1]:
                    failures = 0
                pause_s = _RESTART_BACKOFF_S[min(failures, len(_RESTART_BACKOFF_S) - 1)]
                failures += 1
                self.logger.exception("background loop %s failed; begins again in %.1f s", name, pause_s)
                await asyncio.sleep(pause_s)
