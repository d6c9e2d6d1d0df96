"""Many forgotten holds, and one operation that never gets through: neither changes what others are answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from services.ledger.adapters.memory import RecordedEvents
from services.ledger.adapters.recollection import Guess
from services.ledger.adapters.sql import PostgresStore
from services.ledger.core.decide import Outcome
from services.ledger.core.errors import StorageUnavailable
from services.ledger.core.limits import Scope
from services.ledger.core.operations import Operation, Sweep
from services.ledger.core.ports import Store
from services.ledger.core.windows import MICROSECONDS, Period, SteadyClock
from services.ledger.main import _forget
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_store import UNIT
from tests.unit.ledger.builders import ADA, TurnableClock, desk_ledger, limit


async def test_review_5_more_due_holds_than_one_load_are_all_ended_first(store: Store, clock: TurnableClock) -> None:
    """The memory model granted what PostgreSQL denied above max_expiries_per_batch."""
    await store.declare_limits([limit(Scope.ORGANISATION, Period.DAY, 200_000)])
    events = RecordedEvents()
    ledger = desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), events)
    holds = [ledger.reserve(ADA, f"r{n}", UNIT, 0, 1000, MICROSECONDS) for n in range(200)]
    assert all(answer.granted for answer in await asyncio.gather(*holds))
    clock.turn(2)
    assert (await ledger.reserve(ADA, "last", UNIT, 0, 150_000, 0)).granted
    assert sum(count for count, _ in events.expiries) == 200
    found, _ = await ledger.reports.usage("acme", None, "", None, 10, "")
    assert [u.counter.held_nano_usd for u in found] == [150_000]


async def test_review_5_a_sweep_in_the_batch_hides_no_due_hold(open_postgres: OpenStore, clock: TurnableClock) -> None:
    store = await open_postgres()
    await store.declare_limits([limit(Scope.KEY, Period.DAY, 200_000)])
    ledger = desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), RecordedEvents())
    older = [ledger.reserve(ADA._replace(key_id="old"), f"o{n}", UNIT, 0, 1, MICROSECONDS) for n in range(100)]
    await asyncio.gather(*older)
    clock.turn(0.5)
    await asyncio.gather(*(ledger.reserve(ADA, f"r{n}", UNIT, 0, 1000, MICROSECONDS) for n in range(200)))
    clock.turn(2)
    _, last = await asyncio.gather(store.execute(Sweep(70)), ledger.reserve(ADA, "last", UNIT, 0, 150_000, 0))
    assert last.granted


async def test_review_11_one_operations_conflict_fails_that_one_alone(
    open_postgres: OpenStore, clock: TurnableClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_postgres()
    await store.declare_limits([limit(Scope.KEY, Period.DAY, 1000)])
    ledger = desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), RecordedEvents())
    transact = PostgresStore._transact

    async def contended(self: PostgresStore, batch: Sequence[Operation], guess: Guess | None) -> list[Outcome]:
        if any(getattr(operation, "payer", ADA).key_id == "hot" for operation in batch):
            raise asyncpg.SerializationError("stands for a row that others always win")
        return await transact(self, batch, guess)

    monkeypatch.setattr(PostgresStore, "_transact", contended)
    payers = [ADA, ADA._replace(key_id="hot"), ADA]
    with caplog.at_level(logging.CRITICAL):
        calls = [ledger.reserve(payer, f"r{n}", UNIT, 0, 10, 0) for n, payer in enumerate(payers)]
        results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(r, "granted", None) for r in results] == [True, None, True]
    assert isinstance(results[1], StorageUnavailable)


async def test_review_12_a_round_forgets_more_than_one_batch(store: Store, clock: TurnableClock) -> None:
    ledger = desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), RecordedEvents())
    await asyncio.gather(*(ledger.reserve(ADA, f"r{n}", UNIT, 0, 1, MICROSECONDS) for n in range(30)))
    clock.turn(3600)
    await ledger.sweep(100)
    await _forget(ledger, MICROSECONDS, 4)
    assert await store.forget_reservations("f", 100) == 0
