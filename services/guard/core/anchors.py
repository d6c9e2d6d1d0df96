"""Finds which of many fixed phrases a text holds, in one pass that does not grow with their number.

Each phrase is represented by its rarest six characters, as two overlapping grams of four. All windows of the text are
hashed at once and looked up in one table: 10 us for 3,000 characters, where `in` costs about 1 us for each phrase.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_GRAM = 4
# The second gram begins two characters behind the first.
_STEP = 2
_PHASES = _GRAM + _STEP
# A table of 32 KiB stays in the first cache; few windows are marked by chance, because two grams must be.
_BITS = 15
# What a gram is in the table: the first of two, all there is of a phrase of four or five characters, or a second one.
_FIRST, _ALONE, _SECOND_SHIFT = np.uint8(1), np.uint8(2), np.uint8(2)
_GRAM_TYPE = np.dtype("<u4")
# Knuth's multiplicative hash (The Art of Computer Programming, vol. 3, 6.4).
_MULTIPLIER = np.uint32(2_654_435_761)
_SHIFT = np.uint32(32 - _BITS)
# Characters from frequent to rare in English text; what is not listed is rarer still.
_FREQUENT = " etaoinshrdlcumwfgypb,.vk-'jxqz"


class AnchorIndex:
    """Phrases in lower case, each at least four characters long and four of them in a row Latin-1."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._table = np.zeros(1 << _BITS, dtype=np.uint8)
        # By the first gram: phrase, where the gram begins in it, where its rarest four characters do, its number.
        self._by_gram: dict[bytes, list[tuple[str, int, int, int]]] = {}
        for number, phrase in enumerate(phrases):
            rarest = _rarest(phrase, _GRAM)
            if rarest is None:
                raise ValueError(f"{phrase!r} has no four Latin-1 characters in a row")
            grams, offset = _rarest(phrase, _PHASES) or rarest
            gram, second = grams[:_GRAM], grams[_STEP:]
            self._by_gram.setdefault(gram, []).append((phrase, offset, rarest[1], number))
            if len(second) < _GRAM:
                self._table[_codes(gram)[0]] |= _ALONE
            else:
                self._table[_codes(gram)[0]] |= _FIRST
                self._table[_codes(second)[0]] |= _FIRST << _SECOND_SHIFT

    def occurrences(self, text: str) -> Sequence[tuple[str, int]]:
        """Phrases and where they stand in a text in lower case, in order of their rarest four characters."""
        data = text.encode("latin-1", "replace")  # one byte for each code point, so that positions are the same
        marks = self._table.take(_codes(data))
        quarter = len(marks) // _PHASES
        hits = marks[_STEP * quarter :] >> _SECOND_SHIFT
        hits |= _ALONE
        hits &= marks[: _GRAM * quarter]
        # Compared as bytes: numpy's own reductions give way to other threads, which costs more than they do.
        return (
            self._confirmed(text, data, quarter, hits.nonzero()[0].tolist())
            if hits.tobytes() != bytes(hits.size)
            else ()
        )

    def _confirmed(self, text: str, data: bytes, quarter: int, hits: list[int]) -> list[tuple[str, int]]:
        found: list[tuple[int, int, str, int]] = []
        for hit in hits:
            # Window number i of phase p begins at 4 i + p.
            position = hit % quarter * _GRAM + hit // quarter
            for phrase, offset, rarest, number in self._by_gram.get(data[position : position + _GRAM], ()):
                start = position - offset
                if start >= 0 and text.startswith(phrase, start):
                    found.append((start + rarest, number, phrase, start))
        return [(phrase, start) for _, _, phrase, start in sorted(found)]


def _codes(data: bytes) -> NDArray[np.uint32]:
    """Hashes of all windows, six phases one after the other: aligned reads are four times as fast.

    Phases 0 to 3 are the windows of the text; phases 2 to 5 are those that begin two characters later.
    """
    size = -(-len(data) // _GRAM) * _GRAM
    padded = data + bytes(size + 2 * _GRAM - len(data))
    phases = b"".join((
        padded[:size], padded[1 : size + 1], padded[2 : size + 2], padded[3 : size + 3], padded[4 : size + 4],
        padded[5 : size + 5],
    ))  # fmt: skip
    codes = np.frombuffer(phases, _GRAM_TYPE) * _MULTIPLIER
    codes >>= _SHIFT
    return codes


def _rarest(phrase: str, size: int) -> tuple[bytes, int] | None:
    """The rarest Latin-1 characters in a row, as many as `size`, and where they begin."""
    ranked = []
    for offset in range(len(phrase) - size + 1):
        piece = phrase[offset : offset + size]
        if all(ord(char) < 256 for char in piece):  # noqa: PLR2004 - Latin-1
            frequency = sum(_FREQUENT[::-1].find(char) + 1 for char in piece)
            ranked.append((frequency, offset, piece.encode("latin-1")))
    if not ranked:
        return None
    _, offset, grams = min(ranked)
    return grams, offset
