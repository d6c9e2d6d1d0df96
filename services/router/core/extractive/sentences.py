"""Sentences of a text with their places, in Unicode code points.

Rules, not a model: they know headings, lists, numbering, initials and common abbreviations of English, German and
French. A wrong cut costs a shorter or longer quote, never a wrong one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_ENDING_IN_A_STOP = (
    "mr mrs ms dr prof sr jr st vs etc inc ltd co corp dept est approx al fig figs eq no nos vol pp ed eds cf ca "
    "e.g i.e a.m p.m u.s u.k u.n ph.d jan feb mar apr jun jul aug sep sept oct nov dec gen col sgt capt rev hon "
    "art sec ch bzw z.b d.h u.a usw nr bd hr fr abs str m mme mlle env av"
)
_ABBREVIATIONS = frozenset(_ENDING_IN_A_STOP.split())
_BLOCK = re.compile(
    r"[ \t]*#{1,6}[ \t][^\n]*|[^\n]+(?:\n(?![ \t]*(?:\n|[-*•#>|]|\d{1,3}[.)][ \t]|\[\d{1,3}\]))[^\n]+)*"
)
# Bounded repetitions: a megabyte of full stops must not cost more than a megabyte of anything else.
_BOUNDARY = re.compile(r"""[.!?…。！？]{1,8}["'”’»)\]]{0,4}(?=\s|$)|[。！？]""")
_MARKER = re.compile(r"[ \t]*(?:[-*•>]+|#{1,6}|\d{1,3}[.)]|\[(\d{1,3})\])[ \t]+")
_LAST_WORD = re.compile(r"([^\s(\[\"'“‘]+)\.$")
_HEADING_MAX_CHARS = 80


@dataclass(frozen=True, slots=True)
class Sentence:
    """Half-open range [start, end) of the text that it was cut from.

    `heading` marks a title, not a statement. `passage` is the number in square brackets that the text itself gives
    the passage, 0 when there is none.
    """

    text: str
    start: int
    end: int
    heading: bool = False
    passage: int = 0


def split_sentences(text: str, max_sentences: int) -> list[Sentence]:
    """The first `max_sentences` sentences in order. Lines of lists and headings are sentences of their own."""
    found: list[Sentence] = []
    for block in _BLOCK.finditer(text):
        start = block.start()
        marker = _MARKER.match(text, start, block.end())
        titled, passage = False, 0
        if marker is not None:
            start = marker.end()
            titled = marker.group().lstrip().startswith("#")
            passage = int(marker[1] or 0)
        cuts = _split_block(text, start, block.end(), titled=titled)
        found += [replace(cut, passage=passage) for cut in cuts] if passage else cuts
        if len(found) >= max_sentences:
            return found[:max_sentences]
    return found


def _split_block(text: str, start: int, end: int, *, titled: bool) -> list[Sentence]:
    sentences: list[Sentence] = []
    begin = start
    for boundary in _BOUNDARY.finditer(text, start, end):
        if boundary.end() < end and not _ends_sentence(text, begin, boundary):
            continue
        _append(sentences, text, begin, boundary.end(), titled=titled)
        begin = boundary.end()
    _append(sentences, text, begin, end, titled=titled)
    return sentences


def _append(sentences: list[Sentence], text: str, start: int, end: int, *, titled: bool) -> None:
    """Adds the range without the white space around it; ranges without a letter or digit are no sentences."""
    piece = text[start:end]
    stripped = piece.strip()
    if not any(character.isalnum() for character in stripped):
        return
    start += len(piece) - len(piece.lstrip())
    heading = titled or (len(stripped) <= _HEADING_MAX_CHARS and stripped[-1].isalnum())
    sentences.append(Sentence(stripped, start, start + len(stripped), heading))


def _ends_sentence(text: str, begin: int, boundary: re.Match[str]) -> bool:
    """Whether a full stop ends a sentence: not after an abbreviation or initial, not before a small letter."""
    mark = boundary.group()
    if mark[0] != ".":
        return True
    rest = text[boundary.end() : boundary.end() + 40].lstrip()
    if rest and rest[0].islower():
        return False
    if len(mark) > 1:
        return True
    word = _LAST_WORD.search(text, max(begin, boundary.start() - 40), boundary.start() + 1)
    if word is None:
        return True
    stem = word[1].lower()
    is_initial = len(stem) == 1 and stem.isalpha()
    is_number = stem.isdigit() and text[begin : boundary.start()].strip() == stem
    return not (stem in _ABBREVIATIONS or is_initial or is_number)
