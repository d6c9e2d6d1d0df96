"""Whole answers that nobody waits for any more, and what becomes of calls when their process ends."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

import pytest
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from meshkit.testing import call_context
from services.orchestrator.adapters.afterwards import BackgroundWork
from services.orchestrator.adapters.keyed import KeyedRequests
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.draining import Drains
from services.orchestrator.core.model import (
    Plan,
    Usage,
    UsageLine,
)
from tests.support.keyed_work import World
from tests.support.left_calls import COUNTED, COUNTED_NANO_USD, LOST, MARKED, POLICY, Case, estimated
from tests.support.orchestrator_ports import CHEAP, USED, Script


async def test_a_whole_answer_that_nobody_waits_for_is_booked_by_the_providers_count() -> None:
    case = Case(Script(plan=MARKED))
    await case.left_call()
    assert case.script.committed == []
    await case.answered()
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


@pytest.mark.parametrize("billed", [(), (UsageLine(CHEAP, Usage(7, 3), 1),)])
async def test_a_call_that_fails_without_its_caller_is_booked_as_any_other(billed: tuple[UsageLine, ...]) -> None:
    case = Case(Script(plan=MARKED, answer=LOST, billed=billed))
    await case.left_call()
    await case.answered()
    assert case.script.voided == ([] if billed else ["upstream-refused"])
    assert case.script.committed == ([billed] if billed else [])
    assert case.script.drained == ["estimated"]
    assert (case.record.cost_nano_usd, case.record.usage) == ((44, Usage(7, 3)) if billed else (0, Usage()))


async def test_a_whole_answer_is_given_up_when_the_process_ends() -> None:
    case = Case(Script(plan=MARKED))
    await case.left_call()
    await case.given_up()
    [[line]] = case.script.committed
    assert (line.usage, case.script.drained) == (estimated(0), ["estimated"])


async def test_until_a_whole_answer_has_come_its_record_shows_an_estimate() -> None:
    """It showed nothing spent; so an idempotency key was given back, and a duplicate was paid for again."""
    case = Case(Script(plan=MARKED))
    await case.left_call()
    kept = case.records.get("acme", "q-1")
    assert (kept.usage, kept.cost_nano_usd) == (estimated(0), 2 * 26)


@pytest.mark.parametrize("plan", [Script().plan, MARKED])
async def test_a_keyed_call_that_is_given_up_has_spent_and_its_key_stays(plan: Plan) -> None:
    world = World(max_answer_bytes=10_000)
    case = Case(Script(plan=plan, model_gate=asyncio.Event()))
    keyed = KeyedRequests(world.once, case.coordinator, case.coordinator, 50.0)  # type: ignore[arg-type]
    conversation = pb.Conversation(messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="hello")])
    with call_context():
        asking = asyncio.create_task(keyed.complete("key", conversation, case.record, lambda: None))
    while "model" not in case.script.log:
        await asyncio.sleep(0)
    await world.once.close(0.0)
    await asyncio.gather(asking, return_exceptions=True)
    assert [entry.outcome is not None for entry in world.store._entries.values()] == [True]
    await case.answered()
    assert len(case.script.committed) == 1


async def test_who_is_cancelled_twice_is_booked_once() -> None:
    case = Case(Script(plan=MARKED, model_gate=asyncio.Event()), max_at_once=0)
    asking = asyncio.create_task(case.coordinator.complete("request", case.record))
    while "model" not in case.script.log:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await case.ports.settled()
    [[line]] = case.script.committed
    assert line.usage == estimated(0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_wherever_a_caller_leaves_a_hold_ends_once(streamed: bool) -> None:  # noqa: FBT001
    sent = []
    for steps in range(30):
        case = Case(Script(plan=MARKED))
        case.more.set()

        async def ask(case: Case = case) -> None:
            if not streamed:
                await case.coordinator.complete("request", case.record)
                return
            async with aclosing(case.coordinator.stream("request", case.record)) as events:
                async for _ in events:
                    pass

        asking = asyncio.create_task(ask())
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        sent.append("model" in case.script.log)
        await case.ports.settled()
        assert sent[-1] == ("model" in case.script.log), "no call is begun without its caller"
        assert len(case.script.committed) == sent[-1]
        assert len(case.script.voided) == (not sent[-1] and any("reserve" in step for step in case.script.log))
    assert {True, False} == set(sent)


class Metric:
    """Counts nothing."""

    def labels(self, *_names: str) -> Metric:
        return self

    def inc(self) -> None: ...

    def dec(self) -> None: ...


def background(limit_s: float = 60.0) -> BackgroundWork:
    return BackgroundWork(8, limit_s, Metric(), Metric(), logging.getLogger("test"))  # type: ignore[arg-type]


async def test_a_process_that_ends_at_once_books_what_was_just_left() -> None:
    """A task that is cancelled before its first step does nothing: the hold would have stayed until its expiry."""
    case, work = Case(Script(plan=MARKED, pieces=("a", "b", "c"))), background()
    drains = Drains(work, case.ports, 8)
    coordinator = Coordinator(case.ports.services(case.records), POLICY, drains)
    with call_context():
        events = coordinator.stream("request", case.record)
        await anext(events)
        await anext(events)
        await events.aclose()
        drains.close()
        await work.stop()
    await case.ports.settled()
    [[line]] = case.script.committed
    assert (line.usage, case.script.drained, drains._under_way) == (estimated(1), ["estimated"], 0)


async def test_a_process_that_ends_takes_no_more_calls_over() -> None:
    case = Case(Script(plan=MARKED, pieces=("a", "b", "c")))
    case.drains.close()
    await case.leave()
    await case.ports.settled()
    [[line]] = case.script.committed
    assert (line.usage, case.script.drained) == (estimated(1), ["no-room"])
