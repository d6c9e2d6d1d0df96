"""What travels with every call, whatever carries it: credential, request id, trace, deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from meshkit.context import CallContext
from meshkit.errors import NOT_BEGUN, CallError, Failure
from meshkit.methods import Method

Metadata = Sequence[tuple[str, str]] | None
# The mesh's own key, beside that of whoever a call is made for.
MESH_HEADER = "x-llmops-mesh"


def headers_of(call: CallContext | None, metadata: Metadata, mesh_key: str = "") -> dict[str, str]:
    """The metadata to send: the running call's, and what the caller adds or replaces."""
    headers: dict[str, str] = {MESH_HEADER: mesh_key} if mesh_key else {}
    if call is not None:
        headers["x-request-id"] = call.request_id
        headers["traceparent"] = call.trace.traceparent()
        if call.credential:
            headers["authorization"] = f"Bearer {call.credential}"
    if metadata is not None:
        headers.update(metadata)
    return headers


def deadline_for(
    loop: asyncio.AbstractEventLoop, method: Method, call: CallContext | None, timeout_s: float | None
) -> float:
    """The deadline on the loop's clock: no call is without one.

    It is the earliest of the running call's, the timeout given, and the contract's default; the default does not cut
    a stream that has another bound. Raises CallError when it has passed.
    """
    now_s = loop.time()
    deadline_s = call.deadline_s if call is not None else None
    if timeout_s is None and (deadline_s is None or not method.server_streaming):
        timeout_s = method.default_timeout_s
    if timeout_s is not None:
        own_s = now_s + timeout_s
        deadline_s = own_s if deadline_s is None or own_s < deadline_s else deadline_s
    assert deadline_s is not None
    if deadline_s <= now_s:
        message = f"the deadline has passed before {method.path} could be called"
        raise CallError(Failure("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", message, NOT_BEGUN))
    return deadline_s
