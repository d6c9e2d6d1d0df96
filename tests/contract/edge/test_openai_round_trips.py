"""What the official openai client reads into objects of its own, and leaves in when it sends an answer back."""

from __future__ import annotations

from typing import Any

import openai as sdk
import pytest
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.contract.edge.harness import Edge
from tests.contract.edge.test_openai_client import HELLO


class Weather(BaseModel):
    city: str


ASKED: dict[str, Any] = {
    "model": "m",
    "messages": HELLO,
    "tools": [sdk.pydantic_function_tool(Weather)],
    "response_format": Weather,
}
ANSWERS = {
    "calls": chat_pb2.CompletionDelta(
        tool_calls=[chat_pb2.ToolCall(id="c1", name="Weather", arguments_json='{"city":"Basel"}')]
    ),
    "document": chat_pb2.CompletionDelta(content='{"city":"Basel"}'),
}


# The client's own types do not expect what it puts into them.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dumped", [False, True])
async def test_an_answer_that_the_client_parsed_comes_back_as_it_was(
    edge: Edge,
    openai: AsyncOpenAI,
    kind: str,
    stream: bool,  # noqa: FBT001
    dumped: bool,  # noqa: FBT001
) -> None:
    said = ANSWERS[kind]
    edge.orchestrator.answer = lambda _: pb.CompleteResponse(
        completion=chat_pb2.Completion(content=said.content, tool_calls=said.tool_calls)
    )
    edge.orchestrator.events = lambda _: [
        pb.CompleteStreamResponse(started=pb.StreamStarted()),
        pb.CompleteStreamResponse(delta=said),
        pb.CompleteStreamResponse(finished=pb.StreamFinished(report=pb.CallReport())),
    ]
    if stream:
        async with openai.chat.completions.stream(**ASKED) as events:
            message: Any = (await events.get_final_completion()).choices[0].message
    else:
        message = (await openai.chat.completions.parse(**ASKED)).choices[0].message
    parsed = message.tool_calls[0].function.parsed_arguments if message.tool_calls else message.parsed
    assert parsed == Weather(city="Basel")
    turns: Any = [*HELLO, message.model_dump() if dumped else message, *HELLO]
    await openai.chat.completions.create(model="m", messages=turns)
    _, returned, _ = edge.orchestrator.calls[1].conversation.messages
    assert (returned.content, list(returned.tool_calls)) == (said.content, list(said.tool_calls))


@pytest.mark.parametrize("role", ["user", "system"])
async def test_nobody_else_has_parsed_anything(openai: AsyncOpenAI, role: str) -> None:
    turns: Any = [{"role": role, "content": "x", "parsed": {"city": "Basel"}}]
    with pytest.raises(sdk.BadRequestError) as caught:
        await openai.chat.completions.create(model="m", messages=turns)
    assert caught.value.param == "messages[0].parsed"
