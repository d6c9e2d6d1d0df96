"""Models that are left alone for a while after they failed. In memory, one entry a model, per process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cooldown:
    """Until when, on the monotonic clock, and whether the provider itself asked for it."""

    until_s: float
    rate_limited: bool


class Cooldowns:
    """What is cooling. A second failure never shortens a wait that runs already."""

    def __init__(self) -> None:
        self._by_model: dict[str, Cooldown] = {}

    def note(self, model_name: str, cooldown: Cooldown) -> None:
        """Remembers the longer of the two waits; of equal ones the provider's own."""
        known = self._by_model.get(model_name)
        if known is None or (cooldown.until_s, cooldown.rate_limited) > (known.until_s, known.rate_limited):
            self._by_model[model_name] = cooldown

    def active(self, model_name: str, now_s: float) -> Cooldown | None:
        """The running wait of a model, None when it may be called."""
        cooldown = self._by_model.get(model_name)
        if cooldown is None:
            return None
        if cooldown.until_s <= now_s:
            del self._by_model[model_name]
            return None
        return cooldown
