"""The chat port: the in-memory twin and the mesh adapter on both transports through the same cases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from meshkit.errors import InvalidField
from meshkit.kit import Kit
from services.edge.adapters.memory import MemoryChat, echo_events
from services.edge.adapters.mesh import Codec, MeshChat
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.errors import CallFailed, InvalidRequest
from services.edge.core.origin import CallTerms, Origin
from services.edge.core.ports import CHAT, MESSAGES, RESPONSES, Chat
from tests.contract.edge.harness import KEY, ScriptedOrchestrator, ScriptedRouter, mesh

TERMS = CallTerms(Origin("req-1", ""), KEY, "", 30.0)
PLAIN = b'{"model":"m","messages":[{"role":"user","content":"one two three"}]}'
STREAMED = PLAIN[:-1] + b',"stream":true}'


@dataclass
class Bench:
    """A chat and the switches of whatever is behind it."""

    chat: Chat
    behind: MemoryChat | ScriptedOrchestrator

    async def until_left(self) -> None:
        """Waits until the other side knows that the caller left."""
        if isinstance(self.behind, ScriptedOrchestrator):
            await asyncio.wait_for(self.behind.left.wait(), 5)
        else:
            assert self.behind.ended == 1


@asynccontextmanager
async def opened(kind: str, offload_bytes: int = 1 << 20) -> AsyncIterator[Bench]:
    if kind == "memory":
        memory = MemoryChat()
        yield Bench(memory, memory)
        return
    orchestrator = ScriptedOrchestrator()
    async with mesh(kind, (orchestrator, ScriptedRouter())) as runtime:
        kit = Kit(runtime, "edge")
        codec = Codec(kit.executor("codec", threads=1, max_queue=4), offload_bytes)
        yield Bench(MeshChat(kit.channel("orchestrator"), codec), orchestrator)
        await kit.close()


kinds = pytest.mark.parametrize("kind", ["memory", "local", "remote"])


@kinds
async def test_a_whole_answer(kind: str) -> None:
    async with opened(kind) as bench:
        answer = await bench.chat.complete(await bench.chat.read(PLAIN), TERMS, 1_700_000_000)
    assert answer.facts.cost_nano_usd == 3000
    assert b'"created":1700000000' in answer.body
    assert b'"content":"one two three"' in answer.body


@kinds
async def test_a_stream_gives_facts_first_and_then_frames(kind: str) -> None:
    async with opened(kind) as bench:
        events = [e async for e in bench.chat.stream(await bench.chat.read(STREAMED), TERMS, 0)]
    facts, *frames = events
    assert isinstance(facts, AnswerFacts)
    assert (facts.model, facts.cache_status) == ("memory/echo", "miss")
    assert all(isinstance(f, bytes) and f.startswith(b"data: {") and f.endswith(b"}\n\n") for f in frames)
    assert len(frames) == 5


BODIES = {
    CHAT: PLAIN,
    RESPONSES: b'{"model":"m","input":"one two three"}',
    MESSAGES: PLAIN[:-1] + b',"max_tokens":9}',
}


@kinds
@pytest.mark.parametrize("dialect", BODIES)
async def test_each_dialect_answers_in_its_own_shape(kind: str, dialect: str) -> None:
    body = BODIES[dialect]
    async with opened(kind) as bench:
        request = await bench.chat.read(body, dialect)
        answer = await bench.chat.complete(request, TERMS, 1_700_000_000)
        streamed = await bench.chat.read(body[:-1] + b',"stream":true}', dialect)
        facts, *frames = [e async for e in bench.chat.stream(streamed, TERMS, 0)]
    assert (request.dialect, streamed.stream) == (dialect, True)
    assert (answer.facts.cost_nano_usd, facts.model) == (3000, "memory/echo")  # type: ignore[union-attr]
    mark = {CHAT: b'"chat.completion"', RESPONSES: b'"output_text"', MESSAGES: b'"end_turn"'}[dialect]
    assert mark in answer.body
    joined = b"".join(frame for frame in frames if isinstance(frame, bytes))
    assert joined.count(b"event: ") == (0 if dialect == CHAT else joined.count(b"data: "))


@kinds
async def test_a_body_that_is_no_request(kind: str) -> None:
    async with opened(kind) as bench:
        with pytest.raises(InvalidRequest):
            await bench.chat.read(b"{}")


@kinds
@pytest.mark.parametrize("fail_at", [0, 1, 3])
async def test_a_failure_ends_the_stream_with_its_reason(kind: str, fail_at: int) -> None:
    async with opened(kind) as bench:
        failure = CallFailed("RESOURCE_EXHAUSTED", "RATE_LIMITED", "slow down", retry_after_s=2)
        bench.behind.failure, bench.behind.fail_at = failure, fail_at
        events = bench.chat.stream(await bench.chat.read(STREAMED), TERMS, 0)
        seen: list[object] = []
        with pytest.raises(CallFailed) as raised:
            await _collect(events, seen)
    assert (raised.value.reason, raised.value.retry_after_s, str(raised.value)) == ("RATE_LIMITED", 2, "slow down")
    assert len(seen) == (fail_at + 1 if fail_at else 0)


async def _collect(events: AsyncIterator[object], seen: list[object]) -> None:
    async for event in events:
        seen.append(event)


@kinds
async def test_a_failure_of_a_whole_answer(kind: str) -> None:
    async with opened(kind) as bench:
        bench.behind.failure = CallFailed("NOT_FOUND", "MODEL_NOT_FOUND", "no such model", metadata={"model": "m"})
        with pytest.raises(CallFailed) as raised:
            await bench.chat.complete(await bench.chat.read(PLAIN), TERMS, 0)
    assert (raised.value.status, raised.value.metadata) == ("NOT_FOUND", {"model": "m"})


@kinds
async def test_cancelling_a_whole_answer_reaches_the_other_side(kind: str) -> None:
    async with opened(kind) as bench:
        bench.behind.hang_at = 0
        task = asyncio.create_task(bench.chat.complete(await bench.chat.read(PLAIN), TERMS, 0))  # type: ignore[arg-type]
        await asyncio.wait_for(bench.behind.waiting.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bench.until_left()


@kinds
async def test_closing_a_stream_reaches_the_other_side(kind: str) -> None:
    async with opened(kind) as bench:
        bench.behind.hang_at = 2
        events = bench.chat.stream(await bench.chat.read(STREAMED), TERMS, 0)
        await anext(events)
        await anext(events)
        await events.aclose()
        await bench.until_left()


@kinds
async def test_cancelling_the_reader_of_a_stream_reaches_the_other_side(kind: str) -> None:
    async with opened(kind) as bench:
        bench.behind.hang_at = 0
        events = bench.chat.stream(await bench.chat.read(STREAMED), TERMS, 0)
        task = asyncio.ensure_future(anext(events))
        await asyncio.wait_for(bench.behind.waiting.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bench.until_left()


@pytest.mark.parametrize("kind", ["local", "remote"])
async def test_the_terms_travel(kind: str) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    terms = CallTerms(Origin("req-7", f"00-{trace}-b7ad6b7169203331-00"), KEY, "once", 7.0)
    async with opened(kind) as bench:
        await bench.chat.complete(await bench.chat.read(PLAIN), terms, 0)
        assert isinstance(bench.behind, ScriptedOrchestrator)
        [call] = bench.behind.calls
    assert call.request_id == call.context.request_id == "req-7"
    assert call.context.trace.trace_id == trace
    assert call.context.principal.organisation == "acme"
    assert 5 < call.remaining_s < 7


@pytest.mark.parametrize("kind", ["local", "remote"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("llmops", "param"),
    [(b"{}", "messages[2].content[1].image_url.url"), (b'{"prompt": "p@production"}', "messages")],
)
async def test_positions_of_messages_are_named_where_they_are_the_callers(
    kind: str,
    stream: bool,  # noqa: FBT001
    llmops: bytes,
    param: str,
) -> None:
    """The router counts the messages of a prompt, which stand before the caller's."""
    async with opened(kind) as bench:
        assert isinstance(bench.behind, ScriptedOrchestrator)
        bench.behind.failure = InvalidField("call.messages[2].parts[1].image.url", "must be an https: address")
        chat = await bench.chat.read((STREAMED if stream else PLAIN)[:-1] + b',"llmops":' + llmops + b"}")
        with pytest.raises(CallFailed) as raised:
            await (anext(bench.chat.stream(chat, TERMS, 0)) if stream else bench.chat.complete(chat, TERMS, 0))
    assert (raised.value.param, str(raised.value)) == (param, f"{param}: must be an https: address")


@pytest.mark.parametrize("kind", ["local", "remote"])
async def test_the_deadline_ends_a_call(kind: str) -> None:
    terms = CallTerms(Origin("r", ""), KEY, "", 0.3)
    async with opened(kind) as bench:
        bench.behind.hang_at = 0
        with pytest.raises(CallFailed) as raised:
            await bench.chat.complete(await bench.chat.read(PLAIN), terms, 0)
        assert raised.value.reason == "DEADLINE_EXCEEDED"
        with pytest.raises(CallFailed) as raised:
            await anext(bench.chat.stream(await bench.chat.read(STREAMED), terms, 0))
        assert raised.value.reason == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("kind", ["local", "remote"])
async def test_a_stream_that_ends_without_its_last_event_is_cut(kind: str) -> None:
    async with opened(kind) as bench:
        assert isinstance(bench.behind, ScriptedOrchestrator)
        bench.behind.events = lambda conversation: list(echo_events(conversation, "r"))[:-1]
        events = bench.chat.stream(await bench.chat.read(STREAMED), TERMS, 0)
        with pytest.raises(CallFailed) as raised:
            await _collect(events, [])
    assert raised.value.reason == "UPSTREAM_STREAM_CUT"


async def test_large_bodies_are_decoded_and_large_answers_encoded_off_the_loop() -> None:
    async with opened("local", offload_bytes=64) as bench:
        text = "word " * 50
        body = PLAIN.replace(b"one two three", text.encode())
        answer = await bench.chat.complete(await bench.chat.read(body), TERMS, 0)
        assert text.encode() in answer.body
        with pytest.raises(InvalidRequest):
            await bench.chat.read(b"[" * 100)
