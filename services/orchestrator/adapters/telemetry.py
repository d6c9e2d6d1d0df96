"""What an operator sees of copies."""

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
