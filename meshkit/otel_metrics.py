"""The call counts as OpenTelemetry metrics, for collectors that are pushed to. Prometheus reads the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from meshkit.call_metrics import CallCounts
from meshkit.tracing import EXPORT_TIMEOUT_S

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider

_MS_PER_S = 1000
Observe = Callable[["CallbackOptions"], Iterable["Observation"]]


def export_calls(counts: CallCounts, endpoint: str, process: str, interval_s: float) -> MeterProvider:
    """Pushes the counts every `interval_s`, from a thread of the SDK. `shutdown()` pushes once more, and blocks."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    exporter = OTLPMetricExporter(endpoint=endpoint.rstrip("/") + "/v1/metrics", timeout=EXPORT_TIMEOUT_S)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=interval_s * _MS_PER_S)
    provider = MeterProvider([reader], resource=Resource.create({"service.name": process}), shutdown_on_exit=False)
    handled, seconds, running = _observers(counts)
    meter = provider.get_meter("meshkit")
    meter.create_observable_counter("llmops.rpc.handled", [handled], description="Calls by status")
    meter.create_observable_counter("llmops.rpc.duration", [seconds], unit="s", description="Time in calls")
    meter.create_observable_up_down_counter("llmops.rpc.in_flight", [running], description="Calls running now")
    return provider


def _observers(counts: CallCounts) -> tuple[Observe, Observe, Observe]:
    """Read in the SDK's thread: on copies, for the loop goes on counting."""
    from opentelemetry.metrics import Observation  # noqa: PLC0415

    def handled(_: CallbackOptions) -> Iterable[Observation]:
        for path, method in list(counts.methods.items()):
            for status, number in list(method.by_status.items()):
                yield Observation(number, {"rpc.method": path, "rpc.status": status})

    def seconds(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(method.seconds, {"rpc.method": path}) for path, method in list(counts.methods.items())]

    def running(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(method.in_flight, {"rpc.method": path}) for path, method in list(counts.methods.items())]

    return handled, seconds, running
