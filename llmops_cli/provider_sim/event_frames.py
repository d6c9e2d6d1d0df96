"""AWS event-stream framing (application/vnd.amazon.eventstream): the side that writes."""

from __future__ import annotations

import struct
import zlib
from typing import Final

_STRING: Final = 7


def event_frame(event_type: str, payload: bytes) -> bytes:
    """One event whose payload is JSON."""
    headers = {":event-type": event_type, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, payload)


def exception_frame(exception_type: str, payload: bytes) -> bytes:
    """One exception, which ends a stream."""
    headers = {":exception-type": exception_type, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, payload)


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message with headers of text."""
    block = b"".join(_header(name, value) for name, value in headers.items())
    lengths = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    start = lengths + struct.pack(">I", zlib.crc32(lengths)) + block + payload
    return start + struct.pack(">I", zlib.crc32(start))


def _header(name: str, value: str) -> bytes:
    data = value.encode()
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _STRING, len(data)) + data
