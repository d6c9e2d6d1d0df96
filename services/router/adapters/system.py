"""Real time, and the metrics of the process."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from services.router.core.attempts import Attempt

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
        self._children: dict[tuple[int, tuple[str, ...]], Any] = {}

    def attempt_ended(self, attempt: Attempt) -> None:
        """Counts it."""
        who = (attempt.model_name, attempt.provider)
        self._child(self._attempts, *who, attempt.outcome.value.lower() if attempt.outcome else "").inc()
        self._child(self._duration, *who).observe(attempt.duration_s)
        if attempt.usage is not None:
            self._child(self._tokens, *who, "input").inc(attempt.usage.input_tokens)
            self._child(self._tokens, *who, "output").inc(attempt.usage.output_tokens)

    def _child(self, family: Any, *labels: str) -> Any:
        """Looking a child up costs the client library 1 us and a lock; names are few and fixed."""
        key = (id(family), labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*labels)
        return child
