"""Texts that an answer may quote: which personal data stands in them."""

from __future__ import annotations

from collections.abc import Sequence

from services.guard.core.pii import find_pii
from services.guard.core.shape import Shape

# Code points searched for single values before the sources are read as a whole, and in all: 0.3 ns each.
_SEARCH_BEFORE_READING_CHARS = 1 << 23
_MAX_SEARCH_CHARS = 1 << 27
_MAX_VALUES = 65_536


class Sources:
    """Looks values up: a few by searching, many in a set that is read from the texts once.

    Values that the detectors do not see in the texts are still searched for, up to 128 million code points for one
    answer. Beyond that a value counts as unknown, and is masked.
    """

    __slots__ = ("_answers", "_kinds", "_searched", "_texts", "_values", "char_count")

    def __init__(self, texts: Sequence[str], kinds: frozenset[str]) -> None:
        self.char_count = sum(map(len, texts))
        self._texts = texts
        self._kinds = kinds
        self._searched = 0
        self._answers: dict[str, bool] = {}
        self._values: frozenset[str] | None = None

    def hold(self, value: str) -> bool:
        """Whether the value stands in one of the texts."""
        if not self._texts:
            return False
        known = self._answers.get(value)
        if known is None:
            known = self._look_up(value)
            if len(self._answers) < _MAX_VALUES:
                self._answers[value] = known
        return known

    def _look_up(self, value: str) -> bool:
        if self._searched >= _SEARCH_BEFORE_READING_CHARS:
            if self._values is None:
                self._values = self._read()
            if value in self._values:
                return True
        if self._searched >= _MAX_SEARCH_CHARS:
            return False
        self._searched += self.char_count
        return any(value in text for text in self._texts)

    def _read(self) -> frozenset[str]:
        values: set[str] = set()
        for text in self._texts:
            for match in find_pii(Shape(text), self._kinds):
                values.add(text[match.start : match.end])
                if len(values) >= _MAX_VALUES:
                    return frozenset(values)
        return frozenset(values)
