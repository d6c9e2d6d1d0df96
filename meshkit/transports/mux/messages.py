"""A stream of few messages on its way through the stream that calls share: what its reader iterates."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import grpc
from llmops.mesh.v1 import mesh_pb2

from meshkit.errors import CallError
from meshkit.transports.mux.call import Carrier, Rpc
from meshkit.transports.remote import RemoteStream
from meshkit.transports.status import DETAILS_KEY, code_of, decode


class MuxMessages:
    """Behaves like a RemoteStream: iterate it, `cancel()` it, or close it with `aclosing`. Never sent twice.

    What arrives is kept until it is read: the contract promises that it is little.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rpc: Rpc,
        carrier: Carrier,
        call_id: int,
        framed: bytes,
        request: bytes,
        headers: dict[str, str],
        deadline_s: float,
    ) -> None:
        self._rpc = rpc
        self._carrier: Carrier | None = carrier
        self._request = request
        self._headers = headers
        self._deadline_s = deadline_s
        self._loop = loop
        self._messages: deque[bytes] = deque()
        self._something = asyncio.Event()
        self._over = False
        # What the reader is told at the end, once; afterwards there is nothing more.
        self._error: BaseException | None = None
        self._alone: RemoteStream | None = None
        self.id = call_id
        self.written = False
        self.framed = framed
        self._timer = loop.call_at(deadline_s, self._expire)

    def settle(self, outcome: mesh_pb2.Outcome) -> None:
        """The peer has said something. At its last word the stream has let go of the call before."""
        if self._over:
            return
        result = outcome.WhichOneof("result")
        if result == "message":
            self._messages.append(outcome.message)
            self._something.set()
        elif result == "ended":
            self._finish(None)
        elif result == "failure":
            failure = outcome.failure
            self._finish(self._failed(code_of(failure.code), failure.message, failure.details))
        else:
            words = "the peer's answer is of a kind that is not known here"
            self._finish(self._failed(grpc.StatusCode.INTERNAL, words))

    def lost(self, details: str) -> None:
        """The shared stream broke. What cannot have begun is sent by itself at once, as a unary call is."""
        if self._over:
            return
        self._carrier = None
        if self.written:
            error = self._failed(grpc.StatusCode.UNAVAILABLE, details)
            error.unheard = True
            self._finish(error)
            return
        self._timer.cancel()
        remaining_s = self._deadline_s - self._loop.time()
        if remaining_s <= 0:
            self._finish(self._failed(grpc.StatusCode.DEADLINE_EXCEEDED, ""))
            return
        self._alone = self._rpc.again(self._request, timeout=remaining_s, metadata=tuple(self._headers.items()))
        self._something.set()

    def __aiter__(self) -> MuxMessages:
        return self

    async def __anext__(self) -> Any:
        while not self._messages:
            if self._over:
                raise self._last_word()
            if self._alone is not None:
                return await self._alone.__anext__()
            self._something.clear()
            try:
                await self._something.wait()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self._rpc.deserialize(self._messages.popleft())

    def cancel(self) -> bool:
        """Ends the stream; the callee is told. Whoever reads on is cancelled."""
        if self._alone is not None:
            return self._alone.cancel()
        if self._over:
            return False
        self._leave()
        self._messages.clear()
        self._finish(asyncio.CancelledError())
        return True

    async def aclose(self) -> None:
        """Ends the stream."""
        self.cancel()
        if self._alone is not None:
            await self._alone.aclose()

    def _expire(self) -> None:
        if not self._over:
            self._leave()
            self._finish(self._failed(grpc.StatusCode.DEADLINE_EXCEEDED, ""))

    def _leave(self) -> None:
        if self._carrier is not None:
            self._carrier.forget(self)

    def _finish(self, error: BaseException | None) -> None:
        self._timer.cancel()
        self._carrier = None
        self._over, self._error = True, error
        self._something.set()

    def _last_word(self) -> BaseException:
        """Kept here it would hold this object by its traceback, until a collector came."""
        error, self._error = self._error, None
        return StopAsyncIteration() if error is None else error

    def _failed(self, code: grpc.StatusCode, message: str, details: bytes = b"") -> CallError:
        trailers = ((DETAILS_KEY, details),) if details else ()
        return CallError(decode(code, message, trailers, self._rpc.method.path))
