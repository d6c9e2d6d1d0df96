"""Leases come back as their calls end, over the lender in memory and over the real ledger's core."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from meshkit.money import cost_nano_usd
from services.ledger.adapters.memory import MemoryStore, RecordedEvents
from services.ledger.core import limits, operations
from services.ledger.core.service import Model, Rules
from services.ledger.core.windows import MICROSECONDS, Period, SteadyClock
from services.orchestrator.adapters.memory import RecordedLendingEvents
from services.orchestrator.core.errors import BudgetExhausted, BudgetUnavailable
from services.orchestrator.core.leases import Ask, Lease, Part, Payer, Price
from services.orchestrator.core.lending import Leases, LendingPolicy
from services.orchestrator.core.model import Candidate, Reservation, Usage, UsageLine
from services.orchestrator.core.ports import Loan, Wish
from tests.support.lending_desk import ADA, BOB, HOLD, Desk, line
from tests.unit.ledger.builders import TurnableClock, desk_ledger, limit, used_tokens

UNIT = Candidate("acme-ai", "unit")
CAP, LENT, SETTLE_S = 1000, 400, 300.0


class CoreLender:
    """The port `Lender` over the ledger's core, without a wire between."""

    def __init__(self) -> None:
        self.clock = TurnableClock()
        steady = SteadyClock(self.clock.time_ns, self.clock.elapsed_ns)
        self.store = MemoryStore(steady, cost_nano_usd)
        self.ledger = desk_ledger(self.store, steady, RecordedEvents(), Rules(max_lent_basis_points=5000))

    async def take(self, wish: Wish) -> Loan | None:
        models = tuple((model.provider, model.model) for model in wish.models)
        terms = operations.LeaseTerms(models, wish.max_input_tokens, int(wish.settle_within_s * MICROSECONDS))
        lease_us = int(wish.lease_s * MICROSECONDS)
        lent = await self.ledger.allot(
            limits.Payer(*wish.payer), wish.request_id, wish.amount_nano_usd, lease_us, "edge", terms
        )
        prices = tuple(Price(*(getattr(price, name) for name in Price._fields)) for price in lent.prices)
        return Loan(lent.allotment_id, lent.granted_nano_usd, prices, None, False) if lent.allotment_id else None

    async def give_back(self, lease: Lease) -> int:
        return await self._book(lease, "return", None)

    async def give_back_part(self, part: Part) -> int:
        kept = operations.Kept(part.keep_nano_usd, int(part.keep_for_s * MICROSECONDS))
        return await self._book(part.lease, f"return:{part.number}", kept)

    async def _book(self, lease: Lease, name: str, kept: operations.Kept | None) -> int:
        used = [used_tokens(x.usage.output_tokens) for x in lease.lines]
        request_id = f"{lease.allotment_id}:{name}"
        booked = await self.ledger.commit(
            limits.Payer(*lease.payer), request_id, lease.allotment_id, used, lent=True, kept=kept
        )
        return booked.amount_nano_usd

    def used(self) -> tuple[int, int]:
        [counter] = self.store.books.counters.values()
        return counter.spent_nano_usd, counter.held_nano_usd


async def test_one_open_stream_keeps_no_spending_from_the_books_and_the_limit_holds() -> None:
    """The ledger answered all the time, and half a lease was spent and unbooked until its hold was gone."""
    lender = CoreLender()
    await lender.store.declare_limits([limit(limits.Scope.ORGANISATION, Period.DAY, CAP)])
    numbers = count(1)
    policy = LendingPolicy(LENT, 60.0, SETTLE_S, 10, 1000)
    leases = Leases(lender, policy, lender.clock, cost_nano_usd, lambda: f"w{next(numbers)}", RecordedLendingEvents())
    leases.served(ADA, [UNIT])
    await leases.tend()
    call, stream = leases.grant(ADA, Ask((UNIT,), 0, 380)), leases.grant(ADA, Ask((UNIT,), 0, 20))
    assert call is not None
    assert stream is not None
    leases.settle(call.hold_id, [UsageLine(UNIT, Usage(output_tokens=380), 1)])
    leases.answered()
    await leases.tend()
    assert lender.used()[0] == 380, "at once"
    for _ in range(40):
        lender.clock.turn(30)
        await leases.tend()
        await lender.ledger.sweep(100)
    assert lender.used() == (380, 20), "twenty minutes later the stream still has its hold, and nothing else is held"
    bob = limits.Payer(*BOB)
    asked = [await lender.ledger.reserve(bob, f"r{n}", [Model("acme-ai", "unit")], 0, n, 0) for n in (601, 600)]
    assert [answer.granted for answer in asked] == [False, True]
    await lender.ledger.commit(bob, "c", asked[1].reservation_id, [used_tokens(600)])
    leases.settle(stream.hold_id, [UsageLine(UNIT, Usage(output_tokens=20), 1)])
    await leases.tend()
    assert lender.used() == (CAP, 0)


async def test_what_a_crash_would_lose_are_calls_under_way() -> None:
    desk = Desk(cap=100_000)
    for _ in range(4):
        desk.away(away=False)
        await desk.warm()
        await desk.tend_after(1)
        desk.away()
        call, _ = await desk.reserve(90), await desk.reserve(10)
        await desk.ledger.commit(call, [line(90)])
        await desk.tend_after(5)
    desk.away(away=False)
    await desk.warm()
    await desk.tend_after(1)
    assert desk.lender.spent_nano_usd == 4 * 90
    assert sorted(desk.lender.held.values()) == [10, 10, 10, 10, 100]


async def test_a_part_whose_answer_was_lost_is_repeated_as_it_was() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    calls = [await desk.reserve(30) for _ in range(3)]
    await desk.ledger.commit(calls[0], [line(12)])
    desk.away(away=False)
    await desk.reserve()
    await desk.leases.tend()
    desk.lender.losses = 2
    await desk.ledger.commit(calls[1], [line(13)])
    await desk.tend_after(1)
    assert (desk.lender.losses, desk.lender.spent_nano_usd) == (1, 25)
    await desk.ledger.commit(calls[2], [line(14)])
    for _ in range(4):
        await desk.tend_after(5)
    assert desk.lender.spent_nano_usd == 12 + 13 + 14
    assert list(desk.lender.parts.values()) == [(line(12),), (line(13),)]
    assert desk.lender.booked["allotment-0"] == (line(14),)
    assert desk.events.refusals == []


async def test_a_stream_may_raise_its_hold_until_the_lease_ends_and_then_keeps_what_it_holds() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    call, stream = await desk.reserve(30), await desk.reserve(40)
    await desk.ledger.commit(call, [line(30)])
    desk.away(away=False)
    await desk.reserve()
    await desk.leases.tend()
    assert desk.lender.held["allotment-0"] == 70
    assert await desk.ledger.extend(stream, 1, 10, 40) == 50
    await desk.tend_after(60)
    assert desk.lender.held["allotment-0"] == 50


async def test_what_is_lost_at_the_end_is_what_was_not_booked() -> None:
    desk = Desk()
    await desk.warm()
    desk.away()
    call, other = await desk.reserve(30), await desk.reserve(40)
    await desk.ledger.commit(call, [line(30)])
    desk.away(away=False)
    await desk.reserve()
    await desk.leases.tend()
    desk.away()
    await desk.ledger.commit(other, [line(7)])
    await desk.leases.close(within_s=0.01)
    assert desk.events.losses == [("allotment-0", 7)]


class Renewal:
    """A desk whose lease is being renewed: the ledger has lent, and its answer is on its way."""

    def __init__(self) -> None:
        self.desk = Desk(amount=400)
        self.arrives = asyncio.Event()

    async def begin(self, *, renewed: bool = True) -> asyncio.Task[None]:
        if renewed:
            await self.desk.warm()
        take = self.desk.lender.take

        async def late(wish: Wish) -> Loan | None:
            loan = await take(wish)
            await self.arrives.wait()
            return loan

        self.desk.lender.take = late  # type: ignore[method-assign]
        self.desk.now_s += 31
        await self.desk.reserve()
        tending = asyncio.create_task(self.desk.leases.tend())
        while len(self.desk.lender.held) < 1 + renewed:
            await asyncio.sleep(0)
        return tending


@pytest.mark.parametrize("renewed", [True, False])
async def test_a_denial_waits_for_a_lease_that_is_being_taken_and_gives_it_back(*, renewed: bool) -> None:
    renewal = Renewal()
    desk, tending = renewal.desk, await renewal.begin(renewed=renewed)
    releasing = asyncio.create_task(desk.leases.release(ADA, ["organisation"]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not releasing.done()
    renewal.arrives.set()
    assert await releasing
    assert desk.lender.held == {}
    await tending
    for _ in range(3):
        await desk.tend_after(1)
    assert desk.lender.held == {}, "for one that a denial gave back no other is taken"


async def test_a_lease_that_comes_after_a_denial_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.orchestrator.core.lending._MAX_ASKING_S", 0.0)
    renewal = Renewal()
    desk, tending = renewal.desk, await renewal.begin()
    assert await desk.leases.release(ADA, ["organisation"])
    assert list(desk.lender.held) == ["allotment-1"], "nobody waits for ever"
    renewal.arrives.set()
    await tending
    assert desk.lender.held == {}


async def test_what_was_asked_for_before_a_denial_is_asked_about_until_it_is_known() -> None:
    desk = Desk()
    await desk.warm()
    await desk.tend_after(29)
    await desk.reserve()
    desk.lender.losses = 1
    await desk.tend_after(1)
    assert len(desk.lender.held) == 2
    assert await desk.leases.release(ADA, ["organisation"])
    await desk.tend_after(1)
    assert desk.lender.held == {}


async def test_a_denial_gives_back_the_leases_that_count_on_the_same_limit() -> None:
    """A call was denied for money that lay here, in idle leases of the same organisation."""
    desk = Desk()
    payers = [
        Payer("acme", "sales", "ada", "key-1", ""),
        Payer("acme", "sales", "bob", "key-2", ""),
        Payer("acme", "legal", "cy", "key-2", ""),
        Payer("globex", "sales", "ada", "key-9", ""),
    ]
    for desk.payer in payers:
        await desk.warm()
    denied = asyncio.Event()
    asked = desk.ports.reserve

    async def reserve(*args: object) -> Reservation:
        desk.script.reservation = HOLD if denied.is_set() else BudgetExhausted([(scope, "held")], None)
        denied.set()
        return await asked(*args)  # type: ignore[arg-type]

    desk.ports.reserve = reserve  # type: ignore[assignment,method-assign]
    held = []
    for scope, desk.payer in (
        ("user:x", payers[0]),
        ("team", payers[0]),
        ("key", payers[1]),
        ("organisation", payers[1]),
    ):
        denied.clear()
        if scope == "organisation":
            with pytest.raises(BudgetExhausted):
                await desk.reserve()
        else:
            assert await desk.reserve() == HOLD
        held.append(sorted(desk.lender.held))
    names = [f"allotment-{n}" for n in range(4)]
    assert held == [names[1:], names[2:], names[3:], names[3:]]


async def test_a_call_that_is_too_dear_by_itself_gives_nothing_back() -> None:
    desk = Desk()
    await desk.warm()
    desk.script.reservation = BudgetExhausted([("organisation", "per query")], None, by_size=True)
    with pytest.raises(BudgetExhausted):
        await desk.reserve()
    assert list(desk.lender.held) == ["allotment-0"]


async def test_one_organisation_takes_no_others_places() -> None:
    """Ten calls with new end users, and every other tenant was without leases."""
    desk = Desk(cap=10**9, max_payers=10, of_one=4)
    desk.payer = carol = Payer("globex", "", "carol", "key-9", "")
    await desk.warm()
    for number in range(20):
        desk.payer = Payer("acme", "", f"end-user-{number}", "key-1", "")
        await desk.warm()
    await desk.leases.tend()
    assert len(desk.lender.held) == 1 + 4
    desk.away()
    assert (await desk.reserve()).lent
    desk.payer = carol
    assert (await desk.reserve()).lent
    desk.payer = Payer("acme", "", "end-user-15", "key-1", "")
    with pytest.raises(BudgetUnavailable):
        await desk.reserve()


async def test_when_all_places_are_taken_whoever_has_the_most_gives_one_up() -> None:
    desk = Desk(cap=10**9, max_payers=4, of_one=3)
    desk.payer = carol = Payer("globex", "", "carol", "key-9", "")
    await desk.warm()
    for number in range(3):
        desk.payer = Payer("acme", "", f"end-user-{number}", "key-1", "")
        await desk.warm()
    desk.payer = Payer("initech", "", "", "key-5", "")
    await desk.warm()
    desk.away()
    newest = desk.payer
    for desk.payer in (carol, newest):
        assert (await desk.reserve()).lent
