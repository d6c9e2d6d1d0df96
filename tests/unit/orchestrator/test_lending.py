"""Leases are kept warm while the ledger answers, are spent while it does not, and come back with what was used."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.orchestrator.adapters.memory import MemoryRecords
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.errors import BudgetExhausted, BudgetUnavailable, RateLimited, RequestFailed
from services.orchestrator.core.model import Candidate, Record, Reservation
from services.orchestrator.core.policy import Policy
from tests.support.lending_desk import ADA, BOB, DEAR, HOLD, Desk, line
from tests.support.orchestrator_ports import CHEAP


async def test_a_served_payer_gets_a_lease_and_the_ledger_still_decides() -> None:
    desk = Desk()
    await desk.warm()
    assert desk.lender.held == {"allotment-0": 100}
    reservation = await desk.reserve()
    assert (reservation, desk.events.outcomes) == (HOLD, [])
    assert desk.script.log == ["reserve 0+10"] * 2


async def test_while_the_ledger_is_away_the_lease_is_spent_and_then_everything_is_closed() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    first = await desk.reserve(60)
    assert (first.lent, first.held_nano_usd, first.covered_output_tokens) == (True, 60, 60)
    with pytest.raises(BudgetUnavailable):
        await desk.reserve(41)
    await desk.ledger.commit(first, [line(25)])
    second = await desk.reserve(75)
    with pytest.raises(BudgetUnavailable):
        await desk.reserve(1)
    await desk.ledger.void(second, "not-sent")
    assert (await desk.reserve(75)).lent
    assert desk.events.outcomes == ["granted", "used-up", "granted", "used-up", "granted"]


async def test_a_lease_holds_as_much_as_the_ledger_would() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    assert (await desk.reserve(30, calls=2)).held_nano_usd == 60


async def test_without_a_lease_everything_is_closed() -> None:
    desk = Desk()
    desk.away()
    with pytest.raises(BudgetUnavailable):
        await desk.reserve()
    await desk.leases.tend()
    desk.away(away=False)
    await desk.warm()
    desk.payer = BOB
    desk.away()
    with pytest.raises(BudgetUnavailable):
        await desk.reserve()
    assert desk.events.outcomes == ["no-lease", "no-lease"]


async def test_a_ledger_that_is_broken_is_closed() -> None:
    """Whatever is wrong with it, it is not known to be away for everybody."""
    desk = Desk()
    await desk.warm()
    desk.script.reservation = BudgetUnavailable()
    with pytest.raises(BudgetUnavailable):
        await desk.reserve()
    assert desk.events.outcomes == []


async def test_the_end_of_a_lease_closes() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    await desk.tend_after(59.9)
    assert (await desk.reserve()).lent
    await desk.tend_after(0.1)
    with pytest.raises(BudgetUnavailable):
        await desk.reserve()


async def test_nothing_of_a_call_that_was_granted_here_goes_to_the_ledger() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    reservation = await desk.reserve(30)
    await desk.ledger.mark_dispatched(reservation)
    assert await desk.ledger.extend(reservation, 1, 0, 20) == 30
    assert await desk.ledger.extend(reservation, 2, 70, 30) == 100
    with pytest.raises(BudgetExhausted, match="used-up"):
        await desk.ledger.extend(reservation, 3, 1, 90)
    await desk.ledger.commit(reservation, [line(95)])
    with pytest.raises(BudgetExhausted, match="ended"):
        await desk.ledger.extend(reservation, 4, 1, 90)
    assert (desk.script.marked, desk.script.extended, desk.script.committed, desk.script.voided) == ([], [], [], [])


async def test_and_what_the_ledger_granted_goes_to_it() -> None:
    desk = Desk()
    reservation = await desk.reserve(30)
    await desk.ledger.mark_dispatched(reservation)
    await desk.ledger.extend(reservation, 1, 5, 20)
    await desk.ledger.commit(reservation, [line(9)])
    await desk.ledger.void(reservation, "not-sent")
    assert (desk.script.marked, desk.script.extended, desk.script.voided) == (["r-1"], [(5, 20)], ["not-sent"])
    assert desk.script.committed == [(line(9),)]


async def test_when_the_ledger_is_back_everything_is_booked_once() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    ended, running = await desk.reserve(30), await desk.reserve(40)
    await desk.ledger.commit(ended, [line(12)])
    await desk.tend_after(1)
    assert desk.lender.spent_nano_usd == 0
    desk.away(away=False)
    assert not (await desk.reserve()).lent
    await desk.leases.tend()
    assert desk.lender.held == {"allotment-0": 88, "allotment-1": 100}, "the first is kept for its last call"
    assert desk.lender.spent_nano_usd == 12
    await desk.ledger.commit(running, [line(33)])
    await desk.leases.tend()
    await desk.leases.tend()
    assert (desk.lender.spent_nano_usd, desk.lender.held) == (45, {"allotment-1": 100})
    assert desk.lender.parts == {("allotment-0", 1): (line(12),)}
    assert desk.lender.booked["allotment-0"] == (line(33),)


async def test_a_return_whose_answer_was_lost_is_repeated_until_it_is_heard() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    await desk.ledger.commit(await desk.reserve(30), [line(12)])
    desk.away(away=False)
    await desk.reserve()
    desk.lender.losses = 3
    for _ in range(12):
        await desk.tend_after(0.25)
    assert (desk.lender.losses, desk.lender.spent_nano_usd) == (0, 12)
    assert len(desk.lender.held) == 1, "the same question as long as its answer is not known"
    assert len({wish.request_id for wish in desk.lender.wishes}) == 2


async def test_a_lease_counts_from_before_it_was_asked_for() -> None:
    """Its answer may come late: the ledger's clock began when it was asked first."""
    desk = Desk()
    desk.lender.losses = 1
    await desk.warm()
    await desk.tend_after(59)
    desk.away()
    assert (await desk.reserve()).lent
    desk.now_s += 1
    with pytest.raises(BudgetUnavailable):
        await desk.reserve()


async def test_an_absent_ledger_is_asked_ever_more_rarely() -> None:
    desk = Desk()
    desk.lender.away = True
    await desk.warm()
    for _ in range(100):
        await desk.tend_after(0.1)
    assert 4 <= len(desk.lender.wishes) <= 6
    desk.lender.away = False
    await desk.warm()
    assert desk.lender.held, "its answer to a request ends the pause"


async def test_a_lease_is_renewed_while_it_is_wanted_and_given_back_when_not() -> None:
    desk = Desk()
    await desk.warm()
    await desk.tend_after(10)
    assert list(desk.lender.held) == ["allotment-0"]
    await desk.reserve()
    await desk.tend_after(20)
    assert list(desk.lender.held) == ["allotment-1"]
    await desk.tend_after(30)
    assert desk.lender.held == {}
    await desk.tend_after(30)
    assert (desk.lender.held, desk.lender.spent_nano_usd, len(desk.lender.booked)) == ({}, 0, 2)


async def test_a_new_model_is_priced_at_once() -> None:
    desk = Desk()
    await desk.warm()
    await desk.warm(DEAR)
    desk.away()
    assert (await desk.reserve(20, CHEAP, DEAR)).held_nano_usd == 60


async def test_a_refused_lease_is_not_asked_for_again_at_once() -> None:
    desk = Desk()
    await desk.warm(Candidate("new-ai", "unpriced"))
    assert desk.events.refusals == ["MODEL_UNPRICED"]
    await desk.warm(Candidate("new-ai", "unpriced"))
    await desk.tend_after(30)
    assert len(desk.lender.wishes) == 1
    desk.now_s += 31
    await desk.warm()
    assert desk.events.refusals == ["MODEL_UNPRICED"] * 2, "it was called again meanwhile"
    desk.now_s += 61
    await desk.warm()
    assert desk.lender.held, "it was not"


async def test_near_the_limit_nothing_is_lent_and_nobody_keeps_asking() -> None:
    desk = Desk(cap=1000)
    desk.lender.spent_nano_usd = 950
    await desk.warm()
    await desk.warm()
    assert (desk.lender.held, len(desk.lender.wishes)) == ({}, 1)


async def test_a_lease_denies_nobody() -> None:
    """What was lent to this replica counts as held, and a request was denied for it."""
    desk = Desk()
    await desk.warm()
    asked = desk.ports.reserve
    desk.script.reservation = BudgetExhausted([("organisation", "held")], None)

    async def reserve(*args: object) -> Reservation:
        if not desk.lender.held:
            desk.script.reservation = HOLD
        return await asked(*args)  # type: ignore[arg-type]

    desk.ports.reserve = reserve  # type: ignore[method-assign]
    assert await desk.reserve() == HOLD
    await desk.leases.tend()
    assert (desk.lender.held, len(desk.lender.wishes)) == ({}, 1), "near a limit no other is taken"


async def test_a_denial_stands_when_there_is_nothing_to_give_back() -> None:
    desk = Desk()
    desk.script.reservation = BudgetExhausted([("organisation", "spent")], None)
    with pytest.raises(BudgetExhausted):
        await desk.reserve()
    desk.script.reservation = RateLimited([("key", "too often")], 1.0)
    with pytest.raises(RateLimited):
        await desk.reserve()


async def test_the_newest_payers_have_leases() -> None:
    desk = Desk(max_payers=1)
    await desk.warm()
    desk.payer = BOB
    await desk.warm()
    assert list(desk.lender.held) == ["allotment-1"]
    desk.away()
    assert (await desk.reserve()).lent
    desk.payer = ADA
    with pytest.raises(BudgetUnavailable):
        await desk.reserve()


async def test_where_limits_are_that_a_lease_does_not_keep_none_is_held() -> None:
    desk = Desk()
    desk.lender.other_limits = True
    await desk.warm()
    await desk.leases.tend()
    assert desk.lender.held == {}
    await desk.tend_after(59)
    await desk.warm()
    assert len(desk.lender.wishes) == 1
    desk.away()
    with pytest.raises(BudgetUnavailable):
        await desk.reserve()


async def test_unless_that_is_wanted() -> None:
    desk = Desk(without_rates=True)
    desk.lender.other_limits = True
    await desk.warm()
    desk.away()
    assert (await desk.reserve()).lent


async def test_a_limit_on_a_query_holds() -> None:
    desk = Desk()
    desk.lender.most_per_call_nano_usd = 9
    await desk.warm()
    desk.away()
    with pytest.raises(BudgetUnavailable):
        await desk.reserve(10)
    assert (await desk.reserve(9)).lent


async def test_a_reservation_whose_answer_was_lost_is_withdrawn_and_not_paid_twice() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    lost = BudgetUnavailable(outage=True)
    lost.unanswered = "request-7"
    desk.script.reservation = lost
    assert (await desk.reserve()).lent
    await desk.ports.settled()
    assert desk.script.voided == ["withdrawn request-7"]


async def test_at_the_end_everything_is_given_back() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    await desk.ledger.commit(await desk.reserve(30), [line(12)])
    desk.away(away=False)
    await desk.leases.close(within_s=5)
    assert (desk.lender.held, desk.lender.spent_nano_usd, desk.events.losses) == ({}, 12, [])


async def test_what_cannot_be_given_back_at_the_end_is_said_to_be_lost() -> None:
    desk = Desk()
    await desk.warm()
    desk.payer = BOB
    await desk.warm()
    desk.away()
    await desk.ledger.commit(await desk.reserve(30), [line(12)])
    await desk.leases.close(within_s=0.01)
    assert desk.events.losses == [("allotment-1", 12)], "of what was never used nothing is lost"


async def test_the_loop_does_it_by_itself() -> None:
    desk = Desk()
    loop = asyncio.create_task(desk.leases.run())
    await desk.reserve()
    async with asyncio.timeout(5):
        while not desk.lender.held:
            await asyncio.sleep(0)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_the_answer_says_that_the_ledger_was_away() -> None:
    desk = Desk(amount=10**6, cap=10**7)
    await desk.warm()
    desk.away()
    services = desk.ports.services(MemoryRecords(10))
    record = Record("q-1", "t" * 32, "acme", 1)
    policy = Policy(guard_required=True, semantic_cache=False, assumed_output_tokens=100)
    coordinator = Coordinator(replace(services, ledger=desk.ledger), policy, desk.ports.drains())
    answered = await coordinator.complete("request", record)
    assert answered.record.degraded == ["ledger"]
    refused = Record("q-2", "t" * 32, "acme", 1)
    desk.now_s += 61
    with pytest.raises(RequestFailed):
        await coordinator.complete("request", refused)
    assert (refused.degraded, refused.reason) == ([], "BUDGET_UNAVAILABLE")
    await desk.ports.settled()
