"""The port `ShadowEvents` through both adapters: kept in memory, and as metrics of a process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from services.orchestrator.adapters.memory import RecordedShadowEvents
from services.orchestrator.adapters.telemetry import ShadowTelemetry
from services.orchestrator.core.ports import ShadowEvents

# How often an outcome was told of a model, and the seconds told of its copies and of the callers' answers.
Told = Callable[[str, str], float]
Seconds = Callable[[str], tuple[float, float]]


class Metrics:
    """The part of a kit that makes metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry)


def in_memory() -> tuple[ShadowEvents, Told, Seconds]:
    events = RecordedShadowEvents()

    def seconds(model: str) -> tuple[float, float]:
        told = [(copy_s, answer_s) for name, copy_s, answer_s in events.comparisons if name == model]
        return sum(copy_s for copy_s, _ in told), sum(answer_s for _, answer_s in told)

    return events, lambda model, outcome: float(events.outcomes.count((model, outcome))), seconds


def as_metrics() -> tuple[ShadowEvents, Told, Seconds]:
    metrics = Metrics()
    name = "llmops_orchestrator_shadow"

    def value(suffix: str, **labels: str) -> float:
        return metrics.registry.get_sample_value(f"{name}_{suffix}", labels) or 0.0

    def seconds(model: str) -> tuple[float, float]:
        shadow = value("duration_seconds_sum", model=model, whose="shadow")
        return shadow, value("duration_seconds_sum", model=model, whose="caller")

    events = ShadowTelemetry(metrics)  # type: ignore[arg-type]
    return events, lambda model, outcome: value("calls_total", model=model, outcome=outcome), seconds


@pytest.mark.parametrize("made", [in_memory, as_metrics])
def test_copies_are_counted_and_compared_by_model(made: Callable[[], tuple[ShadowEvents, Told, Seconds]]) -> None:
    events, told, seconds = made()
    events.ended("new", "answered")
    events.ended("new", "answered")
    events.ended("new", "denied")
    events.ended("old", "dropped")
    events.compared("new", 2.0, 0.5)
    events.compared("new", 1.0, 0.25)
    assert (told("new", "answered"), told("new", "denied"), told("new", "dropped")) == (2, 1, 0)
    assert told("old", "dropped") == 1
    assert (seconds("new"), seconds("old")) == ((3.0, 0.75), (0.0, 0.0))
