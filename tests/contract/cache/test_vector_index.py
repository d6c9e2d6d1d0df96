"""The promises of VectorIndex, on every implementation."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
    # Freed slots outrank vectors that point away, so compare those that a cache could serve.
    asked = random_unit(source)
    for key, vector in twin.search(asked, 8):
        assert (key, vector) in real.search(vector, 1) or key in {k for k, v in twin.search(vector, 8) if v == vector}


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
