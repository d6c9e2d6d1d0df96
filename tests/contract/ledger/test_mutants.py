"""The store on PostgreSQL with one defect each: the checks of this folder must tell them from the real one."""

from __future__ import annotations

import asyncio

import pytest

from services.ledger.adapters.audit import verify
from services.ledger.adapters.sql import PostgresStore, StoreOptions
from services.ledger.core.limits import Scope
from services.ledger.core.windows import Period
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_postgres import ledger_on, rows
from tests.contract.ledger.test_store import UNIT
from tests.unit.ledger.builders import ADA, TurnableClock, limit, used_tokens

CAP, CALL = 300, 7
LIMITS = [limit(Scope.ORGANISATION, Period.DAY, CAP), limit(Scope.ORGANISATION, Period.HOUR, CAP)]


async def right(stores: list[PostgresStore], clock: TurnableClock) -> bool:
    """Whether three replicas on one budget neither overshoot nor lose anything: litellm#33325, #39390, bifrost#3547."""
    await stores[0].declare_limits(LIMITS)
    ledgers = [ledger_on(store, clock, name) for store, name in zip(stores, "abc", strict=True)]

    async def caller(number: int) -> int:
        spent = 0
        for turn in range(4):
            hold = await ledgers[number % 3].reserve(ADA, f"r-{number}-{turn}", UNIT, 0, CALL, 0)
            if hold.granted:
                committer = ledgers[(number + turn) % 3]
                used = [used_tokens(CALL)]
                spent += (await committer.commit(ADA, f"c-{number}-{turn}", hold.reservation_id, used)).amount_nano_usd
        return spent

    results = await asyncio.gather(*(caller(n) for n in range(24)), return_exceptions=True)
    if any(isinstance(result, BaseException) for result in results):
        return False
    async with stores[0]._database.pool.acquire() as connection:
        difference = await verify(connection)
    return difference is None and sum(map(int, results)) <= CAP  # type: ignore[arg-type]


async def source_of(store: PostgresStore, name: str) -> str:
    (row,) = await rows(
        store,
        f"SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.proname = '{name}'"
        " AND p.pronamespace = current_schema()::regnamespace",
    )
    return str(row[0])


async def replicas(open_postgres: OpenStore) -> list[PostgresStore]:
    return [await open_postgres(StoreOptions(max_batch=2)) for _ in range(3)]


async def test_the_real_store_is_right(open_postgres: OpenStore, clock: TurnableClock) -> None:
    assert await right(await replicas(open_postgres), clock)


COMPARED = "as_believed <> cardinality(p_counter_ids)"
HELD = "held_nano_usd = (n ->> 2)::bigint,\n            alerted"
MUTANTS = [
    pytest.param("load_batch", " FOR UPDATE", "", id="drops the lock"),
    pytest.param("write_if_unchanged", COMPARED, "false", id="believes without a look"),
    pytest.param("write_batch", HELD, "alerted", id="forgets a hold"),
]


@pytest.mark.parametrize(("function", "original", "changed"), MUTANTS)
async def test_a_store_with_a_defect_is_found_out(
    open_postgres: OpenStore, clock: TurnableClock, function: str, original: str, changed: str
) -> None:
    stores = await replicas(open_postgres)
    source = await source_of(stores[0], function)
    assert original in source
    await rows(stores[0], source.replace(" SKIP LOCKED", "").replace(original, changed))
    assert not await right(stores, clock)


async def test_a_store_that_skips_the_idempotency_check_is_found_out(
    open_postgres: OpenStore, clock: TurnableClock
) -> None:
    """Without the journal's unique key two replicas decide one request twice, where they share no counter."""
    stores = await replicas(open_postgres)
    source = await source_of(stores[0], "write_batch")
    await rows(stores[0], source.replace("ON CONFLICT (organisation, kind, request_id) DO NOTHING", ""))
    await rows(stores[0], "ALTER TABLE journal DROP CONSTRAINT journal_organisation_kind_request_id_key")
    ledgers = [ledger_on(store, clock, name) for store, name in zip(stores, "abc", strict=True)]
    twice = False
    for turn in range(20):
        answers = await asyncio.gather(*(one.reserve(ADA, f"r{turn}", UNIT, 0, CALL, 0) for one in ledgers))
        twice = twice or len(set(answers)) > 1
    assert twice
