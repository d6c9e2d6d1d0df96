"""What a running stream costs: the hold is raised in time, spending is reported, and money that has run out cuts.

The scripted ledger asks 2 nano-USD per input token and 10 per output token; the request has 26 tokens, each piece 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.orchestrator.adapters.memory import MemoryRecords
from services.orchestrator.adapters.router import RemoteRouter
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.errors import BudgetExhausted, BudgetUnavailable, ModelFailed, StreamCut
from services.orchestrator.core.metering import Meter
from services.orchestrator.core.model import UNCHECKED, Delta, Plan, Progress, Record, Reservation, Usage, UsageLine
from services.orchestrator.core.policy import UNREAD_TOKENS, Metering, Policy
from tests.support.orchestrator_ports import Script, ScriptedServices
from tests.unit.orchestrator.test_router_adapter import ContinuedStream, any_turn

# Once something came: the input, and what is on its way.
BEGUN_NANO_USD, PIECE_NANO_USD, HELD_NANO_USD = 52 + 10 * UNREAD_TOKENS, 100, 1000
POLICY = Policy(guard_required=True, semantic_cache=True, assumed_output_tokens=1000)
REFUSED = BudgetExhausted([("organisation", "spent")], 60)


async def a_moment() -> None:
    await asyncio.sleep(0)


def script(pieces: int = 20, held_nano_usd: int = HELD_NANO_USD, covered: int = 0, **more: object) -> Script:
    hold = Reservation("r-1", None, held_nano_usd, covered)
    return Script(pieces=("x",) * pieces, reservation=hold, pace=a_moment, **more)  # type: ignore[arg-type]


class Case:
    def __init__(self, played: Script, policy: Policy = POLICY) -> None:
        self.script = played
        self.ports = ScriptedServices(played)
        self.record = Record("q-1", "t" * 32, "acme", 1)
        self.coordinator = Coordinator(self.ports.services(MemoryRecords(10)), policy, self.ports.drains())
        self.shown = 0

    async def stream(self) -> None:
        try:
            async with aclosing(self.coordinator.stream("request", self.record)) as events:
                async for event in events:
                    self.shown += isinstance(event, Delta)
        finally:
            await self.ports.settled()


async def test_a_hold_is_raised_when_four_fifths_are_used() -> None:
    case = Case(script(pieces=12))
    await case.stream()
    assert case.shown == 12
    assert case.script.extended == [(HELD_NANO_USD, BEGUN_NANO_USD + 6 * PIECE_NANO_USD)]


async def test_a_long_stream_raises_again_and_again() -> None:
    case = Case(script(pieces=40))
    await case.stream()
    spent = [spent for _, spent in case.script.extended]
    assert spent == [812, 1612, 2412, 3212, 4012]
    assert case.shown == 40


async def test_a_stream_within_its_hold_asks_nothing() -> None:
    case = Case(script(pieces=5))
    await case.stream()
    assert case.script.extended == []


@pytest.mark.parametrize("played", [script(covered=4096), script(held_nano_usd=0)])
async def test_a_hold_that_covers_everything_is_not_raised(played: Script) -> None:
    """The caller named a maximum, or the model is free: the estimate by bytes may be too high, the maximum is not."""
    case = Case(played)
    await case.stream()
    assert case.script.extended == []
    assert case.shown == 20


async def test_without_more_money_the_stream_is_cut_where_its_hold_ends() -> None:
    case = Case(script(extension=REFUSED))
    with pytest.raises(StreamCut) as caught:
        await case.stream()
    assert (case.shown, len(case.script.extended)) == (8, 1)
    [[line]] = case.script.committed
    assert line.usage == Usage(input_tokens=26, output_tokens=80 + UNREAD_TOKENS, estimated=True)
    billed = BEGUN_NANO_USD + 8 * PIECE_NANO_USD
    assert case.record.cost_nano_usd == billed
    assert caught.value.metadata == {"billed_nano_usd": str(billed)}
    assert (caught.value.reason, caught.value.quota_violations) == ("BUDGET_EXHAUSTED", [("organisation", "spent")])
    assert case.record.reason == "BUDGET_EXHAUSTED"
    assert case.script.stored == []


async def test_a_stream_that_ends_within_its_hold_is_not_cut() -> None:
    case = Case(script(pieces=7, extension=REFUSED))
    await case.stream()
    assert (case.shown, len(case.script.extended)) == (7, 1)


async def test_the_operator_may_let_it_finish() -> None:
    case = Case(script(extension=REFUSED), replace(POLICY, metering=Metering(cut=False)))
    await case.stream()
    assert (case.shown, len(case.script.extended)) == (20, 1)


async def test_without_the_ledger_a_stream_goes_on_and_asks_again() -> None:
    case = Case(script(pieces=12, extension=BudgetUnavailable()))
    await case.stream()
    assert case.shown == 12
    assert len(case.script.extended) > 1


async def test_the_stream_does_not_wait_for_the_ledger_and_asks_once() -> None:
    case = Case(script())
    gate = asyncio.Event()
    extend_at_once = case.ports.extend

    async def extend(hold: Reservation, number: int, add_nano_usd: int, spent_nano_usd: int) -> int:
        held = await extend_at_once(hold, number, add_nano_usd, spent_nano_usd)
        await gate.wait()
        return held

    case.ports.extend = extend  # type: ignore[method-assign]
    streaming = asyncio.ensure_future(case.stream())
    while case.shown < 20:
        await asyncio.sleep(0)
    gate.set()
    await streaming
    assert len(case.script.extended) == 1


async def test_spending_is_reported_while_the_stream_runs() -> None:
    played = script(pieces=4, covered=4096)

    async def until_reported() -> None:
        while not played.extended:
            await asyncio.sleep(0.001)

    played.pace = until_reported
    case = Case(played, replace(POLICY, metering=Metering(report_s=0.01)))
    await case.stream()
    assert played.extended[0] == (0, BEGUN_NANO_USD + PIECE_NANO_USD)
    reports = len(played.extended)
    await asyncio.sleep(0.05)
    assert len(played.extended) == reports, "nothing is reported of a stream that has ended"


async def test_what_an_earlier_model_wrote_is_not_counted_again_at_the_price_of_the_next() -> None:
    """Its part is in its own try: counted twice, a stream that another model goes on with was cut early."""
    case = Case(script(pieces=8))
    shown = 0

    async def pace() -> None:
        nonlocal shown
        shown += 1
        progress = case.ports.progress
        if shown == 5:
            progress.earlier_bytes = progress.received_bytes
        await asyncio.sleep(0)

    case.script.pace = pace
    await case.stream()
    assert case.script.extended == [], "three pieces of the second model, and what it was shown, are within the hold"


class FreeThenDear(ScriptedServices):
    """The model that breaks off costs nothing, the one that goes on does."""

    def cost_nano_usd(self, reservation: Reservation, lines: Sequence[UsageLine]) -> int:
        return super().cost_nano_usd(reservation, [line for line in lines if line.candidate.provider == "other-ai"])


async def test_a_model_that_goes_on_with_an_answer_that_cost_nothing_is_watched_as_well() -> None:
    """No alarm was set for the first one, and none ever rang for the second: no hold was raised, no stream cut."""
    reservation, progress, plan = Reservation("r-1", None, 40), Progress(), Plan((), (), 0, "")
    ports = FreeThenDear(Script(reservation=reservation))
    meter = Meter(ports, ports, Metering(), reservation, any_turn(), plan, progress, covered=False)
    meter.open()
    try:
        with pytest.raises(ModelFailed, match="before it was complete"):
            async for _ in RemoteRouter(ContinuedStream("one", "more")).stream(any_turn(), plan, UNCHECKED, progress):
                pass
    finally:
        meter.close()
    await ports.settled()
    assert [added for added, _ in ports.script.extended] == [40]
