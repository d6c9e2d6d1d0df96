"""Short questions are worked on where they are; long ones, and large partitions, in a worker thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from operator import mul
from struct import pack
from typing import ParamSpec, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmops.cache.v1 import cache_pb2 as pb

from services.cache.core.errors import InvalidRequest
from services.cache.core.verify import check_embedding, floats
from tests.unit.cache.builders import LIMITS, Replica, cache_key, embedding, entry, record
from tests.unit.cache.calls import RESET, RESET_TOO, keep_by_meaning, look

P = ParamSpec("P")
R = TypeVar("R")
LONG = "How do I reset my password when the page stays white? " * 6


class Noting:
    """An Offload that notes what it was asked to run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def run(self, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """See Offload."""
        self.ran.append(getattr(function, "__name__", ""))
        return function(*arguments, **options)


@pytest.mark.parametrize(("text", "expected"), [(RESET, []), (LONG, ["_prepare", "examine"])])
async def test_only_long_questions_leave_the_loop(text: str, expected: list[str]) -> None:
    offload = Noting()
    replica = Replica(offload=offload)
    await keep_by_meaning(replica, cache_key(text))
    found = await look(replica, cache_key(text + " please"), embedding=embedding(0.1), language="en")

    assert found.status == pb.CACHE_STATUS_SEMANTIC
    assert [name for name in offload.ran if name != "add"] == expected


async def test_a_large_partition_is_searched_beside_the_loop() -> None:
    offload = Noting()
    replica = Replica(offload=offload, limits=replace(LIMITS, max_partition_entries=2_000, max_index_bytes=10**7))
    await keep_by_meaning(replica, cache_key(RESET))
    assert replica.semantic is not None
    (name,) = replica.semantic._loaded
    replica.semantic._loaded[name].add([record(entry(), name, angle=1.0) for _ in range(1_000)])
    found = await look(replica, cache_key(RESET_TOO), embedding=embedding(0.1), language="en")

    assert found.status == pb.CACHE_STATUS_SEMANTIC
    assert offload.ran[-1] == "examine"


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=64), st.floats(0.998, 1.002))
def test_the_norm_is_that_of_the_sum_of_squares(values: list[float], scale: float) -> None:
    values = [*values, 1.0]
    norm = sqrt(sum(map(mul, values, values)))
    vector = pack(f"<{len(values)}f", *(value / norm * scale for value in values))
    read = floats(vector)

    if abs(sqrt(sum(map(mul, read, read))) - 1.0) <= 1e-3:
        check_embedding(vector, "embedding")
    else:
        with pytest.raises(InvalidRequest):
            check_embedding(vector, "embedding")
