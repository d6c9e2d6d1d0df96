"""JSON text that is read without being parsed: it may be malformed, or only a part of a document."""

from __future__ import annotations

import json
import re

from services.guard.core.normalise import NormalisedText

_ESCAPE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[\"\\/bfnrt]")
_QUOTE = re.compile(r"\\.|\"", re.DOTALL)


def unescape(text: str) -> NormalisedText:
    """The text with JSON escapes decoded, and the map back to the escapes."""
    if "\\" not in text:
        return NormalisedText(text)
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    done = 0
    for escape in _ESCAPE.finditer(text):
        start, end = escape.span()
        out.append(text[done:start])
        starts.extend(range(done, start))
        ends.extend(range(done + 1, start + 1))
        out.append(json.loads(f'"{escape.group()}"'))
        starts.append(start)
        ends.append(end)
        done = end
    out.append(text[done:])
    starts.extend(range(done, len(text)))
    ends.extend(range(done + 1, len(text) + 1))
    return NormalisedText("".join(out), starts=starts, ends=ends)


def escape(value: str) -> str:
    """A value as it stands between the quotes of a JSON string."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


def in_string_after(text: str, *, in_string: bool) -> bool:
    """Whether the end of the text lies inside a JSON string, given whether its start does."""
    for found in _QUOTE.finditer(text):
        if found.group() == '"':
            in_string = not in_string
    return in_string
