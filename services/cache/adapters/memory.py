"""Twins in memory: the reference model of the contract suite, and a cache without a database."""

import threading
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import mul
from struct import unpack
from typing import ParamSpec, TypeVar

from services.cache.core.batch import Mutation, Recorded, answers, first_sendings
from services.cache.core.entries import (
    Change,
    Entry,
    Receipt,
    Reference,
    Removal,
    Removed,
    Selector,
    SemanticRecord,
    Write,
)
from services.cache.core.errors import EntryNotFound, RequestIdReused
from services.cache.core.ports import EntryStore

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Row:
    write: Write
    position: int

    @property
    def reference(self) -> Reference:
        semantic = self.write.semantic
        return Reference(
            self.write.entry.fingerprint, self.write.entry.entry_id, semantic.partition if semantic else None
        )


@dataclass(frozen=True, slots=True)
class _Done:
    """A recorded mutation: a write's receipt or a removal's count."""

    recorded: Recorded
    count: int
    time_us: int


class MemoryEntryStore:
    """An EntryStore of one process; every method is atomic because none awaits."""

    def __init__(self) -> None:
        self._rows: dict[bytes, _Row] = {}
        self._mutations: dict[Mutation, _Done] = {}
        self._removals: list[tuple[int, str, Reference, int]] = []
        self._position = 0

    async def put_many(self, writes: Sequence[Write]) -> Sequence[Receipt | BaseException]:
        """See EntryStore."""
        first = first_sendings(writes)
        recorded = {name: self._mutations[name].recorded for name in first if name in self._mutations}
        self._position += 1
        for write in writes:
            name = (write.entry.organisation, write.request_id)
            if name in recorded or first[name] is not write:
                continue
            self._rows[write.entry.fingerprint] = _Row(write, self._position)
            entry = write.entry
            done = Recorded(write.payload_digest, entry.entry_id, entry.expire_time_us)
            self._mutations[name] = _Done(done, 1, entry.create_time_us)
        return answers(writes, first, recorded)

    async def get(self, organisation: str, fingerprint: bytes) -> Entry | None:
        """See EntryStore."""
        row = self._rows.get(fingerprint)
        return row.write.entry if row and row.write.entry.organisation == organisation else None

    async def remove(self, removal: Removal) -> Removed:
        """See EntryStore."""
        name = (removal.organisation, removal.request_id)
        if done := self._mutations.get(name):
            if done.recorded.payload_digest != removal.payload_digest:
                raise RequestIdReused
            return Removed(done.count, repeated=True)
        matches = _matcher(removal.selector)
        doomed = [r for r in self._rows.values() if r.write.entry.organisation == removal.organisation and matches(r)]
        if removal.must_exist and not doomed:
            raise EntryNotFound
        self._mutations[name] = _Done(Recorded(removal.payload_digest, "", 0), len(doomed), removal.now_us)
        return Removed(self._drop(doomed, removal.now_us), repeated=False)

    async def count(self, organisation: str, now_us: int) -> int:
        """See EntryStore."""
        entries = (row.write.entry for row in self._rows.values())
        return sum(entry.organisation == organisation and now_us < entry.expire_time_us for entry in entries)

    async def list_references(self, after: bytes, limit: int) -> Sequence[Reference]:
        """See EntryStore."""
        return [self._rows[name].reference for name in sorted(self._rows) if name > after][:limit]

    async def list_records(self, partition: bytes, before: tuple[int, bytes], limit: int) -> Sequence[SemanticRecord]:
        """See EntryStore."""
        found = [s for row in self._rows.values() if (s := row.write.semantic) and s.partition == partition]
        found.sort(key=lambda s: (s.create_time_us, s.fingerprint), reverse=True)
        return [s for s in found if (s.create_time_us, s.fingerprint) < before][:limit]

    async def get_records(self, fingerprints: Sequence[bytes]) -> Sequence[SemanticRecord]:
        """See EntryStore."""
        rows = (self._rows.get(name) for name in fingerprints)
        return [row.write.semantic for row in rows if row and row.write.semantic]

    async def horizon(self) -> int:
        """See EntryStore."""
        return self._position + 1

    async def list_written(self, since: int, after: tuple[int, str], limit: int) -> Sequence[Change]:
        """See EntryStore."""
        changes = [Change(row.position, row.reference) for row in self._rows.values() if row.position >= since]
        return _page(changes, after, limit)

    async def list_removed(self, since: int, after: tuple[int, str], limit: int) -> Sequence[Change]:
        """See EntryStore."""
        changes = [Change(position, reference) for position, _, reference, _ in self._removals if position >= since]
        return _page(changes, after, limit)

    async def remove_expired(self, now_us: int, limit: int) -> int:
        """See EntryStore."""
        expired = [row for row in self._rows.values() if row.write.entry.expire_time_us <= now_us]
        expired.sort(key=lambda row: row.write.entry.expire_time_us)
        return self._drop(expired[:limit], now_us)

    async def remove_oldest(self, organisation: str, keep: int, now_us: int, limit: int) -> int:
        """See EntryStore."""
        rows = [row for row in self._rows.values() if row.write.entry.organisation == organisation]
        rows.sort(key=lambda row: (row.write.entry.create_time_us, row.write.entry.fingerprint))
        return self._drop(rows[: max(0, len(rows) - keep)][:limit], now_us)

    async def forget(self, mutations_before_us: int, removals_before_us: int, limit: int) -> int:
        """See EntryStore."""
        mutations = [name for name, done in self._mutations.items() if done.time_us < mutations_before_us][:limit]
        for name in mutations:
            del self._mutations[name]
        removals = [line for line in self._removals if line[3] < removals_before_us][:limit]
        for line in removals:
            self._removals.remove(line)
        return max(len(mutations), len(removals))

    def _drop(self, rows: Sequence[_Row], now_us: int) -> int:
        self._position += 1
        for row in rows:
            del self._rows[row.write.entry.fingerprint]
            reference = row.reference
            insort(self._removals, (self._position, reference.entry_id, reference, now_us), key=lambda line: line[:2])
        return len(rows)


class MemoryVectorIndex:
    """A VectorIndex that compares with every vector; for tests and small deployments, 40 us per 384-d vector."""

    def __init__(self, dimensions: int, capacity: int) -> None:
        self._dimensions = dimensions
        self._capacity = capacity
        self._vectors: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def add(self, key: bytes, vector: bytes) -> bytes | None:
        """See VectorIndex."""
        with self._lock:
            displaced = None
            if key not in self._vectors and len(self._vectors) >= self._capacity:
                displaced = next(iter(self._vectors))
                del self._vectors[displaced]
            self._vectors.pop(key, None)
            self._vectors[key] = vector
            return displaced

    def remove(self, key: bytes) -> None:
        """See VectorIndex."""
        with self._lock:
            self._vectors.pop(key, None)

    def search(self, vector: bytes, count: int) -> Sequence[tuple[bytes, bytes]]:
        """See VectorIndex."""
        with self._lock:
            held = list(self._vectors.items())
        layout = f"<{self._dimensions}f"
        asked = unpack(layout, vector)
        held.sort(key=lambda pair: -sum(map(mul, asked, unpack(layout, pair[1]))))
        return held[:count]


class MemoryWriter:
    """An EntryWriter that commits each write alone."""

    def __init__(self, store: EntryStore) -> None:
        self._store = store

    async def submit(self, item: Write) -> Receipt:
        """See EntryWriter."""
        (answer,) = await self._store.put_many([item])
        if isinstance(answer, BaseException):
            raise answer
        return answer


class InlineOffload:
    """An Offload without threads: work is done before `run` returns."""

    async def run(self, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """See Offload."""
        return function(*arguments, **options)


@dataclass
class ManualClock:
    """A Clock that stands still until it is moved."""

    now_ns: int = 1_700_000_000_000_000_000
    elapsed_s: float = 1_000.0

    def monotonic(self) -> float:
        """See Clock."""
        return self.elapsed_s

    def time_ns(self) -> int:
        """See Clock."""
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Moves both clocks."""
        self.now_ns += round(seconds * 1e9)
        self.elapsed_s += seconds


@dataclass
class MemoryEvents:
    """Events in lists, to look at."""

    lookups: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    sizes: tuple[int, int, int] = (0, 0, 0)

    def looked_up(self, tier: str) -> None:
        """See Events."""
        self.lookups.append(tier)

    def refused(self, reason: str) -> None:
        """See Events."""
        self.refusals.append(reason)

    def sized(self, hot_bytes: int, known_names: int, index_bytes: int) -> None:
        """See Events."""
        self.sizes = (hot_bytes, known_names, index_bytes)

    def failed(self, task: str, error: Exception) -> None:
        """See Events."""
        self.failures.append((task, error))


def _matcher(selector: Selector) -> Callable[[_Row], bool]:
    if selector.kind == "everything":
        return lambda _: True
    if selector.kind == "prompt_digest":
        return lambda row: row.write.prompt_digest == selector.value
    if selector.kind == "writer_key_id":
        return lambda row: row.write.writer_key_id == selector.value
    if selector.kind == "fingerprints":
        return lambda row: row.write.entry.fingerprint in selector.value
    return lambda row: row.write.entry.entry_id == selector.value


def _page(changes: Sequence[Change], after: tuple[int, str], limit: int) -> list[Change]:
    def place(change: Change) -> tuple[int, str]:
        return change.position, change.reference.entry_id

    return sorted((change for change in changes if place(change) > after), key=place)[:limit]
