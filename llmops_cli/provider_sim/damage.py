"""Bytes that no correct provider sends."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Final

from llmops_cli.provider_sim.event_frames import event_frame
from llmops_cli.provider_sim.script import Rule

_FILL_BYTES: Final = 1 << 20


def malform(body: bytes, rule: Rule) -> bytes:
    """The JSON document cut short or with bytes that are no UTF-8; unchanged when the rule says nothing."""
    if rule.malformed == "truncated":
        return body[: len(body) * 2 // 3]
    if rule.malformed == "invalid_utf8":
        return body.replace(b'"', b'"\xff\xfe', 1)
    return body


def malform_event(event: bytes, rule: Rule, *, binary: bool = False) -> bytes:
    """The event with its JSON damaged and its framing intact.

    Of a binary frame "truncated" leaves out the last bytes, so that its checksum is wrong.
    """
    if rule.malformed is None:
        return event
    if not binary:
        return malform(event.rstrip(b"\n"), rule) + b"\n\n"
    return (
        event[:-5]
        if rule.malformed == "truncated"
        else event_frame("contentBlockDelta", b'{"delta":{"text":"\xff\xfe"}}')
    )


def huge_event(size_bytes: int, *, binary: bool = False) -> bytes:
    """One event of about `size_bytes` that says nothing."""
    fill = b"x" * size_bytes
    return event_frame("padding", b'"%b"' % fill) if binary else b"data: %b\n\n" % fill


@lru_cache(maxsize=4)
def gzip_bomb(size_bytes: int) -> bytes:
    """A valid gzip stream of a JSON object that inflates to about `size_bytes`."""
    deflate = zlib.compressobj(level=9, wbits=31)
    parts = [deflate.compress(b'{"padding":"')]
    fill = b"x" * _FILL_BYTES
    parts += [
        deflate.compress(fill[: min(_FILL_BYTES, size_bytes - done)]) for done in range(0, size_bytes, _FILL_BYTES)
    ]
    parts += [deflate.compress(b'"}'), deflate.flush()]
    return b"".join(parts)
