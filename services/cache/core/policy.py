"""Which answers are kept, and for how long."""

from dataclasses import dataclass

from services.cache.core.entries import Draft
from services.cache.core.errors import InvalidRequest

SECOND_US = 1_000_000

# Anything else is an answer that did not reach its end: replaying it would repeat an accident.
_COMPLETE = frozenset({"stop", "length", "tool_calls"})
_SERVABLE_DECISIONS = frozenset({"", "allow", "flag", "mask"})


@dataclass(frozen=True, slots=True)
class KeepingPolicy:
    """Limits of what is kept.

    Attributes:
        ttl_us: Lifetime per class.
        max_ttl_us: The longest lifetime that a caller may ask for.
        max_entry_bytes: The largest encoded answer.
    """

    ttl_us: dict[str, int]
    max_ttl_us: int
    max_entry_bytes: int

    def check(self, draft: Draft) -> None:
        """Refuses answers that must not be replayed.

        Raises:
            InvalidRequest: Cut or filtered answers, answers that the guard stopped, answers over the size limit.
        """
        if draft.finish not in _COMPLETE:
            raise InvalidRequest("completion.finish_reason", "only complete answers are kept: STOP, LENGTH, TOOL_CALLS")
        if draft.decision not in _SERVABLE_DECISIONS:
            raise InvalidRequest("verdict.decision", "an answer that the guard blocked or sent to review is not kept")
        if len(draft.body) > self.max_entry_bytes:
            raise InvalidRequest("completion", f"the answer is larger than {self.max_entry_bytes} bytes")

    def lifetime_us(self, draft: Draft) -> int:
        """How long the answer is served.

        Raises:
            InvalidRequest: The wish is under one second or over the limit.
        """
        if draft.ttl_us is None:
            return self.ttl_us[draft.ttl_class]
        if not SECOND_US <= draft.ttl_us <= self.max_ttl_us:
            raise InvalidRequest("ttl", f"must be between 1 second and {self.max_ttl_us // SECOND_US} seconds")
        return draft.ttl_us
