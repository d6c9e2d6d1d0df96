"""Characters that look like Latin letters, and words that mix them with Latin ones.

The table holds the Cyrillic, Greek and Latin-extended characters that the Unicode confusables list (UTS 39) maps to
one ASCII letter and that fonts draw alike. Fullwidth and mathematical letters need no entry: NFKC folds them.
A word is folded when it also contains ASCII letters ("pаypal"), or when it is three letters or longer and made of
look-alikes only ("ѕсоре"): Russian and Greek text passes otherwise unchanged. The rule looks at one word at a time,
so a text can be folded piece by piece.
"""

from __future__ import annotations

import re

_PAIRS = (
    # Cyrillic
    ("аеорсухіјѕһԁԛԝѵӏ", "aeopcyxijshdqwvl"),
    ("АВЕЗКМНОРСТУХІЈЅԌԚԜ", "ABE3KMHOPCTYXIJSGQW"),
    # Greek
    ("αονιρυκγχτ", "aovipukyxt"),
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX"),
    # Latin letters outside ASCII that carry no accent
    ("ıɑɡɩʏɪʀɴʟɢʜᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ", "iagiyirnlghacdejkmoptuvwz"),
)
TABLE: dict[int, str] = {
    ord(source): target for sources, targets in _PAIRS for source, target in zip(sources, targets, strict=True)
}
_CLASS = "".join(map(chr, TABLE))
_MIXED = re.compile(f"[A-Za-z][{_CLASS}]|[{_CLASS}][A-Za-z]")
_WHOLE = re.compile(f"(?<![^\\W\\d_])[{_CLASS}]{{3,}}(?![^\\W\\d_])")
# Latin, Latin extended, IPA, Greek, Cyrillic, phonetic extensions. No CJK: words there are not separated.
_WORD = re.compile("[A-Za-z\u00c0-\u02af\u0370-\u052f\u1d00-\u1d7f]+")


def fold_confusables(text: str) -> tuple[str, bool]:
    """The text with look-alike words spelled in ASCII, of the same length, and whether a mixed word was found."""
    mixed = _MIXED.search(text) is not None
    if mixed:
        text = _WORD.sub(_fold_mixed, text)
    return _WHOLE.sub(_fold, text), mixed


def _fold_mixed(word: re.Match[str]) -> str:
    return word.group().translate(TABLE) if _MIXED.search(word.group()) else word.group()


def _fold(word: re.Match[str]) -> str:
    return word.group().translate(TABLE)
