"""What an operator sees of copies, and of calls that were left."""

from __future__ import annotations

from meshkit.kit import Kit


class ShadowTelemetry:
    """The port `ShadowEvents` as metrics."""

    def __init__(self, kit: Kit) -> None:
        self._ended = kit.counter(
            "llmops_orchestrator_shadow_calls_total", "Copies for shadow models", ("model", "outcome")
        )
        self._took = kit.histogram(
            "llmops_orchestrator_shadow_duration_seconds",
            "Answers of shadow models, and the answers that the callers of the same requests got",
            ("model", "whose"),
        )

    def ended(self, model: str, outcome: str) -> None:
        """See ShadowEvents."""
        self._ended.labels(model, outcome).inc()

    def compared(self, model: str, copy_s: float, answer_s: float) -> None:
        """See ShadowEvents."""
        self._took.labels(model, "shadow").observe(copy_s)
        self._took.labels(model, "caller").observe(answer_s)


class DrainTelemetry:
    """The port `DrainEvents` as a metric."""

    def __init__(self, kit: Kit) -> None:
        self._drained = kit.counter(
            "llmops_orchestrator_drained_calls_total",
            "Calls whose caller left, to providers that bill them all the same",
            ("outcome",),
        )

    def drained(self, outcome: str) -> None:
        """See DrainEvents."""
        self._drained.labels(outcome).inc()
