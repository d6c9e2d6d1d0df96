"""Keyed requests in the contract's terms: their deadline, and what a kept outcome looks like to a later caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from meshkit.context import current
from meshkit.errors import CallError
from meshkit.testing import call_context
from services.orchestrator.adapters.keyed import KeyedRequests
from services.orchestrator.core.embedding import Embedded
from services.orchestrator.core.errors import GuardUnavailable, KeyMalformed, KeyReused, RequestFailed
from services.orchestrator.core.model import Answer, Delta, Finished, Record, Started, StreamEvent
from tests.support.keyed_work import World

MAX_CALL_S = 50.0
HELLO = pb.Conversation(messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="hello")])
SAID = chat_pb2.Completion(content="said", finish_reason=chat_pb2.FINISH_REASON_STOP)


@dataclass
class Scripted:
    """A coordinator whose requests cost something."""

    error: RequestFailed | None = None
    degraded: str = ""
    deadlines_s: list[float] = field(default_factory=list)

    async def complete(self, request: object, record: Record) -> Answer:
        self._note(record)
        if self.error is not None:
            raise self.error
        return Answer(SAID, record)

    async def stream(self, request: object, record: Record) -> AsyncGenerator[StreamEvent, None]:
        self._note(record)
        yield Started(record)
        yield Delta(chat_pb2.CompletionDelta(content="said"))
        if self.error is not None:
            raise self.error
        yield Finished(SAID, record)

    async def embed(self, request: pb.EmbedRequest, record: Record) -> Embedded:
        self._note(record)
        return Embedded(pb.EmbedResponse(values_f32_le=b"\0" * 4 * len(request.texts), dimensions=1), record)

    def _note(self, record: Record) -> None:
        record.cost_nano_usd = 7
        if self.degraded:
            record.degraded.append(self.degraded)
        deadline_s = current().deadline_s
        assert deadline_s is not None
        self.deadlines_s.append(deadline_s - asyncio.get_running_loop().time())


class Case:
    def __init__(self, error: RequestFailed | None = None) -> None:
        self.world = World(max_answer_bytes=10_000)
        self.coordinator = Scripted(error)
        self.keyed = KeyedRequests(self.world.once, self.coordinator, self.coordinator, MAX_CALL_S)  # type: ignore[arg-type]
        self.replays = 0

    def _replayed(self) -> None:
        self.replays += 1

    async def complete(self, key: str = "k", deadline_s: float | None = None) -> pb.CompleteResponse:
        with call_context(deadline_s=deadline_s):
            return await self.keyed.complete(key, HELLO, Record("q-1", "t" * 32, "acme", 1), self._replayed)

    async def embed(self, *texts: str, request_id: str = "") -> pb.EmbedResponse:
        with call_context():
            request = pb.EmbedRequest(texts=texts, request_id=request_id)
            return await self.keyed.embed("k", request, Record("q-1", "t" * 32, "acme", 1), self._replayed)

    async def stream(self, key: str = "k", deadline_s: float | None = None) -> list[pb.CompleteStreamResponse]:
        with call_context(deadline_s=deadline_s):
            record = Record("q-1", "t" * 32, "acme", 1)
            return [event async for event in self.keyed.stream(key, HELLO, record, self._replayed)]


async def test_no_keyed_call_outlasts_its_claim() -> None:
    case, now_s = Case(), asyncio.get_running_loop().time()
    await case.complete("a", now_s + 1000)
    await case.complete("b")
    await case.complete("c", now_s + 5)
    await case.stream("d", now_s + 1000)
    assert case.coordinator.deadlines_s == pytest.approx([MAX_CALL_S, MAX_CALL_S, 5, MAX_CALL_S], abs=2)


async def test_the_report_of_a_kept_answer_says_so() -> None:
    case = Case()
    first, again = await case.complete(), await case.complete()
    assert (first.report.replayed, again.report.replayed, case.replays) == (False, True, 1)
    again.report.replayed = False
    assert first == again


async def test_a_kept_stream_has_its_three_events() -> None:
    case = Case()
    await case.stream()
    started, delta, finished = await case.stream()
    assert started.started.replayed
    assert finished.finished.report.replayed
    assert (delta.delta.content, finished.finished.finish_reason) == ("said", chat_pb2.FINISH_REASON_STOP)
    assert case.replays == 1


async def test_a_stand_in_for_an_answer_is_no_answer_to_keep() -> None:
    case = Case()
    case.coordinator.degraded = "model"
    await case.complete()
    await case.stream()
    assert not (await case.complete()).report.replayed
    assert not (await case.stream())[0].started.replayed
    assert len(case.coordinator.deadlines_s) == 4, "each was made anew"


async def test_a_kept_failure_is_final() -> None:
    """The guard may be back by now, and the money is spent all the same: waiting does not change what was kept."""
    case = Case(GuardUnavailable())
    with pytest.raises(GuardUnavailable) as first:
        await case.complete()
    with pytest.raises(CallError) as again:
        await case.complete()
    assert (again.value.reason, str(again.value)) == ("GUARD_UNAVAILABLE", str(first.value))
    assert (again.value.metadata, again.value.retry_after_s) == ({"idempotent-replayed": "true"}, None)
    assert case.replays == 1


async def test_a_stream_that_failed_is_shown_as_far_as_it_came() -> None:
    case = Case(GuardUnavailable())
    with pytest.raises(GuardUnavailable):
        await case.stream()
    await case.world.settled()
    with call_context():
        events = case.keyed.stream("k", HELLO, Record("q-2", "t" * 32, "acme", 1), case._replayed)
        seen = []
        with pytest.raises(CallError) as caught:
            async for event in events:
                seen.append(event.WhichOneof("event"))
    assert (seen, caught.value.reason) == (["started", "delta"], "GUARD_UNAVAILABLE")


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "k" * 256, "line\nfeed"])
async def test_what_cannot_be_a_key_is_no_key(key: str) -> None:
    with pytest.raises(KeyMalformed, match="1 to 255 printable ASCII characters without spaces"):
        await Case().complete(key)
    with pytest.raises(KeyMalformed):
        await Case().stream(key)


async def test_vectors_are_made_once_per_key_whatever_id_a_sending_has() -> None:
    case = Case()
    first, again = await case.embed("one", request_id="a"), await case.embed("one", request_id="b")
    assert (first.report.replayed, again.report.replayed, case.replays) == (False, True, 1)
    assert len(case.coordinator.deadlines_s) == 1
    assert again.values_f32_le == first.values_f32_le
    with pytest.raises(KeyReused):
        await case.embed("two")
    await case.complete()
    assert len(case.coordinator.deadlines_s) == 2, "another RPC is another name"
