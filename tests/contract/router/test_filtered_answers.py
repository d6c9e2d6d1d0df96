"""Answers of which a provider's filter let nothing through: others may judge otherwise, whoever the provider is."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.base import Dialect
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.dialects.openai_responses import OpenAiResponses
from services.router.adapters.http import HttpProvider
from services.router.adapters.litellm_bridge import LitellmProvider
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import FinishReason, Message, ModelCall, Usage
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.ports import Chunk, ProviderRequest

if TYPE_CHECKING:
    from tests.contract.router.conftest import OpenProvider, Received, StartUpstream

REQUEST = ProviderRequest(ModelCall("", (Message("user", "hello"),)), ModelSpec("m", "p", "model-1"), "req-1")
COUNTS = {"prompt_tokens": 7, "completion_tokens": 0}
FILTERED: dict[str, tuple[Dialect, Any, list[Any]]] = {
    "openai": (
        OpenAiChat(),
        {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}], "usage": COUNTS},
        [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]},
            {"choices": [], "usage": COUNTS},
            "[DONE]",
        ],
    ),
    "anthropic": (
        AnthropicMessages(),
        {"content": [], "stop_reason": "refusal", "usage": {"input_tokens": 7, "output_tokens": 0}},
        [
            {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 7, "output_tokens": 1}}},
            {"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": 0}},
            {"type": "message_stop"},
        ],
    ),
    "responses": (
        OpenAiResponses(),
        response := {
            "output": [],
            "status": "incomplete",
            "incomplete_details": {"reason": "content_filter"},
            "usage": {"input_tokens": 7, "output_tokens": 0},
        },
        [{"type": "response.incomplete", "response": response}],
    ),
}


def events(rows: list[Any]) -> bytes:
    return b"".join(f"data: {row if row == '[DONE]' else json.dumps(row)}\n\n".encode() for row in rows)


async def failure_of(provider: HttpProvider | LitellmProvider, *, streamed: bool) -> Failure:
    with pytest.raises(ProviderError) as caught:
        if streamed:
            async for _ in provider.stream(REQUEST):
                pass
        else:
            await provider.complete(REQUEST)
    return caught.value.failure


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", FILTERED)
async def test_an_answer_blocked_to_nothing_is_for_other_models(
    start_upstream: StartUpstream,
    open_provider: OpenProvider,
    name: str,
    streamed: bool,  # noqa: FBT001
) -> None:
    dialect, whole, stream = FILTERED[name]
    body, kind = (events(stream), "text/event-stream") if streamed else (json.dumps(whole).encode(), "application/json")
    upstream = await start_upstream(lambda received: received.answer(body, content_type=kind))
    failure = await failure_of(await open_provider(upstream.url, dialect), streamed=streamed)
    assert (failure.kind, failure.provider_code) == (FailureKind.CONTENT_POLICY, "content_filter")
    assert failure.usage == Usage(7, 0)


async def test_what_was_said_before_the_filter_stays(
    start_upstream: StartUpstream, open_provider: OpenProvider
) -> None:
    """The first text is out: nobody else may begin again."""

    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(events([{"choices": [{"index": 0, "delta": {"content": "It is"}}]}]))
        await said.wait()
        await received.chunk(events(FILTERED["openai"][2]))
        await received.end_stream()

    said = asyncio.Event()
    upstream = await start_upstream(respond)
    provider = await open_provider(upstream.url)
    chunks: list[Chunk] = []
    async for chunk in provider.stream(REQUEST):
        chunks.append(chunk)
        said.set()
    assert chunks[-1].finish_reason is FinishReason.CONTENT_FILTER


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_calls_tools_and_names_none_is_none(
    start_upstream: StartUpstream,
    open_provider: OpenProvider,
    streamed: bool,  # noqa: FBT001
) -> None:
    """The legacy form of calls, which nobody here asked for."""
    legacy = {"content": None, "function_call": {"name": "f", "arguments": "{}"}}
    choice = {"index": 0, "message": legacy, "delta": legacy, "finish_reason": "function_call"}
    whole = {"choices": [choice], "usage": COUNTS | {"completion_tokens": 3}}
    body, kind = (
        (events([whole, "[DONE]"]), "text/event-stream")
        if streamed
        else (json.dumps(whole).encode(), "application/json")
    )
    upstream = await start_upstream(lambda received: received.answer(body, content_type=kind))
    failure = await failure_of(await open_provider(upstream.url), streamed=streamed)
    assert (failure.kind, failure.cause, failure.usage) == (FailureKind.BROKEN, "no-tool-calls", Usage(7, 3))


class Package:
    """In the place of litellm: answers with what OpenAI's dialect reads."""

    async def acompletion(self, *, stream: bool = False, **_: Any) -> Any:
        whole, pieces = FILTERED["openai"][1:]
        return self._pieces(pieces) if stream else _Row(whole)

    async def _pieces(self, rows: list[Any]) -> Any:
        for row in rows[:-1]:
            yield _Row(row)


class _Row:
    def __init__(self, row: Any) -> None:
        self.row = row

    def model_dump_json(self) -> str:
        return json.dumps(self.row)


@pytest.mark.parametrize("streamed", [False, True])
async def test_so_it_is_behind_the_package_of_the_long_tail(streamed: bool) -> None:  # noqa: FBT001
    failure = await failure_of(LitellmProvider(Package(), "", ""), streamed=streamed)
    assert (failure.kind, failure.usage) == (FailureKind.CONTENT_POLICY, Usage(7, 0))
