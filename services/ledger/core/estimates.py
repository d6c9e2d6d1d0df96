"""How much models write: what a hold assumes where a caller named no maximum.

Holding a model's ceiling for every call would pin budgets that nobody spends; holding nothing would overspend them. The
95th percentile of the last answers, times 1.25, is held, per organisation, model and feature, in bounded
memory. Until enough was seen, a default is. What an answer takes beyond its hold is booked all the same and blocks the
next request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

WINDOW = 200
ENOUGH = 20
MAX_KEYS = 4096
MAX_KEYS_PER_ORGANISATION = 256
_PERCENT = 95
# Ranking two hundred numbers takes ten microseconds; a tenth of them may change before it is done again.
_RANKED_EVERY = WINDOW // 10
# As a fraction, for integers stay integers: times 1.25.
_MARGIN = (5, 4)


class Writer(NamedTuple):
    """Who writes: a model, for a feature of an organisation's application. Nobody's answers change others' holds."""

    organisation: str
    provider: str
    model: str
    feature: str


class _Seen:
    """The last outputs of one writer. Ranked when somebody asks, for most commits are of calls that named a maximum."""

    __slots__ = ("expected", "fresh", "latest")

    def __init__(self) -> None:
        self.latest: deque[int] = deque(maxlen=WINDOW)
        self.expected = 0
        self.fresh = 0


class OutputEstimates:
    """What this process has seen of each writer; nothing of it is stored."""

    def __init__(self, default_tokens: int) -> None:
        self._default_tokens = default_tokens
        self._seen: dict[Writer, _Seen] = {}
        self._of_organisation: dict[str, dict[Writer, None]] = {}

    def observe(self, writer: Writer, output_tokens: int) -> None:
        """An answer as its provider counted it."""
        seen = self._seen.get(writer)
        if seen is None:
            seen = self._make_room_for(writer)
        seen.latest.append(output_tokens)
        seen.fresh += 1

    def _make_room_for(self, writer: Writer) -> _Seen:
        """The oldest goes: the organisation's own when it has its share, else anyone's."""
        own = self._of_organisation.get(writer.organisation, {})
        if len(own) >= MAX_KEYS_PER_ORGANISATION:
            self._drop(next(iter(own)))
        elif len(self._seen) >= MAX_KEYS:
            self._drop(next(iter(self._seen)))
        self._of_organisation.setdefault(writer.organisation, {})[writer] = None
        seen = self._seen[writer] = _Seen()
        return seen

    def _drop(self, writer: Writer) -> None:
        del self._seen[writer]
        own = self._of_organisation[writer.organisation]
        del own[writer]
        if not own:
            del self._of_organisation[writer.organisation]

    def expect(self, writers: Iterable[Writer], ceiling: int) -> int:
        """What the wordiest of them usually writes at most, and never more than the ceiling."""
        return min(max(map(self._expect, writers), default=self._default_tokens), ceiling)

    def _expect(self, writer: Writer) -> int:
        seen = self._seen.get(writer)
        if seen is None or len(seen.latest) < ENOUGH:
            return self._default_tokens
        if not seen.expected or seen.fresh >= _RANKED_EVERY:
            ranked = sorted(seen.latest)
            usual = ranked[-(-len(ranked) * _PERCENT // 100) - 1]
            seen.expected, seen.fresh = -(-usual * _MARGIN[0] // _MARGIN[1]), 0
        return seen.expected
