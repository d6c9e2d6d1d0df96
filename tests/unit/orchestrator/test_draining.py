"""Streams that their caller left: read to their end where the provider bills them all the same, and booked once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.orchestrator.core.draining import DetachedStream, is_drained
from services.orchestrator.core.errors import BudgetExhausted, OutputBlocked, StreamCut
from services.orchestrator.core.model import (
    Candidate,
    CheckedOutput,
    Continued,
    Delta,
    Finished,
    Progress,
    Reservation,
    Started,
    Usage,
    UsageLine,
)
from tests.support.left_calls import COUNTED, COUNTED_NANO_USD, LOST, MARKED, OTHER, Case, estimated
from tests.support.orchestrator_ports import CHEAP, USED, Script


async def test_litellm_36008_a_stream_that_was_left_is_read_to_its_end_and_booked_by_the_providers_count() -> None:
    """BerriAI/litellm#36008: the provider billed the whole answer, and what had come was booked."""
    case = Case(Script(plan=MARKED, pieces=("a", "b", "c")))
    await case.leave()
    assert case.script.committed == []
    assert case.record.cost_nano_usd == 2 * 26 + 10 * estimated(1).output_tokens
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
    case = Case(Script(plan=MARKED))
    await case.left_stream()
    assert case.script.committed == []
    await case.answered()
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
    case = Case(Script(plan=plan, pieces=("a", "b", "c")))
    await case.left_stream()
    await case.answered()
    [[line]] = case.script.committed
    assert (line.candidate, line.usage) == (CHEAP, estimated(1))
    assert (case.read, case.script.drained) == (0, ["estimated"])


@pytest.mark.parametrize("running", [(OTHER, CHEAP), (CHEAP, OTHER)])
def test_of_two_that_run_side_by_side_the_mark_of_either_counts(running: tuple[Candidate, ...]) -> None:
    assert is_drained(MARKED, Progress(running=running))
    assert not is_drained(MARKED, Progress(running=(OTHER,)))
    assert not is_drained(MARKED, Progress(running=()))
    assert is_drained(MARKED, Progress())


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
    assert case.record.usage == booked


async def test_a_stream_that_was_left_after_its_end_had_come_is_booked_at_once() -> None:
    case = Case(Script(plan=MARKED, pieces=("a",)))
    case.more.set()
    await case.leave()
    await case.ports.settled()
    assert (case.script.committed, case.script.drained) == ([COUNTED], [])
    assert (case.record.usage, case.record.cost_nano_usd) == (USED, COUNTED_NANO_USD)


async def test_whoever_waits_for_a_piece_learns_of_the_cut() -> None:
    progress = Progress(running=(CHEAP,))
    refused = StreamCut(BudgetExhausted([("organisation", "spent")], None))

    def alarm() -> None:
        raise refused

    async def stream() -> AsyncGenerator[object, None]:
        yield "a"
        await asyncio.sleep(0.01)
        progress.alarm()
        await asyncio.sleep(0.01)

    progress.alarm = alarm
    detached, taken = DetachedStream(stream(), MARKED, progress), []
    with pytest.raises(StreamCut):
        async for piece in detached.pieces():
            taken.append(piece)
    assert taken == ["a"]
    assert detached.left
    await detached.end()


async def test_a_process_that_ends_gives_such_a_call_up_and_books_what_came() -> None:
    case = Case(Script(plan=MARKED, pieces=("a", "b", "c")))
    await case.leave()
    await case.given_up()
    assert case.closed.is_set()
    [[line]] = case.script.committed
    assert (line.usage, case.script.drained) == (estimated(1), ["estimated"])


async def test_a_stream_whose_money_ran_out_says_that_its_bill_is_not_final_and_is_read_to_its_end() -> None:
    """What it costs in the end is booked, as an overrun: ending the call would save nothing."""
    refused = BudgetExhausted([("organisation", "spent")], None)
    held = Reservation("r-1", None, held_nano_usd=2 * 26 + 10 * estimated(10).output_tokens)
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
    assert int(caught.value.metadata["billed_nano_usd"]) == 2 * 26 + 10 * estimated(11).output_tokens
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


async def test_the_reader_is_ahead_of_what_is_shown_and_the_names_are_not() -> None:
    case = Case(Script(plan=replace(MARKED, drained=frozenset({CHEAP, OTHER})), pieces=("a", "b")))

    async def goes_on() -> None:
        progress = case.ports.progress
        progress.continued, progress.earlier_bytes = True, progress.received_bytes
        progress.model, progress.running = "other-ai/big-1", (OTHER,)

    case.script.pace = goes_on
    seen = []
    async for event in case.coordinator.stream("request", case.record):
        seen.append((type(event), case.record.model))
        await asyncio.sleep(0)
    first, second = "acme-ai/cheap-1", "other-ai/big-1"
    assert seen[:2] == [(Started, first), (Delta, first)]
    assert [kind for kind, _ in seen[2:]] == [Continued, Delta, Finished]
    assert case.record.model == second


async def test_a_call_without_its_caller_is_metered_to_its_end() -> None:
    """Others may spend what the hold leaves them, and a process that dies is charged what it reported."""
    held = Reservation("r-1", None, held_nano_usd=2 * 26 + 10 * 100)
    case = Case(Script(plan=MARKED, pieces=("a",) * 12, reservation=held))
    await case.leave()
    assert case.script.extended == []
    case.more.set()
    await case.ports.settled()
    assert len(case.script.extended) == 1
    assert case.script.committed == [COUNTED]
    assert case.ports.progress.alarm_bytes == math.inf
