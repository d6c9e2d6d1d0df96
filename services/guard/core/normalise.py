"""One normal form for every detector, with a map back to the original code points.

NFKC per combining sequence, zero-width and bidi characters removed, Unicode tag characters turned into the ASCII that
they smuggle, look-alike letters folded. Detectors read the normal form; findings and masking use the original.
Combining sequences are folded one by one, so canonical compositions that span two starters (a few Indic vowel signs)
stay decomposed: no detector here depends on them.
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
# Each pass brings letters nearer to their marks; two were enough for all that was tried.
_MOST_PASSES = 4


def normalise(text: str) -> NormalisedText:
    """The normal form of a text, which is its own. ASCII comes back untouched at no cost, Western European at little.

    What was dropped or folded may have kept a letter from its mark: then the two are put together as well. Otherwise
    what is kept of a stream as context would be read in another way than the whole.
    """
    if text.isascii():
        return NormalisedText(text)
    view = _pass(text)
    for _ in range(_MOST_PASSES - 1):
        if view.text == text or unicodedata.is_normalized("NFKC", view.text):
            break
        again = _pass(view.text)
        if again.text == view.text:
            break
        view = _after(view, again)
    return view


def _after(first: NormalisedText, then: NormalisedText) -> NormalisedText:
    changes, invisible = first.changes | then.changes, first.invisible_count + then.invisible_count
    if first.starts is None or first.ends is None or then.starts is None or then.ends is None:
        starts, ends = (first.starts, first.ends) if then.starts is None else (then.starts, then.ends)
        return NormalisedText(then.text, changes, invisible, starts, ends)
    starts, ends = [first.starts[at] for at in then.starts], [first.ends[at - 1] for at in then.ends]
    return NormalisedText(then.text, changes, invisible, starts, ends)


def _pass(text: str) -> NormalisedText:
    western = _is_western(text)
    if unicodedata.is_normalized("NFKC", text) and (
        _SOFT_HYPHEN not in text if western else not _INVISIBLE.search(text)
    ):
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
            if _INVISIBLE.search(piece) is None and unicodedata.is_normalized("NFKC", piece):
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
            else:
                stop = at + 1
                while stop < end and _continues(source[stop]):
                    stop += 1
                self._fold(at, stop)
                at = stop

    def _fold(self, start: int, end: int) -> None:
        cluster = self.source[start:end]
        folded = unicodedata.normalize("NFKC", cluster)
        if folded != cluster:
            self.changes.add(NFKC)
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


@lru_cache(maxsize=4096)
def _continues(char: str) -> bool:
    """Whether a character belongs to the one before it: combining marks, and Hangul vowels and finals.

    Also what NFKC makes one of these, as it does with half-width sound marks and compatibility Hangul.
    """
    first = unicodedata.normalize("NFKC", char)[0]
    return unicodedata.combining(first) != 0 or "\u1161" <= first <= "\u11ff"
