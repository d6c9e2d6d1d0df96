"""What the operator decides about requests as a whole (section `orchestrator` of mesh.yaml)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OrchestratorSettings:
    """Defaults are safe: unguarded and unaccounted requests are refused."""

    # False lets requests pass unguarded, and marked degraded, while the guard is away.
    guard_required: bool = True
    # False leaves the encoder out of the request path: no semantic cache, no embedding for the router.
    semantic_cache: bool = True
    # What a hold assumes when the caller names no maximum.
    assumed_output_tokens: int = 2048
    explain_max_records: int = 10_000
    # Cache writes beyond this number of pending tasks are dropped; commits never are.
    max_pending_work: int = 4096
    accounting_timeout_s: float = 30.0
    # Pause before an absent registry is asked for its prompts again.
    registry_retry_s: float = 0.5

    def validate(self) -> None:
        """Raises ValueError when a limit is no limit."""
        for name in ("assumed_output_tokens", "explain_max_records", "max_pending_work"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("accounting_timeout_s", "registry_retry_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
