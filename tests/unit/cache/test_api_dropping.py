"""Invalidate and ReportBadHit through their handlers, on twins."""

from __future__ import annotations

import pytest
from llmops.cache.v1 import cache_pb2 as pb

from meshkit.identity import Principal
from meshkit.testing import call_context
from services.cache.core.errors import (
    EntryNotFound,
    InvalidRequest,
    StorageUnavailable,
)
from tests.unit.cache.builders import Replica, cache_key
from tests.unit.cache.calls import ADA, EVE, keep, look


@pytest.mark.parametrize("selector", [{"everything": False}, {}])
async def test_everything_must_be_said(replica: Replica, selector: dict[str, bool]) -> None:
    await keep(replica, cache_key())
    with pytest.raises(InvalidRequest), call_context(ADA):
        await replica.api.Invalidate(pb.InvalidateRequest(request_id="x", **selector), None)  # type: ignore[arg-type]
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_EXACT


@pytest.mark.parametrize("selector", ["prompt_digest", "writer_key_id", "entry_id"])
async def test_a_selector_must_name_something(replica: Replica, selector: str) -> None:
    await keep(replica, cache_key())
    with pytest.raises(InvalidRequest), call_context(ADA):
        await replica.api.Invalidate(pb.InvalidateRequest(request_id="x", **{selector: ""}), None)  # type: ignore[arg-type]
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_EXACT


async def test_an_invalidation_reaches_its_organisation_only(replica: Replica) -> None:
    await keep(replica, cache_key())
    with call_context(EVE):
        response = await replica.api.Invalidate(pb.InvalidateRequest(request_id="x", everything=True), None)
    assert response.entry_count == 0
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_EXACT


async def test_a_committed_invalidation_counts_even_when_the_log_cannot_be_read(replica: Replica) -> None:
    await keep(replica, cache_key())
    real = replica.store.horizon

    async def unavailable() -> int:
        raise StorageUnavailable

    replica.store.horizon = unavailable  # type: ignore[method-assign]
    with call_context(ADA):
        await replica.api.Invalidate(pb.InvalidateRequest(request_id="x", everything=True), None)
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_MISS
    assert [task for task, _ in replica.events.failures] == ["sync"]
    replica.store.horizon = real  # type: ignore[method-assign]


async def test_a_reported_hit_is_gone_at_once_and_counted(replica: Replica) -> None:
    kept = await keep(replica, cache_key())
    report = pb.ReportBadHitRequest(request_id="x", entry_id=kept.entry_id, reason="outdated")
    with call_context(ADA):
        await replica.api.ReportBadHit(report, None)
        await replica.api.ReportBadHit(report, None)
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_MISS
    with call_context(ADA):
        assert (await replica.api.GetStats(pb.GetStatsRequest(), None)).bad_hit_count == 1


@pytest.mark.parametrize("caller", [ADA, EVE])
async def test_a_report_of_an_entry_that_is_not_there_is_not_found(replica: Replica, caller: Principal) -> None:
    kept = await keep(replica, cache_key())
    entry_id = kept.entry_id if caller is EVE else "0" * 32
    with pytest.raises(EntryNotFound), call_context(caller):
        await replica.api.ReportBadHit(pb.ReportBadHitRequest(request_id="x", entry_id=entry_id), None)
    assert (await look(replica, cache_key())).status == pb.CACHE_STATUS_EXACT
