"""Reads a provider's stream in sips: pieces that come within a short pause are read as one.

Each piece that is read wakes every layer up to the caller, so reading four at once costs a quarter. Between reads the
transport is paused and the kernel keeps what comes, which has a second use: aiohttp raises the exception of a broken
connection before it hands out bytes that it had buffered, and nothing is buffered while the transport rests.
"""

from __future__ import annotations

import asyncio

import aiohttp


class JoinedReader:
    """The body of one response. `rest` after a read makes the next one wait until `join_s` passed since this one.

    A pause that gathered no more than one piece bought nothing: the next read does not wait, until pieces come quickly
    again. So a provider that is slower than the pause is read as if there were none. With a `join_s` of 0 the
    transport is never touched.
    """

    __slots__ = ("_content", "_join_s", "_loop", "_read_s", "_response", "_resting", "_until_s")

    def __init__(self, response: aiohttp.ClientResponse, join_s: float) -> None:
        self._response = response
        self._content = response.content
        self._join_s = join_s
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.Transport | None = None
        # Since never: what follows the first text is joined with what comes right behind it.
        self._read_s = self._loop.time()
        self._until_s = 0.0

    def rest(self, pieces: int) -> None:
        """Stops reading after a read that brought `pieces` pieces; the next read goes on."""
        connection = self._response.connection
        # Without one the answer is complete, and the connection belongs to others.
        if not self._join_s or connection is None or connection.transport is None:
            return
        now_s = self._loop.time()
        quick = pieces > 1 or now_s - self._read_s < self._join_s
        self._read_s = now_s
        self._until_s = now_s + self._join_s if quick else now_s
        self._resting = connection.transport
        self._resting.pause_reading()

    async def read(self) -> bytes:
        """What has come since the last read, as soon as there is something and the pause is over; empty at the end."""
        if self._resting is None:
            return await self._content.readany()
        left_s = self._until_s - self._loop.time()
        if left_s <= 0:
            self._resume()
            return await self._content.readany()
        # The timer opens the tap and wakes nobody; the bytes do.
        timer = self._loop.call_later(left_s, self._resume)
        try:
            return await self._content.readany()
        finally:
            timer.cancel()

    def _resume(self) -> None:
        if self._resting is not None:
            self._resting.resume_reading()
            self._resting = None
