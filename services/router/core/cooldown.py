"""What is left alone for a while: models after failures, quotas that providers limit. In memory, per process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.router.core.failure import FailureKind


@dataclass(frozen=True, slots=True)
class Cooldown:
    """Until when, on the monotonic clock, and why.

    `rate_limited`: the provider limits us. `needs_action`: an operator must heal what failed; time will not. `named`:
    it failed, and said itself until when.
    """

    until_s: float
    rate_limited: bool
    needs_action: FailureKind | None = None
    named: bool = False

    @property
    def asked(self) -> bool:
        """Whether the provider itself asked for peace."""
        return self.rate_limited or self.named


class Cooldowns:
    """What is cooling. A second failure never shortens a wait that runs already."""

    def __init__(self) -> None:
        # One entry a model and a quota at most, so those that are over may stay.
        self._by_key: dict[str, Cooldown] = {}

    def take_over(self, before: Cooldowns, keys: Iterable[str]) -> None:
        """Waits that go on under a new configuration."""
        self._by_key.update({key: before._by_key[key] for key in keys if key in before._by_key})

    def note(self, key: str, cooldown: Cooldown) -> None:
        """Remembers the longer of the two waits; of equal ones the provider's own."""
        known = self._by_key.get(key)
        if known is None or (cooldown.until_s, cooldown.rate_limited) > (known.until_s, known.rate_limited):
            self._by_key[key] = cooldown

    def running(self, keys: Sequence[str], now_s: float) -> list[Cooldown]:
        """The running waits among these; asked twice a call, mostly when there are none at all."""
        if not self._by_key:
            return []
        return [wait for key in keys if (wait := self.active(key, now_s)) is not None]

    def active(self, key: str, now_s: float) -> Cooldown | None:
        """The running wait of a model or quota, None when there is none. May be asked from another thread."""
        cooldown = self._by_key.get(key)
        return None if cooldown is None or cooldown.until_s <= now_s else cooldown
