"""Reads a provider's stream in sips: pieces that come within a short pause are read as one.

Each piece that is read wakes every layer up to the caller, so reading four at once costs a quarter. Over plain TCP the
transport is paused between reads and the kernel keeps what comes. Over TLS a paused transport goes on reading into
a buffer that it drops when the connection ends, so there only the reader waits. Either way nothing is lost that came
before a break: what aiohttp has buffered then is taken before its exception is raised.
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
        if connection.transport.get_extra_info("ssl_object") is None:
            self._resting = connection.transport
            self._resting.pause_reading()

    async def read(self) -> bytes:
        """What has come since the last read, as soon as there is something and the pause is over; empty at the end."""
        left_s = self._until_s - self._loop.time()
        if self._resting is None or left_s <= 0:
            if left_s > 0:
                await asyncio.sleep(left_s)
            self._resume()
            return await self._taken()
        # The timer opens the tap and wakes nobody; the bytes do.
        timer = self._loop.call_later(left_s, self._resume)
        try:
            return await self._taken()
        finally:
            timer.cancel()

    async def _taken(self) -> bytes:
        try:
            return await self._content.readany()
        except aiohttp.ClientError:
            # aiohttp raises before it hands out what it holds; the next read has nothing to take and raises.
            held: bytes = self._content._read_nowait(-1)  # noqa: SLF001 - there is no public way once it has failed
            if held:
                return held
            raise

    def _resume(self) -> None:
        if self._resting is not None:
            self._resting.resume_reading()
            self._resting = None
