"""The semantic tier: what is loaded, what is found, what is forgotten."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from meshkit.executors import Executor
from services.cache.adapters.faiss import FaissVectorIndex
from services.cache.adapters.memory import MemoryEntryStore, MemoryVectorIndex
from services.cache.core.contrast import Reader
from services.cache.core.entries import Entry, Reference, SemanticRecord
from services.cache.core.errors import InvalidRequest, StorageUnavailable
from services.cache.core.keys import Question
from services.cache.core.known import KnownNames
from services.cache.core.semantic import Partition, SemanticLimits, SemanticTier
from services.cache.core.verify import Candidate, KnownQuestion, check_embedding
from tests.unit.cache.builders import LIMITS, Replica, direction, entry, record, unit, write

NAME = b"p" * 32
OTHER = b"q" * 32
READER = Reader(b"test", 8_000)
TEXT = "What is the capital of France?"


def always(_: KnownQuestion) -> bool:
    return True


def question(angle: float = 0.0, text: str = TEXT) -> Question:
    return Question(text, b"", "en", "mini@1", direction(angle))


async def stocked(
    count: int, partition: bytes = NAME, limits: SemanticLimits = LIMITS
) -> tuple[Replica, list[SemanticRecord]]:
    replica = Replica(limits=limits)
    entries = [entry(create_time_us=1_000_000 + i) for i in range(count)]
    records = [record(e, partition, angle=i / 10) for i, e in enumerate(entries)]
    await replica.store.put_many([write(e, r) for e, r in zip(entries, records, strict=True)])
    await replica.mirror.sync()
    return replica, records


async def search(replica: Replica, asked: Question, name: bytes = NAME) -> list[Candidate]:
    assert replica.semantic is not None
    return await replica.semantic.search(name, asked, always)


async def test_a_partition_is_loaded_after_it_was_asked_for_once() -> None:
    replica, records = await stocked(3)
    assert await search(replica, question()) == []
    await replica.load()
    found = await search(replica, question())
    assert [c.question.entry_id for c in found] == [r.entry_id for r in records]
    assert [c.refusal for c in found] == ["", "", ""]
    assert found[1].similarity == pytest.approx(0.995, abs=1e-3)


async def test_a_partition_that_the_store_does_not_have_is_never_asked_for() -> None:
    replica, _ = await stocked(1)
    await search(replica, question(), OTHER)
    assert replica.semantic is not None
    assert not replica.semantic._wanted


async def test_no_more_partitions_wait_than_are_allowed() -> None:
    replica = Replica(limits=dataclasses.replace(LIMITS, max_wanted=2))
    for number in range(5):
        await search(replica, question(), bytes([number]) * 32)
    assert replica.semantic is not None
    assert len(replica.semantic._wanted) == 2


async def test_a_partition_that_turns_out_empty_is_not_asked_for_again() -> None:
    replica, _ = await stocked(1)
    assert replica.semantic is not None
    replica.semantic.heard_of(OTHER)
    await search(replica, question(), OTHER)
    await replica.load()
    await search(replica, question(), OTHER)
    assert not replica.semantic._wanted


async def test_an_index_holds_the_newest_questions() -> None:
    replica, records = await stocked(5, limits=dataclasses.replace(LIMITS, max_partition_entries=2))
    await search(replica, question())
    await replica.load()
    found = await search(replica, question())
    assert {c.question.entry_id for c in found} == {r.entry_id for r in records[3:]}


async def test_a_large_partition_is_loaded_over_several_pages() -> None:
    limits = dataclasses.replace(LIMITS, max_partition_entries=1_000, candidates=64)
    replica, records = await stocked(600, limits=limits)
    await search(replica, question())
    await replica.load()
    assert replica.semantic is not None
    assert len(replica.semantic._loaded[NAME]._questions) == 600
    found = await search(replica, Question(TEXT, b"", "en", "mini@1", records[599].vector))
    assert found[0].question.entry_id == records[599].entry_id


@pytest.mark.parametrize("limit", [{"max_partitions": 2}, {"max_index_bytes": 2 * 800}])
async def test_beyond_its_memory_the_partition_not_asked_for_longest_is_dropped(limit: dict[str, int]) -> None:
    replica = Replica(limits=dataclasses.replace(LIMITS, **limit))
    names = [bytes([number]) * 32 for number in range(3)]
    for name in names:
        kept = entry()
        await replica.store.put_many([write(kept, record(kept, name))])
    await replica.mirror.sync()
    for name in names[:2]:
        await search(replica, question(), name)
        await replica.load()
    assert await search(replica, question(), names[0])
    await search(replica, question(), names[2])
    await replica.load()
    assert replica.semantic is not None
    assert set(replica.semantic._loaded) == {names[0], names[2]}


async def test_a_load_that_fails_leaves_nothing_half_loaded() -> None:
    class Failing(MemoryEntryStore):
        pages = 0

        async def list_records(
            self, partition: bytes, before: tuple[int, bytes], limit: int
        ) -> Sequence[SemanticRecord]:
            self.pages += 1
            if self.pages == 2:
                raise StorageUnavailable
            return await super().list_records(partition, before, limit)

    replica = Replica(store=Failing(), limits=dataclasses.replace(LIMITS, max_partition_entries=1_000))
    entries = [entry() for _ in range(300)]
    await replica.store.put_many([write(e, record(e)) for e in entries])
    await replica.mirror.sync()
    await search(replica, question())
    with pytest.raises(StorageUnavailable):
        await replica.load()
    assert await search(replica, question()) == []
    await replica.load()
    assert await search(replica, question())


async def test_a_change_while_a_partition_loads_reaches_it() -> None:
    class Pausing(MemoryEntryStore):
        def __init__(self) -> None:
            super().__init__()
            self.read = asyncio.Event()
            self.go_on = asyncio.Event()

        async def list_records(
            self, partition: bytes, before: tuple[int, bytes], limit: int
        ) -> Sequence[SemanticRecord]:
            page = await super().list_records(partition, before, limit)
            if before[0] < 2**62:
                self.read.set()
                await self.go_on.wait()
            return page

    store = Pausing()
    replica = Replica(store=store, limits=dataclasses.replace(LIMITS, max_partition_entries=1_000))
    entries = [entry() for _ in range(260)]
    await store.put_many([write(e, record(e, angle=1.0)) for e in entries])
    await replica.mirror.sync()
    await search(replica, question())
    loading = asyncio.create_task(replica.load())
    await store.read.wait()
    late = entry()
    await store.put_many([write(late, record(late))])
    await replica.mirror.sync()
    store.go_on.set()
    await loading
    found = await search(replica, question())
    assert found[0].question.entry_id == late.entry_id


async def test_candidates_below_the_threshold_are_told_and_not_read_further() -> None:
    replica, records = await stocked(1)
    await search(replica, question())
    await replica.load()
    (candidate,) = await search(replica, question(angle=0.4))
    assert (candidate.question.entry_id, candidate.refusal) == (records[0].entry_id, "below-threshold")
    assert candidate.similarity == pytest.approx(0.921, abs=1e-3)


async def test_a_contrast_refuses_a_candidate_of_perfect_similarity() -> None:
    replica, _ = await stocked(1)
    await search(replica, question())
    await replica.load()
    (candidate,) = await search(replica, question(text="What is the capital of Spain?"))
    assert (candidate.similarity, candidate.refusal) == (pytest.approx(1.0), "names-differ")


async def test_a_signature_of_older_tables_refuses() -> None:
    replica = Replica()
    kept = entry()
    await replica.store.put_many([write(kept, dataclasses.replace(record(kept), signature=b"\0old"))])
    await replica.mirror.sync()
    await search(replica, question())
    await replica.load()
    (candidate,) = await search(replica, question())
    assert candidate.refusal == "signature-outdated"


def test_questions_that_may_not_be_served_are_no_candidates() -> None:
    partition = Partition(MemoryVectorIndex(8, 4), 32)
    young, old = entry(create_time_us=2), entry(create_time_us=1)
    partition.add([record(young), record(old)])
    found = partition.examine(direction(0), lambda: READER.read(TEXT, NAME), LIMITS, lambda q: q.create_time_us > 1)
    assert [c.question.entry_id for c in found] == [young.entry_id]


def test_a_removal_of_the_older_entry_spares_the_newer_one_of_its_fingerprint() -> None:
    partition = Partition(MemoryVectorIndex(8, 4), 32)
    old = entry()
    new = entry(fingerprint=old.fingerprint)
    partition.add([record(old), record(new)])
    partition.remove([reference_of(old)])
    found = partition.examine(direction(0), lambda: READER.read(TEXT, NAME), LIMITS, always)
    assert [c.question.entry_id for c in found] == [new.entry_id]


def reference_of(kept: Entry) -> Reference:
    return Reference(kept.fingerprint, kept.entry_id, NAME)


@pytest.mark.parametrize("new_index", [MemoryVectorIndex, FaissVectorIndex])
def test_searching_beside_changes_finds_the_question_that_stays(new_index: type[FaissVectorIndex]) -> None:
    partition = Partition(new_index(8, 64), 32)
    stays = entry()
    partition.add([record(stays)])
    passing = [entry() for _ in range(100)]

    def change() -> None:
        for kept in passing:
            partition.add([record(kept, angle=1.0)])
            partition.remove([reference_of(kept)])

    def look(_: int) -> str:
        found = partition.examine(direction(0), lambda: READER.read(TEXT, NAME), LIMITS, always)
        return found[0].question.entry_id

    with ThreadPoolExecutor(4) as threads:
        changing = threads.submit(change)
        assert set(threads.map(look, range(200))) == {stays.entry_id}
        changing.result()


async def test_the_tier_works_on_threads_and_faiss_as_it_does_in_line() -> None:
    store = MemoryEntryStore()
    entries = [entry() for _ in range(50)]
    await store.put_many([write(e, record(e, angle=i / 100)) for i, e in enumerate(entries)])
    executor = Executor("test", 2, 64)
    tier = SemanticTier(store, FaissVectorIndex, executor, executor, KnownNames(100), LIMITS, READER)
    await tier.search(NAME, question(), always)
    await tier.load_wanted()
    found = await asyncio.gather(*(tier.search(NAME, question(angle=i / 100), always) for i in range(50)))
    executor.close()
    assert [c[0].question.entry_id for c in found] == [e.entry_id for e in entries]


@pytest.mark.parametrize("vector", [b"", b"123", unit([1, 2, 3])[:8], b"\0" * 32, unit([1, 1])[:4] + b"\0\0\xc0\x7f"])
def test_what_is_not_a_point_on_the_unit_sphere_is_refused(vector: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_embedding(vector, "embedding.values_f32_le")
    assert caught.value.field_violations[0][0] == "embedding.values_f32_le"


def test_a_point_on_the_unit_sphere_is_accepted() -> None:
    check_embedding(unit(range(1, 385)), "embedding.values_f32_le")
