"""Prometheus metrics of a process. One registry per process, nothing global, so that tests can have many."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from meshkit.call_metrics import CallCounts


class MetricsRegistry:
    """Makes each metric once: asking again for the same name gives the same object."""

    def __init__(self) -> None:
        self.collectors = CollectorRegistry(auto_describe=False)
        self.calls = CallCounts()
        self.collectors.register(self.calls)
        self._metrics: dict[str, MetricWrapperBase] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A counter; the name ends in `_total`."""
        if name not in self._metrics:
            self._metrics[name] = Counter(name, text, labels, registry=self.collectors)
        metric = self._metrics[name]
        assert isinstance(metric, Counter)
        return metric

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A gauge."""
        if name not in self._metrics:
            self._metrics[name] = Gauge(name, text, labels, registry=self.collectors)
        metric = self._metrics[name]
        assert isinstance(metric, Gauge)
        return metric

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] | None = None
    ) -> Histogram:
        """A histogram; the name carries the unit."""
        if name not in self._metrics:
            bounds = tuple(buckets) if buckets else Histogram.DEFAULT_BUCKETS
            self._metrics[name] = Histogram(name, text, labels, buckets=bounds, registry=self.collectors)
        metric = self._metrics[name]
        assert isinstance(metric, Histogram)
        return metric

    def exposition(self) -> bytes:
        """The text format. Takes milliseconds for hundreds of series: call it off the event loop."""
        return generate_latest(self.collectors)
