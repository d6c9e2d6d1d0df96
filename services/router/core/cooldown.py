"""What is left alone for a while: models after failures, quotas that providers limit. In memory, per process."""

from __future__ import annotations

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


class Waits:
    """Those of one model, or of one quota: one that its provider asked for, and one after mere failures.

    A second failure never shortens a wait that runs already, and a longer one after a failure does not hide that the
    provider asked for a shorter one.
    """

    def __init__(self) -> None:
        self._by_wish: dict[bool, Cooldown] = {}

    def note(self, cooldown: Cooldown) -> None:
        """Remembers the longer of two waits; of equal ones the limit."""
        known = self._by_wish.get(cooldown.asked)
        if known is None or (cooldown.until_s, cooldown.rate_limited) > (known.until_s, known.rate_limited):
            self._by_wish[cooldown.asked] = cooldown

    def running(self, now_s: float) -> list[Cooldown]:
        """Those that are not over; asked twice a call, mostly when there were none at all. From any thread."""
        if not self._by_wish:
            return []
        return [wait for wait in tuple(self._by_wish.values()) if wait.until_s > now_s]
