"""Sessions of an earlier configuration: they stay open for the calls that began with it, and no longer than allowed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress

from services.router.core.under_way import UnderWay


class Retirement:
    """Closes what earlier calls use, after the last of them or after a limit. Bounded by the number of reloads."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._closing: dict[asyncio.Task[None], AsyncExitStack] = {}

    def retire(self, under_way: UnderWay, resources: AsyncExitStack, limit_s: float) -> None:
        """Closes `resources` when `under_way` is empty, after `limit_s` seconds at the latest. Does not wait."""
        task = asyncio.get_running_loop().create_task(self._close_after(under_way, resources, limit_s))
        self._closing[task] = resources
        task.add_done_callback(self._closing.pop)

    async def close(self) -> None:
        """Closes everything now: the process ends."""
        waiting = dict(self._closing)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for resources in waiting.values():
            await self._close(resources)

    async def _close_after(self, under_way: UnderWay, resources: AsyncExitStack, limit_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await under_way.nobody()
        await self._close(resources)

    async def _close(self, resources: AsyncExitStack) -> None:
        """A second time does nothing."""
        try:
            await resources.aclose()
        except Exception:
            self._logger.exception("connections of an earlier configuration could not be closed")
