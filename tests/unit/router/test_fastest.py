"""Strategy `fastest` on the engine: what is measured, when it is measured again, and what is compared with what."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

import pytest

from services.router.adapters.memory import ManualClock, ManualLoad
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import ModelSpec, RouteSpec
from services.router.core.chat import Delta, ModelCall
from services.router.core.facts import Needs, Origin
from services.router.core.failure import FailureKind
from services.router.core.plan import Plan
from services.router.core.planner import Planner
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from services.router.core.ranking import EXPLORE_EVERY_S, EXPLORE_SHARE, draw
from services.router.core.router import Finished
from services.router.core.speed import Speed
from tests.support.router_engine import ANSWER, CALL, DONE, Engine, Timed, failing, text

A, B, C = (ModelSpec(name, "north", f"model-{name}") for name in "abc")
FASTEST = RouteSpec("r", (A, B, C), 1, strategy="fastest")
# Drawn to measure again, and not.
_IDS = [str(number) for number in range(999)]
CURIOUS, PLAIN = (
    replace(CALL, origin=Origin(request_id=next(i for i in _IDS if (draw(i, "explore") < EXPLORE_SHARE) == drawn)))
    for drawn in (True, False)
)


def at(call: ModelCall, load: ManualLoad, *, streamed: bool = True) -> Plan:
    return Planner().at(FASTEST, call, load, 10.0, streamed=streamed)


def order(plan: Plan) -> str:
    return "".join(spec.name for spec in plan.candidates)


def test_fastest_explores_one_call_at_a_time() -> None:
    load = ManualLoad()
    load.streams = {"a": Speed(0.9), "b": Speed(0.4)}
    assert order(at(PLAIN, load)) == "cba"
    load.streams |= {"b": Speed(0.4, under_way=7), "c": Speed(under_way=1)}
    plan = at(PLAIN, load)
    assert order(plan) == "bac"
    assert plan.reasons[0] == "fastest: the first token comes after 0.400 s on average"


def test_fastest_explores_again_when_a_try_told_nothing_but_not_at_once() -> None:
    load = ManualLoad()
    load.streams = {"a": Speed(0.9), "b": Speed(0.4), "c": Speed(tried_s=10.0 - EXPLORE_EVERY_S + 0.1)}
    plan = at(PLAIN, load)
    assert order(plan) == "bac"
    assert plan.reasons[-1] == "fastest: not measured yet, and the try 59.9 s ago gave no answer"
    load.streams["c"] = Speed(tried_s=10.0 - EXPLORE_EVERY_S)
    assert order(at(PLAIN, load)) == "cba"


def test_fastest_measures_again_what_was_measured_long_ago_for_few_of_the_calls() -> None:
    load, long_ago = ManualLoad(), 10.0 - EXPLORE_EVERY_S
    load.streams = {"a": Speed(0.9, long_ago), "b": Speed(0.4, 9.0), "c": Speed(6.0, long_ago - 30.0)}
    plan = at(CURIOUS, load)
    assert order(plan) == "cab", "the one first that waited longest"
    assert plan.reasons[0] == "fastest: not measured for 90.0 s, so this call measures it again"
    assert order(at(PLAIN, load)) == "bac"
    load.streams["c"].under_way = 1
    assert order(at(CURIOUS, load)) == "abc", "one call at a time"
    load.streams["a"].tried_s = long_ago + 0.1
    assert order(at(CURIOUS, load)) == "bac"
    ids = [replace(CALL, origin=Origin(request_id=str(number))) for number in range(2_000)]
    load.streams["a"].tried_s = long_ago
    assert 60 < sum(order(at(call, load)) == "abc" for call in ids) < 140


def test_fastest_compares_streams_with_streams_and_whole_answers_with_whole_answers() -> None:
    load = ManualLoad()
    load.streams = {"a": Speed(0.1), "b": Speed(0.2), "c": Speed()}
    load.whole_answers = {"a": Speed(9.0), "b": Speed(2.0), "c": Speed(5.0, tried_s=9.0)}
    assert order(at(PLAIN, load)) == "cab"
    whole = at(PLAIN, load, streamed=False)
    assert order(whole) == "bca"
    assert whole.reasons[0] == "fastest: the whole answer comes after 2.000 s on average"
    unknown = Planner().before(FASTEST, PLAIN.origin, Needs(), load, 10.0)
    assert order(unknown) == "abc", "the first token where there was one, else the whole answer"
    assert unknown.reasons[-1] == "fastest: the whole answer comes after 5.000 s on average"


@dataclass
class Paced:
    """Its whole answers take what it was told, the last one for ever."""

    clock: ManualClock
    whole_s: list[float]
    first_token_s: float = 0.1

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        self.clock.advance(self.whole_s.pop(0) if len(self.whole_s) > 1 else self.whole_s[0])
        return ANSWER

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        self.clock.advance(self.first_token_s)
        yield Chunk(Delta("hi"), "served", "id-1")
        yield DONE


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", [FailureKind.CREDENTIAL, FailureKind.UNKNOWN_MODEL, FailureKind.BROKEN])
async def test_a_model_that_always_fails_is_not_the_fastest(kind: FailureKind, streamed: bool) -> None:  # noqa: FBT001
    """It has no time that could be compared: it was in front of every call, for ever."""
    good = Timed([*text("hi"), DONE] if streamed else ANSWER)
    engine = Engine(
        {"dead": Timed(failing(kind)), "good": good}, route={"strategy": "fastest"}, breaker=BreakerPolicy(min_calls=99)
    )
    for _ in range(30):
        await (engine.stream() if streamed else engine.complete())
        engine.clock.advance(1.0)  # type: ignore[attr-defined]
    assert [name for name, _, _ in engine.tries()] == ["dead", *["good"] * 30]
    engine.clock.advance(30.0)  # type: ignore[attr-defined]
    await (engine.stream() if streamed else engine.complete())
    assert [name for name, _, _ in engine.tries()][-2:] == ["dead", "good"], "it gets another chance"


@pytest.mark.parametrize("every_s", [1.0, 600.0])
async def test_one_slow_answer_is_not_the_last_that_is_known_of_a_model(every_s: float) -> None:
    """Who was measured came back only when all others failed: after 6 s once, 0.4 s instead of 0.05 s for ever."""
    clock = ManualClock()
    quick, slow = Paced(clock, [*[0.05] * 20, 6.0, 0.05]), Paced(clock, [0.4])
    engine = Engine({"quick": quick, "slow": slow}, route={"strategy": "fastest"}, clock=clock)
    asked = []
    for number in range(2_000):
        answer = await engine.complete(replace(CALL, origin=Origin(request_id=str(number))))
        asked.append(answer.attempts[-1].model_name)
        clock.advance(every_s)
    assert asked[1_000:].count("quick") > 900
    assert asked[1_000:].count("slow") > 5, "it may have become the faster one"


async def test_whole_answers_say_nothing_of_the_time_to_the_first_token() -> None:
    """One caller who did not stream sent all streams to the slower model."""
    clock = ManualClock()
    engine = Engine(
        {"quick": Paced(clock, [8.0], 0.1), "slow": Paced(clock, [12.0], 1.5)},
        route={"strategy": "fastest"},
        clock=clock,
    )
    asked = []
    for number in range(100):
        if number == 10:
            await engine.complete()
        finished = (await engine.stream())[-1]
        assert isinstance(finished, Finished)
        asked.append(finished.attempts[-1].model_name)
    assert asked == ["quick", "slow", *["quick"] * 98]
