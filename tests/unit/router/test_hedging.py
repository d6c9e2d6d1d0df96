"""A second request beside a slow one: when it is sent, who wins, what the loser costs, and that nothing runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace

import pytest

from services.router.core.catalogue import HedgeRule
from services.router.core.chat import Completion, Usage
from services.router.core.errors import InvalidRequest, UpstreamRejected, UpstreamStreamCut, UpstreamUnavailable
from services.router.core.facts import Needs
from services.router.core.failure import FailureKind, Outcome
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from services.router.core.router import Finished, Started
from tests.support.router_engine import ANSWER, CALL, DONE, Engine, Timed, failing, real_time, text

RULE = HedgeRule(percentile=0.95, after_s=0.03, max_rate=1.0)
STREAM = [*text("hel", "lo"), DONE]
NEVER_S = 30.0


def hedged(
    first: Timed, *others: Timed, rule: HedgeRule = RULE, specs: Mapping[str, Mapping[str, object]] | None = None
) -> Engine:
    providers = {"first": first} | {f"other{n}": other for n, other in enumerate(others)}
    return Engine(providers, route={"hedge": rule}, specs=specs, clock=real_time())


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_slow_try_gets_a_second_one_and_the_quicker_answer_is_kept(streamed: bool) -> None:  # noqa: FBT001
    step = STREAM if streamed else ANSWER
    slow, quick = Timed(step, after_s=NEVER_S), Timed(step)
    engine = hedged(slow, quick)
    async with asyncio.timeout(5):
        if streamed:
            events = await engine.stream()
            assert isinstance(events[0], Started)
            assert [attempt.cause for attempt in events[0].attempts] == ["hedge-lost", ""]
            attempts = events[-1].attempts if isinstance(events[-1], Finished) else ()
        else:
            attempts = (await engine.complete()).attempts
    assert [(a.model_name, a.purpose.name, a.outcome, a.cause) for a in attempts] == [
        ("first", "FIRST", Outcome.CANCELLED, "hedge-lost"),
        ("other0", "HEDGE", Outcome.SUCCEEDED, ""),
    ]
    assert (slow.left, slow.running, quick.running) == (1, 0, 0)
    assert [engine.router.deployments.calls_under_way(name) for name in engine.specs] == [0, 0]
    assert engine.log.events == {
        "hedge-sent default": 1,
        "hedge-won default": 1,
        **({"first-token other0": 1} if streamed else {}),
    }
    seen = {(a.model_name, a.purpose.name, a.outcome) for a in attempts}
    assert (set(engine.tries()), len(engine.tries())) == (seen, 2)


async def test_without_the_rule_the_slow_one_is_waited_for() -> None:
    """The negative control of the one above."""
    slow, quick = Timed(ANSWER, after_s=0.1), Timed(ANSWER)
    engine = Engine({"first": slow, "other": quick}, clock=real_time())
    assert [a.model_name for a in (await engine.complete()).attempts] == ["first"]
    assert quick.requests == []


@pytest.mark.parametrize(
    ("bills", "usage"),
    [("full", Usage(20, 5, estimated=True)), ("delivered", Usage(20, 0, estimated=True)), ("nothing", None)],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_lost_try_is_booked_with(bills: str, usage: Usage | None, streamed: bool) -> None:  # noqa: FBT001
    step = STREAM if streamed else ANSWER
    engine = hedged(Timed(step, after_s=NEVER_S), Timed(step), specs={"first": {"bills_cancelled": bills}})
    if streamed:
        last = (await engine.stream())[-1]
        assert isinstance(last, Finished)
        attempts = last.attempts
    else:
        attempts = (await engine.complete()).attempts
    assert attempts[0].usage == usage
    assert [a.usage for a in engine.log.attempts if a.model_name == "first"] == [usage], "once, and the same"


async def test_the_first_may_still_win() -> None:
    first, second = Timed(ANSWER, after_s=0.3), Timed(ANSWER, after_s=NEVER_S)
    engine = hedged(first, second)
    answer = await engine.complete()
    assert [(a.model_name, a.outcome) for a in answer.attempts] == [
        ("other0", Outcome.CANCELLED),
        ("first", Outcome.SUCCEEDED),
    ]
    assert (second.left, engine.log.events["hedge-won default"]) == (1, 0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_first_try_that_fails_leaves_the_second_one_running(streamed: bool) -> None:  # noqa: FBT001
    first = Timed(failing(FailureKind.UNAVAILABLE), after_s=0.25)
    second = Timed(STREAM if streamed else ANSWER, after_s=0.4)
    engine = hedged(first, second, Timed(ANSWER))
    await (engine.stream() if streamed else engine.complete())
    assert engine.tries() == [("first", "FIRST", Outcome.REFUSED), ("other0", "HEDGE", Outcome.SUCCEEDED)]
    assert len(second.requests) == 1


async def test_when_both_fail_the_next_one_is_asked() -> None:
    first = Timed(failing(FailureKind.UNAVAILABLE), after_s=0.25)
    engine = hedged(first, Timed(failing(FailureKind.BROKEN), after_s=0.4), Timed(ANSWER))
    await engine.complete()
    assert engine.tries() == [
        ("first", "FIRST", Outcome.REFUSED),
        ("other0", "HEDGE", Outcome.BROKEN),
        ("other1", "FALLBACK", Outcome.SUCCEEDED),
    ]


async def test_when_both_fail_and_nobody_is_left_both_are_in_the_error() -> None:
    first = Timed(failing(FailureKind.UNAVAILABLE), after_s=0.25)
    with pytest.raises(UpstreamUnavailable) as caught:
        await hedged(first, Timed(failing(FailureKind.BROKEN), after_s=0.01)).complete()
    assert caught.value.metadata["attempts_json"].count("model_name") == 2


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_caller_who_leaves_ends_both(streamed: bool) -> None:  # noqa: FBT001
    step = STREAM if streamed else ANSWER
    first, second = Timed(step, after_s=NEVER_S), Timed(step, after_s=NEVER_S)
    engine = hedged(first, second)
    task = asyncio.create_task(engine.stream() if streamed else engine.complete())
    while not second.requests:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (first.left, second.left, first.running, second.running) == (1, 1, 0, 0)
    assert {(name, outcome) for name, _, outcome in engine.tries()} == {
        ("first", Outcome.CANCELLED),
        ("other0", Outcome.CANCELLED),
    }
    assert [engine.router.deployments.calls_under_way(name) for name in engine.specs] == [0, 0]


async def test_no_more_than_the_rate_of_calls_is_hedged() -> None:
    """At most its share, one to begin with, and never more than five at once."""
    slow, quick = Timed(ANSWER, after_s=0.1), Timed(ANSWER, after_s=0.1)
    engine = hedged(slow, quick, rule=replace(RULE, after_s=0.001, max_rate=0.1))
    for _ in range(20):
        await engine.complete()
    assert engine.log.events["hedge-sent default"] == 1 + 2
    assert engine.log.events["hedge-capped default"] == 17


async def test_whoever_rests_is_not_asked_for_luxury() -> None:
    slow, resting, third = Timed(ANSWER, after_s=0.1), Timed(ANSWER), Timed(ANSWER)
    engine = hedged(slow, resting, third)
    await engine.router.complete(replace(CALL, model="other0"), "r", 10.0)
    resting.step = failing(FailureKind.UNAVAILABLE)
    with pytest.raises(UpstreamUnavailable):
        await engine.router.complete(replace(CALL, model="other0"), "r", 0.2)
    asked = len(resting.requests)
    answer = await engine.complete()
    assert answer.attempts[-1].model_name == "other1"
    assert len(resting.requests) == asked


async def test_nobody_left_means_no_hedge_and_no_charge_to_the_rate() -> None:
    engine = hedged(Timed(ANSWER, after_s=0.05))
    await engine.complete()
    assert engine.log.events == {}


async def test_after_enough_calls_the_percentile_says_what_is_slow() -> None:
    first = Timed(ANSWER, after_s=0.001)
    other = Timed(ANSWER)
    engine = hedged(first, other, rule=replace(RULE, after_s=NEVER_S))
    for _ in range(50):
        await engine.complete()
    assert other.requests == []
    first.after_s = NEVER_S
    async with asyncio.timeout(5):
        answer = await engine.complete()
    assert answer.attempts[-1].model_name == "other0"


async def test_slow_calls_that_were_given_up_keep_the_percentile_where_it_is() -> None:
    """Counting only those that answered, each hedge would make the next ones look slower."""
    first, other = Timed(ANSWER), Timed(ANSWER)
    engine = hedged(first, other, rule=replace(RULE, percentile=0.9, after_s=0.02))
    for number in range(100):
        first.after_s = 0.2 if number % 5 == 0 else 0.0
        await engine.complete()
    slow_s = engine.router.deployments.slow_after_s("first", 0.9, 50, streamed=False)
    assert slow_s is not None
    assert slow_s >= 0.02, "a fifth of its calls take longer than any percentile below 0.8"


class Refusing:
    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        raise InvalidRequest("call.parameters.extra_json", "must be valid JSON")


async def test_a_malformed_field_found_by_the_second_ends_the_first_and_bills_it() -> None:
    slow = Timed(ANSWER, after_s=NEVER_S)
    engine = Engine({"first": slow, "other": Refusing()}, route={"hedge": RULE}, clock=real_time())  # type: ignore[dict-item]
    with pytest.raises(InvalidRequest) as caught:
        await engine.complete()
    assert slow.left == 1
    assert '"hedge-lost"' in caught.value.metadata["attempts_json"]


async def test_two_answers_at_once_and_the_lost_one_is_booked_with_what_it_says() -> None:
    lost = ProviderAnswer(Completion("ho"), Usage(2, 9))
    gate = asyncio.Event()

    class Gated(Timed):
        async def _wait(self, request: ProviderRequest) -> None:
            self.requests.append(request)
            await gate.wait()

    first, second = Gated(ANSWER), Gated(lost)
    engine = hedged(first, second)
    task = asyncio.create_task(engine.complete())
    while not second.requests:
        await asyncio.sleep(0.005)
    gate.set()
    answer = await task
    assert answer.completion.content == "hi"
    assert [(a.model_name, a.usage) for a in answer.attempts] == [("other0", Usage(2, 9)), ("first", ANSWER.usage)]


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_the_first_was_told_counts_although_the_second_failed_otherwise(streamed: bool) -> None:  # noqa: FBT001
    """The conversation is too long: it goes to a larger window, and the smaller ones are out, retries included."""
    second = Timed(failing(FailureKind.NOT_CONNECTED), after_s=0.2)
    engine = Engine(
        {
            "first": Timed(failing(FailureKind.CONTEXT_TOO_LONG), after_s=0.1),
            "second": second,
            "third": Timed(STREAM if streamed else ANSWER),
            "wide": Timed(STREAM if streamed else ANSWER),
        },
        candidates=("first", "second", "third"),
        route={"hedge": RULE, "context_fallbacks": ["wide"]},
        specs={name: {"context_tokens": size} for name, size in (("first", 10), ("second", 10), ("third", 9))}
        | {"wide": {"context_tokens": 1000}},
        clock=real_time(),
        retries=1,
    )
    await (engine.stream() if streamed else engine.complete())
    assert engine.tries() == [
        ("first", "FIRST", Outcome.REFUSED),
        ("second", "HEDGE", Outcome.NOT_CONNECTED),
        ("wide", "FALLBACK", Outcome.SUCCEEDED),
    ]
    assert len(second.requests) == 1


async def test_a_request_that_is_wrong_stops_the_second_one_and_nobody_else_is_asked() -> None:
    first, second = Timed(failing(FailureKind.REJECTED), after_s=0.1), Timed(ANSWER, after_s=NEVER_S)
    third = Timed(ANSWER)
    with pytest.raises(UpstreamRejected) as caught:
        await hedged(first, second, third).complete()
    assert (second.left, third.requests) == (1, [])
    assert '"hedge-lost"' in caught.value.metadata["attempts_json"]


@pytest.mark.parametrize("answers", [True, False])
async def test_the_second_ones_word_stops_nobody_but_nobody_else_is_asked(answers: bool) -> None:  # noqa: FBT001
    """Without the hedge the first would have answered; a request that is wrong is not tried a third time."""
    first = Timed(ANSWER if answers else failing(FailureKind.UNAVAILABLE), after_s=0.3)
    second, third = Timed(failing(FailureKind.REJECTED), after_s=0.01), Timed(ANSWER)
    engine = Engine({"a": first, "b": second, "c": third}, route={"hedge": RULE}, clock=real_time(), retries=1)
    if answers:
        assert (await engine.complete()).attempts[-1].model_name == "a"
    else:
        with pytest.raises(UpstreamRejected):
            await engine.complete()
    assert (len(first.requests), third.requests) == (1, [])


async def test_one_second_request_for_each_call() -> None:
    """Each may be billed, and money is held for one."""
    slow = {name: Timed(failing(FailureKind.BROKEN), after_s=0.1) for name in "abcde"}
    engine = Engine(slow | {"f": Timed(ANSWER)}, route={"hedge": RULE}, clock=real_time())
    for _ in range(5):
        engine.router.shared["default"].hedges.called()
    await engine.complete()
    assert [purpose for _, purpose, _ in engine.tries()].count("HEDGE") == 1


PART = ["x" * 40] * 10


@pytest.mark.parametrize("continued", [True, False])
async def test_a_lost_try_is_booked_as_long_as_all_that_was_delivered(continued: bool) -> None:  # noqa: FBT001
    """Also when the answer that was kept broke off: the lost one may have been written to its end."""
    last = replace(DONE, usage=Usage(3, 50))
    engine = Engine(
        {
            "first": Timed(STREAM, after_s=NEVER_S),
            "kept": Timed([*text(*PART), failing(FailureKind.BROKEN)]),
            "rest": Timed([*text(*PART[:5]), last]),
        },
        route={"hedge": RULE, "continue_on_another": continued},
        clock=real_time(),
    )
    if continued:
        await engine.stream()
    else:
        with pytest.raises(UpstreamStreamCut) as caught:
            await engine.stream()
        assert '"output_tokens":134' in caught.value.metadata["attempts_json"].partition("}")[0]
    (lost,) = [attempt for attempt in engine.log.attempts if attempt.cause == "hedge-lost"]
    assert lost.usage is not None
    assert lost.usage.output_tokens == (184 if continued else 134)


class Faulty:
    """Has a fault of its own, some time after it was asked."""

    nothing: Mapping[str, list[Chunk]] = {}

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        await asyncio.sleep(0.06)
        raise KeyError

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        await asyncio.sleep(0.06)
        for chunk in self.nothing["here"]:
            yield chunk


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_fault_of_ours_leaves_every_try_on_record_and_nothing_under_way(streamed: bool) -> None:  # noqa: FBT001
    slow = Timed(STREAM if streamed else ANSWER, after_s=NEVER_S)
    engine = Engine({"faulty": Faulty(), "slow": slow}, route={"hedge": RULE}, clock=real_time())
    with pytest.raises(KeyError):
        await (engine.stream() if streamed else engine.complete())
    assert {(a.model_name, a.outcome, a.cause) for a in engine.log.attempts} == {
        ("slow", Outcome.CANCELLED, "hedge-lost"),
        ("faulty", Outcome.BROKEN, "internal"),
    }
    assert all(a.usage == Usage(20, 0, estimated=True) for a in engine.log.attempts), "either may be billed"
    assert (slow.left, slow.running) == (1, 0)
    assert [engine.router.deployments.calls_under_way(name) for name in engine.specs] == [0, 0]


CUT = [*text("half ", "an"), failing(FailureKind.BROKEN)]
BEFORE = {"a": Timed(failing(FailureKind.BROKEN)), "b": Timed(failing(FailureKind.TIMED_OUT))}
SLOW = Timed(STREAM, after_s=NEVER_S)


@pytest.mark.parametrize(
    ("route", "providers"),
    [
        ({}, {"c": Timed(STREAM)}),
        ({"hedge": RULE}, {"c": SLOW, "d": Timed(STREAM)}),
        ({"continue_on_another": True}, {"c": Timed(CUT), "d": Timed(STREAM)}),
        ({"hedge": RULE, "continue_on_another": True}, {"c": SLOW, "d": Timed(CUT), "e": Timed(STREAM)}),
    ],
)
async def test_money_is_held_for_all_but_tries_that_failed(
    route: Mapping[str, object], providers: Mapping[str, Timed]
) -> None:
    """From the plan to the bill, the worst way through each route."""
    engine = Engine({**BEFORE, **providers}, route=route, clock=real_time())
    plan, _ = engine.router.plan("", Needs())
    await engine.stream()
    billed = [attempt for attempt in engine.log.attempts if attempt.usage is not None]
    failed = [
        attempt
        for attempt in billed
        if attempt.outcome in {Outcome.BROKEN, Outcome.TIMED_OUT} and attempt.usage == Usage(20, 0, estimated=True)
    ]
    assert [attempt.model_name for attempt in failed] == ["a", "b"], "an overrun, marked as estimated"
    assert len(billed) - len(failed) == plan.max_billed_calls()
