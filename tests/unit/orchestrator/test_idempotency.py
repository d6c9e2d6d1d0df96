"""One answer and one charge per key: who works, who waits, who leaves, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import pytest

from services.orchestrator.adapters.memory import MemoryAnswers
from services.orchestrator.core.errors import (
    AnswersUnavailable,
    BudgetUnavailable,
    KeyReused,
    KeyTakenOver,
    ProcessEnding,
    TooManyKeyed,
)
from services.orchestrator.core.idempotency import OncePerKey, Pauses
from services.orchestrator.core.ports import Outcome, RequestName
from services.orchestrator.core.request_names import name_of
from tests.support.keyed_work import NAME, OTHER, Job, Pieces, World, away_world, read


async def test_the_answer_is_made_once_and_given_again() -> None:
    world, job = World(), Job()
    job.gate.set()
    assert await world.once.answer(NAME, job) == (Outcome(b"answer"), False)
    assert await world.once.answer(NAME, job) == (Outcome(b"answer"), True)
    assert await world.replica().answer(NAME, job) == (Outcome(b"answer"), True)
    assert job.runs == 1


async def test_what_stood_in_for_an_answer_is_given_to_who_waits_and_kept_for_nobody() -> None:
    """The retry got the apology for a day, although the models were back."""
    world, job = World(), Job(b"sorry", worth_keeping=False)
    job.gate.set()
    assert await asyncio.gather(world.once.answer(NAME, job), world.once.answer(NAME, job)) == [
        (Outcome(b"sorry"), False),
        (Outcome(b"sorry"), True),
    ]
    assert await world.kept() is None
    real = Job()
    real.gate.set()
    assert await world.once.answer(NAME, real) == (Outcome(b"answer"), False)


@pytest.mark.parametrize("leave_after", [1, None])
async def test_a_streamed_stand_in_is_kept_for_nobody(leave_after: int | None) -> None:
    world, job = World(), Pieces(worth_keeping=False)
    async with aclosing(world.once.stream(NAME, job)) as events:
        shown = 0
        async for _ in events:
            shown += 1
            if shown == leave_after:
                break
    await world.settled()
    assert await world.kept() is None


async def test_fifty_at_once_are_one() -> None:
    world, job = World(), Job()
    asking = [asyncio.ensure_future(world.once.answer(NAME, job)) for _ in range(50)]
    await job.begun.wait()
    job.gate.set()
    found = await asyncio.gather(*asking)
    assert job.runs == 1
    assert {outcome for outcome, _ in found} == {Outcome(b"answer")}
    assert sorted(replayed for _, replayed in found) == [False] + [True] * 49


async def test_replicas_wait_for_each_other() -> None:
    world, job = World(), Job()
    first = asyncio.ensure_future(world.once.answer(NAME, job))
    await job.begun.wait()
    second = asyncio.ensure_future(world.replica().answer(NAME, job))
    while world.pauses < 3:
        await asyncio.sleep(0)
    job.gate.set()
    assert await first == (Outcome(b"answer"), False)
    assert await second == (Outcome(b"answer"), True)
    assert job.runs == 1


async def test_another_request_under_the_key_is_refused_while_it_runs_and_afterwards() -> None:
    world, job = World(), Job()
    first = asyncio.ensure_future(world.once.answer(NAME, job))
    await job.begun.wait()
    for replica in (world.once, world.replica()):
        with pytest.raises(KeyReused):
            await replica.answer(OTHER, Job())
    job.gate.set()
    await first
    for replica in (world.once, world.replica()):
        with pytest.raises(KeyReused):
            await replica.answer(OTHER, Job())


async def test_a_duplicate_that_leaves_ends_nothing() -> None:
    world, job = World(), Job()
    first = asyncio.ensure_future(world.once.answer(NAME, job))
    second = asyncio.ensure_future(world.once.answer(NAME, job))
    await job.begun.wait()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    job.gate.set()
    assert await first == (Outcome(b"answer"), False)


async def test_the_first_may_leave_and_the_work_goes_on() -> None:
    """Whoever lost the connection asks again: it paid for the first answer and must get that."""
    world, job = World(), Job()
    first = asyncio.ensure_future(world.once.answer(NAME, job))
    await job.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    again = asyncio.ensure_future(world.once.answer(NAME, job))
    await asyncio.sleep(0)
    job.gate.set()
    assert await again == (Outcome(b"answer"), True)
    assert job.runs == 1


async def test_what_failed_before_anything_was_spent_is_tried_again() -> None:
    world, job = World(), Job(error=BudgetUnavailable(), spent=False)
    asking = [asyncio.ensure_future(world.once.answer(NAME, job)) for _ in range(3)]
    job.gate.set()
    for one in asking:
        with pytest.raises(BudgetUnavailable):
            await one
    assert job.runs == 1, "those who waited learn what came of it"
    job.error = None
    assert await world.once.answer(NAME, job) == (Outcome(b"answer"), False)


async def test_what_failed_after_money_was_spent_is_kept() -> None:
    world, job = World(), Job(error=BudgetUnavailable())
    job.gate.set()
    with pytest.raises(BudgetUnavailable):
        await world.once.answer(NAME, job)
    assert await world.replica().answer(NAME, job) == (Outcome(failure=b"failed: BudgetUnavailable"), True)
    assert job.runs == 1


async def test_an_answer_that_is_too_long_is_not_kept_and_not_paid_for_twice() -> None:
    world, job = World(max_answer_bytes=3), Job()
    job.gate.set()
    assert await world.once.answer(NAME, job) == (Outcome(b"answer"), False)
    assert await world.once.answer(NAME, job) == (Outcome(failure=b"failed: AnswerNotKept"), True)


async def test_a_claim_of_a_crashed_process_ends() -> None:
    world, job = World(), Job()
    await world.store.claim(NAME, "crashed")
    job.gate.set()
    asking = asyncio.ensure_future(world.once.answer(NAME, job))
    while world.pauses < 3:
        await asyncio.sleep(0)
    assert job.runs == 0
    world.clock.now_s = 61
    assert await asking == (Outcome(b"answer"), False)
    assert await world.store.keep(NAME, "crashed", Outcome(b"late")) == Outcome(b"answer"), "the first kept stands"


async def test_a_renewed_claim_outlives_its_lock() -> None:
    world, job = World(), Job()
    asking = asyncio.ensure_future(world.once.answer(NAME, job))
    await job.begun.wait()
    for _ in range(10):
        world.clock.now_s += 50
        await world.once.renew()
        assert not (await world.store.claim(NAME, "second")).granted
    job.gate.set()
    assert await asking == (Outcome(b"answer"), False)
    assert await world.kept() == Outcome(b"answer")


async def test_all_claims_of_a_process_are_renewed_in_one_step() -> None:
    world, job, held = World(), Job(), []

    class Counting(MemoryAnswers):
        async def renew(self, claims: Sequence[tuple[RequestName, str]]) -> frozenset[str]:
            held.append(len(claims))
            return await super().renew(claims)

    world.store = Counting(world.clock, 60, 600, 100)
    once = world.replica()
    await once.renew()
    names = [name_of("acme", "key-1", "Complete", str(number), b"") for number in range(5)]
    asking = [asyncio.ensure_future(once.answer(name, job)) for name in names]
    while job.runs < 5:
        await asyncio.sleep(0)
    reading = once.stream(OTHER, Pieces())
    await anext(reading)
    await once.renew()
    await reading.aclose()
    job.gate.set()
    await asyncio.gather(*asking)
    await once.renew()
    assert held == [6], "nothing is asked for nothing"


async def test_who_lost_its_claim_stops_and_the_other_answer_stands() -> None:
    """A process that stood still for longer than its lock: another one does the work, and the late one pays no more."""
    world, slow, quick = World(), Job(b"slow"), Job(b"quick")
    asking = [asyncio.ensure_future(world.once.answer(NAME, slow)) for _ in range(2)]
    await slow.begun.wait()
    world.clock.now_s = 61
    quick.gate.set()
    assert await world.replica().answer(NAME, quick) == (Outcome(b"quick"), False)
    await world.once.renew()
    for lost in asking:
        with pytest.raises(KeyTakenOver):
            await lost
    assert slow.cancelled
    assert await world.once.answer(NAME, slow) == (Outcome(b"quick"), True)
    assert slow.runs == 1


async def test_who_finishes_first_is_kept_and_the_other_gives_that_answer() -> None:
    world, slow, second = World(), Job(b"slow"), Job(b"second")
    first = asyncio.ensure_future(world.once.answer(NAME, slow))
    await slow.begun.wait()
    world.clock.now_s = 61
    other = asyncio.ensure_future(world.replica().answer(NAME, second))
    await second.begun.wait()
    slow.gate.set()
    assert await first == (Outcome(b"slow"), False)
    second.gate.set()
    assert await other == (Outcome(b"slow"), True), "one answer per key"


async def test_after_an_absence_of_the_store_claims_are_renewed_at_once() -> None:
    world, store = away_world()
    paused: list[str] = []

    def pause(name: str) -> Callable[[], Awaitable[None]]:
        async def wait() -> None:
            paused.append(name)
            await asyncio.sleep(0 if name == "look-again" else 60)

        return wait

    pauses = Pauses(pause("look-again"), pause("renew"))
    once = OncePerKey(store, world, pauses, lambda: "owner", world.limits)
    job = Job()
    asking = asyncio.ensure_future(once.answer(NAME, job))
    await job.begun.wait()
    store.away = True
    renewing = asyncio.ensure_future(once.renewing())
    for _ in range(10):
        await asyncio.sleep(0)
    world.clock.now_s = 100
    store.away = False
    for _ in range(10):
        await asyncio.sleep(0)
    assert not (await store.claim(NAME, "second")).granted
    assert set(paused[:-1]) == {"look-again"}
    assert paused[-1] == "renew"
    renewing.cancel()
    job.gate.set()
    assert await asking == (Outcome(b"answer"), False)


async def test_claims_are_renewed_while_the_process_ends_and_while_the_store_is_away() -> None:
    world, store = away_world()
    job = Job()
    asking = asyncio.ensure_future(world.once.answer(NAME, job))
    await job.begun.wait()
    store.away = True
    closing = asyncio.ensure_future(world.once.close(60))
    for _ in range(3):
        await asyncio.sleep(0)
    store.away = False
    world.clock.now_s = 50
    for _ in range(20):
        await asyncio.sleep(0)
    world.clock.now_s = 100
    assert not (await world.store.claim(NAME, "second")).granted
    job.gate.set()
    assert await asking == (Outcome(b"answer"), False)
    await closing


async def test_an_answer_is_forgotten_after_its_time() -> None:
    world, job = World(), Job()
    job.gate.set()
    await world.once.answer(NAME, job)
    world.clock.now_s = 601
    assert await world.once.answer(NAME, job) == (Outcome(b"answer"), False)
    assert job.runs == 2


async def test_too_many_at_once_are_refused() -> None:
    world, job = World(max_in_flight=1), Job()
    first = asyncio.ensure_future(world.once.answer(NAME, job))
    await job.begun.wait()
    with pytest.raises(TooManyKeyed):
        await world.once.answer(name_of("acme", "key-1", "Complete", "another", b""), Job())
    job.gate.set()
    await first


async def test_without_the_store_nothing_is_begun_and_no_claim_is_left() -> None:
    world, store = away_world()
    store.away = True
    with pytest.raises(AnswersUnavailable):
        await world.once.answer(NAME, Job())
    with pytest.raises(AnswersUnavailable):
        await read(world.once.stream(NAME, Pieces()))
    store.away = False
    await world.settled()
    assert await world.kept() is None
    claim = await store.claim(NAME, "me")
    assert claim.granted


async def test_an_answer_leaves_also_when_it_cannot_be_stored_at_once() -> None:
    world, store = away_world()
    job = Job()
    asking = asyncio.ensure_future(world.once.answer(NAME, job))
    await job.begun.wait()
    store.away = True
    job.gate.set()
    assert await asking == (Outcome(b"answer"), False)
    store.away = False
    await world.settled()
    assert await world.kept() == Outcome(b"answer")


async def test_the_end_of_the_process_waits_and_then_keeps_what_was_paid() -> None:
    world, job = World(), Job()
    asking = asyncio.ensure_future(world.once.answer(NAME, job))
    await job.begun.wait()
    await world.once.close(0.01)
    with pytest.raises(ProcessEnding):
        await asking
    assert await world.kept() == Outcome(failure=b"failed: ProcessEnding")
    with pytest.raises(ProcessEnding):
        await world.once.answer(OTHER, Job())
