"""Calls under way, counted, so that what they use is closed after the last of them."""

from __future__ import annotations

import asyncio


class UnderWay:
    """Entered by each call for as long as it lasts. Belongs to one event loop."""

    def __init__(self) -> None:
        self._count = 0
        self._nobody = asyncio.Event()
        self._nobody.set()

    def __enter__(self) -> None:
        self._count += 1
        self._nobody.clear()

    def __exit__(self, *error: object) -> None:
        self._count -= 1
        if not self._count:
            self._nobody.set()

    async def nobody(self) -> None:
        """Waits for a moment without calls. For those that get no new ones, it is the end."""
        await self._nobody.wait()
