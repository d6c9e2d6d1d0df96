"""Counts every call by method and status, refusals included, and times it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from meshkit.calls import ServerCall, Step
from meshkit.metrics import MetricsRegistry

logger = logging.getLogger("meshkit.access")


class Metrics(Step):
    """Outside authorisation, so that refused calls are seen. With logs at debug, each call is a line."""

    name = "metrics"

    def __init__(self, registry: MetricsRegistry, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._counts = registry.calls

    def on_start(self, call: ServerCall) -> None:
        """Counts it in."""
        call.counts = counts = self._counts.of(call.method.path)
        counts.in_flight += 1

    def on_end(self, call: ServerCall, error: BaseException | None) -> BaseException | None:
        """Counts it out."""
        took_s = self._clock_s() - call.started_s
        call.counts.ended(call.status, took_s)
        if logger.isEnabledFor(logging.DEBUG):
            _log(call, took_s)
        return error


def _log(call: ServerCall, took_s: float) -> None:
    fields = {
        "method": call.method.path,
        "status": call.status,
        "duration_ms": round(took_s * 1e3, 3),
        "peer": call.peer,
        "key_id": call.context.principal.key_id if call.context else "",
    }
    logger.debug("call", extra={"fields": fields})
