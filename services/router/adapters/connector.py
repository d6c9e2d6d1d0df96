"""Connections to providers: aiohttp's, without what they do for nothing."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler


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
