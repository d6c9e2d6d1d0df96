"""Where an answer can be cut so that no detector's match reaches over the cut.

A *cut point* is a place that no match of a built-in detector can span, whatever follows: between words of prose (a
lower case letter or punctuation, a space, a letter), after a comma in JSON, at the end of a line that ends in
punctuation, between CJK characters. Card numbers, IBANs, telephone numbers, keys, encoded runs and tokens contain none
of these. A private key may, in its headers: the places between its BEGIN and END do not count. Because matches never
span a cut point, scanning the pieces one by one finds what scanning the whole finds: that is why a stream releases
exactly what a unary check returns. Places are judged in the text as detectors read it, or an escape, a look-alike or
something invisible would make one where there is none.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from services.guard.core.reading import reading_of
from services.guard.core.secrets import PRIVATE_KEY_BEGIN, PRIVATE_KEY_END

_LOWER = "a-zß-öø-ÿα-ωа-яё"
# No combining marks, and nothing that NFKC turns into ASCII.
_CJK = "\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3。、"
_CUT = re.compile(
    f"(?<=[{_LOWER},;!?.)] )(?=[A-Za-zÀ-ÖØ-öø-ÿα-ωа-яА-Яё])"
    f"|(?<=[.,;:!?{{}}()\\[\\]>|*]\n)"
    '|(?<=,)(?=["{\\[])'
    f"|(?<=[{_CJK}])(?=[{_CJK}])"
    "|(?<=[\u0590-\u06ff\u0900-\u0dff\u0e00-\u0e7f] )(?=[\u0590-\u06ff\u0900-\u0dff\u0e00-\u0e7f])"
)
# Most texts have a cut point in the last few words: read backwards in steps.
_STEP_CHARS = 128
_SENTENCE_ENDS = (". ", "! ", "? ", ".\n", "!\n", "?\n", ":\n", "。", "！", "？")


def last_cut(text: str, start: int, limit: int, reach: int, *, json: bool = False) -> int:
    """The last cut point in (start, limit], preferring the end of a sentence near it; `start` when there is none.

    Private keys are looked for in text[:reach]; inside one there is no cut. `json`: it is JSON source.
    """
    reading, starts = reading_of(text, json=json)
    if starts is None:
        return _last(reading, start, limit, reach, None)
    before = bisect_right(starts, start) - 1
    found = _last(reading, before, bisect_right(starts, limit) - 1, bisect_left(starts, reach), starts)
    return start if found <= before else starts[found]


def _last(text: str, start: int, limit: int, reach: int, starts: Sequence[int] | None) -> int:
    """As `last_cut`, in the reading. What one code point of the original became is not cut."""
    zones = _private_key_zones(text[:reach]) if "PRIVATE KEY" in text else []
    high = limit
    while high > start:
        low = max(start, high - _STEP_CHARS)
        found = _CUT.finditer(text, max(0, low - 1), min(len(text), high + 1))
        points = [point for point in (match.start() for match in found) if low < point <= high]
        if starts is not None:
            points = [point for point in points if starts[point - 1] < starts[point]]
        if zones:
            points = [point for point in points if not any(first < point < end for first, end in zones)]
        if points:
            return next((point for point in reversed(points) if text.endswith(_SENTENCE_ENDS, 0, point)), points[-1])
        high = low
    return start


def _private_key_zones(text: str) -> list[tuple[int, int]]:
    zones: list[tuple[int, int]] = []
    at = 0
    while (begin := PRIVATE_KEY_BEGIN.search(text, at)) is not None:
        end = PRIVATE_KEY_END.search(text, begin.end())
        if end is None:
            return [*zones, (begin.start(), len(text) + 1)]
        zones.append((begin.start(), end.end()))
        at = end.end()
    return zones
