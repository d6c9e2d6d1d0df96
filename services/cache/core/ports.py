"""What the cache needs from outside. Each port has a twin in adapters/memory.py that passes the same contract suite."""

from collections.abc import Callable, Sequence
from typing import ParamSpec, Protocol, TypeVar

from services.cache.core.entries import Change, Entry, Receipt, Reference, Removal, Removed, SemanticRecord, Write

P = ParamSpec("P")
R = TypeVar("R")


class Clock(Protocol):
    """Time; the chassis' clock has this shape."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        ...

    def time_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        ...


class Offload(Protocol):
    """Runs CPU work beside the event loop; a full queue raises. The chassis' executor has this shape."""

    async def run(self, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Runs `function` in a worker thread and returns its result."""
        ...


class EntryWriter(Protocol):
    """Commits one write; writes that arrive together share a transaction."""

    async def submit(self, item: Write, /) -> Receipt:
        """Returns after the commit.

        Raises:
            RequestIdReused: The request_id was used with another payload.
            StorageUnavailable: The database did not answer in time.
        """
        ...


class EntryStore(Protocol):
    """The truth about entries. Every method raises StorageUnavailable when the database does not answer in time.

    The change log: `horizon` is a position such that every change which is not yet visible will have that position
    or a later one. A reader takes the horizon first, then reads all changes from its previous horizon on; it may see
    a change twice, and misses none.
    """

    async def put_many(self, writes: Sequence[Write]) -> Sequence[Receipt | BaseException]:
        """Commits all writes in one transaction and answers each; an entry replaces the older of its fingerprint."""
        ...

    async def get(self, organisation: str, fingerprint: bytes) -> Entry | None:
        """The entry, expired or not."""
        ...

    async def remove(self, removal: Removal) -> Removed:
        """Drops the selected entries and logs each.

        Raises:
            RequestIdReused: The request_id was used with another payload.
            EntryNotFound: `must_exist` and nothing was selected; the mutation is then not recorded.
        """
        ...

    async def count(self, organisation: str, now_us: int) -> int:
        """Number of live entries."""
        ...

    async def list_references(self, after: bytes, limit: int) -> Sequence[Reference]:
        """Entries of all organisations in order of fingerprint, from behind `after`."""
        ...

    async def list_records(self, partition: bytes, before: tuple[int, bytes], limit: int) -> Sequence[SemanticRecord]:
        """Semantic records, newest first, from behind (create_time_us, fingerprint)."""
        ...

    async def get_records(self, fingerprints: Sequence[bytes]) -> Sequence[SemanticRecord]:
        """Semantic records of those entries that have one."""
        ...

    async def horizon(self) -> int:
        """See the class."""
        ...

    async def list_written(self, since: int, after: tuple[int, str], limit: int) -> Sequence[Change]:
        """Live entries written at `since` or later, in order of (position, entry_id), from behind `after`."""
        ...

    async def list_removed(self, since: int, after: tuple[int, str], limit: int) -> Sequence[Change]:
        """Entries removed at `since` or later, in the same order."""
        ...

    async def remove_expired(self, now_us: int, limit: int) -> int:
        """Drops up to `limit` expired entries and logs each; returns their number."""
        ...

    async def remove_oldest(self, organisation: str, keep: int, now_us: int, limit: int) -> int:
        """Drops up to `limit` of the oldest entries beyond `keep` and logs each; returns their number."""
        ...

    async def forget(self, mutations_before_us: int, removals_before_us: int, limit: int) -> int:
        """Drops up to `limit` records of each kind older than these times; returns the larger number."""
        ...


class VectorIndex(Protocol):
    """Nearest neighbours by inner product among at most `capacity` unit vectors. Safe to call from several threads."""

    def add(self, key: bytes, vector: bytes) -> bytes | None:
        """Adds or replaces a vector (float32, little endian); returns the key that made room when it was full."""
        ...

    def remove(self, key: bytes) -> None:
        """Removes a vector; unknown keys are ignored."""
        ...

    def search(self, vector: bytes, count: int) -> Sequence[tuple[bytes, bytes]]:
        """Up to `count` (key, vector), nearest first as far as the index can tell."""
        ...

    def __len__(self) -> int:
        """Number of vectors."""
        ...


class Events(Protocol):
    """Where the cache's counts go."""

    def looked_up(self, tier: str) -> None:
        """A lookup was answered: "miss", "exact" or "semantic"."""
        ...

    def refused(self, reason: str) -> None:
        """A candidate above the threshold was not served."""
        ...

    def sized(self, hot_bytes: int, known_names: int, index_bytes: int) -> None:
        """Memory was measured."""
        ...

    def failed(self, task: str, error: Exception) -> None:
        """A background task could not do its work this time."""
        ...
