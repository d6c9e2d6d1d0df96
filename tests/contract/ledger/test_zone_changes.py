"""A limit changes its time zone while nothing is counted in its window, by batches that are under way either."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.ledger.adapters.writer import Writer
from services.ledger.core.errors import InvalidRequest, StorageUnavailable
from services.ledger.core.limits import Limit, Scope
from services.ledger.core.windows import Period
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_postgres import ledger_on, rows
from tests.contract.ledger.test_store import UNIT
from tests.unit.ledger.builders import ADA, TurnableClock


async def test_a_change_of_zone_waits_for_what_is_being_reserved(
    open_postgres: OpenStore,
    clock: TurnableClock,
) -> None:
    """What a batch that is under way counts is not seen yet: the window would be left, and its cap spent twice."""
    here, there = await open_postgres(), await open_postgres()
    writing, changing = ledger_on(here, clock, "a"), ledger_on(there, clock, "b")
    wanted = Limit("", "acme", Scope.ORGANISATION, "", Period.DAY, 100, 8000, 10_000)
    await writing.set_limit(ADA, "s", wanted)
    reached, gate = asyncio.Event(), asyncio.Event()
    writer = here._writer = await Writer.open(here._database, 1.0)
    write = writer.write

    async def held(*arguments: Any) -> Any:
        reached.set()
        await gate.wait()
        return await write(*arguments)

    writer.write = held
    reserving = asyncio.create_task(writing.reserve(ADA, "r1", UNIT, 0, 100, 0))
    await asyncio.wait_for(reached.wait(), 10)
    kolkata = asyncio.create_task(changing.set_limit(ADA, "s2", replace(wanted, time_zone="Asia/Kolkata")))
    await asyncio.wait([kolkata], timeout=0.1)
    gate.set()
    assert (await reserving).granted
    with pytest.raises(InvalidRequest, match="running window"):
        await kolkata
    assert not (await changing.reserve(ADA, "r2", UNIT, 0, 100, 0)).granted


async def test_a_change_of_zone_is_refused_while_a_batch_does_not_end(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """It waits shortly, for others queue behind it; what needs no such look waits for nobody."""
    store = await open_postgres()
    ledger = ledger_on(store, clock, "a")
    wanted = Limit("", "acme", Scope.ORGANISATION, "", Period.DAY, 100, 8000, 10_000)
    await ledger.set_limit(ADA, "s", wanted)
    async with store._database.pool.acquire() as stuck, stuck.transaction():
        await stuck.execute("SELECT pg_advisory_xact_lock_shared(7311, 'journal'::regclass::oid::integer)")
        with pytest.raises(StorageUnavailable):
            await ledger.set_limit(ADA, "s2", replace(wanted, time_zone="Asia/Kolkata"))
        await ledger.set_limit(ADA, "s3", replace(wanted, cap_nano_usd=90))
    await ledger.set_limit(ADA, "s2", replace(wanted, time_zone="Asia/Kolkata"))


@pytest.mark.parametrize("remembered", [False, True])
async def test_a_batch_that_waited_for_a_change_is_decided_under_the_new_limits(
    open_postgres: OpenStore,
    clock: TurnableClock,
    remembered: bool,  # noqa: FBT001
) -> None:
    """Both ways of a batch: the version of the limits is read when nobody can change them any more."""
    store = await open_postgres()
    ledger = ledger_on(store, clock, "a")
    await ledger.set_limit(ADA, "s", Limit("", "acme", Scope.ORGANISATION, "", Period.DAY, 100, 8000, 10_000))
    if remembered:
        assert (await ledger.reserve(ADA, "r0", UNIT, 0, 1, 0)).granted
    async with store._database.pool.acquire() as changing, changing.transaction():
        await changing.execute("SELECT settled_seq()")
        reserving = asyncio.create_task(ledger.reserve(ADA, "r1", UNIT, 0, 1, 0))
        waits = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7311 AND NOT granted"
        async with asyncio.timeout(10):
            while not await rows(store, waits):
                await asyncio.sleep(0.01)
        await changing.execute("UPDATE limits SET cap_nano_usd = 0; UPDATE limit_set SET version = version + 1")
    assert not (await reserving).granted
