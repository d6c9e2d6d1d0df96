"""What is known about an answer beside its body."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateFacts:
    """What is left of a limit on rates; `unit` is "requests" or "tokens"."""

    unit: str
    limit_count: int
    remaining_count: int
    reset_after_s: float


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What response headers tell about an answer. Empty where it is not known."""

    trace_id: str = ""
    model: str = ""
    prompt_version: str = ""
    cache_status: str = ""
    cost_nano_usd: int | None = None
    replayed: bool = False
    rates: tuple[RateFacts, ...] = ()
    degraded: tuple[str, ...] = ()
