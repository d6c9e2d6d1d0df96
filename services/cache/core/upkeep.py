"""The work that nobody waits for: staying in step, loading indexes, dropping what is over."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.cache.core.errors import CacheError
from services.cache.core.mirror import Mirror
from services.cache.core.ports import Clock, EntryStore, Events
from services.cache.core.semantic import SemanticTier
from services.cache.core.service import AnswerCache

_NS_PER_US = 1_000


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """How much is kept.

    Attributes:
        max_entries_per_organisation: More than that and the oldest go.
        mutations_us: How long a request_id is remembered.
        removals_us: How long a removal stays in the change log.
        batch: Rows per statement, so that no statement locks much.
        stale_us: How long an entry is kept after its time, for callers whom nothing else can answer.
    """

    max_entries_per_organisation: int
    mutations_us: int
    removals_us: int
    batch: int
    stale_us: int = 0


class Upkeep:
    """Steps for background loops; each can be run alone."""

    def __init__(
        self,
        cache: AnswerCache,
        store: EntryStore,
        mirror: Mirror,
        semantic: SemanticTier | None,
        clock: Clock,
        events: Events,
        limits: SweepLimits,
    ) -> None:
        self._cache = cache
        self._store = store
        self._mirror = mirror
        self._semantic = semantic
        self._clock = clock
        self._events = events
        self._limits = limits

    async def follow(self, interval_s: float) -> None:
        """Keeps the mirror in step, for ever."""
        await self._repeat("sync", self._sync, interval_s)

    async def load(self) -> None:
        """Loads partitions as they are wanted, for ever."""
        if self._semantic is not None:
            await self._repeat("load", self._semantic.load_wanted, 0)

    async def sweep_often(self, interval_s: float) -> None:
        """Sweeps, for ever."""
        await self._repeat("sweep", self.sweep, interval_s)

    async def sweep(self) -> None:
        """Drops expired entries, the oldest beyond the limit, and records that are old enough.

        Raises:
            StorageUnavailable: The rest is dropped the next time.
        """
        limits = self._limits
        now_us = self._clock.time_ns() // _NS_PER_US
        await self._drain(lambda: self._store.remove_expired(now_us - limits.stale_us, limits.batch))
        while self._cache.written_organisations:
            await self._trim(self._cache.written_organisations.pop(), now_us)
        await self._drain(
            lambda: self._store.forget(now_us - limits.mutations_us, now_us - limits.removals_us, limits.batch)
        )

    async def _sync(self) -> None:
        await self._mirror.sync()
        self._events.sized(*self._mirror.sizes())

    async def _trim(self, organisation: str, now_us: int) -> None:
        limits = self._limits
        keep = limits.max_entries_per_organisation
        await self._drain(lambda: self._store.remove_oldest(organisation, keep, now_us, limits.batch))

    async def _drain(self, step: Callable[[], Awaitable[int]]) -> None:
        while await step() >= self._limits.batch:
            pass

    async def _repeat(self, task: str, step: Callable[[], Awaitable[None]], interval_s: float) -> None:
        while True:
            try:
                await step()
            except CacheError as error:
                self._events.failed(task, error)
                # Without a pause a database that refuses at once would be asked in a tight loop.
                await asyncio.sleep(max(interval_s, 0.2))
            else:
                await asyncio.sleep(interval_s)
