"""Calls that are read to their end although their caller has left, because their provider bills them all the same.

Only the provider's own count makes such a booking exact; it comes with the answer's end. What is read then is thrown
away. Until it has come the hold stays, which is made to outlive the request's deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from services.orchestrator.core.errors import StreamCut
from services.orchestrator.core.model import Plan, Progress
from services.orchestrator.core.ports import Afterwards, DrainEvents

_END = object()


def is_drained(plan: Plan, progress: Progress) -> bool:
    """Whether a call is read to its end: one of the models that are asked is marked."""
    return not plan.drained.isdisjoint(progress.at_work(plan))


class Drains:
    """Takes calls over. Above `max_at_once` under way none: those are cancelled, and booked by estimate."""

    def __init__(self, background: Afterwards, events: DrainEvents, max_at_once: int) -> None:
        self._background = background
        self._events = events
        self._max_at_once = max_at_once
        self._under_way = 0

    def close(self) -> None:
        """Takes no more: the process ends."""
        self._max_at_once = 0

    def take(self, read: Callable[[], Awaitable[bool]]) -> bool:
        """Takes a call over, or not. `read` books it however it ends, and says whether the provider's count came."""
        if self._under_way >= self._max_at_once:
            self._events.drained("no-room")
            return False
        self._under_way += 1
        self._background.run("drain", lambda: self._run(read))
        return True

    async def _run(self, read: Callable[[], Awaitable[bool]]) -> None:
        outcome = "estimated"
        try:
            if await read():
                outcome = "counted"
        finally:
            self._under_way -= 1
            self._events.drained(outcome)


class DetachedStream:
    """A stream that a task of its own reads, at most two pieces ahead, so that whoever takes them may leave it.

    What the stream's alarm raises ends `pieces` as if the stream had raised it, but not the reading. `model` and
    `continued` are those of the progress when the last piece that was taken came.
    """

    def __init__(self, stream: AsyncGenerator[object, None], plan: Plan, progress: Progress) -> None:
        self._stream = stream
        self._plan = plan
        self._progress = progress
        self._pieces: asyncio.Queue[tuple[object, str, bool]] = asyncio.Queue(1)
        self._reader: asyncio.Task[None] | None = None
        self.model, self.continued = "", False
        self._alone = self._ended = False
        self._cut: StreamCut | None = None

    @property
    def left(self) -> bool:
        """Whether it was begun, and left or cut before its end: it wants `end` or `cancel`."""
        return self._reader is not None and not self._ended

    async def pieces(self) -> AsyncGenerator[object, None]:
        """The pieces. Raises what the stream raises."""
        self._reader = asyncio.get_running_loop().create_task(self._read())
        try:
            while self._cut is None or not self._pieces.empty():
                piece, self.model, self.continued = await self._pieces.get()
                if piece is _END:
                    break
                yield piece
            if self._cut is not None:
                raise self._cut
            self._ended = True
            await self._reader
        finally:
            self._alone = True
            # Room for what the reader may hold in its hands.
            while not self._pieces.empty():
                self._pieces.get_nowait()

    async def end(self) -> None:
        """Waits for the stream's end, or until a model answers that is not drained. Raises what the stream raises."""
        assert self._reader is not None
        await self._reader

    def cancel(self) -> None:
        """Ends the provider's call."""
        assert self._reader is not None
        if not self._reader.cancel() and not self._reader.cancelled():
            self._reader.exception()  # it had failed by itself: nobody is left to be told

    async def _read(self) -> None:
        self._progress.alarm = self._noting(self._progress.alarm)
        try:
            async with aclosing(self._stream):
                async for piece in self._stream:
                    if not self._alone:
                        await self._pieces.put(self._with_progress(piece))
                    elif not is_drained(self._plan, self._progress):
                        return
        finally:
            if not self._alone:
                await self._pieces.put(self._with_progress(_END))

    def _with_progress(self, piece: object) -> tuple[object, str, bool]:
        return piece, self._progress.model, self._progress.continued

    def _noting(self, alarm: Callable[[], None]) -> Callable[[], None]:
        def note() -> None:
            try:
                alarm()
            except StreamCut as cut:
                self._cut, self._alone = cut, True
                if self._pieces.empty():  # whoever takes them may be waiting
                    self._pieces.put_nowait(self._with_progress(_END))

        return note
