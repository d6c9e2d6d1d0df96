"""Tokens that stand for values: made when masking, replaced when restoring. The map belongs to one request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from services.guard.core.findings import MaskedValue, Match
from services.guard.core.json_text import escape, in_string_after, unescape

# Go's encoder and others write "<" and ">" as \u003c and \u003e inside JSON strings.
TOKEN = re.compile(r"<([A-Z][A-Z0-9_]{0,47}_[0-9]{1,9})>")
_JSON_TOKEN = re.compile(r"(?:<|\\u003[cC])([A-Z][A-Z0-9_]{0,47}_[0-9]{1,9})(?:>|\\u003[eE])")
# Limits of llmops.common.v1.MaskedValue and of the fields that carry the map.
MAX_VALUE_BYTES = 4096
MAX_VALUES = 4096


def tokens_in(text: str) -> set[str]:
    """Tokens that a text already holds."""
    return {found.group() for found in TOKEN.finditer(text)} if "<" in text else set()


class TokenMap:
    """Hands out tokens: equal values of a kind share one, and no token that a text already holds is handed out.

    Irreversible masks (secrets, values beyond the limits) get a token as well, but no entry in the map.
    """

    __slots__ = ("_entries", "_last", "_taken", "_tokens", "overflowed")

    def __init__(self, taken: Iterable[str] = (), known: Sequence[MaskedValue] = ()) -> None:
        self._taken = set(taken)
        self._taken.update(entry.token for entry in known)
        self._tokens: dict[tuple[str, str], str] = {}
        self._entries: list[MaskedValue] = []
        self._last: dict[str, int] = {}
        self.overflowed = False

    @property
    def entries(self) -> tuple[MaskedValue, ...]:
        """What restores the texts, in the order of first appearance."""
        return tuple(self._entries)

    def token_for(self, kind: str, value: str, *, restorable: bool) -> str:
        """The token of a value; a new one when the value is new."""
        key = (kind, value)
        token = self._tokens.get(key)
        if token is None:
            token = self._next(kind)
            self._tokens[key] = token
            if restorable:
                self._remember(token, value, kind)
        return token

    def _next(self, kind: str) -> str:
        number = self._last.get(kind, 0) + 1
        while f"<{kind}_{number}>" in self._taken:
            number += 1
        self._last[kind] = number
        return f"<{kind}_{number}>"

    def _remember(self, token: str, value: str, kind: str) -> None:
        if len(self._entries) >= MAX_VALUES or len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES:
            self.overflowed = True
        else:
            self._entries.append(MaskedValue(token, value, kind))


def mask(
    text: str,
    matches: Sequence[Match],
    token_for: Callable[[Match, str], str],
    *,
    json: bool = False,
    in_string: bool = False,
    between: Callable[[str], str] = str,
) -> str:
    """Replaces the matches, which are in order and do not overlap, by tokens, and maps the rest with `between`.

    In JSON text a value outside quotes (a number) becomes a quoted token, so that the document stays valid;
    `in_string` says whether the text begins inside a string.
    """
    pieces: list[str] = []
    done = 0
    for match in matches:
        before = text[done : match.start]
        value = text[match.start : match.end]
        token = token_for(match, unescape(value).text if json else value)
        if json:
            in_string = in_string_after(before, in_string=in_string)
            token = token if in_string else f'"{token}"'
            in_string = in_string_after(value, in_string=in_string)
        pieces += (between(before), token)
        done = match.end
    pieces.append(between(text[done:]))
    return "".join(pieces)


def restore(text: str, values: Mapping[str, str], *, json: bool = False) -> str:
    """Puts the originals back; in JSON text, escaped for the string that they stand in. Unknown tokens stay."""
    if not values or ("<" not in text and (not json or "\\u003" not in text)):
        return text
    if not json:
        return TOKEN.sub(lambda found: values.get(found.group(), found.group()), text)

    def original(found: re.Match[str]) -> str:
        value = values.get(f"<{found[1]}>")
        return found.group() if value is None else escape(value)

    return _JSON_TOKEN.sub(original, text)


def resolve_overlaps(matches: Iterable[Match], rank: Callable[[Match], int]) -> list[Match]:
    """One match for each stretch that matches overlap on: the one of the lowest rank, grown over the whole stretch.

    Growing keeps the rest of a longer, lower-ranked match from staying in the text. The result is in text order.
    """
    merged: list[Match] = []
    for match in sorted(matches, key=lambda m: (m.start, -m.end)):
        last = merged[-1] if merged else None
        if last is None or match.start >= last.end:
            merged.append(match)
        else:
            best = match if rank(match) < rank(last) else last
            merged[-1] = replace(best, start=last.start, end=max(last.end, match.end))
    return merged
