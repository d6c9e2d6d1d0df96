"""Wakes watchers when the store moved on, and now and then to say that it did not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from services.identity.core.errors import ShuttingDown, TooManyWatchers
from services.identity.core.ports import Changes, Store

# More than this many changed names are not listed: whoever missed so much begins anew.
MAX_LISTED = 1000


class Feed:
    """Any number of watchers up to a limit. Each asks the store for what it missed, so nothing queues."""

    def __init__(self, store: Store, max_watchers: int) -> None:
        """Begins silent; `beat` wakes."""
        self._store = store
        self._max_watchers = max_watchers
        self._beat = asyncio.Event()
        self._closed = False
        self.watchers = 0

    def beat(self) -> None:
        """Every watcher looks. Called after the store was seen to answer: a beat promises that."""
        beat, self._beat = self._beat, asyncio.Event()
        beat.set()

    def close(self) -> None:
        """Ends every watch with ShuttingDown."""
        self._closed = True
        self.beat()

    async def watch(self, after_revision: int) -> AsyncGenerator[Changes, None]:
        """What changed since a revision, at once, and again after each beat, also when it is nothing.

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
            while not self._closed:
                beat = self._beat  # taken before the look, so that no change falls between look and wait
                changes = await self._store.changes_after(after_revision, MAX_LISTED)
                after_revision = changes.revision
                yield changes
                await beat.wait()
        finally:
            self.watchers -= 1
        raise ShuttingDown("identity shuts down here; watch again, another replica will answer")
