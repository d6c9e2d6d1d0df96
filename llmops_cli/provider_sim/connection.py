"""One HTTP/1.1 connection of the simulator.

A protocol class of its own instead of aiohttp: a plain answer costs a third of aiohttp's 31 us, which matters
beside the system under test, and the faults (half a body, a reset, one byte a packet) need the socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

import msgspec

_HEAD_END: Final = b"\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_OFF: Final = struct.pack("ii", 1, 0)  # close() sends RST


class HttpRequest(msgspec.Struct, frozen=True):
    """A request as it came; header names are lower case."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one connection; what exceeds them is answered with 431 or 413 and the connection closed."""

    max_head_bytes: int = 64 << 10
    max_body_bytes: int = 32 << 20


class Handler(Protocol):
    """What the server does for a connection."""

    def opened(self, connection: Connection) -> None:
        """A client connected."""
        ...

    def handle(self, request: HttpRequest, connection: Connection) -> Coroutine[Any, Any, None] | None:
        """Answer at once and return None, or return the coroutine that answers; it is cancelled if the client goes."""
        ...

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""
        ...


class _RefusedError(Exception):
    """A request that cannot be read; the status to answer before closing."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connection(asyncio.Protocol):
    """Parses requests one after the other and writes responses; `client_gone` tells a loss from a shutdown."""

    def __init__(self, handler: Handler, limits: HttpLimits) -> None:
        self.client_gone = False
        self._handler = handler
        self._limits = limits
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._keep_alive = True
        self._continued = False
        self._writable = asyncio.Event()
        self._writable.set()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from it
        self._handler.opened(self)

    def data_received(self, data: bytes) -> None:
        """Collect bytes and answer the request they complete; a pipelined one waits for its turn."""
        self._buffer = self._buffer + data if self._buffer else data
        if self._task is None:
            self._advance()
        if self._task is not None and len(self._buffer) > self._limits.max_head_bytes + self._limits.max_body_bytes:
            self.cut(reset=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the answer that is under way: this is how a provider notices that its client left."""
        self.client_gone = True
        self._transport = None
        self._writable.set()
        if self._task is not None:
            self._task.cancel()
        self._handler.closed(self)

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._writable.set()

    # What the answers call.

    def respond(self, status: int, headers: dict[str, str], content_type: str, body: bytes) -> None:
        """Write a whole response."""
        self.write(head(status, headers, content_type, f"Content-Length: {len(body)}") + body)

    def write(self, data: bytes) -> None:
        """Write bytes; dropped when the client is gone."""
        if self._transport is not None:
            self._transport.write(data)

    @property
    def writable(self) -> bool:
        """Whether the client keeps up."""
        return self._writable.is_set()

    async def flushed(self) -> None:
        """Wait while the client is slower than the answer."""
        await self._writable.wait()

    def cut(self, *, reset: bool) -> None:
        """End the connection here: with a FIN, or with an RST that makes the peer's next read fail."""
        transport, self._keep_alive = self._transport, False
        if transport is None:
            return
        if not reset:
            transport.close()
            return
        peer = transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        transport.abort()

    async def stop(self) -> None:
        """End the answer under way and the connection; for the server's shutdown."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self.cut(reset=False)

    # Parsing.

    def _advance(self) -> None:
        """Answer every complete request in the buffer."""
        while self._buffer and self._transport is not None:
            try:
                request = self._take()
            except _RefusedError as refused:
                self._keep_alive = False
                self.respond(refused.status, {}, "text/plain", b"")
                self._close_unless_kept()
                return
            if request is None:
                return
            answer = self._handler.handle(request, self)
            if answer is not None:
                self._task = asyncio.get_running_loop().create_task(answer)
                self._task.add_done_callback(self._answered)
                return
            self._close_unless_kept()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "the provider simulator failed to answer", "exception": task.exception(), "task": task}
            )
            self.cut(reset=True)
        self._close_unless_kept()
        self._advance()

    def _close_unless_kept(self) -> None:
        if not self._keep_alive and self._transport is not None:
            self._transport.close()

    def _take(self) -> HttpRequest | None:
        """The next request, taken out of the buffer; None while it is incomplete."""
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            if len(self._buffer) > self._limits.max_head_bytes:
                raise _RefusedError(431)
            return None
        lines = self._buffer[:end].split(b"\r\n")
        start = lines[0].split(b" ")
        if len(start) != 3 or not start[2].startswith(b"HTTP/1."):  # noqa: PLR2004 (method, target, version)
            raise _RefusedError(400)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        taken = self._body(end + len(_HEAD_END), headers)
        if taken is None:
            return None
        body, rest = taken
        self._buffer = self._buffer[rest:]
        self._keep_alive = headers.get(b"connection", b"").lower() != b"close" and start[2] != b"HTTP/1.0"
        self._continued = False
        return HttpRequest(start[0].decode("latin-1"), start[1].decode("latin-1"), headers, body)

    def _body(self, start: int, headers: dict[bytes, bytes]) -> tuple[bytes, int] | None:
        """The body and where the next request starts; None while it is incomplete."""
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            taken = self._chunked(start)
        else:
            length = headers.get(b"content-length", b"0")
            if not length.isdigit():
                raise _RefusedError(400)
            end = start + int(length)
            if end - start > self._limits.max_body_bytes:
                raise _RefusedError(413)
            taken = (self._buffer[start:end], end) if len(self._buffer) >= end else None
        if taken is None and not self._continued and headers.get(b"expect", b"").lower() == b"100-continue":
            self._continued = True
            self.write(_CONTINUE)
        return taken

    def _chunked(self, position: int) -> tuple[bytes, int] | None:
        """Read a chunked body (RFC 9112, section 7.1) that starts at `position`; trailers are not supported."""
        parts: list[bytes] = []
        total = 0
        while True:
            line_end = self._buffer.find(b"\r\n", position)
            if line_end < 0:
                return None
            try:
                size = int(self._buffer[position:line_end].split(b";")[0], 16)
            except ValueError:
                raise _RefusedError(400) from None
            total += size
            if size < 0 or total > self._limits.max_body_bytes:
                raise _RefusedError(413 if size >= 0 else 400)
            end = line_end + 2 + size
            if len(self._buffer) < end + 2:
                return None
            if size == 0:
                return b"".join(parts), end + 2
            parts.append(self._buffer[line_end + 2 : end])
            position = end + 2


def head(status: int, headers: dict[str, str], content_type: str, framing: str) -> bytes:
    """The head of a response; `framing` is the Content-Length or Transfer-Encoding line."""
    lines = [_status_line(status), f"Content-Type: {content_type}", framing]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"
