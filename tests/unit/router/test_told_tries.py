"""What a call tried is told before its answer: whoever gives it up pays for what runs, not for what was planned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.router.core.attempts import Attempt
from services.router.core.catalogue import HedgeRule
from services.router.core.chat import ModelCall
from services.router.core.cooldown import Cooldown
from services.router.core.failure import FailureKind, Outcome
from services.router.core.hedge import Contest
from services.router.core.ports import ProviderRequest
from services.router.core.router import Answer, Started, StreamEvent
from services.router.core.tries import Tried, Tries, Try, beside
from tests.support.router_engine import ANSWER, CALL, DONE, Engine, Timed, failing, real_time, text

STREAM = [*text("hel", "lo"), DONE]
CUT = [*text("once ", "upon "), failing(FailureKind.BROKEN)]
NEVER_S = 30.0
Told = list[tuple[str, Outcome | None]]


class TwoTries:
    """Of a run what a contest asks of it."""

    def hedge_delay_s(self, tried: Try) -> float:
        return NEVER_S


def told(event: object) -> Told:
    assert isinstance(event, Tried)
    return [(attempt.model_name, attempt.outcome) for attempt in event.attempts]


def steps(engine: Engine, *, streamed: bool, call: ModelCall = CALL) -> AsyncGenerator[StreamEvent | Answer, None]:
    router = engine.router
    if streamed:
        return router.stream(call, "req-1", 60.0)
    return router.complete_with_tries(call, "req-1", 60.0)  # type: ignore[return-value]


async def left_after(engine: Engine, last: Told, *, streamed: bool) -> None:
    """Reads until this is told, and leaves."""
    async with asyncio.timeout(5), aclosing(steps(engine, streamed=streamed)) as events:
        async for event in events:
            if isinstance(event, Tried) and told(event) == last:
                return
    raise AssertionError("it was never told")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_model_that_is_asked_after_a_refusal_is_told(streamed: bool) -> None:  # noqa: FBT001
    running = Timed(STREAM if streamed else ANSWER, after_s=NEVER_S)
    engine = Engine({"first": Timed(failing(FailureKind.UNREACHABLE)), "second": running}, clock=real_time())
    await left_after(engine, [("first", Outcome.NOT_CONNECTED), ("second", None)], streamed=streamed)
    assert (running.left, running.running) == (1, 0)
    assert engine.tries()[-1] == ("second", "FALLBACK", Outcome.CANCELLED)


@pytest.mark.parametrize("streamed", [False, True])
async def test_that_nobody_is_at_work_is_not_told_where_the_next_is_asked_at_once(streamed: bool) -> None:  # noqa: FBT001
    """Who left between the two words paid nothing, and the next one, who had been asked by then, was on the bill."""
    second = Timed(STREAM if streamed else ANSWER, after_s=0.05)
    engine = Engine({"first": Timed(failing(FailureKind.UNREACHABLE)), "second": second}, clock=real_time())
    heard = [told(event) async for event in steps(engine, streamed=streamed) if isinstance(event, Tried)]
    assert heard == [[("first", Outcome.NOT_CONNECTED), ("second", None)]]


@pytest.mark.parametrize("streamed", [False, True])
async def test_that_a_try_failed_is_told_before_its_retry_begins(streamed: bool) -> None:  # noqa: FBT001
    """Whoever leaves in the pause between them left nobody at work."""
    limited = Timed(failing(FailureKind.RATE_LIMITED, retry_after_s=3))
    engine = Engine({"first": limited}, retries=1, clock=real_time())
    await left_after(engine, [("first", Outcome.RATE_LIMITED)], streamed=streamed)
    assert len(limited.requests) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_two_that_run_side_by_side_are_both_told(streamed: bool) -> None:  # noqa: FBT001
    slow = [Timed(STREAM if streamed else ANSWER, after_s=NEVER_S) for _ in range(2)]
    rule = HedgeRule(percentile=0.95, after_s=0.02, max_rate=1.0)
    engine = Engine({"first": slow[0], "other": slow[1]}, route={"hedge": rule}, clock=real_time())
    await left_after(engine, [("first", None), ("other", None)], streamed=streamed)
    assert [(each.left, each.running) for each in slow] == [(1, 0), (1, 0)]
    assert [engine.router.deployments.calls_under_way(name) for name in engine.specs] == [0, 0]


async def test_who_is_waited_for_to_go_on_is_told() -> None:
    waited = Timed(STREAM, after_s=NEVER_S)
    engine = Engine({"first": Timed(CUT), "other": waited}, route={"continue_on_another": True}, clock=real_time())
    await left_after(engine, [("first", Outcome.BROKEN), ("other", None)], streamed=True)
    assert (waited.left, waited.running) == (1, 0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_nothing_is_told_of_a_call_whose_first_try_answers(streamed: bool) -> None:  # noqa: FBT001
    engine = Engine({"first": Timed(STREAM if streamed else ANSWER), "other": Timed(ANSWER)}, clock=real_time())
    events = [event async for event in steps(engine, streamed=streamed)]
    assert isinstance(events[0], Started if streamed else Answer)
    assert not any(isinstance(event, Tried) for event in events)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_first_try_of_another_model_than_the_plans_first_is_told(streamed: bool) -> None:  # noqa: FBT001
    """By complexity or speed the call may begin elsewhere than its plan: the plan's first was booked all the same."""
    waited = Timed(STREAM if streamed else ANSWER, after_s=NEVER_S)
    engine = Engine({"first": Timed(ANSWER), "second": waited}, clock=real_time())
    engine.router.deployments.rest("first", Cooldown(engine.clock.monotonic() + 60, True), shared=False)
    planned = replace(CALL, model_names=("first", "second"))
    async with asyncio.timeout(5), aclosing(steps(engine, streamed=streamed, call=planned)) as events:
        assert told(await anext(events)) == [("second", None)]
    assert waited.left == 1


async def test_what_was_told_before_is_not_told_again() -> None:
    tries, second = Tries(), asyncio.ensure_future(asyncio.sleep(0.01))
    tries.tell((Attempt("one", "p", "m", None),))
    assert [each async for each in tries.until(second)] == []


async def test_a_result_that_nobody_is_left_to_take_is_dropped() -> None:
    dropped: list[str] = []

    async def work() -> str:
        return "opened"

    async def drop(result: str) -> None:
        dropped.append(result)

    with pytest.raises(RuntimeError, match="left"):
        async with beside(work(), drop) as task:
            await asyncio.wait([task])
            raise RuntimeError("left")
    assert dropped == ["opened"]


@pytest.mark.parametrize("hedged", [False, True])
async def test_who_is_cancelled_twice_leaves_no_stream_open(*, hedged: bool) -> None:
    """The second time, by a deadline beside a caller who left, nobody was left to end what had begun."""
    begun, may_end, dropped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def begin(*_: object) -> str:
        begun.set()
        try:
            await asyncio.sleep(NEVER_S)
        except asyncio.CancelledError:
            await may_end.wait()
        return "opened, although cancelled"

    async def drop(_: str) -> None:
        dropped.set()

    async def wait() -> None:
        if hedged:
            await Contest(TwoTries(), begin, drop).decide(Try(*[None] * 4))  # type: ignore[arg-type]
        async with beside(begin(), drop):
            await asyncio.sleep(NEVER_S)

    waiting = asyncio.ensure_future(wait())
    await begun.wait()
    for _ in range(2):
        waiting.cancel()
        await asyncio.sleep(0.01)
    assert waiting.done()
    may_end.set()
    async with asyncio.timeout(1):
        await dropped.wait()


class Queue(Timed):
    """Has no connection free at first."""

    def __init__(self) -> None:
        super().__init__(ANSWER, NEVER_S)
        self.free = asyncio.Event()

    async def _wait(self, request: ProviderRequest) -> None:
        request.waits(True)
        await self.free.wait()
        request.waits(False)
        await super()._wait(request)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("free", [False, True])
async def test_that_nothing_was_sent_yet_is_told_and_costs_nothing(*, free: bool, streamed: bool) -> None:
    """Who left while he waited for a connection of ours paid for a call that nobody had been asked for."""
    queue = Queue()
    engine = Engine({"first": queue}, clock=real_time())
    async with asyncio.timeout(5), aclosing(steps(engine, streamed=streamed)) as events:
        waiting = await anext(events)
        assert isinstance(waiting, Tried)
        assert [(each.model_name, each.outcome, each.cause) for each in waiting.attempts] == [
            ("first", None, "waits-for-connection")
        ]
        if free:
            queue.free.set()
            sent = await anext(events)
            assert isinstance(sent, Tried)
            assert [each.cause for each in sent.attempts] == [""]
    [left] = engine.log.attempts
    assert (left.outcome, left.usage is not None) == (Outcome.CANCELLED, free)
