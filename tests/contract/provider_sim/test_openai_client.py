"""The official OpenAI client works against the simulator unchanged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import openai
import pytest

from llmops_cli.provider_sim import ProviderSim, Rule, ScriptedToolCall

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a mesh?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def client(sim: ProviderSim) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key="sk-test", max_retries=0) as opened:
        yield opened


async def test_a_plain_answer_and_its_bill(sim: ProviderSim, client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=MESSAGES)
    usage = answer.usage
    [record] = sim.billing
    assert answer.choices[0].message.content.startswith("The simulated provider")
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (12, 16, 28)
    assert (record.id, record.model, record.outcome, record.stream) == (answer.id, "m", "completed", False)
    assert (record.billed_input_tokens, record.billed_output_tokens) == (12, 16)


async def test_a_stream_gives_the_same_text_as_a_plain_answer(sim: ProviderSim, client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model="m", messages=MESSAGES)
    stream = await client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    events = [event async for event in stream]
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text == plain.choices[0].message.content
    assert [event.usage.completion_tokens for event in events if event.usage] == [16]
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
    assert [record.billed_output_tokens for record in sim.billing] == [16, 16]


async def test_a_stream_without_include_usage_has_none(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert [event.usage async for event in stream if event.usage] == []


async def test_tool_calls_plain_and_streamed(sim: ProviderSim, client: openai.AsyncOpenAI) -> None:
    asked = {"model": "m", "messages": MESSAGES, "tools": [WEATHER], "tool_choice": "required"}
    plain = await client.chat.completions.create(**asked)
    [call] = plain.choices[0].message.tool_calls
    assert (plain.choices[0].finish_reason, plain.choices[0].message.content) == ("tool_calls", None)
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "text"})
    sim.script = [Rule(tool_calls=(ScriptedToolCall("a", '{"x": 1}'), ScriptedToolCall("b", "{}")))]
    async with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [(call.function.name, call.function.arguments) for call in calls] == [("a", '{"x": 1}'), ("b", "{}")]


async def test_a_tool_choice_that_is_not_offered_is_refused(client: openai.AsyncOpenAI) -> None:
    choice = {"type": "function", "function": {"name": "other"}}
    with pytest.raises(openai.BadRequestError, match="other"):
        await client.chat.completions.create(model="m", messages=MESSAGES, tools=[WEATHER], tool_choice=choice)


async def test_a_json_schema_is_satisfied(client: openai.AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema}}
    answer = await client.chat.completions.create(model="m", messages=MESSAGES, response_format=wanted)
    assert json.loads(answer.choices[0].message.content) == {"n": 1}


async def test_max_completion_tokens_cuts_the_answer(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=MESSAGES, max_completion_tokens=3)
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (3, "length")


async def test_usage_details_are_scripted(sim: ProviderSim, client: openai.AsyncOpenAI) -> None:
    sim.script = [Rule(input_tokens=1000, cached_tokens=800, reasoning_tokens=50, output_tokens=10)]
    usage = (await client.chat.completions.create(model="m", messages=MESSAGES)).usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (1000, 800)
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (60, 50)


async def test_the_models_of_the_script_are_listed(sim: ProviderSim, client: openai.AsyncOpenAI) -> None:
    sim.script = {"models": ["alpha", "beta"]}
    assert [model.id async for model in client.models.list()] == ["alpha", "beta"]


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sim-400", openai.BadRequestError),
        ("sim-401", openai.AuthenticationError),
        ("sim-403", openai.PermissionDeniedError),
        ("sim-404", openai.NotFoundError),
        ("sim-429", openai.RateLimitError),
        ("sim-500", openai.InternalServerError),
        ("sim-503", openai.InternalServerError),
        ("sim-typo", openai.NotFoundError),
    ],
)
async def test_errors_arrive_as_the_clients_own_classes(
    sim: ProviderSim, client: openai.AsyncOpenAI, model: str, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error):
        await client.chat.completions.create(model=model, messages=MESSAGES)
    assert [record.billed_input_tokens + record.billed_output_tokens for record in sim.billing] in ([], [0])


async def test_retry_after_reaches_the_client(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="sim-429-retry-7", messages=MESSAGES)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.code == "rate_limit_exceeded"


async def test_the_clients_own_retry_is_answered_by_the_next_rule(sim: ProviderSim) -> None:
    sim.script = [Rule(status=503, last_call=2, headers={"retry-after-ms": "1"}), Rule(text="third time lucky")]
    async with openai.AsyncOpenAI(base_url=sim.base_url, api_key="k", max_retries=2) as client:
        answer = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == "third time lucky"
    assert [record.status for record in sim.billing] == [503, 503, 200]


async def test_an_error_inside_a_stream_raises_in_the_client(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="sim-error-after-2", messages=MESSAGES, stream=True)
    texts = [(await anext(stream)).choices[0].delta.content for _ in range(3)]
    assert texts == ["", "The ", "simulated "]
    with pytest.raises(openai.APIError, match="told to fail"):
        await anext(stream)
