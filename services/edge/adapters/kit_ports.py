"""Ports that the kit fulfils: the door, probes and metrics of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from meshkit.errors import MeshError
from meshkit.executors import Executor
from meshkit.identity import Principal
from meshkit.kit import Kit
from services.edge.adapters.mesh import call_failed

_DURATION_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0)
# An answer about readiness is given again for so long.
_READINESS_HOLDS_S = 0.25


class KitDoor:
    """Asks who identifies the orchestrator's callers, where this process knows; lets everybody pass elsewhere."""

    def __init__(self, kit: Kit) -> None:
        self._authenticator = kit.authenticator_of("orchestrator")

    async def admit(self, credential: str) -> None:
        """See Door."""
        if self._authenticator is None:
            return
        try:
            answer = self._authenticator.authenticate(credential)
            if not isinstance(answer, Principal):
                await answer
        except MeshError as error:
            raise call_failed(error) from None


class KitProbes:
    """Readiness and metrics of this process."""

    def __init__(self, kit: Kit, executor: Executor) -> None:
        self._kit = kit
        self._executor = executor
        self._checking: asyncio.Task[dict[str, str]] | None = None
        self._began_s = float("-inf")

    async def readiness(self) -> Mapping[str, str]:
        """See Probes. Nobody needs a key for it, and checks ask databases: whoever comes meanwhile gets one answer."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._checking is None or (self._checking.done() and now_s - self._began_s >= _READINESS_HOLDS_S):
            self._began_s, self._checking = now_s, loop.create_task(self._kit.readiness())
        return await asyncio.shield(self._checking)

    async def metrics(self) -> bytes:
        """See Probes."""
        return await self._executor.run(self._kit.exposition)


class KitObserver:
    """Prometheus metrics. Label values come from fixed sets: routes, statuses, reasons."""

    def __init__(self, kit: Kit) -> None:
        self._requests = kit.counter("llmops_edge_requests_total", "Requests answered", ("route", "status"))
        self._durations = kit.histogram(
            "llmops_edge_request_duration_seconds", "Time from headers to last byte", ("route",), _DURATION_BUCKETS_S
        )
        self._first_events = kit.histogram(
            "llmops_edge_first_event_seconds", "Time to a stream's first event", (), _DURATION_BUCKETS_S
        )
        self._failures = kit.counter("llmops_edge_stream_failures_total", "Streams failed in-band", ("reason",))
        # Looking a label up costs more than counting: each combination is looked up once.
        self._by_answer = {("", 0): self._requests.labels("unknown", "0")}
        self._by_route = {"": self._durations.labels("unknown")}

    def answered(self, route: str, http_status: int, duration_s: float) -> None:
        """See Observer."""
        counter = self._by_answer.get((route, http_status))
        if counter is None:
            counter = self._by_answer[route, http_status] = self._requests.labels(route, str(http_status))
        counter.inc()
        histogram = self._by_route.get(route)
        if histogram is None:
            histogram = self._by_route[route] = self._durations.labels(route)
        histogram.observe(duration_s)

    def first_event(self, duration_s: float) -> None:
        """See Observer."""
        self._first_events.observe(duration_s)

    def stream_failed(self, reason: str) -> None:
        """See Observer."""
        self._failures.labels(reason).inc()
