"""The feed of events. The store is polled: whatever replica decided an event, every replica's watchers see it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass

from services.ledger.core.errors import ShuttingDown, TooManyWatchers
from services.ledger.core.events import Event
from services.ledger.core.ports import Store

_PAGE = 100


@dataclass(frozen=True, slots=True)
class WatchRules:
    """See settings. A sign of life comes after `silent_polls` polls without an event."""

    max_watchers: int = 100
    poll_interval_s: float = 0.5
    silent_polls: int = 20
    max_per_organisation: int = 20


class Watches:
    """Feeds watchers, up to a limit for all and one for each organisation; each costs one query per poll."""

    def __init__(self, store: Store, rules: WatchRules) -> None:
        self._store = store
        self._rules = rules
        self._closed = asyncio.Event()
        self._by_organisation: Counter[str] = Counter()

    @property
    def watchers(self) -> int:
        """How many watches are open."""
        return self._by_organisation.total()

    async def close(self) -> None:
        """Ends every watch with ShuttingDown."""
        self._closed.set()

    async def watch(self, organisation: str, after_revision: int) -> AsyncGenerator[tuple[int, Event | None], None]:
        """Events after a revision, 0 meaning from now on, each with its own; None is a sign of life.

        The first answer is a sign of life: from then on nothing is missed. Raises TooManyWatchers, ShuttingDown.
        """
        self._admit(organisation)
        try:
            last = after_revision or await self._store.events_head(organisation)
            silent = self._rules.silent_polls
            while not self._closed.is_set():
                events = await self._store.events(organisation, last, _PAGE)
                for last, event in events:
                    yield last, event
                silent = 0 if events else silent + 1
                if silent > self._rules.silent_polls:
                    silent = 0
                    yield last, None
                if len(events) < _PAGE:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._rules.poll_interval_s):
                            await self._closed.wait()
        finally:
            self._leave(organisation)
        raise ShuttingDown

    def _admit(self, organisation: str) -> None:
        own = self._by_organisation[organisation]
        # Its own limit first: another replica would not help for long.
        if own >= self._rules.max_per_organisation:
            raise TooManyWatchers(own, of_organisation=True)
        if self.watchers >= self._rules.max_watchers:
            raise TooManyWatchers(self.watchers)
        self._by_organisation[organisation] += 1

    def _leave(self, organisation: str) -> None:
        self._by_organisation[organisation] -= 1
        if not self._by_organisation[organisation]:
            del self._by_organisation[organisation]
