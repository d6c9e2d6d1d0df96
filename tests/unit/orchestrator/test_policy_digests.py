"""An answer is served only under the policy that allowed it: the digest, not the name, is part of the key."""

from __future__ import annotations

import pytest

from services.orchestrator.adapters.guard import PolicyDigests
from services.orchestrator.core.model import CacheStatus, CacheWish, Found
from tests.support.orchestrator_ports import Script
from tests.unit.orchestrator.test_coordinator import EXACT_HIT, Case


class HandClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return 0


def test_a_digest_is_known_for_a_while_after_the_guard_said_it() -> None:
    clock = HandClock()
    digests = PolicyDigests(clock)
    assert digests.current("default") == ""
    digests.note("default", "one")
    clock.now_s += PolicyDigests.MAX_AGE_S
    assert digests.current("default") == "one"
    assert digests.current("strict") == ""
    clock.now_s += 1
    assert digests.current("default") == ""
    digests.note("default", "two")
    assert digests.current("default") == "two"


@pytest.mark.parametrize("semantic", [True, False])
async def test_a_cache_that_could_not_be_asked_before_the_guard_is_asked_after_it(*, semantic: bool) -> None:
    wish = CacheWish(lookup=True, store=True, semantic=semantic)
    script = Script(wish=wish, exact=Found(CacheStatus.BYPASS), semantic=EXACT_HIT)
    case = Case(script)
    assert await case.complete() == "kept"
    assert "model" not in script.log
    assert script.voided == ["cache-hit"]
    assert case.record.cache_status is CacheStatus.EXACT
