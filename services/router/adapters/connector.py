"""Connections to providers: aiohttp's, without what they do for nothing."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from services.router.core.failure import Failure, FailureKind, ProviderError


class _Connection(ResponseHandler):
    """aiohttp goes on reading after each HTTP chunk that is taken from its buffer, and parses nothing once more for it.

    A stream's answer is hundreds of such chunks, and hardly ever did anybody stop the reading. Besides, `JoinedReader`
    pauses the transport, and nobody else may resume it then.
    """

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """Goes on when aiohttp had stopped, because its buffer was full."""
        if self._reading_paused:
            super().resume_reading(resume_parser)


class ProviderConnector(aiohttp.TCPConnector):
    """Makes such connections; made in the running loop."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_Connection, loop=asyncio.get_running_loop())  # type: ignore[assignment]


class Places:
    """As many calls at once as a session may have connections.

    aiohttp makes those beyond wait as well, but within the time for connecting: what ends that wait cannot be told from
    a provider that is not there.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        assert session.connector is not None
        self._free = asyncio.Semaphore(session.connector.limit)
        self._wait_s = session.timeout.connect

    @asynccontextmanager
    async def one(self, timeout_s: float, waits: Callable[[bool], None]) -> AsyncIterator[None]:
        """A place, for which half of `timeout_s` is waited at most: with the rest others may be asked.

        `waits` hears that it is waited for, and when it is there.
        """
        if self._free.locked():
            waits(True)
            await self._wait(timeout_s / 2)
            waits(False)
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _wait(self, at_most_s: float) -> None:
        try:
            async with asyncio.timeout(at_most_s if self._wait_s is None else min(self._wait_s, at_most_s)):
                await self._free.acquire()
        except TimeoutError:
            raise ProviderError(Failure(FailureKind.CONNECTIONS_IN_USE, "connections-in-use")) from None
