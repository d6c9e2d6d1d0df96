"""Another model goes on where an answer broke off: only where the route says so, only with text, only once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from services.router.core.chat import Delta, Parameters, ResponseFormat, ToolCall
from services.router.core.errors import UpstreamStreamCut
from services.router.core.failure import FailureKind, Outcome, ProviderError
from services.router.core.ports import Chunk
from services.router.core.router import Continued, Finished, Started, StreamEvent
from tests.support.router_engine import CALL, DONE, Engine, Timed, failing, text

CUT = [*text("once upon ", "a ti"), failing(FailureKind.BROKEN)]
REST = [*text("me there ", "was"), DONE]
ALLOWED = {"continue_on_another": True}


def written(events: list[StreamEvent]) -> str:
    return "".join(event.content for event in events if isinstance(event, Delta))


async def test_the_answer_goes_on_and_says_so() -> None:
    second = Timed(REST)
    engine = Engine({"first": Timed(CUT), "second": second}, route=ALLOWED)
    events = await engine.stream(replace(CALL, parameters=Parameters(max_output_tokens=20)))
    kinds = [type(event) for event in events]
    assert kinds == [Started, Delta, Delta, Continued, Delta, Delta, Finished]
    assert written(events) == "once upon a time there was"
    continued, finished = events[3], events[-1]
    assert isinstance(continued, Continued)
    assert isinstance(finished, Finished)
    assert [(a.model_name, a.outcome) for a in continued.attempts] == [("first", Outcome.BROKEN), ("second", None)]
    assert [(a.model_name, a.purpose.name) for a in finished.attempts] == [
        ("first", "FIRST"),
        ("second", "CONTINUATION"),
    ]
    assert [a.usage and a.usage.output_tokens for a in finished.attempts] == [5, 5], "both are billed"
    (request,) = second.requests
    assert request.call.messages[:-2] == CALL.messages
    assert [(m.role, m.content[:14]) for m in request.call.messages[-2:]] == [
        ("assistant", "once upon a ti"),
        ("user", "Your last mess"),
    ]
    assert request.call.parameters.max_output_tokens == 16, "what the caller allowed, less what came"


TOOL = [Chunk(Delta("", (ToolCall("1", "f", "{"),)), "served"), failing(FailureKind.BROKEN)]
JSON = replace(CALL, parameters=Parameters(response_format=ResponseFormat("json_object")))


@pytest.mark.parametrize(
    ("why", "first", "route", "call"),
    [
        ("the route does not allow it", CUT, {}, CALL),
        ("a tool call cannot be continued", TOOL, ALLOWED, CALL),
        ("a part of a JSON text cannot be continued", CUT, ALLOWED, JSON),
        ("others must not finish what was objected to", [*CUT[:2], failing(FailureKind.CONTENT_POLICY)], ALLOWED, CALL),
    ],
)
async def test_when_nobody_goes_on(
    why: str, first: list[Chunk | ProviderError], route: dict[str, object], call: object
) -> None:
    second = Timed(REST)
    engine = Engine({"first": Timed(first), "second": second}, route=route)
    with pytest.raises(UpstreamStreamCut):
        await engine.stream(call)  # type: ignore[arg-type]
    assert second.requests == [], why
    assert len(engine.log.attempts) == 1


async def test_nobody_left_is_the_error_as_ever() -> None:
    with pytest.raises(UpstreamStreamCut) as caught:
        await Engine({"only": Timed(CUT)}, route=ALLOWED).stream()
    assert len(json.loads(caught.value.metadata["attempts_json"])) == 1


async def test_it_happens_once() -> None:
    engine = Engine({"first": Timed(CUT), "second": Timed(CUT), "third": Timed(REST)}, route=ALLOWED)
    with pytest.raises(UpstreamStreamCut):
        await engine.stream()
    assert [(name, purpose) for name, purpose, _ in engine.tries()] == [("first", "FIRST"), ("second", "CONTINUATION")]


@pytest.mark.parametrize(
    ("kind", "asked"), [(FailureKind.RATE_LIMITED, 1), (FailureKind.NOT_CONNECTED, 1), (FailureKind.BROKEN, 0)]
)
async def test_only_one_more_try_may_be_billed(kind: FailureKind, asked: int) -> None:
    third = Timed(REST)
    engine = Engine({"first": Timed(CUT), "second": Timed(failing(kind)), "third": third}, route=ALLOWED)
    if asked:
        assert written(await engine.stream()) == "once upon a time there was"
    else:
        with pytest.raises(UpstreamStreamCut):
            await engine.stream()
    assert len(third.requests) == asked


async def test_a_caller_who_leaves_the_second_part_is_billed_for_each_part_apart() -> None:
    second = Timed(REST)
    engine = Engine({"first": Timed(CUT), "second": second}, route=ALLOWED)
    stream = engine.router.stream(CALL, "req", 60.0)
    async for event in stream:
        if event == Delta("me there "):
            break
    await stream.aclose()
    assert engine.tries() == [
        ("first", "FIRST", Outcome.BROKEN),
        ("second", "CONTINUATION", Outcome.CANCELLED),
    ]
    assert [a.usage and a.usage.output_tokens for a in engine.log.attempts] == [5, 3]
    assert second.left == 1
