"""Real time, and the metrics of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from services.router.core.attempts import Attempt
from services.router.core.catalogue import ModelSpec
from services.router.core.deployments import Deployments, ModelState
from services.router.core.failure import FailureKind

_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)


class LoopClock:
    """The event loop's clock: the one that deadlines are on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        """Seconds."""
        return self._loop.time()

    async def sleep(self, delay_s: float) -> None:
        """Gives way to others at least once."""
        await asyncio.sleep(delay_s)


class _Metrics(Protocol):
    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any: ...

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Any: ...

    def histogram(
        self, name: str, text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] | None = None
    ) -> Any: ...


class AttemptMetrics:
    """Counts tries by model and outcome, their time, and their tokens. Names only, never content."""

    def __init__(self, kit: _Metrics) -> None:
        labels = ("model_name", "provider", "outcome")
        self._attempts = kit.counter("llmops_router_attempts_total", "Tries of models by outcome.", labels)
        self._duration = kit.histogram(
            "llmops_router_attempt_duration_seconds", "Time of one try.", ("model_name", "provider"), _BUCKETS_S
        )
        self._tokens = kit.counter(
            "llmops_router_tokens_total", "Tokens of tries, estimates included.", ("model_name", "provider", "kind")
        )
        self._failures = kit.counter(
            "llmops_router_failures_total", "Tries that failed, by kind.", ("model_name", "provider", "kind")
        )
        self._first_token = kit.histogram(
            "llmops_router_first_token_seconds",
            "Time to the first token of streams.",
            ("model_name", "provider"),
            _BUCKETS_S,
        )
        self._hedges = kit.counter(
            "llmops_router_hedges_total", "Second requests: sent, won, or kept back by the rate.", ("route", "event")
        )
        self._retries_refused = kit.counter(
            "llmops_router_retries_refused_total", "Tries that were not repeated: no retry budget.", ("route",)
        )
        self._children: dict[tuple[int, tuple[str, ...]], Any] = {}

    def attempt_ended(self, attempt: Attempt) -> None:
        """Counts it."""
        who = (attempt.model_name, attempt.provider)
        self._child(self._attempts, *who, attempt.outcome.value.lower() if attempt.outcome else "").inc()
        self._child(self._duration, *who).observe(attempt.duration_s)
        if attempt.usage is not None:
            self._child(self._tokens, *who, "input").inc(attempt.usage.input_tokens)
            self._child(self._tokens, *who, "output").inc(attempt.usage.output_tokens)

    def attempt_failed(self, spec: ModelSpec, kind: FailureKind) -> None:
        """Counts it by kind."""
        self._child(self._failures, spec.name, spec.provider, kind.value).inc()

    def first_token(self, spec: ModelSpec, after_s: float) -> None:
        """Observes it."""
        self._child(self._first_token, spec.name, spec.provider).observe(after_s)

    def hedged(self, route: str, event: str) -> None:
        """Counts it."""
        self._child(self._hedges, route, event).inc()

    def retry_refused(self, route: str) -> None:
        """Counts it."""
        self._child(self._retries_refused, route).inc()

    def _child(self, family: Any, *labels: str) -> Any:
        """Looking a child up costs the client library 1 us and a lock; names are few and fixed."""
        key = (id(family), labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*labels)
        return child


def watch(
    kit: _Metrics, names: Iterable[str], deployments: Callable[[], Deployments], now: Callable[[], float]
) -> None:
    """Gauges that are read from the models' state when somebody asks for them. `now` is the deployments' clock.

    Called again for every configuration; models that it no longer has read as idle.
    """
    labels = ("model_name",)
    under_way = kit.gauge("llmops_router_calls_under_way", "Tries that have not ended.", labels)
    breaker = kit.gauge("llmops_router_breaker_state", "0 closed, 1 half open, 2 open.", labels)
    shut = kit.gauge("llmops_router_shut", "1 while a model is left alone, for whatever reason.", labels)

    def read(name: str, of: Callable[[Deployments], int]) -> int:
        known = deployments()
        return of(known) if name in known.names() else 0

    for name in names:
        under_way.labels(name).set_function(partial(read, name, partial(_under_way, name)))
        breaker.labels(name).set_function(partial(read, name, partial(_breaker_state, name, now)))
        shut.labels(name).set_function(partial(read, name, partial(_is_shut, name, now)))


def _under_way(name: str, deployments: Deployments) -> int:
    return deployments.calls_under_way(name)


def _breaker_state(name: str, now: Callable[[], float], deployments: Deployments) -> int:
    state = deployments.health(name, now()).state
    return {ModelState.HALF_OPEN: 1, ModelState.BREAKER_OPEN: 2}.get(state, 0)


def _is_shut(name: str, now: Callable[[], float], deployments: Deployments) -> int:
    return int(deployments.shut(name, now()) is not None)
