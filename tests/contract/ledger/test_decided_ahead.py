"""A batch is decided while the one before it is written: on what that one writes, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from services.ledger.adapters.memory import RecordedEvents
from services.ledger.adapters.sql import PostgresStore
from services.ledger.core.errors import StorageUnavailable
from services.ledger.core.limits import Scope
from services.ledger.core.operations import ReserveAnswer
from services.ledger.core.service import Ledger
from services.ledger.core.windows import Period, SteadyClock
from tests.contract.ledger.conftest import OpenStore
from tests.contract.ledger.test_store import UNIT
from tests.unit.ledger.builders import ADA, TurnableClock, desk_ledger, limit

# Two batches: half of what waits, and the rest.
CALLERS = 40
# The limit lets all but these through, and a reservation made before.
TOO_MANY = 5


class Gate:
    """A writer's statement that waits at its first use; `error` is what that use ends in."""

    def __init__(self, statement: Any, error: Exception | None = None) -> None:
        self._statement = statement
        self._error = error
        self.uses = 0
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, *arguments: Any) -> Any:
        self.uses += 1
        if self.uses == 1:
            self.reached.set()
            await self.open.wait()
            if self._error is not None:
                raise self._error
        return await self._statement(*arguments)


class Desk:
    """A store whose writer is connected and remembers the limit's counter."""

    def __init__(self, store: PostgresStore, clock: TurnableClock) -> None:
        self.store = store
        self.ledger: Ledger = desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), RecordedEvents())
        self.gates: list[Gate] = []

    def gate(self, statement: str, error: Exception | None = None) -> Gate:
        writer = self.store._writer
        assert writer is not None
        gate = Gate(getattr(writer, statement), error)
        setattr(writer, statement, gate)
        self.gates.append(gate)
        return gate

    def known_holds(self) -> int:
        return len(self.store._recollection._held)

    def ask(self) -> asyncio.Future[list[Any]]:
        calls = [self.ledger.reserve(ADA, f"r{n}", UNIT, 0, 1, 0) for n in range(CALLERS)]
        return asyncio.gather(*calls, return_exceptions=True)

    async def held_nano_usd(self) -> int:
        ((_, counter),) = (await self.store.counters(list(self.store._recollection._counters))).items()
        return counter.held_nano_usd


@pytest.fixture
async def desk(open_postgres: OpenStore, clock: TurnableClock) -> AsyncIterator[Desk]:
    made = Desk(await open_postgres(), clock)
    await made.store.declare_limits([limit(Scope.ORGANISATION, Period.DAY, CALLERS + 1 - TOO_MANY)])
    await made.ledger.reserve(ADA, "warm", UNIT, 0, 1, 0)
    yield made
    for gate in made.gates:
        gate.open.set()


async def settled(desk: Desk, asked: asyncio.Future[list[Any]]) -> list[bool]:
    """Who was granted, once everybody was answered; what was kept for batches under way is gone."""
    answers = await asyncio.wait_for(asked, 30)
    assert all(isinstance(answer, ReserveAnswer) for answer in answers), answers
    assert not desk.store._unknown
    assert not desk.store._turn.locked()
    return [answer.granted for answer in answers]


async def test_the_second_batch_is_decided_while_the_first_is_written(desk: Desk) -> None:
    write, load = desk.gate("write_if_unchanged"), desk.gate("load")
    asked = desk.ask()
    await asyncio.wait_for(write.reached.wait(), 30)
    await asyncio.sleep(0.05)
    assert desk.known_holds() == CALLERS + 1 - TOO_MANY
    assert write.uses == 1
    write.open.set()
    assert (await settled(desk, asked)).count(False) == TOO_MANY
    assert (write.uses, load.uses) == (2, 0)
    assert await desk.held_nano_usd() == CALLERS + 1 - TOO_MANY


async def test_what_rests_on_a_wrong_guess_is_decided_again_without_being_tried(desk: Desk) -> None:
    write = desk.gate("write_if_unchanged", asyncpg.SerializationError("another replica was first"))
    load = desk.gate("load")
    load.open.set()
    asked = desk.ask()
    await asyncio.wait_for(write.reached.wait(), 30)
    write.open.set()
    assert (await settled(desk, asked)).count(False) == TOO_MANY
    assert (write.uses, load.uses) == (1, 2)
    assert await desk.held_nano_usd() == CALLERS + 1 - TOO_MANY


async def test_an_outage_in_the_first_batch_leaves_the_second_right(desk: Desk) -> None:
    write = desk.gate("write_if_unchanged", ConnectionResetError())
    asked = desk.ask()
    await asyncio.wait_for(write.reached.wait(), 30)
    write.open.set()
    answers = await asyncio.wait_for(asked, 30)
    failed = [answer for answer in answers if isinstance(answer, StorageUnavailable)]
    granted = [answer for answer in answers if isinstance(answer, ReserveAnswer) and answer.granted]
    assert (len(failed), len(granted)) == (CALLERS // 2, CALLERS // 2)
    assert await desk.held_nano_usd() == CALLERS // 2 + 1


async def test_behind_a_batch_that_memory_does_not_know_nothing_is_guessed_before_its_turn(desk: Desk) -> None:
    desk.store._recollection.forget()
    load, write = desk.gate("load"), desk.gate("write_if_unchanged")
    write.open.set()
    asked = desk.ask()
    await asyncio.wait_for(load.reached.wait(), 30)
    await asyncio.sleep(0.05)
    assert len(desk.store._unknown) == 2
    assert desk.known_holds() == 0
    load.open.set()
    assert (await settled(desk, asked)).count(False) == TOO_MANY
    assert (load.uses, write.uses) == (1, 1)


async def test_a_batch_whose_guess_was_wrong_is_unknown_while_it_is_decided_again(desk: Desk) -> None:
    """Who guessed meanwhile could be written with a time before that of the entries before it."""
    write, load = desk.gate("write_if_unchanged", asyncpg.SerializationError("first")), desk.gate("load")
    write.open.set()
    asked = asyncio.create_task(desk.ledger.reserve(ADA, "alone", UNIT, 0, 1, 0))
    await asyncio.wait_for(load.reached.wait(), 30)
    assert len(desk.store._unknown) == 1
    load.open.set()
    assert (await asked).granted
    assert not desk.store._unknown


async def test_limits_of_a_lost_timeline_with_the_number_of_those_in_force_grant_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored database counts its versions on from the backup's: the same number may come to name another set."""
    store = desk.store
    admit = store._continuity.admit

    async def admit_another_timeline(writer: Any) -> None:
        await writer.execute("UPDATE limits SET cap_nano_usd = 5")
        await store._reload_limits()
        await admit(writer)

    monkeypatch.setattr(store._continuity, "admit", admit_another_timeline)
    assert not (await desk.ledger.reserve(ADA, "r", UNIT, 0, 20, 0)).granted
