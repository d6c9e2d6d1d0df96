"""Maps every exception to what the caller may see. A security control: without it the transport would send its text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshkit.calls import ServerCall, Step
from meshkit.errors import CallError, describe


class Errors(Step):
    """Inside metrics and telemetry, so that both see the mapped status."""

    name = "errors"
    for_failures = True

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s

    def on_end(self, call: ServerCall, error: BaseException | None) -> BaseException | None:
        """Replaces any exception by a CallError. Cancellation stays what it is and is only counted."""
        if error is None:
            return None
        if isinstance(error, asyncio.CancelledError) and _nobody_left():
            # grpc.aio would take it for the caller leaving and send no status: the caller would wait for its deadline.
            error = RuntimeError("the handler was cancelled from within")
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            expired = call.deadline_s is not None and self._clock_s() >= call.deadline_s
            call.status = "DEADLINE_EXCEEDED" if expired else "CANCELLED"
            return error
        if not isinstance(error, Exception):
            call.status = "INTERNAL"
            return error
        failure = describe(error)
        call.status = failure.status
        return error if isinstance(error, CallError) else CallError(failure)


def _nobody_left() -> bool:
    """Whether this task goes on: then the cancellation is of something that the handler waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0
