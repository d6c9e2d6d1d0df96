"""A limit on waiting that is set anew for every wait: what `asyncio.timeout` does, without a timer for each wait."""

from __future__ import annotations

import asyncio
from typing import Self


class Patience:
    """Bounds the waits of one call, one after the other, each between `begin` and `end`.

    There is at most one timer. It is not moved when a wait begins later than the last one, as nearly all do: when it
    rings too early it is set again. So a stream of a thousand pieces costs one timer.
    """

    __slots__ = ("_cancelling", "_due_s", "_expired", "_loop", "_rings_s", "_task", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_s = 0.0
        self._due_s = 0.0
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._expired = False

    def begin(self, limit_s: float) -> None:
        """The running task is about to wait; after `limit_s` seconds it is cancelled."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._due_s = self._loop.time() + limit_s
        if self._timer is None or self._rings_s > self._due_s:
            self._set_timer()

    def end(self) -> bool:
        """The wait is over; whether it was this limit that cancelled the task, and nobody else did too."""
        task, self._task = self._task, None
        if not self._expired or task is None:
            return False
        self._expired = False
        return task.uncancel() <= self._cancelling

    def __enter__(self) -> Self:
        """For the waits of one call."""
        return self

    def __exit__(self, *_: object) -> None:
        """No more waits will come."""
        self.stop()

    def stop(self) -> None:
        """No more waits will come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.stop()
        self._rings_s = self._due_s
        self._timer = self._loop.call_at(self._due_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._due_s:
            self._set_timer()
        else:
            self._expired = True
            self._task.cancel()
