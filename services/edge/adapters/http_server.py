"""The HTTP server: aiohttp's protocol with a receipt deadline, hard limits and a drain that loses nothing.

aiohttp bounds idle connections but not the pace of a request: bytes that drip in keep it waiting. Here a request has
`receipt_timeout_s` from its first byte to its last, headers by a timer in the protocol, the body in `Bodies`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from services.edge.core.answer_headers import SERVER_NAME
from services.edge.core.error_table import error_answer
from services.edge.core.errors import EdgeError, MalformedHttp, ReceiptTimeout
from services.edge.settings import EdgeLimits, EdgeSettings

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_BACKLOG = 1024
_CUT_GRACE_S = 1.0


class Connection(RequestHandler):
    """One connection. `receipt_began_s` is when headers that came in pieces began, on the loop's clock; else 0."""

    __slots__ = ("_limits", "_receipt_timer", "receipt_began_s")

    def __init__(self, server: EdgeServer, limits: EdgeLimits, **options: Any) -> None:
        super().__init__(server, **options)
        self._limits = limits
        self._receipt_timer: asyncio.TimerHandle | None = None
        self.receipt_began_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuses at once, without a word, what exceeds the limit of connections: words cost memory."""
        server = self._manager
        assert isinstance(server, EdgeServer)
        if not server.admit(self):
            # uvloop's transports have the methods of asyncio.Transport and not its type.
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Also tells the server, which may be waiting for the last one."""
        server = self._manager
        self._disarm()
        super().connection_lost(exc)
        if isinstance(server, EdgeServer):
            server.forget(self)

    def data_received(self, data: bytes) -> None:
        """Starts the timer when headers arrive in pieces. Those that come whole, nearly all, never need it."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            if self._receipt_timer is None:
                self.receipt_began_s = 0.0
            self._disarm()
        elif self._receipt_timer is None and self._waiter is not None and data:
            self.receipt_began_s = self._loop.time()
            self._receipt_timer = self._loop.call_later(self._limits.receipt_timeout_s, self._receipt_expired)

    def close_when_idle(self) -> None:
        """Closes now unless a request is being received or answered."""
        if self._waiter is not None and self._receipt_timer is None and not self._messages:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp itself refuses, in our shape. Its own text would quote the request, here and in the log."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; it cannot be replaced by an error")
        error: EdgeError = MalformedHttp("This is not an HTTP request that this server can read.")
        if status >= 500:  # noqa: PLR2004 - aiohttp sends 500 only for exceptions that the handler let through
            self.log_exception("the HTTP handler failed", exc_info=exc)
            error = EdgeError("internal error")
        answer = error_answer(error)
        response = web.Response(
            status=answer.http_status,
            body=answer.body,
            headers={"content-type": "application/json", "server": SERVER_NAME} | answer.headers,
        )
        response.force_close()
        return response

    def _disarm(self) -> None:
        if self._receipt_timer is not None:
            self._receipt_timer.cancel()
            self._receipt_timer = None

    def _receipt_expired(self) -> None:
        self._receipt_timer = None
        if self.transport is not None:
            body = error_answer(ReceiptTimeout(self._limits.receipt_timeout_s)).body
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
        self.force_close()


class EdgeServer(web.Server):
    """Makes connections and counts them. A handler whose client leaves is cancelled."""

    def __init__(self, handler: Handler, settings: EdgeSettings) -> None:
        limits = settings.limits
        super().__init__(
            self._answer,
            handler_cancellation=True,
            keepalive_timeout=settings.keepalive_timeout_s,
            lingering_time=limits.linger_s,
            max_line_size=limits.max_header_bytes,
            max_field_size=limits.max_header_bytes,
            max_headers=limits.max_header_count,
            auto_decompress=False,
            access_log=None,
        )
        self._handler = handler
        self._limits = limits
        self._open: set[Connection] = set()
        self._draining = False
        self._empty = asyncio.Event()

    def __call__(self) -> RequestHandler:
        """A connection for the event loop."""
        return Connection(self, self._limits, loop=self._loop, **self._kwargs)

    def admit(self, connection: Connection) -> bool:
        """Counts a new connection; False when there are too many, or no more are wanted."""
        if self._draining or len(self._open) >= self._limits.max_connections:
            return False
        self._open.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()

    async def drain(self, timeout_s: float) -> None:
        """Closes idle connections, lets requests finish, then cuts what is left."""
        self._draining = True
        for connection in tuple(self._open):
            connection.close_when_idle()
        if self._open:
            self._empty.clear()
            # What is left when the time is over is cut below.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)
        await self.shutdown(_CUT_GRACE_S)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._handler(request)
        if not response.prepared:
            response.headers["server"] = SERVER_NAME
        if self._draining:
            response.force_close()
        return response

    def _make_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=self._limits.max_body_bytes
        )


class HttpSite:
    """The listening socket and the server behind it."""

    def __init__(self, handler: Handler, settings: EdgeSettings) -> None:
        self._server = EdgeServer(handler, settings)
        self._settings = settings
        self._listener: asyncio.Server | None = None

    async def start(self) -> int:
        """Binds and returns the port. Raises OSError with a sentence when that cannot be."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                self._server, settings.host, settings.port, ssl=_tls(settings), backlog=_BACKLOG
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(
                    f"HTTP port {settings.port} on {settings.host} is in use. Stop the process that holds it, or set "
                    "edge.port in mesh.yaml or LLMOPS__EDGE__PORT to another one; 0 takes a free one."
                ) from None
            raise OSError(f"HTTP port {settings.port} on {settings.host} cannot be bound: {error.strerror}.") from error
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stops accepting, drains, closes."""
        if self._listener is not None:
            self._listener.close()
        await self._server.drain(self._settings.drain_timeout_s)


def _tls(settings: EdgeSettings) -> ssl.SSLContext | None:
    if not settings.tls_certificate_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file)
    return context
