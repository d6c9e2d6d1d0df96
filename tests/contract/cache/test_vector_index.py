"""The promises of VectorIndex, on every implementation."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.adapters.faiss import FaissVectorIndex
from services.cache.adapters.memory import MemoryVectorIndex
from services.cache.core.ports import VectorIndex
from tests.unit.cache.builders import direction, unit

NewIndex = Callable[[int, int], VectorIndex]


def random_unit(source: random.Random, dimensions: int = 16) -> bytes:
    return unit([source.gauss(0, 1) for _ in range(dimensions)])


def test_an_empty_index_finds_nothing(new_index: NewIndex) -> None:
    assert list(new_index(8, 4).search(direction(0), 3)) == []


def test_the_nearest_come_first_with_the_vectors_that_were_added(new_index: NewIndex) -> None:
    index = new_index(8, 4)
    for key, angle in ((b"far", 1.0), (b"near", 0.1), (b"middle", 0.5)):
        assert index.add(key, direction(angle)) is None
    assert list(index.search(direction(0), 2)) == [(b"near", direction(0.1)), (b"middle", direction(0.5))]
    assert len(index) == 3


def test_adding_a_key_again_replaces_its_vector(new_index: NewIndex) -> None:
    index = new_index(8, 4)
    index.add(b"a", direction(0))
    index.add(b"a", direction(1.5))
    assert len(index) == 1
    assert list(index.search(direction(1.5), 4)) == [(b"a", direction(1.5))]


def test_a_removed_vector_is_not_found_and_its_slot_is_used_again(new_index: NewIndex) -> None:
    index = new_index(8, 4)
    index.add(b"a", direction(0))
    index.add(b"b", direction(0.1))
    index.remove(b"a")
    index.remove(b"unknown")
    assert [key for key, _ in index.search(direction(0), 4)] == [b"b"]
    index.add(b"c", direction(0.05))
    assert [key for key, _ in index.search(direction(0), 4)] == [b"c", b"b"]
    assert len(index) == 2


def test_removed_vectors_do_not_crowd_out_those_that_stay(new_index: NewIndex) -> None:
    index = new_index(8, 16)
    for number in range(8):
        index.add(bytes([number]), direction(0))
    index.add(b"stays", direction(0.3))
    for number in range(8):
        index.remove(bytes([number]))
    assert [key for key, _ in index.search(direction(0), 1)] == [b"stays"]


def test_a_full_index_makes_room_by_dropping_the_oldest(new_index: NewIndex) -> None:
    index = new_index(8, 2)
    index.add(b"a", direction(0))
    index.add(b"b", direction(0.1))
    index.add(b"a", direction(0))
    assert index.add(b"c", direction(0.2)) == b"b"
    assert {key for key, _ in index.search(direction(0), 4)} == {b"a", b"c"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.booleans()), max_size=60), st.integers(0, 2**32))
def test_faiss_finds_what_the_memory_twin_finds(steps: list[tuple[int, bool]], seed: int) -> None:
    source = random.Random(seed)
    real, twin = FaissVectorIndex(16, 8), MemoryVectorIndex(16, 8)
    for number, adds in steps:
        key = bytes([number])
        if adds:
            vector = random_unit(source)
            assert real.add(key, vector) == twin.add(key, vector)
        else:
            real.remove(key)
            twin.remove(key)
        assert len(real) == len(twin)
    # Freed slots outrank vectors that point away, so ask for what is there.
    for key, vector in twin.search(random_unit(source), 8):
        assert list(real.search(vector, 1)) == [(key, vector)]


def test_threads_may_search_add_and_remove_at_once(new_index: NewIndex) -> None:
    """What FAISS alone does not allow: a search beside a change reads freed memory."""
    index = new_index(16, 64)
    anchor = random_unit(random.Random(0))
    index.add(b"anchor", anchor)

    def change(seed: int) -> None:
        source = random.Random(seed)
        for _ in range(300):
            key = bytes([seed, source.randrange(15)])
            if source.random() < 0.7:
                index.add(key, random_unit(source))
            else:
                index.remove(key)

    def search(_: int) -> int:
        return sum(index.search(anchor, 4)[0] == (b"anchor", anchor) for _ in range(100))

    with ThreadPoolExecutor(6) as threads:
        changing = [threads.submit(change, seed) for seed in range(1, 4)]
        found = list(threads.map(search, range(3)))
        for future in changing:
            future.result()
    assert found == [100, 100, 100]


class Probe:
    """Stands between the index and FAISS and tells whether a change began inside a search."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.searching = threading.Event()
        self.adding = threading.Event()
        self.overlapped = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def search(self, *arguments: Any) -> Any:
        self.searching.set()
        self.overlapped = self.adding.wait(0.1)
        return self._real.search(*arguments)

    def add(self, *arguments: Any) -> None:
        self.adding.set()
        self._real.add(*arguments)


def test_a_change_waits_for_the_search_that_runs() -> None:
    index = FaissVectorIndex(8, 4)
    index.add(b"a", direction(0))
    probe = index._index = Probe(index._index)
    with ThreadPoolExecutor(2) as threads:
        searching = threads.submit(index.search, direction(0), 1)
        probe.searching.wait()
        threads.submit(index.add, b"b", direction(1)).result()
        assert [key for key, _ in searching.result()] == [b"a"]
    assert not probe.overlapped
    assert probe.adding.is_set()
