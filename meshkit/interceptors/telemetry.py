"""Traces: continues the caller's trace or begins one, and makes a span only when it is sampled."""

from __future__ import annotations

from meshkit.calls import ServerCall, Step
from meshkit.context import TraceContext, parse_traceparent
from meshkit.tracing import Tracing


class Telemetry(Step):
    """Outermost, so that everything inside is part of the span. An unsampled call keeps its caller's ids."""

    name = "telemetry"

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def on_start(self, call: ServerCall) -> None:
        """Gives the call its trace."""
        parent: TraceContext | None
        if call.caller is not None:
            parent = call.caller.trace
        else:
            parent = parse_traceparent(call.metadata.get("traceparent", ""))
        trace = parent or self._tracing.root()
        if trace.sampled:
            call.span = span = self._tracing.start_span(call.method.path, trace, parent)
            trace = span.trace
        call.trace = trace

    def on_end(self, call: ServerCall, error: BaseException | None) -> BaseException | None:
        """Ends the span with the status that the caller sees."""
        if call.span is not None:
            call.span.end(call.status)
        return error
