"""A limit changes its time zone while nothing is counted in its window, by batches that are under way either."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.ledger.adapters.writer import Writer
from services.ledger.core.errors import InvalidRequest, StorageUnavailable, ZoneUnknown
from services.ledger.core.limits import CounterKey, Limit, Scope
from services.ledger.core.operations import ReserveAnswer
from services.ledger.core.ports import Store
from services.ledger.core.windows import Period, window_at
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_postgres import ledger_on, rows
from tests.contract.ledger.test_store import UNIT
from tests.unit.ledger.builders import ADA, START, TurnableClock, limit

START_OF_DAY_S = window_at(Period.DAY, int(START.timestamp())).start_s
OPEN_COUNTER = """
INSERT INTO counters (counter_id, organisation, scope, subject, period, window_start_s, spent_nano_usd)
VALUES ($1, $2, $3, $4, $5, $6, 100)
"""


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


async def test_a_declared_zone_waits_for_an_unused_window_of_every_organisation(
    store: Store, clock: TurnableClock
) -> None:
    """A restart with another `time_zone` in mesh.yaml began the day anew, for everybody."""
    shared, own = limit(Scope.USER, Period.DAY, 100), limit(Scope.USER, Period.DAY, 100, organisation="globex")
    await store.declare_limits([shared, own])
    ledger = ledger_on(store, clock, "a")
    assert (await ledger.reserve(ADA, "r1", UNIT, 0, 100, 0)).granted
    kolkata = [replace(x, time_zone="Asia/Kolkata", cap_nano_usd=110) for x in (shared, own)]
    for restart in range(2):
        await store.declare_limits(kolkata)
        assert not (await ledger.reserve(ADA, f"again-{restart}", UNIT, 0, 11, 0)).granted
        # Nobody of globex has used anything.
        zones = {x.organisation: (x.time_zone, x.cap_nano_usd) for x in (await store.limits()).by_id.values()}
        assert zones == {"*": ("", 110), "globex": ("Asia/Kolkata", 110)}
    clock.turn(86_400)
    await store.declare_limits(kolkata)
    assert {x.time_zone for x in (await store.limits()).by_id.values()} == {"Asia/Kolkata"}


async def test_a_declaration_waits_for_what_is_being_reserved(open_postgres: OpenStore, clock: TurnableClock) -> None:
    """Another replica is at work while one is restarted with another zone."""
    here, there = await open_postgres(), await open_postgres()
    day = limit(Scope.ORGANISATION, Period.DAY, 100)
    await here.declare_limits([day])
    async with here._database.pool.acquire() as connection:
        under_way = connection.transaction()
        await under_way.start()
        await connection.execute("SELECT pg_advisory_xact_lock_shared(7311, 'journal'::regclass::oid::integer)")
        key = CounterKey("acme", Scope.ORGANISATION, "", Period.DAY, START_OF_DAY_S)
        await connection.execute(OPEN_COUNTER, key.counter_id(), *key[:5])
        declaring = asyncio.create_task(there.declare_limits([replace(day, time_zone="Asia/Kolkata")]))
        await asyncio.wait([declaring], timeout=0.05)
        await under_way.commit()
        await declaring
    assert [x.time_zone for x in (await there.limits()).by_id.values()] == [""]


async def test_a_zone_that_is_not_known_here_keeps_nobody_from_changes(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """A limit that was saved where more zones were known broke every change of its place, and the next start."""
    store = await open_postgres()
    ledger, bob = ledger_on(store, clock, "a"), ADA._replace(organisation="globex")
    day = limit(Scope.ORGANISATION, Period.DAY, 100)
    await store.declare_limits([day])
    wanted = Limit("", "acme", Scope.ORGANISATION, "", Period.DAY, 100, 8000, 10_000)
    await ledger.set_limit(ADA, "s", wanted)
    await rows(store, "UPDATE limits SET time_zone = 'Mars/Olympus' WHERE organisation = 'acme'")
    await rows(store, "UPDATE limit_set SET version = version + 1")
    kolkata = replace(wanted, organisation="globex", time_zone="Asia/Kolkata")
    await ledger.set_limit(bob, "s", kolkata)
    await store.declare_limits([day, limit(Scope.ORGANISATION, Period.MONTH, 100)])
    both = (ledger.reserve(payer, "r", UNIT, 0, 10, 0) for payer in (ADA, bob))
    refused, granted = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(refused, ZoneUnknown)
    assert isinstance(granted, ReserveAnswer)
    assert granted.granted
    await ledger.set_limit(ADA, "s2", replace(wanted, time_zone="Asia/Kolkata"))
    assert (await ledger.reserve(ADA, "r", UNIT, 0, 10, 0)).granted
