"""AWS event streams (application/vnd.amazon.eventstream), parsed as bytes arrive: any split gives the same events.

A message is a prelude (its length, the length of its headers, a CRC-32 of both), headers, a payload, and a CRC-32 of
everything before. The length is believed only after the prelude's checksum has been compared, so that a damaged one
makes nobody wait for gigabytes.
"""

from __future__ import annotations

import struct
import zlib

from services.router.core.sse import ServerSentEvent

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_MIN_MESSAGE_BYTES = _PRELUDE.size + _CRC.size
# The format's own limit.
_MAX_HEADERS_BYTES = 128 << 10
# Bytes of a header's value by its type; None stands for a length that precedes it.
_VALUE_BYTES: dict[int, int | None] = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 6: None, 7: None, 8: 8, 9: 16}
_STRING = 7


class EventStreamParser:
    """Feed bytes, get events; `feed` names a failure (kebab-case), and nothing may be fed after one.

    An event's name is `:event-type`; for an exception it is `exception` and a space before `:exception-type`, for an
    error `error` and `:error-code`. `max_message_bytes` bounds one message and what is kept between two reads.
    """

    __slots__ = ("_max_message_bytes", "_rest")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> tuple[list[ServerSentEvent], str]:
        """The events that `chunk` completes, and the failure that it reveals, empty when there is none."""
        # Appended in place: a large message in small pieces is not copied once for each of them.
        buffer = self._rest
        buffer += chunk
        events: list[ServerSentEvent] = []
        position = 0
        while len(buffer) - position >= _PRELUDE.size:
            total, headers_bytes, checksum = _PRELUDE.unpack_from(buffer, position)
            if failure := self._prelude_failure(buffer[position : position + 8], total, headers_bytes, checksum):
                return events, failure
            if len(buffer) - position < total:
                break
            event = _event(bytes(buffer[position : position + total]), headers_bytes)
            if isinstance(event, str):
                return events, event
            events.append(event)
            position += total
        del buffer[:position]
        return events, ""

    def _prelude_failure(self, lengths: bytearray, total: int, headers_bytes: int, checksum: int) -> str:
        if zlib.crc32(lengths) != checksum:
            return "bad-prelude-checksum"
        if total > self._max_message_bytes:
            return "event-too-large"
        if headers_bytes > min(_MAX_HEADERS_BYTES, total - _MIN_MESSAGE_BYTES):
            return "bad-event-headers"
        return ""


def _event(message: bytes, headers_bytes: int) -> ServerSentEvent | str:
    """The event of one whole message, or the failure that it is."""
    body_end = len(message) - _CRC.size
    if zlib.crc32(message[:body_end]) != _CRC.unpack_from(message, body_end)[0]:
        return "bad-message-checksum"
    payload_at = _PRELUDE.size + headers_bytes
    headers = _headers(message[_PRELUDE.size : payload_at])
    if headers is None:
        return "bad-event-headers"
    name = headers.get(":event-type", "")
    kind = headers.get(":message-type", "event")
    if kind == "exception":
        name = f"exception {headers.get(':exception-type', '')}"
    elif kind == "error":
        name = f"error {headers.get(':error-code', '')}"
    return ServerSentEvent(name, message[payload_at:body_end])


def _headers(data: bytes) -> dict[str, str] | None:
    """The headers whose values are text; None when they cannot be read."""
    headers: dict[str, str] = {}
    position = 0
    try:
        while position < len(data):
            name_end = position + 1 + data[position]
            name, kind = data[position + 1 : name_end].decode(), data[name_end]
            position = name_end + 1
            size = _VALUE_BYTES[kind]
            if size is None:
                size = _LENGTH.unpack_from(data, position)[0]
                position += _LENGTH.size
            if position + size > len(data):
                return None
            if kind == _STRING:
                headers[name] = data[position : position + size].decode()
            position += size
    except (IndexError, KeyError, struct.error, UnicodeDecodeError):
        return None
    return headers
