"""What this process remembers of the store, and how it keeps in step with other processes.

The store is the truth. In front of it stand the hot entries and the set of known fingerprints; both are trusted only
while the change log was read recently: memory older than `max_staleness_s` is not used and every read asks the
store. So an invalidation that any process committed is obeyed by all of them at most `max_staleness_s` later,
whatever fails, and normally after one poll.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from services.cache.core.entries import Change, Entry, Reference
from services.cache.core.hot import HotEntries
from services.cache.core.known import KnownNames
from services.cache.core.ports import Clock, EntryStore
from services.cache.core.semantic import SemanticTier

# A page decodes in about a millisecond, so that reading a long log does not delay the event loop.
PAGE = 500
_LOADED_PAGES_PER_SYNC = 100
_LOG_START = (-1, "")


class Mirror:
    """Reads through memory to the store; `sync` must run every second or so."""

    def __init__(
        self,
        store: EntryStore,
        clock: Clock,
        hot: HotEntries,
        known: KnownNames,
        semantic: SemanticTier | None,
        *,
        max_staleness_s: float,
        max_gap_s: float,
    ) -> None:
        """Wires the parts.

        Args:
            store: The truth.
            clock: Time.
            hot: Empty memory for entries.
            known: Empty set for fingerprints.
            semantic: The semantic tier, which learns of changes here.
            max_staleness_s: Memory that was not brought up to date for longer is not used.
            max_gap_s: After longer without a look at the change log, which is not kept for ever, memory starts empty.
        """
        self._store = store
        self._clock = clock
        self._hot = hot
        self._known = known
        self._semantic = semantic
        self._max_staleness_s = max_staleness_s
        self._max_gap_s = max_gap_s
        self._horizon: int | None = None
        self._synced_at_s = float("-inf")
        self._trusted = True
        self._epoch = 0
        self._loaded_to = b""
        self._syncing = asyncio.Lock()

    @property
    def fresh(self) -> bool:
        """Whether memory may be used."""
        return self._trusted and self._clock.monotonic() - self._synced_at_s <= self._max_staleness_s

    @property
    def epoch(self) -> int:
        """Grows whenever something was removed or replaced; what was read in an older epoch is not remembered."""
        return self._epoch

    def sizes(self) -> tuple[int, int, int]:
        """Memory: bytes of hot entries, number of known names, bytes of indexes."""
        return self._hot.size_bytes, len(self._known), self._semantic.size_bytes if self._semantic else 0

    async def read(self, organisation: str, fingerprint: bytes, now_us: int) -> Entry | None:
        """The entry if it is live. Raises StorageUnavailable when only the store could tell and it does not answer."""
        if self.fresh:
            entry = self._hot.get(fingerprint)
            if entry is not None:
                if now_us < entry.expire_time_us:
                    return entry
                self._hot.drop(fingerprint)
                return None
            if not self._known.may_hold(fingerprint):
                return None
        return await self._fetch(organisation, fingerprint, now_us)

    def wrote(self, entry: Entry, epoch: int) -> None:
        """Remembers an entry that was committed; `epoch` is that of the moment before the commit was asked for."""
        self._known.add(entry.fingerprint, _tag(entry.entry_id))
        if epoch == self._epoch:
            self._hot.put(entry)

    def distrust(self) -> None:
        """Stops using memory until the next `sync`: something was removed that the log has not told yet."""
        self._trusted = False

    async def sync(self) -> None:
        """Reads the change log to its end. Raises StorageUnavailable; the next call then reads the same again."""
        async with self._syncing:
            started_s = self._clock.monotonic()
            if started_s - self._synced_at_s > self._max_gap_s:
                self._start_over()
            horizon = await self._store.horizon()
            if self._horizon is not None:
                await self._read_log(self._store.list_removed, self._horizon, self._apply_removed)
                await self._read_log(self._store.list_written, self._horizon, self._apply_written)
            self._horizon = horizon
            self._synced_at_s = started_s
            self._trusted = True
            await self._load_known()

    def _start_over(self) -> None:
        self._hot.clear()
        self._known.clear()
        self._horizon = None
        self._loaded_to = b""
        self._epoch += 1
        if self._semantic:
            self._semantic.clear()

    async def _fetch(self, organisation: str, fingerprint: bytes, now_us: int) -> Entry | None:
        epoch, tag = self._epoch, self._known.tag(fingerprint)
        entry = await self._store.get(organisation, fingerprint)
        if entry is None or now_us >= entry.expire_time_us:
            self._known.remove(fingerprint, tag)
            return None
        if epoch == self._epoch:
            self._hot.put(entry)
        return entry

    async def _read_log(
        self,
        list_page: Callable[[int, tuple[int, str], int], Awaitable[Sequence[Change]]],
        since: int,
        apply: Callable[[Sequence[Reference]], Awaitable[None]],
    ) -> None:
        after = _LOG_START
        while page := await list_page(since, after, PAGE):
            await apply([change.reference for change in page])
            after = (page[-1].position, page[-1].reference.entry_id)
            if len(page) < PAGE:
                return

    async def _apply_removed(self, removed: Sequence[Reference]) -> None:
        self._epoch += 1
        for reference in removed:
            self._hot.drop(reference.fingerprint)
            self._known.remove(reference.fingerprint, _tag(reference.entry_id))
        if self._semantic:
            await self._semantic.removed(removed)

    async def _apply_written(self, written: Sequence[Reference]) -> None:
        self._epoch += 1
        for reference in written:
            self._hot.drop(reference.fingerprint, unless=reference.entry_id)
            self._known.add(reference.fingerprint, _tag(reference.entry_id))
        if self._semantic:
            await self._semantic.written(written)

    async def _load_known(self) -> None:
        """Goes on with the first reading of all names; until it is complete, misses ask the store."""
        for _ in range(_LOADED_PAGES_PER_SYNC):
            if self._known.complete:
                return
            page = await self._store.list_references(self._loaded_to, PAGE)
            for reference in page:
                self._known.add(reference.fingerprint, _tag(reference.entry_id))
                if self._semantic and reference.partition:
                    self._semantic.heard_of(reference.partition)
            if len(page) < PAGE:
                self._known.complete = True
                if self._semantic:
                    self._semantic.heard_of_all()
            else:
                self._loaded_to = page[-1].fingerprint


def _tag(entry_id: str) -> int:
    return int(entry_id[:16], 16)
