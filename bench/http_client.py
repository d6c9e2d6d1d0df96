"""A raw HTTP/1.1 client connection: keep-alive, one exchange at a time, JSON or Server-Sent Events.

It reads no more of an answer than it must (status, length, number of events), so that the generator costs a
fraction of what it measures.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol, cast

_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_EVENT: Final = b"data: "
_DONE: Final = b"data: [DONE]"
_NO_LENGTH: Final = -1
_TAIL_BYTES: Final = len(_DONE) - 1


class Owner(Protocol):
    """Who uses a connection."""

    def answered(self, connection: ClientConnection, now_s: float) -> None:
        """The answer is complete; `connection` holds its status, events and cache header."""
        ...

    def lost(self, connection: ClientConnection) -> None:
        """The connection ended; an exchange under way has failed."""
        ...


class ClientConnection(asyncio.Protocol):
    """One connection. After `answered`: `status`, `cache`; for streams `events`, `first_event_s`, `done` ([DONE])."""

    __slots__ = (
        "_body_bytes",
        "_buffer",
        "_length",
        "_owner",
        "_streams",
        "_tail",
        "_transport",
        "busy",
        "cache",
        "done",
        "events",
        "first_event_s",
        "scheduled_s",
        "status",
    )

    def __init__(self, owner: Owner, *, streams: bool) -> None:
        self._owner = owner
        self._streams = streams
        self._transport: asyncio.Transport | None = None
        self.busy = False
        self.scheduled_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._buffer: bytes | None = b""  # None once the head is read
        self._tail = b""
        self._length = _NO_LENGTH
        self._body_bytes = 0
        self.status = 0
        self.events = 0
        self.done = False
        self.first_event_s = 0.0
        self.cache = ""

    @property
    def open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None

    def send(self, payload: bytes, scheduled_s: float) -> None:
        """Send a request; the connection must be open and idle."""
        assert self._transport is not None
        self._reset()
        self.busy = True
        self.scheduled_s = scheduled_s
        self._transport.write(payload)

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._transport = None
        self._owner.lost(self)

    def data_received(self, data: bytes) -> None:
        """Read the head once, then count bytes or events until the answer is complete."""
        now_s = time.monotonic()
        if not self.busy:
            self.close()
            return
        if self._buffer is not None:
            self._buffer += data
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                return
            self._read_head(self._buffer[:end].lower())
            data = self._buffer[end + len(_HEAD_END) :]
            self._buffer = None
        self._body_bytes += len(data)
        if self._streams and data:
            self._count(data, now_s)
        if self._length == _NO_LENGTH:
            self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            complete = self._tail.endswith(_LAST_CHUNK)
        else:
            complete = self._body_bytes >= self._length
        if complete:
            self.busy = False
            self.first_event_s = self.first_event_s or now_s
            self._owner.answered(self, now_s)

    def _read_head(self, head: bytes) -> None:
        """`head` is lower case. Without a length the body is taken as chunked."""
        self.status = int(head[9:12])
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            self._length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        at = head.find(b"\r\nx-cache:")
        if at >= 0:
            self.cache = head[at + 10 :].split(b"\r\n", 1)[0].strip().decode("latin-1")

    def _count(self, data: bytes, now_s: float) -> None:
        """Count events and find the end; marks that two packets share are found with the bytes kept from the last."""
        self.events += (self._tail[-(len(_EVENT) - 1) :] + data).count(_EVENT)
        self.done = self.done or _DONE in self._tail + data
        if self.events and not self.first_event_s:
            self.first_event_s = now_s
