"""Batches that are decided from memory: how often, and that a wrong memory is never believed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.ledger.adapters.memory import RecordedEvents
from services.ledger.adapters.sql import PostgresStore
from services.ledger.core.errors import RequestIdReused, ReservationEnded
from services.ledger.core.limits import Limit, Scope
from services.ledger.core.service import Ledger
from services.ledger.core.windows import MICROSECONDS, Period, SteadyClock
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_store import UNIT
from tests.unit.ledger.builders import ADA, TurnableClock, desk_ledger, limit, used_tokens

DAY = limit(Scope.ORGANISATION, Period.DAY, 100)


class Replica:
    """A ledger that tells whether its batches needed a transaction; what is written from memory needs none."""

    def __init__(self, store: PostgresStore, clock: TurnableClock, name: str) -> None:
        self.store = store
        self.ledger: Ledger = desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), RecordedEvents())
        number = iter(range(10**6))
        self.ledger._random_hex = lambda: f"{name}{next(number):06d}"
        self._transactions = 0

    def listen(self) -> None:
        assert self.store._writer is not None
        self.store._writer._connection.add_query_logger(self._note)

    def transactions(self) -> int:
        """Since the last look. asyncpg logs plain statements, so BEGIN, and not prepared ones."""
        found, self._transactions = self._transactions, 0
        return found

    def _note(self, record: Any) -> None:
        self._transactions += record.query == "BEGIN"


@pytest.fixture
async def replicas(open_postgres: OpenStore, clock: TurnableClock) -> list[Replica]:
    """Two of them; the first has made a reservation of 1 under the key "warm"."""
    found = [Replica(await open_postgres(), clock, name) for name in "ab"]
    await found[0].store.declare_limits([DAY])
    await found[0].ledger.reserve(ADA, "warm", UNIT, 0, 1, 0)
    found[0].listen()
    return found


async def test_known_counters_and_holds_need_no_transaction(replicas: list[Replica]) -> None:
    one, _ = replicas
    hold = await one.ledger.reserve(ADA, "r", UNIT, 0, 40, 0)
    await one.ledger.extend(ADA, "e", hold.reservation_id, 5, 10, 0)
    await one.ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(44)])
    assert not (await one.ledger.reserve(ADA, "r2", UNIT, 0, 56, 0)).granted
    assert (await one.ledger.reserve(ADA, "r3", UNIT, 0, 55, 0)).granted
    assert one.transactions() == 0


async def test_a_decision_on_rows_that_another_replica_changed_is_made_again(replicas: list[Replica]) -> None:
    one, other = replicas
    assert (await other.ledger.reserve(ADA, "theirs", UNIT, 0, 60, 0)).granted
    denied = await one.ledger.reserve(ADA, "ours", UNIT, 0, 40, 0)
    assert not denied.granted
    assert denied.violations[0].remaining == 39
    assert one.transactions() == 1


async def test_a_denial_from_memory_is_checked_as_well(replicas: list[Replica]) -> None:
    one, other = replicas
    hold = await one.ledger.reserve(ADA, "big", UNIT, 0, 90, 0)
    await other.ledger.void(ADA, "free", hold.reservation_id, "not-sent")
    assert (await one.ledger.reserve(ADA, "ours", UNIT, 0, 80, 0)).granted


async def test_a_hold_that_another_replica_ended_is_not_ended_twice(replicas: list[Replica]) -> None:
    one, other = replicas
    hold = await one.ledger.reserve(ADA, "r", UNIT, 0, 10, 0)
    await other.ledger.commit(ADA, "theirs", hold.reservation_id, [used_tokens(7)])
    with pytest.raises(ReservationEnded):
        await one.ledger.void(ADA, "ours", hold.reservation_id, "not-sent")


async def test_a_hold_of_nothing_that_another_replica_ended_is_known_as_ended(replicas: list[Replica]) -> None:
    one, other = replicas
    hold = await one.ledger.reserve(ADA, "r", UNIT, 0, 0, 0)
    await other.ledger.void(ADA, "theirs", hold.reservation_id, "not-sent")
    assert (await one.ledger.commit(ADA, "ours", hold.reservation_id, [used_tokens(7)])).after_void


async def test_l10_an_alert_that_another_replica_raised_is_not_raised_again(replicas: list[Replica]) -> None:
    one, other = replicas
    hold = await other.ledger.reserve(ADA, "theirs", UNIT, 0, 85, 0)
    assert len(hold.alerts) == 1
    await other.ledger.void(ADA, "v", hold.reservation_id, "not-sent")
    assert (await one.ledger.reserve(ADA, "ours", UNIT, 0, 85, 0)).alerts == ()


async def test_another_replicas_hold_that_is_due_ends_before_a_decision_from_memory(
    replicas: list[Replica], clock: TurnableClock
) -> None:
    one, other = replicas
    await other.ledger.reserve(ADA, "theirs", UNIT, 0, 60, 10 * MICROSECONDS)
    for turn in range(3):
        await one.ledger.reserve(ADA, f"seen-{turn}", UNIT, 0, 1, 60 * MICROSECONDS)
    assert one.transactions() == 2  # the wrong guess and its pause: the third is made from memory
    clock.turn(11)
    assert (await one.ledger.reserve(ADA, "ours", UNIT, 0, 96, 0)).granted
    assert one.transactions() == 1


async def test_a_request_that_another_replica_decided_is_answered_as_there(replicas: list[Replica]) -> None:
    one, other = replicas
    first = await other.ledger.reserve(ADA, "same", UNIT, 0, 5, 0)
    # The counter is as remembered again, so only the journal's key tells.
    await other.ledger.void(ADA, "v", first.reservation_id, "not-sent")
    assert await one.ledger.reserve(ADA, "same", UNIT, 0, 5, 0) == first
    assert one.transactions() == 1


async def test_an_error_from_memory_is_judged_too_whoever_shares_its_batch(replicas: list[Replica]) -> None:
    one, other = replicas
    mine, theirs = ADA, ADA._replace(organisation="globex")
    used = await other.ledger.reserve(theirs, "r", UNIT, 0, 5, 0)
    await other.ledger.commit(theirs, "same", used.reservation_id, [used_tokens(5)])
    hold = await one.ledger.reserve(mine, "r", UNIT, 0, 5, 0)
    # Another organisation's hold under an id that was used before: the id decides, alone or beside others.
    found = await asyncio.gather(
        one.ledger.reserve(mine, "beside", UNIT, 0, 1, 0),
        one.ledger.commit(theirs, "same", hold.reservation_id, [used_tokens(1)]),
        return_exceptions=True,
    )
    assert isinstance(found[1], RequestIdReused)


async def test_changed_limits_bind_a_decision_from_memory(replicas: list[Replica]) -> None:
    one, other = replicas
    lower = Limit("", "acme", Scope.ORGANISATION, "", Period.DAY, 20, 8000, 10_000)
    await other.ledger.set_limit(ADA, "s", lower)
    assert not (await one.ledger.reserve(ADA, "ours", UNIT, 0, 40, 0)).granted


async def test_a_replica_that_is_alone_again_decides_from_memory_again(replicas: list[Replica]) -> None:
    one, other = replicas
    for turn in range(4):
        await other.ledger.reserve(ADA, f"theirs-{turn}", UNIT, 0, 1, 0)
        await one.ledger.reserve(ADA, f"ours-{turn}", UNIT, 0, 1, 0)
    assert one.transactions() == 4
    for turn in range(4):
        await one.ledger.reserve(ADA, f"alone-{turn}", UNIT, 0, 1, 0)
    one.transactions()
    assert (await one.ledger.reserve(ADA, "last", UNIT, 0, 1, 0)).granted
    assert one.transactions() == 0
