"""Streams with an idempotency key: one at a time, shown again when they have ended."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from services.orchestrator.core.errors import BudgetUnavailable, KeyInProgress, KeyReused
from services.orchestrator.core.ports import Claim, Outcome, RequestName
from tests.support.keyed_work import NAME, OTHER, Pieces, World, read


async def test_a_stream_is_made_once_and_shown_again() -> None:
    world, job = World(), Pieces()
    assert await read(world.once.stream(NAME, job)) == ["a", "b", "end"]
    assert await read(world.replica().stream(NAME, job)) == ["again abend"]
    assert job.runs == 1
    with pytest.raises(KeyReused):
        await read(world.once.stream(OTHER, Pieces()))


async def test_a_stream_is_kept_before_its_end_is_seen() -> None:
    world, job = World(), Pieces()
    async with aclosing(world.once.stream(NAME, job)) as events:
        while await anext(events) != "end":
            assert await world.kept() is None
        assert await world.kept() == Outcome(b"abend")


async def test_a_second_stream_under_way_is_refused() -> None:
    world = World()
    async with aclosing(world.once.stream(NAME, Pieces())) as events:
        await anext(events)
        with pytest.raises(KeyInProgress):
            await read(world.replica().stream(NAME, Pieces()))


async def test_a_reader_who_leaves_a_stream_ends_it_and_its_part_is_kept() -> None:
    world, job = World(), Pieces()
    async with aclosing(world.once.stream(NAME, job)) as events:
        await anext(events)
    await world.settled()
    assert await world.kept() == Outcome(b"a", b"GeneratorExit")
    assert job.shown == ["a"]


@pytest.mark.parametrize("spent", [True, False])
async def test_a_stream_that_fails_is_kept_when_it_cost_something(*, spent: bool) -> None:
    world, job = World(), Pieces(("a", BudgetUnavailable()), spent=spent)
    with pytest.raises(BudgetUnavailable):
        await read(world.once.stream(NAME, job))
    await world.settled()
    assert await world.kept() == (Outcome(b"a", b"BudgetUnavailable") if spent else None)


async def test_a_reader_who_leaves_while_the_store_answers_leaves_no_claim() -> None:
    world, job = World(), Pieces()
    claimed, gate = asyncio.Event(), asyncio.Event()
    claim_at_once = world.store.claim

    async def claim(name: RequestName, owner: str) -> Claim:
        found = await claim_at_once(name, owner)
        claimed.set()
        await gate.wait()
        return found

    world.store.claim = claim  # type: ignore[method-assign]
    reading = asyncio.ensure_future(read(world.once.stream(NAME, job)))
    await claimed.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    gate.set()
    await world.settled()
    assert (await claim_at_once(NAME, "me")).granted


async def test_a_stream_whose_claim_was_taken_over_goes_on_for_its_reader() -> None:
    """It stood still for longer than its lock. Its answer was paid for, and is the first that is whole: it stands."""
    world, job = World(), Pieces()
    events = world.once.stream(NAME, job)
    shown = [await anext(events)]
    world.clock.now_s = 61
    other = Pieces(("x", "end"))
    taking = world.replica().stream(NAME, other)
    assert await anext(taking) == "x"
    await world.once.renew()
    shown += await read(events)
    assert shown == ["a", "b", "end"]
    assert await read(taking) == ["end"]
    assert await world.kept() == Outcome(b"abend"), "the first that was kept"


async def test_a_failed_stream_whose_claim_was_taken_over_keeps_nothing() -> None:
    world, job = World(), Pieces(("a", BudgetUnavailable()))
    events = world.once.stream(NAME, job)
    await anext(events)
    world.clock.now_s = 61
    taking = world.replica().stream(NAME, Pieces(("x", "end")))
    await anext(taking)
    with pytest.raises(BudgetUnavailable):
        await read(events)
    await world.settled()
    assert await world.kept() is None
    await read(taking)
    assert await world.kept() == Outcome(b"xend")
