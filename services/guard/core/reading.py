"""A text as the detectors read it: escapes of JSON decoded, in normal form; with the way back to the original."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from services.guard.core.json_text import unescape
from services.guard.core.normalise import normalise


class Reading(NamedTuple):
    """`starts` has the place in the original of each code point, in order; None where all stand where they stood."""

    text: str
    starts: Sequence[int] | None


def reading_of(text: str, *, json: bool) -> Reading:
    """What detectors see of a text. `json`: it is JSON source. ASCII without escapes is seen as it is, at no cost."""
    if not (json and "\\" in text):
        view = normalise(text)
        return Reading(view.text, view.starts)
    source = unescape(text)
    view = normalise(source.text)
    if view.starts is None or source.starts is None:
        return Reading(view.text, source.starts if view.starts is None else view.starts)
    return Reading(view.text, [source.starts[at] for at in view.starts])
