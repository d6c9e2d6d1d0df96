"""The server's side of a call: the interceptor chain around a handler, once for every transport.

An interceptor is a pair of hooks rather than a wrapper: one chain serves unary and streaming calls alike, adds no
frame to the stack and costs well under a microsecond where it has nothing to wait for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from google.protobuf.message import Message

from meshkit.context import CallContext, TraceContext
from meshkit.lasting import Outlast, while_it_lasts
from meshkit.methods import Method, methods_of

UnaryHandler = Callable[[Any, Any], Awaitable[Any]]
StreamHandler = Callable[[Any, Any], AsyncIterator[Any]]


class ServerCall:
    """One call as the server sees it. Interceptors read and fill it; handlers never need it."""

    __slots__ = (
        "caller",
        "context",
        "counts",
        "deadline_s",
        "gate",
        "metadata",
        "method",
        "outlast",
        "peer",
        "span",
        "started_s",
        "status",
        "trace",
        "trailers",
    )

    def __init__(
        self,
        method: Method,
        metadata: Mapping[str, str],
        deadline_s: float | None,
        peer: str,
        caller: CallContext | None = None,
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.deadline_s = deadline_s
        self.peer = peer
        # The running call that made this one, when both are in this process: it was identified and checked already.
        self.caller = caller
        self.started_s = 0.0
        self.status = "OK"
        self.trace: TraceContext | None = None
        self.context: CallContext | None = None
        # What a step keeps from its start to its end: telemetry, metrics, admission.
        self.span: Any = None
        self.counts: Any = None
        self.gate: Any = None
        # For a stream that ends with its credential: raises when that ends.
        self.outlast: Outlast | None = None
        # What a handler wants to tell beside its answer: trailing metadata of gRPC. Callers in this process and over a
        # shared stream do not see it, so whatever matters to them is in the answer as well.
        self.trailers: tuple[tuple[str, str], ...] = ()


class Interceptor(Protocol):
    """A named step around every call.

    `on_start` runs outermost first and may refuse by raising, or return something to wait for. `on_message` sees each
    request message, unless the step is `for_strangers` and the call is made on behalf of one in this process.
    `on_accepted` runs last before the handler, for RPCs that the contract calls audited and for no others. `on_end`
    runs innermost first for every interceptor whose `on_start` succeeded, with `for_failures` only after an error. It
    may replace the error, and must not raise.
    """

    name: str
    for_strangers: bool
    for_failures: bool

    def on_start(self, call: ServerCall) -> Awaitable[None] | None:
        """Before the handler."""
        ...

    def on_message(self, call: ServerCall, message: Message) -> None:
        """For each request message."""
        ...

    def on_accepted(self, call: ServerCall, message: Message) -> Awaitable[None]:
        """Before the handler of an audited RPC, when every step has let it pass. May refuse it still."""
        ...

    def on_end(self, call: ServerCall, error: BaseException | None) -> BaseException | None:
        """After the handler, whatever happened. Returns the error to go on with."""
        ...


class Chain:
    """The ordered interceptors of a process."""

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self.interceptors = tuple(interceptors)
        self._ends = tuple(i.on_end for i in self.interceptors if _overrides(i, "on_end"))
        # Each start with the number of ends that are due when it refuses: those of the steps outside it.
        self._starts = tuple(
            (step.on_start, sum(_overrides(i, "on_end") for i in self.interceptors[:position]))
            for position, step in enumerate(self.interceptors)
            if _overrides(step, "on_start")
        )
        messages = [i for i in self.interceptors if _overrides(i, "on_message")]
        self._messages = tuple(i.on_message for i in messages)
        self._accepted = tuple(i.on_accepted for i in self.interceptors if _overrides(i, "on_accepted"))
        self._inner_messages = tuple(i.on_message for i in messages if not i.for_strangers)
        ends = [i for i in reversed(self.interceptors) if _overrides(i, "on_end")]
        self._ends_of_success = tuple(i.on_end for i in ends if not i.for_failures)

    async def unary(self, call: ServerCall, request: Message, handler: UnaryHandler) -> Any:
        """Runs a unary handler. Raises CallError for every failure but cancellation, which stays itself."""
        begun = 0
        try:
            for start, due in self._starts:
                begun = due
                waiting = start(call)
                if waiting is not None:
                    await waiting
            begun = len(self._ends)
            for see in self._messages if call.caller is None else self._inner_messages:
                see(call, request)
            if call.method.audited:
                for accepted in self._accepted:
                    await accepted(call, request)
            response = await handler(request, call)
        except BaseException as error:
            outcome = self._end(call, begun, error)
            if outcome is None or outcome is error:
                raise
            raise outcome from None
        for end in self._ends_of_success:
            end(call, None)
        return response

    async def stream(self, call: ServerCall, request: Any, handler: StreamHandler) -> AsyncGenerator[Any, None]:
        """Runs a streaming handler; `request` is a message, or an iterator of messages when the client streams."""
        begun = 0
        try:
            for start, due in self._starts:
                begun = due
                waiting = start(call)
                if waiting is not None:
                    await waiting
            begun = len(self._ends)
            messages = self._messages if call.caller is None else self._inner_messages
            if not call.method.client_streaming:
                for see in messages:
                    see(call, request)
            elif messages:
                request = _seen(call, request, messages)
            async with aclosing(_responses(call, request, handler)) as responses:  # type: ignore[type-var]
                async for response in responses:
                    yield response
        except BaseException as error:
            outcome = self._end(call, begun, error)
            if outcome is None or outcome is error:
                raise
            raise outcome from None
        for end in self._ends_of_success:
            end(call, None)

    def _end(self, call: ServerCall, begun: int, error: BaseException) -> BaseException | None:
        outcome: BaseException | None = error
        for end in reversed(self._ends[:begun]):
            outcome = end(call, outcome)
        return outcome


def _responses(call: ServerCall, request: Any, handler: StreamHandler) -> AsyncIterator[Any]:
    responses = handler(request, call)
    return responses if call.outlast is None else while_it_lasts(responses, call.outlast)


async def _seen(
    call: ServerCall, requests: AsyncIterator[Any], messages: Sequence[Callable[[ServerCall, Message], None]]
) -> AsyncIterator[Any]:
    async for request in requests:
        for see in messages:
            see(call, request)
        yield request


def _overrides(interceptor: Interceptor, hook: str) -> bool:
    """Hooks that do nothing are not called."""
    return getattr(type(interceptor), hook) is not getattr(Step, hook)


class Step:
    """An interceptor that does nothing; the real ones override what they need."""

    name = ""
    for_strangers = False
    for_failures = False

    def on_start(self, call: ServerCall) -> Awaitable[None] | None:
        """See Interceptor."""
        return None

    def on_message(self, call: ServerCall, message: Message) -> None:
        """See Interceptor."""

    def on_accepted(self, call: ServerCall, message: Message) -> Awaitable[None]:
        """See Interceptor."""
        raise NotImplementedError

    def on_end(self, call: ServerCall, error: BaseException | None) -> BaseException | None:
        """See Interceptor."""
        return error


class HandlerTable:
    """The handlers of a process by path. Stands in for a server when a servicer registers itself."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.services: set[str] = set()
        self._handlers: dict[str, tuple[Method, Any]] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Called by generated `add_…_to_server` functions. Raises ValueError when the service is there already."""
        if service in self.services:
            raise ValueError(f"{service} is served twice in this process")
        self.services.add(service)
        for path, method in methods_of(service).items():
            self._handlers[path] = (method, _behaviour(handlers[method.name]))

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Generated code calls both registrations; the other one carries everything."""

    def find(self, path: str) -> tuple[Method, Any] | None:
        """The method and its handler, or None."""
        return self._handlers.get(path)

    def items(self) -> Mapping[str, tuple[Method, Any]]:
        """Everything, by path."""
        return self._handlers


def _behaviour(handler: Any) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
