"""Calls that their caller left: read to their end where the provider bills them all the same, and booked once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.orchestrator.adapters.memory import MemoryRecords
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.errors import BudgetExhausted, ModelFailed, OutputBlocked, StreamCut
from services.orchestrator.core.model import (
    Candidate,
    CheckedOutput,
    Delta,
    Finished,
    Plan,
    Record,
    Reservation,
    Started,
    Usage,
    UsageLine,
)
from services.orchestrator.core.policy import Metering, Policy
from tests.support.orchestrator_ports import CHEAP, USED, Script, ScriptedServices

POLICY = Policy(
    guard_required=True, semantic_cache=False, assumed_output_tokens=1000, metering=Metering(report_s=3600.0)
)
OTHER = Candidate("other-ai", "big-1")
MARKED = Plan((CHEAP,), ("cheap",), 0, "route#1", drained=frozenset({CHEAP}))
COUNTED = (UsageLine(CHEAP, USED, 1),)
COUNTED_NANO_USD = 2 * USED.input_tokens + 10 * USED.output_tokens
LOST = ModelFailed("UNAVAILABLE", "UPSTREAM_STREAM_CUT", "cut", {})


class Case:
    """`more` lets the model write its next pieces; `closed` says that its call was ended before its end."""

    def __init__(self, script: Script, max_at_once: int = 8) -> None:
        self.script = script
        self.more = asyncio.Event()
        self.closed = asyncio.Event()
        self.read = 0
        script.pace = self._pace
        self.ports = ScriptedServices(script)
        self.records = MemoryRecords(10)
        self.record = Record("q-1", "t" * 32, "acme", 1)
        self.coordinator = Coordinator(
            self.ports.services(self.records), POLICY, self.ports.drains(max_at_once=max_at_once)
        )

    async def _pace(self) -> None:
        self.read += 1
        try:
            await self.more.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.closed.set()
            raise

    async def leave(self) -> None:
        """After the first piece."""
        async with aclosing(self.coordinator.stream("request", self.record)) as events:
            assert isinstance(await anext(events), Started)
            assert isinstance(await anext(events), Delta)
        for _ in range(5):
            await asyncio.sleep(0)

    async def left_call(self) -> asyncio.Task[object]:
        """A whole answer whose caller leaves while the model works on it."""
        self.script.model_gate = asyncio.Event()
        asking: asyncio.Task[object] = asyncio.create_task(self.coordinator.complete("request", self.record))  # type: ignore[arg-type]
        while "model" not in self.script.log:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return asking


def estimated(pieces: int) -> Usage:
    return Usage(26, 10 * pieces, estimated=True)


async def test_litellm_36008_a_stream_that_was_left_is_read_to_its_end_and_booked_by_the_providers_count() -> None:
    """BerriAI/litellm#36008: the provider billed the whole answer, and what had come was booked."""
    case = Case(Script(plan=MARKED, pieces=("a", "b", "c")))
    await case.leave()
    assert case.script.committed == []
    assert case.record.cost_nano_usd == 2 * 26 + 10 * 10
    assert case.record.usage.estimated
    case.more.set()
    await case.ports.settled()
    assert case.script.committed == [COUNTED]
    assert (case.script.drained, case.read) == (["counted"], 3)
    kept = case.records.get("acme", "q-1")
    assert (kept.status, kept.usage, kept.cost_nano_usd) == ("CANCELLED", USED, COUNTED_NANO_USD)
    # What nobody saw is nobody's: neither an answer for the next caller nor a copy.
    assert case.script.stored == []


async def test_without_the_mark_the_call_is_ended_at_once() -> None:
    case = Case(Script(pieces=("a", "b", "c")))
    await case.leave()
    case.more.set()
    await case.ports.settled()
    [[line]] = case.script.committed
    assert (line.usage, case.script.drained, case.read) == (estimated(1), [], 0)


async def test_a_stream_that_is_read_by_its_caller_is_booked_as_any_other() -> None:
    case = Case(Script(plan=MARKED, pieces=("a", "b", "c")))
    case.more.set()
    events = [event async for event in case.coordinator.stream("request", case.record)]
    await case.ports.settled()
    assert [type(event) for event in events] == [Started, Delta, Delta, Delta, Finished]
    assert (case.script.committed, case.script.drained) == ([COUNTED], [])


async def test_a_slow_reader_slows_the_provider_also_when_a_task_of_its_own_reads() -> None:
    case = Case(Script(plan=MARKED, pieces=("a",) * 50))
    case.more.set()
    async with aclosing(case.coordinator.stream("request", case.record)) as events:
        await anext(events)
        await anext(events)
        for _ in range(100):
            await asyncio.sleep(0)
        # One with the reader, one waiting, one in the reader's hands.
        assert case.read <= 3
    await case.ports.settled()
    assert (case.read, case.script.committed) == (50, [COUNTED])


async def test_a_stream_that_was_left_before_its_first_piece_is_read_too() -> None:
    case = Case(Script(plan=MARKED, model_gate=asyncio.Event()))
    case.more.set()
    asking = asyncio.ensure_future(anext(case.coordinator.stream("request", case.record)))
    while "model" not in case.script.log:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert case.script.committed == []
    assert case.script.model_gate is not None
    case.script.model_gate.set()
    await case.ports.settled()
    assert (case.script.committed, case.script.drained) == ([COUNTED], ["counted"])


async def test_another_model_that_answers_in_its_place_is_ended_at_once() -> None:
    """The plan's first is marked; by the time of the first piece it is known that the second one answers."""
    plan = replace(MARKED, candidates=(OTHER, CHEAP), model_names=("big", "cheap"), drained=frozenset({OTHER}))
    case = Case(Script(plan=plan, pieces=("a", "b", "c")))
    await case.leave()
    assert case.closed.is_set()
    await case.ports.settled()
    [[line]] = case.script.committed
    assert (line.candidate, line.usage, case.script.drained) == (CHEAP, estimated(1), [])


async def test_a_model_that_only_answers_once_the_caller_has_left_is_ended_at_its_first_piece() -> None:
    plan = replace(MARKED, candidates=(OTHER, CHEAP), model_names=("big", "cheap"), drained=frozenset({OTHER}))
    case = Case(Script(plan=plan, pieces=("a", "b", "c"), model_gate=asyncio.Event()))
    case.more.set()
    asking = asyncio.ensure_future(anext(case.coordinator.stream("request", case.record)))
    while "model" not in case.script.log:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert case.script.model_gate is not None
    case.script.model_gate.set()
    await case.ports.settled()
    [[line]] = case.script.committed
    assert (line.candidate, line.usage) == (CHEAP, estimated(1))
    assert (case.read, case.script.drained) == (0, ["estimated"])


async def test_above_the_limit_calls_are_ended_and_booked_by_estimate() -> None:
    case = Case(Script(plan=MARKED, pieces=("a", "b", "c")), max_at_once=0)
    await case.leave()
    assert case.closed.is_set()
    await case.ports.settled()
    [[line]] = case.script.committed
    assert (line.usage, case.script.drained) == (estimated(1), ["no-room"])


@pytest.mark.parametrize(
    ("billed", "booked"), [(None, estimated(2)), ((UsageLine(CHEAP, Usage(7, 3), 1),), Usage(7, 3))]
)
async def test_a_stream_that_breaks_off_without_its_caller_is_booked_as_any_other(
    billed: tuple[UsageLine, ...] | None, booked: Usage
) -> None:
    case = Case(Script(plan=MARKED, pieces=("a", "b", LOST), billed=billed))
    await case.leave()
    case.more.set()
    await case.ports.settled()
    [[line]] = case.script.committed
    assert (line.usage, case.script.drained) == (booked, ["estimated"])


async def test_a_process_that_ends_gives_such_a_call_up_and_books_what_came() -> None:
    case = Case(Script(plan=MARKED, pieces=("a", "b", "c")))
    await case.leave()
    [drain] = [task for task in case.ports.tasks if not task.done()]
    drain.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drain
    case.ports.tasks.remove(drain)
    await case.ports.settled()
    assert case.closed.is_set()
    [[line]] = case.script.committed
    assert (line.usage, case.script.drained) == (estimated(1), ["estimated"])


async def test_a_stream_whose_money_ran_out_says_that_its_bill_is_not_final_and_is_read_to_its_end() -> None:
    """What it costs in the end is booked, as an overrun: ending the call would save nothing."""
    refused = BudgetExhausted([("organisation", "spent")], None)
    held = Reservation("r-1", None, held_nano_usd=2 * 26 + 10 * 100)
    case = Case(Script(plan=MARKED, pieces=("a",) * 20, extension=refused, reservation=held))
    shown, permits = 0, asyncio.Semaphore(0)

    async def pace() -> None:
        """A model that writes a piece when the one before was shown."""
        case.read += 1
        await permits.acquire()

    case.script.pace = pace
    with pytest.raises(StreamCut) as caught:
        async for event in case.coordinator.stream("request", case.record):
            if isinstance(event, Delta):
                shown += 1
                permits.release()
            await asyncio.sleep(0)
    assert caught.value.metadata["billed_final"] == "false"
    # The hold is for ten; one more was read by then.
    assert shown == 10
    assert int(caught.value.metadata["billed_nano_usd"]) == 2 * 26 + 10 * 10 * 11
    assert case.script.committed == []
    for _ in range(20):
        permits.release()
    await case.ports.settled()
    assert (case.script.committed, case.script.drained, case.read) == ([COUNTED], ["counted"], 20)
    assert case.record.reason == "BUDGET_EXHAUSTED"


async def test_a_stream_that_the_guard_blocks_is_read_to_its_end() -> None:
    case = Case(Script(plan=MARKED, pieces=("a", "b", "c")))
    blocked = CheckedOutput(
        blocked=True,
        detectors=("pii-card",),
        schema_violations=(),
        completion=None,
        verdict="no",
        grounding_score=None,
    )

    async def block(_turn: object, _checked: object, pieces: object, progress: object) -> object:
        yield await anext(pieces)  # type: ignore[call-overload]
        progress.output = blocked  # type: ignore[attr-defined]

    case.ports.check_stream = block  # type: ignore[assignment,method-assign]
    with pytest.raises(OutputBlocked):
        async for _ in case.coordinator.stream("request", case.record):
            pass
    assert case.script.committed == []
    case.more.set()
    await case.ports.settled()
    assert (case.script.committed, case.script.drained, case.read) == ([COUNTED], ["counted"], 3)


async def test_a_whole_answer_that_nobody_waits_for_is_booked_by_the_providers_count() -> None:
    case = Case(Script(plan=MARKED))
    await case.left_call()
    assert case.script.committed == []
    assert case.script.model_gate is not None
    case.script.model_gate.set()
    await case.ports.settled()
    assert (case.script.committed, case.script.drained) == ([COUNTED], ["counted"])
    kept = case.records.get("acme", "q-1")
    assert (kept.status, kept.model, kept.usage) == ("CANCELLED", "acme-ai/cheap-1", USED)
    assert (kept.cost_nano_usd, tuple(kept.attempts)) == (COUNTED_NANO_USD, ("attempt",))  # type: ignore[arg-type]
    assert "check_output" not in case.script.log


async def test_a_whole_answer_without_the_mark_or_without_room_is_ended_at_once() -> None:
    for case, outcomes in ((Case(Script()), []), (Case(Script(plan=MARKED), max_at_once=0), ["no-room"])):
        await case.left_call()
        await case.ports.settled()
        [[line]] = case.script.committed
        assert (line.usage, case.script.drained) == (estimated(0), outcomes)


async def test_a_call_that_fails_without_its_caller_is_booked_as_any_other() -> None:
    case = Case(Script(plan=MARKED, answer=LOST))
    await case.left_call()
    assert case.script.model_gate is not None
    case.script.model_gate.set()
    await case.ports.settled()
    assert (case.script.voided, case.script.committed) == (["upstream-refused"], [])
    assert (case.script.drained, case.record.cost_nano_usd) == (["estimated"], 0)


async def test_a_whole_answer_is_given_up_when_the_process_ends() -> None:
    case = Case(Script(plan=MARKED))
    await case.left_call()
    [drain] = [task for task in case.ports.tasks if not task.done()]
    drain.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drain
    case.ports.tasks.remove(drain)
    await case.ports.settled()
    [[line]] = case.script.committed
    assert (line.usage, case.script.drained) == (estimated(0), ["estimated"])
