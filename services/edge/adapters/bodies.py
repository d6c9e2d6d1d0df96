"""Receiving request bodies, and sending event streams, over aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web
from aiohttp.http import StreamWriter
from aiohttp.web_protocol import RequestPayloadError

from services.edge.adapters.http_server import Connection
from services.edge.core.answer_headers import SERVER_NAME
from services.edge.core.errors import BodyTooLarge, MalformedHttp, MediaTypeRefused, ReceiptTimeout, SlowReader


class Bodies:
    """Reads bodies within their limits."""

    def __init__(self, max_bytes: int, receipt_timeout_s: float) -> None:
        self._max_bytes = max_bytes
        self._receipt_timeout_s = receipt_timeout_s

    def announced_bytes(self, request: web.BaseRequest) -> int:
        """What the body will take at most. Raises BodyTooLarge or MediaTypeRefused before a byte is read."""
        length = request.content_length
        if length is not None and length > self._max_bytes:
            raise BodyTooLarge(self._max_bytes)
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise MediaTypeRefused("Compressed bodies are not accepted; leave content-encoding out.")
        return self._max_bytes if length is None else length

    async def read(self, request: web.BaseRequest) -> bytes:
        """The whole body. Raises BodyTooLarge, ReceiptTimeout or MalformedHttp."""
        if request.content.is_eof():
            return await self._read(request)
        if request.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # This was no part of the answer; an error may still replace it.
            request.writer.output_size = 0
        began_s = self._began_s(request)
        try:
            async with asyncio.timeout_at(began_s + self._receipt_timeout_s):
                return await self._read(request)
        except TimeoutError:
            raise ReceiptTimeout(self._receipt_timeout_s) from None

    async def _read(self, request: web.BaseRequest) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise BodyTooLarge(self._max_bytes) from None
        except RequestPayloadError:
            raise MalformedHttp("The request body is malformed.") from None

    @staticmethod
    def _began_s(request: web.BaseRequest) -> float:
        """When the headers began to arrive, if they came in pieces; else now."""
        connection = request.protocol
        began_s = connection.receipt_began_s if isinstance(connection, Connection) else 0.0
        return began_s or asyncio.get_running_loop().time()


class HttpSink:
    """The client's side of an event stream. `response` is what the server gets back in the end."""

    def __init__(self, request: web.BaseRequest, base_headers: Mapping[str, str], stall_timeout_s: float) -> None:
        self._request = request
        self._stall_timeout_s = stall_timeout_s
        self._writer: StreamWriter | None = None
        self.response = web.StreamResponse(headers={"server": SERVER_NAME, **base_headers})

    @property
    def opened(self) -> bool:
        """See EventSink."""
        return self._writer is not None

    async def open(self, headers: Mapping[str, str]) -> None:
        """See EventSink."""
        self.response.headers.update(headers)
        writer = await self.response.prepare(self._request)
        assert isinstance(writer, StreamWriter)
        self._writer = writer

    async def write(self, frame: bytes) -> None:
        """See EventSink. Waits as soon as the socket's buffer is full: a slow client holds one frame, not a stream."""
        assert self._writer is not None
        await self._writer.write(frame, drain=False)
        if self._request.protocol.writing_paused:
            await self._drain(self._writer)

    async def offer(self, frame: bytes) -> None:
        """See EventSink."""
        if self._writer is not None and not self._request.protocol.writing_paused:
            await self._writer.write(frame, drain=False)

    async def _drain(self, writer: StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._stall_timeout_s):
                await writer.drain()
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise SlowReader(f"The client read nothing for {self._stall_timeout_s:g} seconds.") from None
