"""Encoded text inside a text: base64, hexadecimal and percent-encoding, decoded so that it can be scanned again."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from services.guard.core.shape import Shape

_RUN = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_RUN_BYTES = b"a" * 24
_HEX = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2}){12,})$")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}[A-Za-z0-9._~+=&:/?@%-]*")
_PERCENT_LEFT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+=&:/?@-")
_URLSAFE = str.maketrans("-_", "+/")
_MIN_PRINTABLE_SHARE = 0.95


@dataclass(frozen=True, slots=True, repr=False)
class Layer:
    """A decoded region. `start` and `end` are in the text that holds it."""

    name: str
    text: str
    start: int
    end: int


def decoded_layers(shape: Shape, max_region_chars: int) -> Iterable[Layer]:
    """Every region that decodes to readable text. Longer regions are decoded up to the limit."""
    return _decoded(shape, max_region_chars) if shape.has_long_run or "%" in shape.text else ()


def _decoded(shape: Shape, max_region_chars: int) -> Iterator[Layer]:
    text = shape.text
    if shape.has_long_run:
        for start, end in _runs(shape):
            yield from _decode_run(text[start:end][:max_region_chars], start, end)
    if "%" in text:
        for start, end in _percent_regions(text):
            decoded = unquote(text[start:end][:max_region_chars], errors="replace")
            if _is_readable(decoded):
                yield Layer("url", decoded, start, end)


def _runs(shape: Shape) -> Iterator[tuple[int, int]]:
    if not shape.text.isascii():
        yield from (found.span() for found in _RUN.finditer(shape.text))
        return
    runs = shape.runs
    start = runs.find(_RUN_BYTES)
    while start != -1:
        run = _RUN.match(shape.text, start)
        assert run is not None
        yield run.span()
        start = runs.find(_RUN_BYTES, run.end())


def _percent_regions(text: str) -> Iterator[tuple[int, int]]:
    done = 0
    for found in _PERCENT.finditer(text):
        start = found.start()
        while start > done and text[start - 1] in _PERCENT_LEFT:
            start -= 1
        done = found.end()
        yield start, done


def _decode_run(run: str, start: int, end: int) -> Iterator[Layer]:
    hexadecimal = _HEX.match(run)
    if hexadecimal is not None:
        decoded = _as_text(bytes.fromhex(hexadecimal[1]))
        if decoded is not None:
            yield Layer("hex", decoded, start, end)
            return
    body = run.rstrip("=").translate(_URLSAFE)
    body = body[: len(body) - 1] if len(body) % 4 == 1 else body
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        return  # not base64 after all
    decoded = _as_text(data)
    if decoded is not None:
        yield Layer("base64", decoded, start, end)


def _as_text(data: bytes) -> str | None:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data)  # a region that was cut may end inside a character
    except UnicodeDecodeError:
        return None
    return text if _is_readable(text) else None


def _is_readable(text: str) -> bool:
    printable = sum(char.isprintable() or char in "\n\r\t" for char in text)
    return bool(text) and printable >= _MIN_PRINTABLE_SHARE * len(text)
