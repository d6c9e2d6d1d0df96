"""The feed of changes. Conflated: a slow watcher skips to the newest catalog, so nothing queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from services.registry.core.catalog import Catalog
from services.registry.core.errors import ShuttingDown, TooManyWatchers


class Feed:
    """Hands the newest catalog to any number of watchers, up to a limit. Each watcher costs one waiting task."""

    def __init__(self, max_watchers: int) -> None:
        """Begins with nothing loaded; watchers wait for the first catalog."""
        self._latest: Catalog | None = None
        self._changed = asyncio.Event()
        self._closed = False
        self._max_watchers = max_watchers
        self.watchers = 0

    def show(self, catalog: Catalog) -> None:
        """Makes a catalog the newest one."""
        self._latest = catalog
        self._wake()

    def close(self) -> None:
        """Ends every watch with ShuttingDown."""
        self._closed = True
        self._wake()

    async def watch(self) -> AsyncGenerator[Catalog, None]:
        """The newest catalog, then each later one that is the newest when the watcher comes back.

        Raises:
            TooManyWatchers: the limit is reached; nothing was sent.
            ShuttingDown: the process drains.
        """
        if self.watchers >= self._max_watchers:
            raise TooManyWatchers(
                f"this process feeds {self.watchers} watchers, its limit; try another replica", retry_after_s=5.0
            )
        self.watchers += 1
        try:
            sent: Catalog | None = None
            while not self._closed:
                changed = self._changed  # taken before the look, so that no change falls between look and wait
                if self._latest is not None and self._latest is not sent:
                    sent = self._latest
                    yield sent
                else:
                    await changed.wait()
        finally:
            self.watchers -= 1
        raise ShuttingDown("the registry shuts down; watch again, another replica will answer")

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
