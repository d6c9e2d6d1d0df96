"""What the mesh stores and what callers store themselves, through the handlers, on twins: they never meet."""

from __future__ import annotations

import pytest
from llmops.cache.v1 import cache_pb2 as pb

from meshkit.testing import call_context
from tests.unit.cache.builders import Replica, cache_key, embedding
from tests.unit.cache.calls import ADA, RESET, RESET_TOO, keep, keep_by_meaning, look


async def both(replica: Replica) -> tuple[str, str]:
    """The answers that the mesh and a direct caller find; empty for none."""
    of_mesh = await look(replica, cache_key(), within_mesh=True)
    direct = await look(replica, cache_key())
    return of_mesh.entry.completion.content, direct.entry.completion.content


async def test_each_finds_its_own_answer_alone(replica: Replica) -> None:
    await keep(replica, cache_key(), answer="forged")
    assert await both(replica) == ("", "forged")
    await keep(replica, cache_key(), within_mesh=True, answer="judged")
    assert await both(replica) == ("judged", "forged")
    await keep(replica, cache_key(), answer="forged again")
    assert await both(replica) == ("judged", "forged again")


@pytest.mark.parametrize("stored_within", [True, False])
async def test_meaning_does_not_reach_across(replica: Replica, *, stored_within: bool) -> None:
    await keep_by_meaning(replica, cache_key(RESET), within_mesh=stored_within)
    asked = {"key": cache_key(RESET_TOO), "embedding": embedding(), "language": "en"}
    own = await look(replica, within_mesh=stored_within, **asked)
    other = await look(replica, within_mesh=not stored_within, **asked)
    assert own.status == pb.CACHE_STATUS_SEMANTIC
    assert other == pb.LookupResponse(status=pb.CACHE_STATUS_MISS)


@pytest.mark.parametrize("stored_within", [True, False])
async def test_nothing_stands_in_across(*, stored_within: bool) -> None:
    replica = Replica(stale_s=60)
    await replica.mirror.sync()
    await keep(replica, cache_key(), within_mesh=stored_within, ttl_class=pb.TTL_CLASS_VOLATILE)
    replica.clock.advance(301)
    own = await look(replica, cache_key(), within_mesh=stored_within, allow_stale=True)
    other = await look(replica, cache_key(), within_mesh=not stored_within, allow_stale=True)
    assert (own.status, other.status) == (pb.CACHE_STATUS_STALE, pb.CACHE_STATUS_MISS)


@pytest.mark.parametrize("selector", [{"key": cache_key()}, {"writer_key_id": "key-1"}, {"everything": True}])
async def test_an_operator_drops_both(replica: Replica, selector: dict[str, object]) -> None:
    await keep(replica, cache_key(), within_mesh=True)
    await keep(replica, cache_key())
    with call_context(ADA):
        request = pb.InvalidateRequest(request_id="i", **selector)  # type: ignore[arg-type]
        assert (await replica.api.Invalidate(request, None)).entry_count == 2
    assert await both(replica) == ("", "")
