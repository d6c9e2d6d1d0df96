"""Counts every call by method and status, refusals included, and times it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from meshkit.calls import ServerCall, Step
from meshkit.metrics import MetricsRegistry

logger = logging.getLogger("meshkit.access")
_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class Metrics(Step):
    """Outside authorisation, so that refused calls are seen. Children are kept: a label look-up costs a microsecond."""

    name = "metrics"

    def __init__(self, registry: MetricsRegistry, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._handled = registry.counter("llmops_rpc_handled_total", "Calls by status", ("method", "status"))
        self._seconds = registry.histogram("llmops_rpc_duration_seconds", "Time in calls", ("method",), _BUCKETS_S)
        self._in_flight = registry.gauge("llmops_rpc_in_flight", "Calls running now", ("service",))
        self._children: dict[str, tuple[dict[str, Callable[[], None]], Callable[[float], None], object]] = {}

    def on_start(self, call: ServerCall) -> None:
        """Counts it in."""
        child = self._children.get(call.method.path)
        if child is None:
            gauge = self._in_flight.labels(call.method.service)
            child = ({}, self._seconds.labels(call.method.path).observe, gauge)
            self._children[call.method.path] = child
        child[2].inc()  # type: ignore[attr-defined]

    def on_end(self, call: ServerCall, error: BaseException | None) -> BaseException | None:
        """Counts it out."""
        statuses, observe, gauge = self._children[call.method.path]
        gauge.dec()  # type: ignore[attr-defined]
        count = statuses.get(call.status)
        if count is None:
            count = statuses[call.status] = self._handled.labels(call.method.path, call.status).inc
        count()
        took_s = self._clock_s() - call.started_s
        observe(took_s)
        if logger.isEnabledFor(logging.DEBUG):
            context = call.context
            logger.debug(
                "call",
                extra={
                    "fields": {
                        "method": call.method.path,
                        "status": call.status,
                        "duration_ms": round(took_s * 1e3, 3),
                        "peer": call.peer,
                        "key_id": context.principal.key_id if context else "",
                    }
                },
            )
        return error
