"""Server-sent events, parsed as bytes arrive: any split of the same bytes gives the same events.

Follows the event-stream rules of the WHATWG HTML standard (section 9.2.6): LF, CR and CRLF end lines, comments are
skipped, several data lines join with LF, a leading byte order mark is dropped, an unfinished event at the end counts
for nothing. `id` and `retry` are ignored: the router never reconnects.
"""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One event; `data` is valid UTF-8."""

    event: str
    data: bytes


class SseParser:
    """Feed bytes, get events. After a failure `failure` names it (kebab-case) and further bytes are ignored.

    Limits: `max_line_bytes` for one line, `max_event_bytes` for the data of one event.
    """

    __slots__ = (
        "_data",
        "_data_bytes",
        "_event",
        "_max_event_bytes",
        "_max_line_bytes",
        "_rest",
        "_rest_bytes",
        "_skip_lf",
        "_start",
    )

    def __init__(self, max_line_bytes: int, max_event_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        # The unfinished line, in the pieces that came: joined once, at its end, however many they are.
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._skip_lf = False
        self._start = True
        self._event = ""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> tuple[list[ServerSentEvent], str]:
        """The events that `chunk` completes, and the failure that it reveals, empty when there is none."""
        if not (self._start or self._rest or self._data or self._event or self._skip_lf) and chunk[-2:] == b"\n\n":
            plain = self._plain(chunk)
            if plain is not None:
                return plain, ""
        lines = self._lines(chunk)
        events: list[ServerSentEvent] = []
        for line in lines:
            if len(line) > self._max_line_bytes:
                return events, "line-too-long"
            if not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    if not (data.isascii() or is_utf8(data)):
                        return events, "invalid-utf8"
                    events.append(ServerSentEvent(self._event, data))
                    self._data = []
                    self._data_bytes = 0
                self._event = ""
            elif (failure := self._field(line)) is not None:
                return events, failure
        return events, "line-too-long" if self._rest_bytes > self._max_line_bytes else ""

    def _plain(self, chunk: bytes) -> list[ServerSentEvent] | None:
        """Whole events of one data line each, as nearly every read brings them; None when there is anything else."""
        if chunk[:6] != b"data: " or b"\r" in chunk or len(chunk) > min(self._max_line_bytes, self._max_event_bytes):
            return None
        pieces = chunk[6:-2].split(b"\n\ndata: ")
        if chunk.count(b"\n") != 2 * len(pieces) or not (chunk.isascii() or is_utf8(chunk)):
            return None
        return [ServerSentEvent("", piece) for piece in pieces]

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The complete lines so far; the unfinished one waits. A CR at the end may be half of a CRLF."""
        if self._skip_lf and chunk:
            self._skip_lf = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        buffer = chunk
        if self._rest:
            self._rest.append(chunk)
            if b"\n" not in chunk and b"\r" not in chunk and not self._start:
                self._rest_bytes += len(chunk)
                return []
            buffer = b"".join(self._rest)
        if self._start:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._rest = [buffer]
                return []
            self._start = False
            buffer = buffer.removeprefix(_BOM)
        if b"\r" in buffer:
            self._skip_lf = buffer.endswith(b"\r")
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = buffer.split(b"\n")
        if last := lines.pop():
            self._rest, self._rest_bytes = [last], len(last)
        elif self._rest:
            self._rest, self._rest_bytes = [], 0
        return lines

    def _field(self, line: bytes) -> str | None:
        """Takes one field; the failure when the event grows beyond its limit."""
        if line.startswith(b"data:") or line == b"data":
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max_event_bytes:
                return "event-too-large"
            self._data.append(value)
        elif line.startswith(b"event:"):
            self._event = line[6:].removeprefix(b" ").decode("utf-8", "replace")
        return None


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
