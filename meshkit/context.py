"""The running call: who, which request, which trace, until when. One context variable carries it."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from meshkit.identity import Principal

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1
# Ids need to be unique, not unpredictable: the system source costs a system call each.
_randbits = random.Random().getrandbits  # noqa: S311


@dataclass(frozen=True, slots=True)
class TraceContext:
    """W3C trace context: ids as lower-case hex, 32 and 16 digits."""

    trace_id: str
    span_id: str
    sampled: bool

    def traceparent(self) -> str:
        """The header that carries it."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


@dataclass(slots=True)
class CallContext:
    """What is known about the running call. `deadline_s` is on the event loop's clock.

    `within_mesh`: a process of the mesh makes it. Known where the contract tells the mesh from others, elsewhere false.
    The interceptors fill it in before the handler runs; afterwards nobody changes it.
    """

    request_id: str
    principal: Principal
    credential: str = field(repr=False)
    trace: TraceContext
    deadline_s: float | None
    within_mesh: bool = False


_current: ContextVar[CallContext] = ContextVar("meshkit_call")


def new_trace(*, sampled: bool) -> TraceContext:
    """A fresh root. Trace ids need to be unique, not unpredictable."""
    return TraceContext(f"{_randbits(128):032x}", f"{_randbits(64):016x}", sampled)


def parse_traceparent(header: str) -> TraceContext | None:
    """Reads the header; None when it is absent or malformed, as the W3C recommendation asks."""
    match = _TRACEPARENT.fullmatch(header) if header else None
    if match is None or not match[1].strip("0") or not match[2].strip("0"):
        return None
    return TraceContext(match[1], match[2], bool(int(match[3], 16) & _SAMPLED))


def new_request_id() -> str:
    """A request id for callers that sent none: 128 random bits, hex."""
    return f"{_randbits(128):032x}"


def current() -> CallContext:
    """The running call. Raises LookupError outside one."""
    return _current.get()


def current_or_none() -> CallContext | None:
    """The running call, or None in a background task that has none."""
    return _current.get(None)


def enter(call: CallContext) -> None:
    """Makes `call` the running call of this task or context, until it ends."""
    _current.set(call)


@contextmanager
def running(call: CallContext) -> Iterator[CallContext]:
    """Makes `call` the running call for a block."""
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)


def detached(timeout_s: float) -> CallContext:
    """The running call with a deadline of its own: for accounting that must outlive the caller's patience."""
    call = _current.get()
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    return CallContext(call.request_id, call.principal, call.credential, call.trace, deadline_s, call.within_mesh)


def remaining_s(default: float) -> float:
    """Seconds until the running call's deadline; `default` when there is no call or no deadline. Never negative."""
    call = _current.get(None)
    if call is None or call.deadline_s is None:
        return default
    return max(0.0, call.deadline_s - asyncio.get_running_loop().time())
