"""How much is held for a request before it is known what it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from llmops.common.v1 import chat_pb2

from services.orchestrator.adapters.assembly import delta_bytes
from services.orchestrator.adapters.conversation import image_count, text_bytes
from services.orchestrator.core.model import Plan, Progress, Usage, UsageLine
from services.orchestrator.core.policy import UNREAD_TOKENS, Policy, is_covered, lines_so_far, tokens_to_hold
from services.router.core.chat import (
    ImagePart,
    Message,
    ModelCall,
    Parameters,
    ResponseFormat,
    TextPart,
    ToolCall,
    ToolDefinition,
)
from services.router.core.continuation import asked_to_go_on
from services.router.core.tokens import estimate_usage, size_tokens
from tests.support.orchestrator_ports import CHEAP, Script, ScriptedServices

POLICY = Policy(guard_required=True, semantic_cache=True, assumed_output_tokens=1000)
TURN = ScriptedServices(Script()).resolve("request", "q-1")


@pytest.mark.parametrize(
    ("asked", "ceiling", "held"), [(None, 128_000, 1000), (None, 300, 300), (500, 128_000, 500), (10**9, 4096, 4096)]
)
def test_what_is_held_for_an_answer(asked: int | None, ceiling: int, held: int) -> None:
    """BerriAI/litellm#27509: without max_tokens the whole budget was held; and 10^9 tokens are nobody's answer."""
    plan = Plan((CHEAP,), ("cheap",), ceiling, "route#1")
    assert tokens_to_hold(POLICY, replace(TURN, max_output_tokens=asked), plan)[1] == held


@pytest.mark.parametrize(
    ("asked", "ceiling", "held", "covered"),
    [
        (None, 128_000, 1000, False),
        (None, 0, 1000, False),
        (None, 800, 800, True),
        (500, 0, 500, True),
        (500, 0, 400, False),
    ],
)
def test_whether_a_hold_covers_the_longest_answer(asked: int | None, ceiling: int, held: int, *, covered: bool) -> None:
    plan = Plan((CHEAP,), ("cheap",), ceiling, "route#1")
    assert is_covered(replace(TURN, max_output_tokens=asked), plan, held) is covered


def test_images_are_held_for_and_booked_when_they_were_left() -> None:
    """Twenty of them were admitted on the money of a line of text."""
    policy, plan = Policy(guard_required=True, semantic_cache=True, assumed_output_tokens=10), Plan((CHEAP,), (), 0, "")
    seen = replace(TURN, input_images=20)
    (text, _), (images, _) = tokens_to_hold(policy, TURN, plan), tokens_to_hold(policy, seen, plan)
    assert images - text == 20_000
    [left] = lines_so_far(Progress(), plan, seen, 0)
    assert left.usage.input_tokens == images


def test_a_request_that_lost_counts_as_long_as_the_answer_while_it_runs() -> None:
    """It was counted at its input: the hold of a hedged stream was used up long before it was raised."""
    tries = (UsageLine(CHEAP, Usage(5, 0), 1), UsageLine(CHEAP, Usage(7, 0), 2))
    progress = Progress(running=(CHEAP,), ended=2, lines=tries, lost_beside=frozenset({2}))
    lines = lines_so_far(progress, Plan((CHEAP,), ("cheap",), 0, ""), TURN, 300)
    assert [(line.usage.output_tokens, line.attempt) for line in lines] == [(0, 1), (100, 2), (100 + UNREAD_TOKENS, 3)]
    alone = lines_so_far(replace(progress, lost_beside=frozenset()), Plan((CHEAP,), ("cheap",), 0, ""), TURN, 300)
    assert [line.usage.output_tokens for line in alone] == [0, 0, 100 + UNREAD_TOKENS]


@pytest.mark.parametrize(("text", "images"), [("a", 0), ("Ende gut, alles gut. " * 40, 0), ("你好" * 30, 3)])
def test_the_router_estimates_a_try_as_a_call_that_was_left_is_booked(text: str, images: int) -> None:
    """Services share no core: a call that the caller leaves and one that times out would drift apart."""
    parts = [chat_pb2.ContentPart(text=text)]
    parts += [chat_pb2.ContentPart(image=chat_pb2.ImagePart(url="https://example.com/a.png"))] * images
    messages = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, parts=parts)]
    turn = replace(TURN, input_bytes=text_bytes(messages, ()), input_images=image_count(messages))
    [left] = lines_so_far(Progress(), Plan((CHEAP,), ("cheap",), 0, ""), turn, 0)
    seen = (TextPart(text), *[ImagePart("https://example.com/a.png")] * images)
    assert estimate_usage(ModelCall("", (Message("user", parts=seen),)), ()).input_tokens == left.usage.input_tokens


def test_tools_calls_and_the_schema_of_the_answer_are_input() -> None:
    """Providers bill them as such: a schema of 60,000 bytes was held for, and booked when it was left, as nothing."""
    schema = '{"type": "object", "description": "' + "d" * 60_000 + '"}'
    asked = chat_pb2.ToolCall(id="c-1", name="weather_of_a_city", arguments_json='{"city": "Paris"}')
    messages = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, content="I ask.", tool_calls=[asked])]
    tools = [chat_pb2.ToolDefinition(name="weather_of_a_city", description="Weather.", parameters_json_schema="{}")]
    read_bytes = text_bytes(messages, tools, schema)
    called = ToolCall("c-1", "weather_of_a_city", '{"city": "Paris"}', 0)
    call = ModelCall(
        "",
        (Message("assistant", "I ask.", tool_calls=(called,)),),
        (ToolDefinition("weather_of_a_city", "Weather.", "{}"),),
        Parameters(response_format=ResponseFormat("json_schema", "n", schema)),
    )
    turn = replace(TURN, input_bytes=read_bytes)
    [left] = lines_so_far(Progress(), Plan((CHEAP,), ("cheap",), 0, "route#1"), turn, 0)
    assert estimate_usage(call, ()).input_tokens == left.usage.input_tokens > 20_000
    assert size_tokens(call) == -(-read_bytes // 3), "whoever plans beforehand counts as the router does"


def test_who_goes_on_with_an_answer_has_read_what_came_of_it() -> None:
    """Left in mid-answer it was booked at the question alone, though all that had come was its input as well."""
    written = "word " * 3_000
    progress = Progress(running=(CHEAP,), ended=1, earlier_bytes=len(written))
    [left] = lines_so_far(progress, Plan((CHEAP,), ("cheap",), 0, ""), replace(TURN, input_bytes=9), len(written))
    call = asked_to_go_on(ModelCall("", (Message("user", "question?"),)), written)
    assert left.usage.input_tokens == estimate_usage(call, ()).input_tokens > 5_000, "as the router estimates a try"


def test_the_name_of_a_called_tool_is_written_by_the_model() -> None:
    """A stream of calls with short arguments was booked at a fraction of its tokens when it was left."""
    called = chat_pb2.ToolCall(id="c-1", name="weather_of_a_city", arguments_json="{}")
    assert delta_bytes(chat_pb2.CompletionDelta(tool_calls=[called, called])) == 2 * len("weather_of_a_city{}")
