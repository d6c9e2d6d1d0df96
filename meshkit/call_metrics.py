"""Counts and times of calls, kept in plain lists and turned into Prometheus families when somebody looks.

Prometheus' own children take a lock per increment and a call needs five of them; all calls of a process run on one
event loop, so plain numbers do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class MethodCounts:
    """What is known of one RPC."""

    __slots__ = ("by_status", "in_flight", "seconds", "within")

    def __init__(self) -> None:
        self.in_flight = 0
        self.by_status: dict[str, int] = {}
        self.seconds = 0.0
        self.within = [0] * (len(BUCKETS_S) + 1)

    def ended(self, status: str, seconds: float) -> None:
        """Counts a call out."""
        self.in_flight -= 1
        self.by_status[status] = self.by_status.get(status, 0) + 1
        self.seconds += seconds
        self.within[bisect_left(BUCKETS_S, seconds)] += 1


class CallCounts:
    """A Prometheus collector over all RPCs of a process."""

    def __init__(self) -> None:
        self.methods: dict[str, MethodCounts] = {}

    def of(self, path: str) -> MethodCounts:
        """The counts of an RPC."""
        counts = self.methods.get(path)
        if counts is None:
            counts = self.methods[path] = MethodCounts()
        return counts

    def collect(self) -> Iterator[Metric]:
        """Called by the registry when it is read, in a thread: works on copies."""
        handled = CounterMetricFamily("llmops_rpc_handled", "Calls by status", labels=("method", "status"))
        seconds = HistogramMetricFamily("llmops_rpc_duration_seconds", "Time in calls", labels=("method",))
        running = GaugeMetricFamily("llmops_rpc_in_flight", "Calls running now", labels=("method",))
        for path, counts in list(self.methods.items()):
            for status, number in list(counts.by_status.items()):
                handled.add_metric((path, status), number)
            bounds = [*(str(float(bound)) for bound in BUCKETS_S), "+Inf"]
            seconds.add_metric(
                (path,), list(zip(bounds, accumulate(list(counts.within)), strict=True)), sum_value=counts.seconds
            )
            running.add_metric((path,), counts.in_flight)
        yield from (handled, seconds, running)
