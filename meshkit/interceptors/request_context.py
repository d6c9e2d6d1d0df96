"""Makes the call the running one, so that handlers and outgoing calls find request id, trace and deadline."""

from __future__ import annotations

from collections.abc import Callable

from meshkit.calls import ServerCall, Step
from meshkit.context import CallContext, enter, new_request_id, new_trace
from meshkit.identity import NOBODY

_MAX_REQUEST_ID_CHARS = 128


class RequestContext(Step):
    """Fills the context variable; authorisation and deadline complete it."""

    name = "request-context"

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s

    def on_start(self, call: ServerCall) -> None:
        """Enters the context."""
        call.started_s = self._clock_s()
        caller = call.caller
        request_id = caller.request_id if caller is not None else _request_id(call)
        trace = call.trace or new_trace(sampled=False)
        call.context = CallContext(request_id, NOBODY, "", trace, call.deadline_s)
        enter(call.context)


def _request_id(call: ServerCall) -> str:
    request_id = call.metadata.get("x-request-id", "")
    if not request_id or len(request_id) > _MAX_REQUEST_ID_CHARS or not request_id.isprintable():
        return new_request_id()
    return request_id
