"""The in-process transport: the semantics of a hop without its sockets.

Messages are copied on the way in and out, the interceptor chain runs, the deadline cancels, and the callee has a
context of its own. A unary call runs in its own task (8 us in all, against 270 us for a gRPC hop). A stream needs no
task and no queue: its handler is driven, in its own context, by whoever reads it, so a chunk costs one function call
and back-pressure is exact.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from typing import Any

from google.protobuf.message import Message

from meshkit.calls import Chain, HandlerTable, ServerCall
from meshkit.context import CallContext, current_or_none
from meshkit.errors import CallError, Failure
from meshkit.methods import Method
from meshkit.transports.outgoing import Metadata, deadline_for, headers_of

PEER = "in-process"
_NO_HEADERS: Mapping[str, str] = {}


class LocalChannel:
    """A channel to the handlers of this process. Give it to a generated stub."""

    def __init__(self, table: HandlerTable) -> None:
        self._table = table

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Callable[..., asyncio.Task[Any]]:
        """Called by generated stubs."""
        chain, find = self._table.chain, self._table.find

        def call(request: Message, *, timeout: float | None = None, metadata: Metadata = None, **_: Any) -> Any:
            return _started(chain, find, path, request, timeout, metadata)

        return call

    def unary_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., LocalStream]:
        """Called by generated stubs."""

        def call(request: Message, *, timeout: float | None = None, metadata: Metadata = None, **_: Any) -> LocalStream:
            return LocalStream(self._table, path, _copy(request), timeout, metadata)

        return call

    def stream_stream(self, path: str, *_: Any, **__: Any) -> Callable[..., LocalStream]:
        """Called by generated stubs."""

        def call(
            request_iterator: AsyncIterator[Message],
            *,
            timeout: float | None = None,
            metadata: Metadata = None,
            **_: Any,
        ) -> LocalStream:
            return LocalStream(self._table, path, _client_stream(request_iterator), timeout, metadata)

        return call

    def stream_unary(self, path: str, *_: Any, **__: Any) -> Callable[..., asyncio.Task[Any]]:
        """Called by generated stubs. The contract has no such RPC in v1; the arity is served for completeness."""
        chain, find = self._table.chain, self._table.find

        def call(
            request_iterator: AsyncIterator[Message],
            *,
            timeout: float | None = None,
            metadata: Metadata = None,
            **_: Any,
        ) -> Any:
            return _started(chain, find, path, _client_stream(request_iterator), timeout, metadata)

        return call

    async def close(self, grace: float | None = None) -> None:
        """Nothing to close."""


class _Expiry:
    """What a call's timer does: cancels the call's task, and remembers that it did."""

    __slots__ = ("expired", "loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.expired = False
        self.task: asyncio.Task[Any] | None = None

    def __call__(self) -> None:
        assert self.task is not None
        self.expired = True
        self.task.cancel()


def _started(
    chain: Chain,
    find: Callable[[str], tuple[Method, Any] | None],
    path: str,
    request: Any,
    timeout_s: float | None,
    metadata: Metadata,
) -> asyncio.Task[Any]:
    loop = asyncio.get_running_loop()
    expiry = _Expiry(loop)
    expiry.task = task = loop.create_task(_unary(expiry, chain, find, path, request, timeout_s, metadata))
    return task


async def _unary(
    expiry: _Expiry,
    chain: Chain,
    find: Callable[[str], tuple[Method, Any] | None],
    path: str,
    request: Any,
    timeout_s: float | None,
    metadata: Metadata,
) -> Any:
    method, handler = _found(find(path), path)
    caller = current_or_none()
    deadline_s = deadline_for(expiry.loop, method, caller, timeout_s)
    timer = expiry.loop.call_at(deadline_s, expiry)
    try:
        call = _server_call(method, deadline_s, caller, metadata)
        if not method.client_streaming:
            request = _copy(request)
        return _copy(await chain.unary(call, request, handler))
    except asyncio.CancelledError:
        if expiry.expired:
            raise CallError(_deadline_failure(method)) from None
        raise
    finally:
        timer.cancel()


class LocalStream:
    """The reading side of a local stream: iterate it, `cancel()` it, or close it with `aclosing`."""

    def __init__(
        self, table: HandlerTable, path: str, request: Any, timeout_s: float | None, metadata: Metadata
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        method, handler = _found(table.find(path), path)
        caller = current_or_none()
        deadline_s = deadline_for(loop, method, caller, timeout_s)
        self._method = method
        self._context = contextvars.copy_context()
        call = _server_call(method, deadline_s, caller, metadata)
        self._responses = table.chain.stream(call, request, handler)
        self._reader: asyncio.Task[Any] | None = None
        self._expired = False
        self._timer = loop.call_at(deadline_s, self._expire)
        self._ended = False

    def __aiter__(self) -> LocalStream:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        if self._expired:
            await self.aclose()
            raise CallError(_deadline_failure(self._method))
        self._reader = asyncio.current_task(self._loop)
        try:
            return _copy(await _InContext(self._responses.__anext__(), self._context))
        except asyncio.CancelledError:
            self._finish()
            if self._cancelled_by_deadline():
                raise CallError(_deadline_failure(self._method)) from None
            raise
        except BaseException:
            self._finish()
            raise
        finally:
            self._reader = None

    def cancel(self) -> bool:
        """Ends the stream: a waiting reader is cancelled, the handler is closed."""
        if self._ended:
            return False
        if self._reader is not None:
            self._reader.cancel()
        else:
            closing = asyncio.get_running_loop().create_task(self.aclose())
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)
        return True

    async def aclose(self) -> None:
        """Ends the stream and waits until the handler has cleaned up."""
        if not self._ended:
            self._finish()
            await _InContext(self._responses.aclose(), self._context)

    def _finish(self) -> None:
        self._ended = True
        self._timer.cancel()

    def _cancelled_by_deadline(self) -> bool:
        """Tells our own cancellation of the reader from somebody else's, as asyncio.timeout does."""
        return self._expired and self._reader is not None and self._reader.uncancel() == 0

    def _expire(self) -> None:
        self._expired = True
        if self._reader is not None:
            self._reader.cancel()


# Closing tasks are referenced until they end: the loop keeps only weak references.
_closing: set[asyncio.Task[None]] = set()


class _InContext:
    """Awaits something step by step inside a context of its own, within the caller's task."""

    __slots__ = ("_awaitable", "_context")

    def __init__(self, awaitable: Any, context: contextvars.Context) -> None:
        self._awaitable = awaitable
        self._context = context

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._awaitable.__await__()
        run = self._context.run
        step: Any = inner.send
        argument: Any = None
        while True:
            try:
                waiting_for = run(step, argument)
            except StopIteration as stop:
                return stop.value
            try:
                argument = yield waiting_for
                step = inner.send
            except GeneratorExit:
                run(inner.close)
                raise
            except BaseException as error:  # noqa: BLE001 - thrown into the inner step, which decides
                step, argument = inner.throw, error


async def _client_stream(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    """Copies the client's messages; each is produced in the client's own context."""
    context = contextvars.copy_context()
    iterator = requests.__aiter__()
    try:
        while True:
            try:
                request = await _InContext(iterator.__anext__(), context)
            except StopAsyncIteration:
                return
            yield _copy(request)
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await _InContext(close(), context)


def _found(entry: tuple[Method, Any] | None, path: str) -> tuple[Method, Any]:
    if entry is None:
        service = path.strip("/").split("/", 1)[0]
        raise CallError(
            Failure("UNIMPLEMENTED", "UNSUPPORTED", f"{service} is not served in this process", {"feature": service})
        )
    return entry


def _server_call(method: Method, deadline_s: float, caller: CallContext | None, metadata: Metadata) -> ServerCall:
    """Without metadata of its own, a call inherits the running call as it is; headers would only be parsed again."""
    if caller is not None and metadata is None:
        return ServerCall(method, _NO_HEADERS, deadline_s, PEER, caller)
    return ServerCall(method, headers_of(caller, metadata), deadline_s, PEER)


def _deadline_failure(method: Method) -> Failure:
    return Failure("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", f"{method.path} did not answer in time")


def _copy(message: Any) -> Any:
    """Neither side ever sees the other's object: what holds over a network must hold here."""
    duplicate = type(message)()
    duplicate.CopyFrom(message)
    return duplicate
