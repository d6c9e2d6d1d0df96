"""The semantic tier: one vector index per partition, loaded when it is asked for, judged before it is believed.

Partitions are loaded from the store by `load_wanted`, in the background; meanwhile their lookups may miss. An index
may hold too much or too little: whoever serves a candidate reads the entry from the store or its mirror first. The
dictionaries belong to the event loop; indexes are worked on in worker threads and are safe there.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.cache.core.contrast import Reader, Reading
from services.cache.core.entries import Reference, SemanticRecord
from services.cache.core.keys import Question
from services.cache.core.known import KnownNames
from services.cache.core.ports import EntryStore, Offload, VectorIndex
from services.cache.core.verify import Candidate, KnownQuestion, cosine, floats, judge

# What a question costs in an index beside its vector, measured with tracemalloc.
QUESTION_OVERHEAD_BYTES = 700
_PAGE = 250
# A short question is compared with so many in a tenth of a millisecond, as much as a worker thread costs.
_MAX_INLINE_QUESTIONS = 1_000
_MAX_INLINE_QUESTION_CHARS = 256
_NEWEST = (2**62, b"\xff" * 32)


@dataclass(frozen=True, slots=True)
class SemanticLimits:
    """Limits of the tier.

    Attributes:
        threshold: Cosine from which a candidate is judged further.
        candidates: How many of the nearest are judged.
        max_partition_entries: Size of one index; the oldest question makes room.
        max_partitions: Loaded indexes; the one not asked for longest is dropped.
        max_index_bytes: Memory of all loaded indexes; likewise.
        max_wanted: Partitions that wait to be loaded; more are simply not loaded yet.
    """

    threshold: float
    candidates: int
    max_partition_entries: int
    max_partitions: int
    max_index_bytes: int
    max_wanted: int


class Partition:
    """Questions that may be compared with each other."""

    __slots__ = ("_index", "_questions", "vector_bytes")

    def __init__(self, index: VectorIndex, vector_bytes: int) -> None:
        self._index = index
        self._questions: dict[bytes, KnownQuestion] = {}
        self.vector_bytes = vector_bytes

    @property
    def question_count(self) -> int:
        """How many there are."""
        return len(self._questions)

    @property
    def size_bytes(self) -> int:
        """Memory, roughly."""
        return len(self._questions) * (self.vector_bytes + QUESTION_OVERHEAD_BYTES)

    def add(self, records: Sequence[SemanticRecord]) -> None:
        """Adds or replaces questions by fingerprint. Blocks: for worker threads."""
        for record in records:
            if len(record.vector) != self.vector_bytes:
                continue
            # The question first: a key that a search finds has its question, or is skipped.
            self._questions[record.fingerprint] = KnownQuestion(
                record.fingerprint, record.entry_id, record.create_time_us, record.expire_time_us, record.signature
            )
            displaced = self._index.add(record.fingerprint, record.vector)
            if displaced is not None:
                self._questions.pop(displaced, None)

    def remove(self, references: Sequence[Reference]) -> None:
        """Removes questions, except where a newer entry took their place. Blocks: for worker threads."""
        for reference in references:
            question = self._questions.get(reference.fingerprint)
            if question is not None and question.entry_id == reference.entry_id:
                self._index.remove(reference.fingerprint)
                self._questions.pop(reference.fingerprint, None)

    def examine(
        self,
        vector: bytes,
        read: Callable[[], Reading],
        limits: SemanticLimits,
        servable: Callable[[KnownQuestion], bool],
    ) -> list[Candidate]:
        """The nearest live questions, best first, each with its refusal. Blocks: for worker threads if it is large.

        Args:
            vector: The asked question.
            read: Reads the asked question for contrasts; called only when something passes the threshold.
            limits: Threshold and number of candidates.
            servable: Whether the clock allows a question's entry.
        """
        asked = floats(vector)
        near: list[tuple[float, KnownQuestion]] = []
        for key, stored in self._index.search(vector, limits.candidates):
            question = self._questions.get(key)
            if question is not None and servable(question):
                near.append((cosine(asked, floats(stored)), question))
        near.sort(key=lambda pair: -pair[0])
        reading = read() if near and near[0][0] >= limits.threshold else Reading.EMPTY
        return [Candidate(q, similarity, judge(similarity, limits.threshold, q, reading)) for similarity, q in near]


class SemanticTier:
    """All partitions of this process."""

    def __init__(
        self,
        store: EntryStore,
        new_index: Callable[[int, int], VectorIndex],
        searching: Offload,
        building: Offload,
        known: KnownNames,
        limits: SemanticLimits,
        reader: Reader,
    ) -> None:
        """Wires the parts.

        Args:
            store: Where partitions are loaded from.
            new_index: Makes an index from (dimensions, capacity).
            searching: Runs searches.
            building: Runs changes of indexes; its own, so that searches cannot crowd them out.
            known: Empty set for names of partitions.
            limits: See the class.
            reader: Reads questions for contrasts.
        """
        self._store = store
        self._new_index = new_index
        self._searching = searching
        self._building = building
        self._known = known
        self._limits = limits
        self._reader = reader
        self._loaded: OrderedDict[bytes, Partition] = OrderedDict()
        self._wanted: OrderedDict[bytes, None] = OrderedDict()
        self._wanting = asyncio.Event()
        self._heard = 0

    @property
    def size_bytes(self) -> int:
        """Memory of the loaded indexes, roughly."""
        return sum(partition.size_bytes for partition in self._loaded.values())

    async def search(
        self, name: bytes, question: Question, servable: Callable[[KnownQuestion], bool]
    ) -> list[Candidate]:
        """Judged candidates, best first; empty when the partition is empty or not loaded yet."""
        partition = self._loaded.get(name)
        if partition is None:
            self._want(name)
            return []
        self._loaded.move_to_end(name)

        def read() -> Reading:
            return self._reader.read(question.text, name)

        if partition.question_count <= _MAX_INLINE_QUESTIONS and len(question.text) <= _MAX_INLINE_QUESTION_CHARS:
            return partition.examine(question.vector, read, self._limits, servable)
        return await self._searching.run(partition.examine, question.vector, read, self._limits, servable)

    def heard_of(self, name: bytes) -> None:
        """The store has entries of this partition."""
        self._heard += 1
        self._known.add(name, self._heard)

    def heard_of_all(self) -> None:
        """Every partition of the store was heard of: others are empty."""
        self._known.complete = True

    def clear(self) -> None:
        """Forgets everything; partitions are loaded again when they are asked for."""
        self._loaded.clear()
        self._known.clear()

    async def written(self, references: Sequence[Reference]) -> None:
        """Entries were stored: adds them to the indexes that are loaded."""
        fingerprints = []
        for reference in references:
            if reference.partition:
                self.heard_of(reference.partition)
                if reference.partition in self._loaded:
                    fingerprints.append(reference.fingerprint)
        if not fingerprints:
            return
        by_partition: dict[bytes, list[SemanticRecord]] = {}
        for record in await self._store.get_records(fingerprints):
            by_partition.setdefault(record.partition, []).append(record)
        for name, records in by_partition.items():
            if partition := self._loaded.get(name):
                await self._building.run(partition.add, records)
        self._evict()

    async def removed(self, references: Sequence[Reference]) -> None:
        """Entries were removed: takes them out of the indexes that are loaded."""
        by_partition: dict[bytes, list[Reference]] = {}
        for reference in references:
            if reference.partition and reference.partition in self._loaded:
                by_partition.setdefault(reference.partition, []).append(reference)
        for name, gone in by_partition.items():
            if partition := self._loaded.get(name):
                await self._building.run(partition.remove, gone)

    async def load_wanted(self) -> None:
        """Waits until partitions are wanted and loads them. Raises StorageUnavailable; that partition is dropped."""
        await self._wanting.wait()
        self._wanting.clear()
        while self._wanted:
            name, _ = self._wanted.popitem(last=False)
            await self._load(name)

    def _want(self, name: bytes) -> None:
        if self._known.may_hold(name) and len(self._wanted) < self._limits.max_wanted:
            self._wanted[name] = None
            self._wanting.set()

    async def _load(self, name: bytes) -> None:
        heard = self._known.tag(name)
        first = await self._store.list_records(name, _NEWEST, _PAGE)
        if not first:
            self._known.remove(name, heard)
            return
        vector_bytes = len(first[0].vector)
        partition = Partition(self._new_index(vector_bytes // 4, self._limits.max_partition_entries), vector_bytes)
        # It is listed before it is complete, so that changes from now on reach it.
        self._loaded[name] = partition
        complete = False
        try:
            records = await self._newest(name, first)
            # Oldest first: when the index is full, the oldest makes room.
            for start in range(0, len(records), _PAGE):
                await self._building.run(partition.add, records[start : start + _PAGE])
            complete = True
        finally:
            if not complete and self._loaded.get(name) is partition:
                del self._loaded[name]
        self._evict()

    async def _newest(self, name: bytes, first: Sequence[SemanticRecord]) -> list[SemanticRecord]:
        """As many of the newest records as an index holds, oldest first."""
        records, page = list(first), first
        while len(page) == _PAGE and len(records) < self._limits.max_partition_entries:
            last = page[-1]
            page = await self._store.list_records(name, (last.create_time_us, last.fingerprint), _PAGE)
            records += page
        return records[: self._limits.max_partition_entries][::-1]

    def _evict(self) -> None:
        size = self.size_bytes
        while len(self._loaded) > self._limits.max_partitions or (
            size > self._limits.max_index_bytes and len(self._loaded) > 1
        ):
            _, dropped = self._loaded.popitem(last=False)
            size -= dropped.size_bytes
