"""What tests of services need: a running call without a transport."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from meshkit.context import CallContext, new_request_id, new_trace, running
from meshkit.identity import Principal

CALLER = Principal("acme", "search", "ada", "key-1", frozenset({"caller"}))


@contextmanager
def call_context(
    principal: Principal = CALLER,
    *,
    request_id: str = "",
    deadline_s: float | None = None,
    within_mesh: bool = False,
) -> Iterator[CallContext]:
    """Runs a block as if inside a call of `principal`."""
    trace = new_trace(sampled=False)
    call = CallContext(request_id or new_request_id(), principal, "test-key", trace, deadline_s, within_mesh)
    with running(call):
        yield call
