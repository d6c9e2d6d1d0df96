"""The shape of a text: one cheap byte translation that tells which detectors have anything to look for.

Regular expressions cost about 10 ns per character each; `in` on bytes costs a tenth of that. Every digit becomes "0"
and every capital "A", so that the shape of a card number or an IBAN is a fixed substring.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence

_LETTERS = string.ascii_letters.encode()
_DIGITS = string.digits.encode()
_CAPITALS = string.ascii_uppercase.encode()
_FOLD = bytes.maketrans(_DIGITS + _CAPITALS, b"0" * len(_DIGITS) + b"A" * len(_CAPITALS))
_RUN = bytes.maketrans(_DIGITS + _LETTERS + b"+/-_", b"a" * (len(_DIGITS) + len(_LETTERS) + 4))
# "0" first: the search then runs from digit to digit.
_MIXED = re.compile(rb"0(?:[a-zA-Z]|(?<=[a-zA-Z]0))")
_NUMBER = re.compile(rb"0[0 ().\-/]{6,}")
_MIN_NUMBER_DIGITS = 7
MIN_RUN_CHARS = 20
_LONG_RUN = b"a" * MIN_RUN_CHARS
# Searching one stretch of this length costs what beginning another search does.
_NEAR_CHARS = 64


class Shape:
    """Folded views of one normalised text. Most texts need the cheap ones only; the others are made when asked for.

    `data` has one byte for each code point, "?" for those beyond Latin-1, so that offsets are those of the text;
    `folded` is the same with digits as 0 and capitals as A; `runs` has every character of the base64 alphabets as "a".
    `has_long_run` says whether 20 of those stand in a row: keys and encoded text have them, prose does not.
    """

    __slots__ = ("_long_numbers", "_lower", "_mixed", "data", "folded", "has_digit", "has_long_run", "runs", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.data = text.encode("latin-1", "replace")
        self.folded = self.data.translate(_FOLD)
        self.has_digit = b"0" in self.folded
        self.runs = self.data.translate(_RUN)
        self.has_long_run = _LONG_RUN in self.runs
        self._lower: str | None = None
        self._mixed: bool | None = None
        self._long_numbers: Sequence[tuple[int, int]] | None = None

    @property
    def lower(self) -> str:
        """Lower case, with the offsets of the text. Only U+0130 grows when lowered, so it goes first."""
        if self._lower is None:
            self._lower = (self.text if self.text.isascii() else self.text.replace("\u0130", "I")).lower()
        return self._lower

    @property
    def has_mixed_word(self) -> bool:
        """Whether a letter and a digit stand side by side."""
        if self._mixed is None:
            self._mixed = self.has_digit and _MIXED.search(self.folded) is not None
        return self._mixed

    @property
    def long_numbers(self) -> Sequence[tuple[int, int]]:
        """Stretches that hold all places where seven digits stand together, or with separators of numbers between.

        They begin with a digit: an opening bracket or a plus stands before it.
        """
        if self._long_numbers is None:
            self._long_numbers = self._find_long_numbers() if self.has_digit else ()
        return self._long_numbers

    def numbers(self, pattern: re.Pattern[str], before: int = 0, behind: int = 0) -> Iterator[re.Match[str]]:
        """Matches of a pattern that needs a long number. It reads `before` and `behind` characters beyond the number.

        `behind` is less than the shortest match has, so that a number is not found from the one before it.
        """
        for first, end in self.long_numbers:
            yield from pattern.finditer(self.text, max(0, first - before), end + behind)

    def number_has(self, forms: tuple[bytes, ...]) -> bool:
        """Whether one of some forms, folded, stands in a long number."""
        if not self.long_numbers:
            return False
        numbers = self.folded[self.long_numbers[0][0] : self.long_numbers[-1][1]]
        for form in forms:  # noqa: SIM110 - `any` with a generator takes three times as long
            if form in numbers:
                return True
        return False

    def _find_long_numbers(self) -> list[tuple[int, int]]:
        stretches: list[tuple[int, int]] = []
        for found in _NUMBER.finditer(self.folded):
            if found.group().count(b"0") < _MIN_NUMBER_DIGITS:
                continue
            start, end = found.span()
            if stretches and start - stretches[-1][1] < _NEAR_CHARS:
                stretches[-1] = stretches[-1][0], end
            else:
                stretches.append((start, end))
        return stretches
