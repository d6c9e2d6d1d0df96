"""Failures that other systems shipped and reported, each as a test of the stores.

More of them are in tests/unit/ledger: rates (litellm#39309, #20256, #14004), estimates (litellm#27509, #38647), zones
(litellm#38938), corrections (lago#5870), mutants.
"""

from __future__ import annotations

import asyncio

import pytest

from services.ledger.adapters.memory import RecordedEvents
from services.ledger.adapters.sql import StoreOptions
from services.ledger.core.errors import ModelUnpriced, ReservationEnded, StorageUnavailable
from services.ledger.core.limits import Limit, Scope, Unit
from services.ledger.core.ports import Store
from services.ledger.core.service import Ledger, Model
from services.ledger.core.windows import MICROSECONDS, Period, SteadyClock
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_postgres import ledger_on, recounted
from tests.unit.ledger.builders import ADA, TurnableClock, count_limit, desk_ledger, limit, used_tokens

UNIT = [Model("acme-ai", "unit")]
CAP = limit(Scope.USER, Period.HOUR, 100)
ORGANISATION = limit(Scope.ORGANISATION, Period.DAY, 100_000)


async def opened(store: Store, clock: TurnableClock, limits: list[Limit]) -> Ledger:
    await store.declare_limits(limits)
    return desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), RecordedEvents())


async def spent(ledger: Ledger, user: str = "ada") -> tuple[int, int]:
    usages, _ = await ledger.reports.usage("acme", Scope.USER, user, None, 10, "")
    return usages[0].counter.spent_nano_usd, usages[0].counter.held_nano_usd


async def test_litellm_34732_concurrent_requests_do_not_all_pass(store: Store, clock: TurnableClock) -> None:
    ledger = await opened(store, clock, [CAP])
    answers = await asyncio.gather(*(ledger.reserve(ADA, f"r{n}", UNIT, 0, 30, 0) for n in range(40)))
    assert sum(answer.granted for answer in answers) == 3


async def test_litellm_40095_the_first_requests_of_somebody_new_have_a_budget(
    store: Store, clock: TurnableClock
) -> None:
    ledger = await opened(store, clock, [CAP])
    new = ADA._replace(user="never-seen-before")
    answers = await asyncio.gather(*(ledger.reserve(new, f"r{n}", UNIT, 0, 60, 0) for n in range(5)))
    assert sum(answer.granted for answer in answers) == 1


async def test_litellm_30522_a_caller_that_is_cancelled_leaks_nothing(store: Store, clock: TurnableClock) -> None:
    ledger = await opened(store, clock, [CAP])
    asked = asyncio.create_task(ledger.reserve(ADA, "r", UNIT, 0, 100, 30 * MICROSECONDS))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    # Its hold is written all the same, is found under its id, and ends by itself.
    assert (await ledger.reserve(ADA, "r", UNIT, 0, 100, 30 * MICROSECONDS)).granted
    assert await spent(ledger) == (0, 100)
    clock.turn(30)
    assert (await ledger.reserve(ADA, "r2", UNIT, 0, 100, 0)).granted


async def test_litellm_27639_no_phantom_reservations_at_no_spend(store: Store, clock: TurnableClock) -> None:
    ledger = await opened(store, clock, [CAP])
    for turn in range(5):
        for call in range(2):
            assert (await ledger.reserve(ADA, f"r{turn}-{call}", UNIT, 0, 50, 10 * MICROSECONDS)).granted
        assert not (await ledger.reserve(ADA, f"r{turn}-x", UNIT, 0, 50, 0)).granted
        clock.turn(10)
    assert (await ledger.reserve(ADA, "last", UNIT, 0, 100, 0)).granted


async def test_litellm_35569_a_repeated_clean_up_releases_once(store: Store, clock: TurnableClock) -> None:
    ledger = await opened(store, clock, [CAP])
    other = await ledger.reserve(ADA, "other", UNIT, 0, 40, 0)
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 50, 0)
    voids = [ledger.void(ADA, f"v{n}", hold.reservation_id, "not-sent") for n in range(3)]
    assert sorted(answer.released_nano_usd for answer in await asyncio.gather(*voids)) == [0, 0, 50]
    assert await spent(ledger) == (0, 40)
    assert other.granted


async def test_litellm_35570_what_was_used_survives_an_expiry(store: Store, clock: TurnableClock) -> None:
    ledger = await opened(store, clock, [CAP])
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 50, 10 * MICROSECONDS)
    await ledger.extend(ADA, "e", hold.reservation_id, 0, 20, 10 * MICROSECONDS)
    clock.turn(11)
    await ledger.sweep(10)
    assert await spent(ledger) == (20, 0)
    assert (await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(45)])).late
    assert await spent(ledger) == (45, 0)


async def test_litellm_40050_what_is_enforced_is_what_is_recorded(store: Store, clock: TurnableClock) -> None:
    """Also litellm#36926 and #27735: what was enforced was twice what was booked."""
    ledger = await opened(store, clock, [limit(Scope.USER, Period.HOUR, 10_000)])
    total = 0
    for number in range(30):
        hold = await ledger.reserve(ADA, f"r{number}", UNIT, 0, 50, 0)
        booked = await ledger.commit(ADA, f"c{number}", hold.reservation_id, [used_tokens(number)])
        total += booked.amount_nano_usd
    assert await spent(ledger) == (total, 0)
    denied = await ledger.reserve(ADA, "too-much", UNIT, 0, 10_000, 0)
    assert denied.violations[0].remaining == 10_000 - total


async def test_litellm_36561_an_unknown_price_is_not_zero(store: Store, clock: TurnableClock) -> None:
    """Also litellm#25874 and #35914: what has no price cost nothing, and passed every budget."""
    ledger = await opened(store, clock, [CAP])
    with pytest.raises(ModelUnpriced):
        await ledger.reserve(ADA, "r", [Model("acme-ai", "brand-new")], 0, 1, 0)
    hold = await ledger.reserve(ADA, "r2", UNIT, 0, 1, 0)
    used = [used_tokens(10, model="brand-new")]
    assert (await ledger.commit(ADA, "c", hold.reservation_id, used)).amount_nano_usd == 10


async def test_macprovider_762_a_retried_attempt_is_booked_once(store: Store, clock: TurnableClock) -> None:
    """Also Augustas11/macprovider#200: each try was billed."""
    ledger = await opened(store, clock, [CAP])
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 60, 0)
    used = [used_tokens(20), used_tokens(25, 2, "double", "other-ai")]
    commits = [ledger.commit(ADA, f"c{n % 2}", hold.reservation_id, used) for n in range(6)]
    results = await asyncio.gather(*commits, return_exceptions=True)
    assert {type(result) for result in results[1::2]} == {ReservationEnded}
    assert len({result for result in results[::2] if not isinstance(result, BaseException)}) == 1
    assert await spent(ledger) == (70, 0)


async def test_wso2_2936_a_budget_is_exhausted_and_says_when_it_ends(store: Store, clock: TurnableClock) -> None:
    """A budget of money as a rate refills while it is spent; and its reset was always 0."""
    ledger = await opened(store, clock, [CAP])
    for number in range(10):
        hold = await ledger.reserve(ADA, f"r{number}", UNIT, 0, 10, 0)
        await ledger.commit(ADA, f"c{number}", hold.reservation_id, [used_tokens(10)])
        clock.turn(60)
    denied = await ledger.reserve(ADA, "r", UNIT, 0, 10, 0)
    assert (denied.granted, denied.retry_after_us) == (False, (2400 - 600) * MICROSECONDS)
    clock.turn(2400 - 600)
    assert (await ledger.reserve(ADA, "next-hour", UNIT, 0, 100, 0)).granted


async def test_litellm_29292_no_entry_of_a_full_batch_is_dropped(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    store = await open_postgres(StoreOptions(max_batch=64))
    await store.declare_limits([ORGANISATION])
    ledger = ledger_on(store, clock, "a")
    holds = await asyncio.gather(*(ledger.reserve(ADA, f"r{n}", UNIT, 0, 7, 0) for n in range(400)))
    used = [used_tokens(3)]
    await asyncio.gather(*(ledger.commit(ADA, f"c{n}", h.reservation_id, used) for n, h in enumerate(holds)))
    usages, _ = await ledger.reports.usage("acme", None, "", None, 10, "")
    assert [(u.counter.spent_nano_usd, u.counter.held_nano_usd) for u in usages] == [(1200, 0)]
    assert await recounted(store)


async def test_litellm_33872_a_commit_that_the_database_refused_is_not_lost(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """Also litellm#35531: spending was taken from the buffer before it was written."""
    store = await open_postgres(StoreOptions(lock_timeout_s=0.05))
    await store.declare_limits([ORGANISATION])
    ledger = ledger_on(store, clock, "a")
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 10, 0)
    async with store._database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM counters FOR UPDATE")
        with pytest.raises(StorageUnavailable):
            await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(4)])
    for _ in range(2):
        assert (await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(4)])).amount_nano_usd == 4
    assert await recounted(store)


async def test_boulder_7780_a_flood_on_one_rate_loses_no_spending(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """R1 on several replicas: read, compute and set let more through than the burst."""
    stores = [await open_postgres(StoreOptions(max_batch=4)) for _ in range(3)]
    await stores[0].declare_limits([count_limit(Unit.REQUESTS, 20)])
    ledgers = [ledger_on(store, clock, name) for store, name in zip(stores, "abc", strict=True)]
    flood = [ledgers[n % 3].reserve(ADA._replace(user=f"u{n}"), f"r{n}", UNIT, 0, 1, 0) for n in range(120)]
    assert sum(answer.granted for answer in await asyncio.gather(*flood)) == 20
    clock.turn(3)
    again = [ledgers[n % 3].reserve(ADA, f"s{n}", UNIT, 0, 1, 0) for n in range(30)]
    assert sum(answer.granted for answer in await asyncio.gather(*again)) == 1
    assert await recounted(stores[0])


async def test_gubernator_208_a_limit_is_one_limit_whoever_is_asked(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """mailgun/gubernator#208, #216, #225: who did not own a limit always let through; resets drifted apart."""
    stores = [await open_postgres() for _ in range(2)]
    await stores[0].declare_limits([count_limit(Unit.REQUESTS, 6)])
    owner, other = (ledger_on(store, clock, name) for store, name in zip(stores, "ab", strict=True))
    for number in range(6):
        assert (await owner.reserve(ADA, f"r{number}", UNIT, 0, 1, 0)).granted
    for turn in range(3):
        denied = [await ledger.reserve(ADA, f"d{turn}-{n}", UNIT, 0, 1, 0) for n, ledger in enumerate((owner, other))]
        assert [answer.granted for answer in denied] == [False, False]
        assert {answer.retry_after_us for answer in denied} == {(10 - 3 * turn) * MICROSECONDS}, "it does not drift"
        clock.turn(3)
    clock.turn(1)
    assert (await other.reserve(ADA, "after", UNIT, 0, 1, 0)).granted
    assert not (await owner.reserve(ADA, "too-soon", UNIT, 0, 1, 0)).granted


async def test_cala_746_one_organisation_does_not_wait_for_another(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """GaloyMoney/cala#746, #776: an advisory lock with a constant key queued every ledger behind one."""
    stores = [await open_postgres(StoreOptions(lock_timeout_s=30)) for _ in range(2)]
    await stores[0].declare_limits([ORGANISATION])
    slow, quick = (ledger_on(store, clock, name) for store, name in zip(stores, "ab", strict=True))
    await slow.reserve(ADA, "first", UNIT, 0, 1, 0)
    other = ADA._replace(organisation="globex")
    async with stores[1]._database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM counters WHERE organisation = 'acme' FOR UPDATE")
        waiting = asyncio.create_task(slow.reserve(ADA, "second", UNIT, 0, 1, 0))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        async with asyncio.timeout(5):
            while not await connection.fetchval(waits):
                await asyncio.sleep(0.01)
        for number in range(5):
            async with asyncio.timeout(5):
                assert (await quick.reserve(other, f"g{number}", UNIT, 0, 1, 0)).granted
        held = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
        held += " WHERE locktype = 'advisory' AND d.datname = current_database()"
        assert await connection.fetchval(held) == 0
        assert not waiting.done()
    assert (await waiting).granted


async def test_cockroach_14670_a_hot_organisation_shares_transactions(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """cockroachdb/cockroach#14670: the more callers of one account, the fewer were served."""
    store = await open_postgres(StoreOptions(max_batch=100))
    await store.declare_limits([ORGANISATION])
    ledger = ledger_on(store, clock, "a")
    answers = await asyncio.gather(*(ledger.reserve(ADA, f"r{n}", UNIT, 0, 1, 0) for n in range(1000)))
    assert all(answer.granted for answer in answers)
    async with store._database.pool.acquire() as connection:
        transactions = await connection.fetchval("SELECT count(DISTINCT xmin::text) FROM journal WHERE kind = 1")
    assert transactions <= 12
