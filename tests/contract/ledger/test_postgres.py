"""What only the database can show: replicas, the journal, outages, and that both stores decide alike."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit.money import cost_nano_usd
from services.ledger.adapters.audit import verify
from services.ledger.adapters.memory import MemoryStore, RecordedEvents
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.core.errors import LedgerError, StorageUnavailable
from services.ledger.core.events import NumberedEvent
from services.ledger.core.identities import id_bound
from services.ledger.core.limits import Limit, Mode, Scope, Unit
from services.ledger.core.operations import AllotAnswer, ReserveAnswer, Sweep
from services.ledger.core.prices import Price, Tokens
from services.ledger.core.reports import Usage
from services.ledger.core.service import Ledger
from services.ledger.core.windows import MICROSECONDS, Period, SteadyClock
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_store import UNIT
from tests.unit.ledger.builders import ADA, START, TurnableClock, count_limit, desk_ledger, limit, used_tokens

DAY = limit(Scope.ORGANISATION, Period.DAY, 500)
HOUR = limit(Scope.USER, Period.HOUR, 300)
METERS = [
    count_limit(Unit.REQUESTS, 20, burst=5, scope=Scope.USER),
    count_limit(Unit.TOKENS, 400),
    count_limit(Unit.CONCURRENCY, 3),
    count_limit(Unit.TOKENS, 100, scope=Scope.KEY, mode=Mode.SHADOW),
]
START_US = int(START.timestamp()) * MICROSECONDS


def ledger_on(store: PostgresStore | MemoryStore, clock: TurnableClock, name: str) -> Ledger:
    """A ledger whose reservation ids no other replica makes."""
    ledger = desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), RecordedEvents())
    number = iter(range(10**6))
    ledger._random_hex = lambda: f"{name}{next(number):06d}"
    return ledger


async def rows(store: PostgresStore, statement: str) -> list[Any]:
    async with store._database.pool.acquire() as connection:
        return list(await connection.fetch(statement))


async def test_two_replicas_on_one_budget_neither_overshoot_nor_deadlock(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """BerriAI/litellm#33325, #39390, maximhq/bifrost#3547: every process let the whole cap through."""
    stores = [await open_postgres(StoreOptions(max_batch=8)) for _ in range(2)]
    await stores[0].declare_limits([DAY, HOUR, limit(Scope.KEY, Period.DAY, 10_000)])
    ledgers = [ledger_on(store, clock, name) for store, name in zip(stores, "ab", strict=True)]

    async def caller(number: int) -> tuple[int, int]:
        ledger, granted, spent = ledgers[number % 2], 0, 0
        payer = ADA._replace(user=f"user-{number % 3}", key_id=f"key-{number % 5}")
        for turn in range(6):
            hold = await ledger.reserve(payer, f"r-{number}-{turn}", UNIT, 0, 7, 0)
            if hold.granted:
                granted += 1
                # Every second one is committed through the other replica.
                committer = ledgers[(number + turn) % 2]
                booked = await committer.commit(payer, f"c-{number}-{turn}", hold.reservation_id, [used_tokens(5)])
                spent += booked.amount_nano_usd
        return granted, spent

    results = await asyncio.gather(*(caller(n) for n in range(30)))
    spent = sum(amount for _, amount in results)
    counters = await rows(stores[0], "SELECT scope, spent_nano_usd, held_nano_usd FROM counters")
    by_organisation = [c for c in counters if c["scope"] == Scope.ORGANISATION]
    assert [(c["spent_nano_usd"], c["held_nano_usd"]) for c in by_organisation] == [(spent, 0)]
    assert 490 <= spent <= 500
    assert await recounted(stores[0])


async def recounted(store: PostgresStore) -> bool:
    """L2: the journal alone gives every counter."""
    async with store._database.pool.acquire() as connection:
        difference = await verify(connection)
    assert difference is None, difference
    return True


async def test_the_same_request_on_two_replicas_is_decided_once(open_postgres: OpenStore, clock: TurnableClock) -> None:
    stores = [await open_postgres() for _ in range(2)]
    # No counter is shared: only the journal's unique key stands between the replicas.
    await stores[0].declare_limits([limit(Scope.ORGANISATION, Period.QUERY, 100)])
    ledgers = [ledger_on(store, clock, name) for store, name in zip(stores, "ab", strict=True)]
    for turn in range(20):
        answers = await asyncio.gather(*(one.reserve(ADA, f"r{turn}", UNIT, 0, 7, 0) for one in ledgers for _ in "xyz"))
        assert len(set(answers)) == 1
    journal = await rows(stores[0], "SELECT count(*) FROM journal")
    assert journal[0][0] == 20
    assert (await rows(stores[0], "SELECT count(*) FROM reservations"))[0][0] == 20


async def test_the_same_orphan_on_two_replicas_is_booked_once(open_postgres: OpenStore, clock: TurnableClock) -> None:
    stores = [await open_postgres() for _ in range(2)]
    # No counter is shared: only the reservation's key stands between the replicas.
    ledgers = [ledger_on(store, clock, name) for store, name in zip(stores, "ab", strict=True)]
    for turn in range(10):
        lost, used = f"{id_bound(START_US)}-{turn}", [used_tokens(5)]
        commits = [
            one.commit(ADA, f"{turn}-{name}", lost, used, accept_orphan=True)
            for one, name in zip(ledgers, "ab", strict=True)
        ]
        results = await asyncio.gather(*commits, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["CommitAnswer", "ReservationEnded"]
    assert await recounted(stores[0])


async def test_a_limit_set_on_one_replica_binds_the_other_at_once(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    stores = [await open_postgres() for _ in range(2)]
    await stores[0].declare_limits([DAY])
    here, there = (ledger_on(store, clock, name) for store, name in zip(stores, "ab", strict=True))
    assert (await there.reserve(ADA, "r1", UNIT, 0, 100, 0)).granted
    await here.set_limit(ADA, "s", Limit("", "acme", Scope.USER, "ada", Period.HOUR, 50, 8000, 10_000))
    denied = await there.reserve(ADA, "r2", UNIT, 0, 60, 0)
    assert [v.limit.subject for v in denied.violations] == ["ada"]


async def test_the_journal_cannot_be_changed(open_postgres: OpenStore, clock: TurnableClock) -> None:
    store = await open_postgres()
    await ledger_on(store, clock, "a").reserve(ADA, "r", UNIT, 0, 1, 0)
    for statement in ("UPDATE journal SET note = 'x'", "DELETE FROM journal", "TRUNCATE journal"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await rows(store, statement)


async def test_l5_postings_in_the_database_sum_to_zero(open_postgres: OpenStore, clock: TurnableClock) -> None:
    store = await open_postgres()
    await store.declare_limits([DAY])
    ledger = ledger_on(store, clock, "a")
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 50, 30 * MICROSECONDS)
    await ledger.extend(ADA, "e", hold.reservation_id, 0, 20, 30 * MICROSECONDS)
    clock.turn(31)
    await ledger.sweep(10)
    await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(35), used_tokens(4, 2, "double", "other-ai")])
    sums = await rows(
        store,
        """SELECT j.kind, sum((p ->> 1)::bigint) AS total, min(j.lines -> 0 ->> 5) AS price_version
        FROM journal j, jsonb_array_elements(j.postings) p GROUP BY j.seq ORDER BY j.seq""",
    )
    assert [(r["kind"], r["total"], r["price_version"]) for r in sums] == [(5, 0, None), (3, 0, "test/1")]
    assert await recounted(store)


async def test_an_outage_is_named_and_the_same_request_succeeds_afterwards(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    store = await open_postgres(StoreOptions(lock_timeout_s=30))
    await store.declare_limits([DAY])
    ledger = ledger_on(store, clock, "a")
    await ledger.reserve(ADA, "r1", UNIT, 0, 10, 0)
    assert store._writer is not None
    pid = store._writer._connection.get_server_pid()
    async with store._database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM counters FOR UPDATE")
        caught = asyncio.create_task(ledger.reserve(ADA, "r2", UNIT, 0, 10, 0))
        while not await rows(store, f"SELECT FROM pg_locks WHERE pid = {pid} AND NOT granted"):
            await asyncio.sleep(0)
        await rows(store, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(StorageUnavailable):
            await caught
    assert (await ledger.reserve(ADA, "r2", UNIT, 0, 10, 0)).granted
    assert (await rows(store, "SELECT sum(held_nano_usd) FROM counters"))[0][0] == 20


async def test_a_connection_that_died_while_idle_is_replaced(open_postgres: OpenStore, clock: TurnableClock) -> None:
    store = await open_postgres()
    ledger = ledger_on(store, clock, "a")
    await ledger.reserve(ADA, "r1", UNIT, 0, 10, 0)
    assert store._writer is not None
    connection = store._writer._connection
    await rows(store, f"SELECT pg_terminate_backend({connection.get_server_pid()})")
    while not connection.is_closed():
        await asyncio.sleep(0)
    assert (await ledger.reserve(ADA, "r2", UNIT, 0, 10, 0)).granted


async def test_a_lock_that_somebody_keeps_is_an_outage_not_a_hang(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """envoyproxy/ratelimit#462: each call waited for a slow store for seconds."""
    store = await open_postgres(StoreOptions(lock_timeout_s=0.05))
    await store.declare_limits([DAY])
    ledger = ledger_on(store, clock, "a")
    await ledger.reserve(ADA, "r1", UNIT, 0, 10, 0)
    async with store._database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM counters FOR UPDATE")
        with pytest.raises(StorageUnavailable):
            await ledger.reserve(ADA, "r2", UNIT, 0, 10, 0)
    assert (await ledger.reserve(ADA, "r2", UNIT, 0, 10, 0)).granted


async def test_one_poisoned_request_does_not_fail_its_batch(open_postgres: OpenStore, clock: TurnableClock) -> None:
    store = await open_postgres()
    await store.declare_limits([DAY])
    ledger = ledger_on(store, clock, "a")
    poisoned = Sweep(2**40)  # does not fit the parameter: stands for whatever was not foreseen
    results = await asyncio.gather(
        ledger.reserve(ADA, "r1", UNIT, 0, 10, 0),
        store.execute(poisoned),
        ledger.reserve(ADA, "r2", UNIT, 0, 10, 0),
        return_exceptions=True,
    )
    assert [getattr(r, "granted", None) for r in results] == [True, None, True]
    assert isinstance(results[1], asyncpg.DataError)


async def test_a_defect_met_by_one_request_does_not_fail_its_batch(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    store = await open_postgres()
    await store.declare_limits([DAY])
    ledger = ledger_on(store, clock, "a")
    holds = [await ledger.reserve(ADA, f"r{n}", UNIT, 0, 10, 0) for n in range(3)]

    def cost(usage: Tokens, price: Price) -> int:
        if usage.output_tokens == 13:
            raise ZeroDivisionError("stands for a defect of ours")
        return cost_nano_usd(usage, price)

    store._cost = cost
    commits = [ledger.commit(ADA, f"c{n}", hold.reservation_id, [used_tokens(12 + n)]) for n, hold in enumerate(holds)]
    results = await asyncio.gather(*commits, return_exceptions=True)
    assert [getattr(r, "amount_nano_usd", None) for r in results] == [12, None, 14]
    assert isinstance(results[1], ZeroDivisionError)
    assert await recounted(store)


steps = st.one_of(
    st.tuples(st.just("reserve"), st.integers(0, 5), st.integers(0, 120), st.integers(1, 90)),
    st.tuples(st.just("extend"), st.integers(0, 5), st.integers(0, 60), st.integers(0, 60)),
    st.tuples(st.just("commit"), st.integers(0, 5), st.integers(0, 150), st.just(0)),
    st.tuples(st.just("void"), st.integers(0, 5), st.just(0), st.just(0)),
    st.tuples(st.just("dispatch"), st.integers(0, 5), st.just(0), st.just(0)),
    st.tuples(st.just("adjust"), st.integers(0, 5), st.integers(-40, 40).filter(bool), st.just(0)),
    st.tuples(st.just("orphan"), st.integers(0, 2), st.integers(0, 90), st.just(0)),
    st.tuples(st.just("allot"), st.integers(0, 5), st.integers(1, 200), st.integers(1, 40)),
    st.tuples(st.just("limit"), st.integers(0, 2), st.integers(0, 400), st.just(0)),
    st.tuples(st.just("wait"), st.just(0), st.sampled_from([1, 40, 3600]), st.just(0)),
)


class Player:
    """Plays steps on a ledger and writes down every answer."""

    def __init__(self, ledgers: list[Ledger], clock: TurnableClock, organisation: str) -> None:
        self.ledgers, self.clock = ledgers, clock
        self.ledger = ledgers[0]
        self.holds: dict[int, str] = {}
        self.payer = ADA._replace(organisation=organisation)

    async def play(self, number: int, step: tuple[str, int, int, int]) -> object:
        verb, which, amount, extra = step
        # Replicas in no regular order: each remembers rows that another has changed meanwhile.
        self.ledger = self.ledgers[(number * number // 3) % len(self.ledgers)]
        try:
            return await getattr(self, verb)(f"{number}", which, amount, extra)
        except LedgerError as error:
            return repr(error)

    async def reserve(self, request_id: str, which: int, amount: int, ttl_s: int) -> object:
        payer = self.payer._replace(user=f"user-{which % 2}")
        answer = await self.ledger.reserve(payer, request_id, UNIT, 0, amount, ttl_s * MICROSECONDS)
        self.holds[which] = answer.reservation_id
        return answer

    async def extend(self, request_id: str, which: int, amount: int, spent: int) -> object:
        return await self.ledger.extend(self.payer, request_id, self.hold(which), amount, spent, 30 * MICROSECONDS)

    async def commit(self, request_id: str, which: int, amount: int, _: int) -> object:
        return await self.ledger.commit(self.payer, request_id, self.hold(which), [used_tokens(amount)])

    async def void(self, request_id: str, which: int, *_: int) -> object:
        return await self.ledger.void(self.payer, request_id, self.hold(which), "not-sent")

    async def dispatch(self, request_id: str, which: int, *_: int) -> object:
        return await self.ledger.mark_dispatched(self.payer, request_id, self.hold(which))

    async def adjust(self, request_id: str, which: int, delta: int, _: int) -> object:
        return await self.ledger.adjust(self.payer, request_id, self.hold(which), delta, "", "invoice")

    async def orphan(self, request_id: str, which: int, amount: int, _: int) -> object:
        payer, used = self.payer._replace(user=f"user-{which}"), [used_tokens(amount)]
        lost = f"{id_bound(START_US)}{self.payer.organisation}-{which}"
        return await self.ledger.commit(payer, request_id, lost, used, accept_orphan=True)

    async def allot(self, request_id: str, which: int, amount: int, lease_s: int) -> object:
        answer = await self.ledger.allot(self.payer, request_id, amount, lease_s * MICROSECONDS, "edge")
        self.holds[which] = answer.allotment_id
        return answer

    async def limit(self, request_id: str, which: int, amount: int, _: int) -> object:
        period = [Period.HOUR, Period.DAY, Period.QUERY][which]
        wanted = Limit("", self.payer.organisation, Scope.USER, "", period, amount, 8000, 10_000)
        return await self.ledger.set_limit(self.payer, request_id, wanted)

    async def wait(self, _: str, __: int, seconds: int, ___: int) -> None:
        self.clock.turn(seconds)

    def hold(self, which: int) -> str:
        return self.holds.get(which, "none")


def masked(answer: object) -> object:
    """Without the id of the reservation, which tells the replica that made it."""
    if isinstance(answer, AllotAnswer):
        return answer._replace(allotment_id="")
    return answer._replace(reservation_id="") if isinstance(answer, ReserveAnswer) else answer


def counted(usage: Usage) -> object:
    """A TAT that has passed is as good as any other that has."""
    return usage.limit.limit_id, usage.counter._replace(tat_ns=0), usage.used_count


def heard(told: list[NumberedEvent]) -> object:
    """When a hold's end is noticed is the store's own affair, and ids tell the replica that made them."""
    return sorted((e.event.kind, e.event.amount_nano_usd, len(e.event.alerts)) for e in told)


@pytest.mark.parametrize("replicas", [1, 3])
async def test_l18_memory_and_postgres_decide_alike(open_postgres: OpenStore, replicas: int) -> None:
    stores = [await open_postgres() for _ in range(replicas)]
    declared = [DAY, HOUR, *METERS]
    await stores[0].declare_limits(declared)
    histories = iter(range(10**6))

    async def compare(history: list[tuple[str, int, int, int]]) -> None:
        organisation = f"org-{next(histories)}"
        transcripts = []
        for target in ("memory", "postgres"):
            clock = TurnableClock()
            steady = SteadyClock(clock.time_ns, clock.elapsed_ns)
            twins: list[MemoryStore | PostgresStore] = list(stores)
            if target == "memory":
                twin = MemoryStore(steady, cost_nano_usd)
                await twin.declare_limits(declared)
                twins = [twin]
            for store in stores:
                store._clock = steady
            # A name per history, as the reservations of all of them live in one database.
            ledgers = [ledger_on(twin, clock, f"{organisation}-{n}-") for n, twin in enumerate(twins)]
            player = Player(ledgers, clock, organisation)
            transcript = [masked(await player.play(number, step)) for number, step in enumerate(history)]
            clock.turn(1000)
            await player.ledger.sweep(1000)
            usages, _ = await player.ledger.reports.usage(organisation, None, "", None, 1000, "")
            events = heard(await twins[0].events(organisation, 0, 1000))
            transcripts.append((transcript, [counted(u) for u in usages], events))
        assert transcripts[0] == transcripts[1]

    loop = asyncio.get_running_loop()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(steps, min_size=3, max_size=14))
    def explore(history: list[tuple[str, int, int, int]]) -> None:
        asyncio.run_coroutine_threadsafe(compare(history), loop).result(30)

    await asyncio.to_thread(explore)
    assert await recounted(stores[0])
