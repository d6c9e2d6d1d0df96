"""A unary call on its way through a stream: what the caller awaits, and what is needed to send it once more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from llmops.mesh.v1 import mesh_pb2

from meshkit.errors import CallError
from meshkit.methods import Method
from meshkit.transports.remote import RETRY_TOKEN_RATIO, RETRY_TOKENS
from meshkit.transports.status import DETAILS_KEY, code_of, decode

# Before another attempt, at most: the backoff that gRPC's policy begins with.
_RETRY_BACKOFF_S = 0.05
_OWN_FIELDS = frozenset({"authorization", "x-request-id", "traceparent"})
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]


class RetryBudget:
    """Stops repeating what a channel's peer refuses or loses when that is too much, as gRPC's throttle does."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens: float = RETRY_TOKENS

    def succeeded(self) -> None:
        """A call was answered."""
        if self._tokens < RETRY_TOKENS:
            self._tokens = min(RETRY_TOKENS, self._tokens + RETRY_TOKEN_RATIO)

    def failed(self) -> bool:
        """A call was answered UNAVAILABLE, or its stream broke. Returns whether it may be repeated."""
        self._tokens = max(0, self._tokens - 1)
        return self._tokens > RETRY_TOKENS / 2


@dataclass(frozen=True, slots=True)
class Rpc:
    """What all calls of an RPC share. `again` is `alone` for the serialised request: an RPC of its own."""

    method: Method
    budget: RetryBudget
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]
    alone: Callable[..., Any]
    again: Callable[..., Any]


class Carried(Protocol):
    """A call in a stream. It is written once, as `framed`."""

    id: int
    framed: bytes
    written: bool

    def settle(self, outcome: mesh_pb2.Outcome) -> None:
        """The peer has answered."""
        ...

    def lost(self, details: str) -> None:
        """The stream broke."""
        ...

    def cancel(self) -> bool:
        """The caller leaves."""
        ...


class Carrier(Protocol):
    """The stream that a call is in."""

    def forget(self, call: Carried) -> None:
        """The caller has left: the call is not written, or its handler is cancelled."""
        ...


class MuxCall(asyncio.Future[Any]):
    """Behaves like the task that other channels return, without a task: it is done by the reader of the stream.

    It fails only with CallError, or with what the deserialiser raises.
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
        super().__init__(loop=loop)
        self._rpc = rpc
        self._carrier: Carrier | None = carrier
        self._request = request
        self._headers = headers
        self._deadline_s = deadline_s
        self._attempt: asyncio.Future[Any] | None = None
        self.id = call_id
        self.written = self._unheard = False
        self.framed = framed
        self._timer = loop.call_at(deadline_s, self._expire)

    def settle(self, outcome: mesh_pb2.Outcome) -> None:
        """The peer has answered. The stream has let go of the call before."""
        if self.done():
            return
        self._timer.cancel()
        self._carrier = None
        try:
            result = outcome.WhichOneof("result")
            if result == "failure":
                self._refused(outcome.failure)
                return
            if result is None:
                self._fail(grpc.StatusCode.INTERNAL, "the peer's answer is of a kind that is not known here")
                return
            response = self._rpc.deserialize(outcome.response)
        except Exception as error:  # noqa: BLE001 - whatever cannot be read, it is this caller's and no other's
            self.set_exception(error)
        else:
            self._rpc.budget.succeeded()
            self.set_result(response)

    def lost(self, details: str) -> None:
        """The stream broke. What cannot have begun is sent again at once, as gRPC does with what never left.

        What the contract allows to repeat is repeated as after UNAVAILABLE, a little later and under the same throttle:
        all that a dying peer had at hand must not come down on the others in one moment.
        """
        if self.done():
            return
        self._carrier = None
        self._timer.cancel()
        self._unheard = self.written
        if not self.written:
            self._send_again()
        elif not self._repeated():
            self._fail(grpc.StatusCode.UNAVAILABLE, details)

    def cancel(self, msg: Any | None = None) -> bool:
        """The caller leaves: so does the call, wherever it is."""
        if not super().cancel(msg):
            return False
        self._leave()
        return True

    def _leave(self) -> None:
        self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._carrier is not None:
            self._carrier.forget(self)
            self._carrier = None

    def _expire(self) -> None:
        if self.done():
            return
        self._leave()
        self._fail(grpc.StatusCode.DEADLINE_EXCEEDED, "")

    def _refused(self, failure: mesh_pb2.Failure) -> None:
        if failure.code != _UNAVAILABLE or not self._repeated():
            self._fail(code_of(failure.code), failure.message, failure.details)

    def _repeated(self) -> bool:
        """Sends the call again after a pause, where contract, throttle and deadline allow it."""
        if not self._rpc.method.retryable or not self._rpc.budget.failed():
            return False
        pause_s = random.uniform(0, _RETRY_BACKOFF_S)  # noqa: S311 - jitter
        if self._deadline_s - self.get_loop().time() <= pause_s:
            return False
        self._timer = self.get_loop().call_later(pause_s, self._send_again)
        return True

    def _fail(self, code: grpc.StatusCode, message: str, details: bytes = b"") -> None:
        trailers = ((DETAILS_KEY, details),) if details else ()
        self._end(CallError(decode(code, message, trailers, self._rpc.method.path)))

    def _end(self, error: BaseException) -> None:
        if isinstance(error, CallError):
            error.unheard = self._unheard
        self.set_exception(error)

    def _send_again(self) -> None:
        """By an RPC of its own: gRPC waits for connections and repeats where the contract allows."""
        self._timer.cancel()
        if self.done():
            return
        remaining_s = self._deadline_s - self.get_loop().time()
        if remaining_s <= 0:
            self._fail(grpc.StatusCode.DEADLINE_EXCEEDED, "")
            return
        self._attempt = self._rpc.again(self._request, timeout=remaining_s, metadata=tuple(self._headers.items()))
        self._attempt.add_done_callback(self._attempted)

    def _attempted(self, attempt: asyncio.Future[Any]) -> None:
        self._attempt = None
        if attempt.cancelled():
            super().cancel()
            return
        error = attempt.exception()
        if self.done():
            return
        if error is not None:
            self._end(error)
        else:
            self.set_result(attempt.result())


def framed(path: str, call_id: int, request: bytes, headers: dict[str, str], remaining_s: float) -> bytes:
    """The call as a batch of its own: batches that are put one behind the other are one batch, so nothing is copied."""
    other = None
    if not headers.keys() <= _OWN_FIELDS:
        # As over gRPC, where values that are no text have names of their own and are not read.
        other = {k: v for k, v in headers.items() if k not in _OWN_FIELDS and isinstance(v, str)}
    call = mesh_pb2.Call(
        id=call_id,
        method=path,
        authorization=headers.get("authorization", ""),
        request_id=headers.get("x-request-id", ""),
        traceparent=headers.get("traceparent", ""),
        timeout_us=max(1, int(remaining_s * 1e6)),
        metadata=other,
        request=request,
    )
    return mesh_pb2.ExchangeRequest(calls=(call,)).SerializeToString()
