"""What travels with every call, whatever carries it: credential, request id, trace, deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from meshkit.context import current_or_none
from meshkit.errors import DeadlineExceeded
from meshkit.methods import Method

Metadata = Sequence[tuple[str, str]] | None


def outgoing(method: Method, timeout_s: float | None, metadata: Metadata) -> tuple[dict[str, str], float]:
    """Returns the metadata to send and the deadline on the loop's clock.

    The deadline is the earliest of the running call's, the one given, and the contract's default when neither is
    there: no call is without one. Raises DeadlineExceeded when it has passed.
    """
    now_s = asyncio.get_running_loop().time()
    call = current_or_none()
    headers: dict[str, str] = {}
    deadline_s: float | None = None
    if call is not None:
        headers["x-request-id"] = call.request_id
        headers["traceparent"] = call.trace.traceparent()
        if call.credential:
            headers["authorization"] = f"Bearer {call.credential}"
        deadline_s = call.deadline_s
    if metadata is not None:
        headers.update(metadata)
    if timeout_s is not None:
        deadline_s = now_s + timeout_s if deadline_s is None else min(deadline_s, now_s + timeout_s)
    elif deadline_s is None or method.server_streaming is False:
        own_s = now_s + method.default_timeout_s
        deadline_s = own_s if deadline_s is None else min(deadline_s, own_s)
    if deadline_s <= now_s:
        raise DeadlineExceeded(f"the deadline has passed before {method.path} could be called")
    return headers, deadline_s
