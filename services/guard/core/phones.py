"""Telephone numbers: international form, and national forms that nothing else looks like.

Conservative on purpose. "+" and a country code count; North American numbers count when area and exchange are ones the
plan assigns (NANP); French numbers in pairs count; other national forms, which look like order numbers, count only
after a word such as "phone" or "Telefon".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.guard.core.shape import Shape

_PLUS = re.compile(r"(?<![\w+])\+(?=[1-9])")
_NANP = re.compile(
    r"(?<![\w.\-/])(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}([.-]))"
    r"[2-9][0-9]{2}(?(1)\1|[ .-])[0-9]{4}(?:x[0-9]{1,6})?(?!\w|[-.][0-9])"
)
_FRENCH = re.compile(r"(?<![\w.\-/])0[1-9](?:([ .])[0-9]{2})(?:\1[0-9]{2}){3}(?![\w-])(?![ .][0-9])")
_LONG = re.compile(r"[0-9][0-9 ().\-/]{5,30}[0-9]")
_DATE = re.compile(r"(?:[0-9]{4}[-./][0-9]{1,2}[-./][0-9]{1,2}|[0-9]{1,2}[-./][0-9]{1,2}[-./][0-9]{4})(?![0-9])")
# Words for a telephone in the languages of the language detector, and the small words between them and the number.
_CUE_STEMS = ("phone", "mobil", "cell", "tel", "fax", "whatsapp", "call", "handy", "rufnummer", "portable", "teléf",
              "móvil", "movil", "celular", "gsm", "komórk", "tlf")  # fmt: skip
_CUE_WORDS = (
    "phone|telephone|mobile|cell|tel|fax|whatsapp|call|handy|mobil|telefon|rufnummer|téléphone|portable|teléfono|"
    "telefono|móvil|movil|celular|cellulare|telemóvel|telefone|gsm|komórka|telefoon|tlf"
)
_FILLERS = (
    "phone|number|no|nr|nummer|numer|numero|número|numéro|numer|me|us|him|her|at|on|is|it|was|est|ist|es|to|my|the|"
    "under|"
    "unter|now|today|please|anytime|back|and|or"
)
_CUE_BEFORE = re.compile(
    rf"\b(?:{_CUE_WORDS})[a-z]{{0,3}}[.:]?(?:\s{{1,2}}(?:{_FILLERS})[.:]?){{0,5}}[\s:.#=(\"']{{0,4}}$"
)
_CUE_CHARS = 64
# How far the patterns read behind the last digit of a number: an extension such as "x123456", and what must not follow.
_EXTENSION_CHARS, _FRENCH_AHEAD_CHARS = 9, 2
_MIN_DIGITS, _MAX_DIGITS = 8, 15
_MIN_CUED_DIGITS = 7
_MAX_SEPARATORS = 2
_NANP_SHAPES = (b"000-0000", b"000.0000", b"000 0000")
_FRENCH_SHAPES = (b"00 00 00 00", b"00.00.00.00")


def find_phones(shape: Shape) -> Iterator[tuple[int, int]]:
    """Spans of telephone numbers; one number may be reported by several forms."""
    text = shape.text
    if b"+0" in shape.folded:
        for plus in shape.numbers(_PLUS, before=1):
            yield from _number(text, plus.start(), plus.end(), _MIN_DIGITS)
    if shape.number_has(_NANP_SHAPES):
        yield from (found.span() for found in shape.numbers(_NANP, before=1, behind=_EXTENSION_CHARS))
    if shape.number_has(_FRENCH_SHAPES):
        yield from (found.span() for found in shape.numbers(_FRENCH, behind=_FRENCH_AHEAD_CHARS))
    for found in shape.numbers(_LONG):
        digit = found.start()
        start = digit - 1 if text[digit - 1 : digit] == "(" else digit
        before = shape.lower[max(0, start - _CUE_CHARS) : start]
        # Most numbers are told from telephone numbers here, at a fraction of the pattern's cost.
        if _has_cue(before):
            yield from _after_cue(text, before, digit, start)


def _after_cue(text: str, before: str, digit: int, start: int) -> Iterator[tuple[int, int]]:
    if not _DATE.match(text, digit) and _CUE_BEFORE.search(before) is not None:
        yield from _number(text, start, start, _MIN_CUED_DIGITS)


def _has_cue(lower: str) -> bool:
    for stem in _CUE_STEMS:  # noqa: SIM110 - `any` with a generator takes three times as long
        if stem in lower:
            return True
    return False


def _number(text: str, start: int, at: int, min_digits: int) -> Iterator[tuple[int, int]]:
    """The number that begins at `start`, when it has a telephone number's count of digits (ITU-T E.164: at most 15).

    Reads digits in groups with at most two separators in a row ("(0) 30"), from `at` on.
    """
    digits, separators, end = 0, 0, at
    while at < len(text) and digits <= _MAX_DIGITS:
        char = text[at]
        if char.isascii() and char.isdigit():
            digits, separators, end = digits + 1, 0, at + 1
        elif char in " ().-/" and separators < _MAX_SEPARATORS:
            separators += 1
        else:
            break
        at += 1
    is_part_of_more = text[end : end + 1].isalpha() or (
        text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit()
    )
    if min_digits <= digits <= _MAX_DIGITS and not is_part_of_more:
        yield start, end
