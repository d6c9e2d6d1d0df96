"""One deadline: what is left for the handler is a little less than what the caller waits."""

from __future__ import annotations

from meshkit.calls import ServerCall, Step
from meshkit.errors import NOT_BEGUN, DeadlineExceeded

# boulder's values: a callee's timeout can still be reported to our caller, and work that cannot finish is not begun.
SHAVE_S = 0.020
FLOOR_S = 0.100


class Deadline(Step):
    """The transport cancels at the deadline; this step tells the handler and refuses calls without hope."""

    name = "deadline"

    def on_start(self, call: ServerCall) -> None:
        """Raises DeadlineExceeded when less than FLOOR_S is left. A call without a deadline gets the contract's."""
        assert call.context is not None
        deadline_s = call.deadline_s
        if deadline_s is None:
            deadline_s = call.started_s + call.method.default_timeout_s
        elif deadline_s - call.started_s < FLOOR_S:
            raise DeadlineExceeded(
                f"less than {FLOOR_S * 1e3:.0f} ms are left for {call.method.path}; nothing was begun",
                metadata=NOT_BEGUN,
            )
        call.context.deadline_s = deadline_s - SHAVE_S
