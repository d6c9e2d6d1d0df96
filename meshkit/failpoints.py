"""Named places at which a process can be made to die, to see what a crash right there costs.

`LLMOPS_FAILPOINT=ledger-after-commit:40` sends SIGKILL to the process when it comes by that place the fortieth time.
Without the variable a place is one comparison. For tests of crashes only; there is no way to set it from outside.
"""

from __future__ import annotations

import os
import signal

_name, _, _count = os.environ.get("LLMOPS_FAILPOINT", "").partition(":")
_left = int(_count or 1)


def reach(name: str) -> None:
    """The process is at this place."""
    global _left  # noqa: PLW0603 - one process, one place
    if name != _name:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
