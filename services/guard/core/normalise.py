"""One normal form for every detector, with a map back to the original code points.

NFKC per combining sequence, zero-width and bidi characters removed, Unicode tag characters turned into the ASCII that
they smuggle, look-alike letters folded. Detectors read the normal form; findings and masking use the original.
Combining sequences are folded one by one, so canonical compositions that span two starters (a few Indic vowel signs)
stay decomposed: no detector here depends on them. Marks that make no letter of what they stand on are dropped: on ASCII
that they leave two characters, behind what was dropped, and beyond the most that anybody reads.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from services.guard.core.confusables import fold_confusables

NFKC, ZERO_WIDTH, BIDI, TAGS, CONFUSABLES = "nfkc", "zero-width", "bidi", "tags", "confusables"

_ZERO_WIDTH = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200d\u2060-\u2064\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0100-\U000e01ef"
)
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_TAG_CHARS = "\U000e0000-\U000e007f"
_INVISIBLE = re.compile(f"[{_ZERO_WIDTH}{_BIDI}{_TAG_CHARS}]")
_IS_ZERO_WIDTH = re.compile(f"[{_ZERO_WIDTH}]")
_IS_TAG = re.compile(f"[{_TAG_CHARS}]")
_IS_BIDI = re.compile(f"[{_BIDI}]")
# Joiners and selectors that scripts and emoji need; suspicious only inside Latin words or in runs.
_LEGITIMATE = re.compile("[\u200c\u200d\ufe00-\ufe0f]")
# The flags of England, Scotland, Wales and the like are spelled with tag characters.
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
# A stretch of other characters, with the ASCII character before it: a combining mark may belong to that one.
_RUN = re.compile("[\x00-\x7f]?[^\x00-\x7f]+")
_TAG_BASE = 0xE0000
# In a sequence, with what they stand on. Putting marks into their canonical order takes the square of their number.
_MOST_MARKS = 30
_MARKS = "".join(char for char in map(chr, range(0x300, 0x10000)) if unicodedata.combining(char))
# Those of the other planes stand somewhere here: `re` looks characters beyond the first plane up one by one.
_MARKS += "\U000101fd-\U0001e94a"
_MARK = re.compile(f"[{_MARKS}]")
_MARKS_ON_ASCII = re.compile(f"(?<=[\x00-\x7f])[{_MARKS}]+")
_LOOSE_MARKS = re.compile(f"[\x00-\x7f][{_MARKS}]|[{_MARKS}]{{{_MOST_MARKS}}}")
_SOFT_HYPHEN = "\u00ad"


@dataclass(frozen=True, slots=True, repr=False)
class NormalisedText:
    """A text in normal form. `starts` and `ends` are None when the offsets are those of the original."""

    text: str
    changes: frozenset[str] = frozenset()
    invisible_count: int = 0
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Where a non-empty span of the normal form stands in the original."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


_UNCHANGED: frozenset[str] = frozenset()


def normalise(text: str) -> NormalisedText:
    """The normal form of a text. ASCII comes back untouched at no cost, plain Western European text at little."""
    if text.isascii():
        return NormalisedText(text)
    western = _is_western(text)
    kept = _SOFT_HYPHEN not in text if western else not (_INVISIBLE.search(text) or _has_loose_marks(text))
    if kept and unicodedata.is_normalized("NFKC", text):
        folded, mixed = (text, False) if western else fold_confusables(text)
        return NormalisedText(folded, frozenset((CONFUSABLES,)) if mixed else _UNCHANGED)
    rebuilt = _Rebuild(text)
    folded = "".join(rebuilt.out)
    if not western:
        folded, mixed = fold_confusables(folded)
        if mixed:
            rebuilt.changes.add(CONFUSABLES)
    return NormalisedText(folded, frozenset(rebuilt.changes), rebuilt.invisible, rebuilt.starts, rebuilt.ends)


def _is_western(text: str) -> bool:
    """Whether all characters are in Windows-1252: no look-alikes, and nothing invisible but the soft hyphen."""
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


class _Rebuild:
    """Builds the normal form and its offsets, touching only the stretches that are not ASCII."""

    __slots__ = ("changes", "ends", "invisible", "out", "source", "starts")

    def __init__(self, source: str) -> None:
        self.source = source
        self.out: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.changes: set[str] = set()
        self.invisible = 0
        done = 0
        for run in _RUN.finditer(source):
            start, end = run.span()
            self._keep(done, start)
            piece = run.group()
            changed = _INVISIBLE.search(piece) or _has_loose_marks(piece)
            if not changed and unicodedata.is_normalized("NFKC", piece):
                self._keep(start, end)
            else:
                self._rewrite(start, end)
            done = end
        self._keep(done, len(source))

    def _keep(self, start: int, end: int) -> None:
        self.out.append(self.source[start:end])
        self.starts.extend(range(start, end))
        self.ends.extend(range(start + 1, end + 1))

    def _rewrite(self, start: int, end: int) -> None:
        source, at = self.source, start
        while at < end:
            flag = _FLAG.match(source, at, end)
            if flag is not None:
                self._keep(at, at + 1)
                at = flag.end()
            elif _INVISIBLE.match(source[at]):
                self._drop(at)
                at += 1
                while at < end and _is_mark(source[at]):
                    at += 1
            else:
                stop = at + 1
                belongs = _is_mark if source[at].isascii() else _continues
                while stop < end and belongs(source[stop]):
                    stop += 1
                self._fold(at, stop)
                at = stop

    def _fold(self, start: int, end: int) -> None:
        cluster = self.source[start:end][:_MOST_MARKS]
        folded = unicodedata.normalize("NFKC", cluster)
        if folded != cluster:
            self.changes.add(NFKC)
        if len(folded) > 1:
            folded = _MARKS_ON_ASCII.sub("", folded)
        self._emit(folded, start, end)

    def _emit(self, text: str, start: int, end: int) -> None:
        self.out.append(text)
        self.starts.extend([start] * len(text))
        self.ends.extend([end] * len(text))

    def _drop(self, at: int) -> None:
        char = self.source[at]
        if _IS_BIDI.match(char):
            self.changes.add(BIDI)
        elif _IS_ZERO_WIDTH.match(char):
            if self._is_legitimate(at):
                return
            self.changes.add(ZERO_WIDTH)
        else:
            self.changes.add(TAGS)
            hidden = chr(ord(char) - _TAG_BASE)
            if hidden.isprintable():
                begins = at == 0 or not _IS_TAG.match(self.source[at - 1])
                self._emit(f" {hidden}" if begins else hidden, at, at + 1)  # a smuggled text is a text of its own
        self.invisible += 1

    def _is_legitimate(self, at: int) -> bool:
        """A joiner or selector between visible characters, not inside an ASCII word."""
        source = self.source
        if not _LEGITIMATE.match(source[at]) or at == 0:
            return False
        before, after = source[at - 1], source[at + 1 : at + 2]
        selector_then_joiner = "\ufe00" <= before <= "\ufe0f" and source[at] == "\u200d"
        if _INVISIBLE.match(before) and not selector_then_joiner:
            return False
        return not (before.isascii() and before.isalnum() and after.isascii() and after.isalnum())


def _has_loose_marks(text: str) -> bool:
    """Whether a mark stands on ASCII, or more stand together than are kept. Most texts have no marks at all."""
    return _MARK.search(text) is not None and _LOOSE_MARKS.search(text) is not None


@lru_cache(maxsize=4096)
def _continues(char: str) -> bool:
    """Whether a character belongs to the one before it, at the latest after NFKC: marks, Hangul vowels and finals."""
    return _is_mark(char) or "\u1161" <= unicodedata.normalize("NFKC", char)[0] <= "\u11ff"


@lru_cache(maxsize=4096)
def _is_mark(char: str) -> bool:
    """Whether it is a combining mark, or NFKC makes it one, as it does with half-width sound marks."""
    return unicodedata.combining(unicodedata.normalize("NFKC", char)[0]) != 0
