"""Requests with an idempotency key, in the contract's terms: what is kept of them, and how it is shown again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from google.protobuf.message import Message
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from meshkit.context import CallContext, current, enter
from meshkit.errors import CallError, Failure, describe
from meshkit.transports.status import details_of, failure_of
from services.orchestrator.adapters.assembly import Assembly
from services.orchestrator.adapters.report import ContractReports, delta_of
from services.orchestrator.core.coordinator import Coordinator
from services.orchestrator.core.embedding import EmbeddingCoordinator
from services.orchestrator.core.errors import KeyMalformed
from services.orchestrator.core.idempotency import OncePerKey
from services.orchestrator.core.ladder import NO_MODEL
from services.orchestrator.core.model import Record
from services.orchestrator.core.ports import Outcome, RequestName
from services.orchestrator.core.request_names import name_of

MAX_KEY_CHARS = 255
REPLAYED = "idempotent-replayed"
_KEY = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_CHARS}}}")
_LEFT = Failure(
    "CANCELLED",
    "CANCELLED",
    "whoever read the stream of this idempotency key left before its end; what had come by then was paid for. "
    "A new key asks and pays anew",
)


class KeyedRequests:
    """Complete, CompleteStream and Embed for those who sent a key."""

    def __init__(
        self, once: OncePerKey, coordinator: Coordinator, embeddings: EmbeddingCoordinator, max_call_s: float
    ) -> None:
        """Wires it. No keyed call lasts longer than `max_call_s`: nobody else ends one whose caller has left."""
        self._once = once
        self._coordinator = coordinator
        self._embeddings = embeddings
        self._reports = ContractReports()
        self._max_call_s = max_call_s

    async def complete(
        self, key: str, request: pb.Conversation, record: Record, on_replay: Callable[[], None]
    ) -> pb.CompleteResponse:
        """The answer of this key; `on_replay` is called when it was there before, or made for another call."""

        async def answer() -> pb.CompleteResponse:
            return self._reports.whole(await self._coordinator.complete(request, record))

        work = _Unary(answer, record, self._max_call_s)
        kept, replayed = await self._answer(_name("Complete", key, request), work, on_replay)
        response = pb.CompleteResponse.FromString(kept)
        response.report.replayed = replayed
        return response

    async def embed(
        self, key: str, request: pb.EmbedRequest, record: Record, on_replay: Callable[[], None]
    ) -> pb.EmbedResponse:
        """The vectors of this key, likewise."""
        asked = pb.EmbedRequest()
        asked.CopyFrom(request)
        # The id is new with every sending.
        asked.ClearField("request_id")

        async def answer() -> pb.EmbedResponse:
            return self._reports.vectors(await self._embeddings.embed(asked, record))

        work = _Unary(answer, record, self._max_call_s)
        kept, replayed = await self._answer(_name("Embed", key, asked), work, on_replay)
        response = pb.EmbedResponse.FromString(kept)
        response.report.replayed = replayed
        return response

    async def _answer(self, name: RequestName, work: _Unary, on_replay: Callable[[], None]) -> tuple[bytes, bool]:
        outcome, replayed = await self._once.answer(name, work)
        if replayed:
            on_replay()
        if outcome.failure:
            raise CallError(_again(outcome.failure) if replayed else failure_of(outcome.failure))
        return outcome.answer, replayed

    async def stream(
        self, key: str, request: pb.Conversation, record: Record, on_replay: Callable[[], None]
    ) -> AsyncGenerator[pb.CompleteStreamResponse, None]:
        """The stream of this key, or its kept answer as a stream."""
        name = _name("CompleteStream", key, request)
        enter(_limited(self._max_call_s))
        work = _Stream(self._coordinator, self._reports, request, record, on_replay)
        async with aclosing(self._once.stream(name, work)) as events:
            async for event in events:
                yield event


class _Unary:
    """The port `Work`."""

    def __init__(self, answer: Callable[[], Awaitable[Message]], record: Record, max_call_s: float) -> None:
        self._answer = answer
        self._record = record
        self._max_call_s = max_call_s

    @property
    def spent(self) -> bool:
        return self._record.cost_nano_usd > 0

    @property
    def worth_keeping(self) -> bool:
        return NO_MODEL not in self._record.degraded

    async def run(self) -> bytes:
        # The task is the work's own, so is its context. Its timer replaces the one that ends a caller's task.
        call = _limited(self._max_call_s)
        enter(call)
        async with asyncio.timeout_at(call.deadline_s):
            answer = await self._answer()
        return answer.SerializeToString()

    def failure(self, error: BaseException) -> bytes:
        return details_of(describe(error))


class _Stream:
    """The port `StreamWork`."""

    def __init__(
        self,
        coordinator: Coordinator,
        reports: ContractReports,
        request: pb.Conversation,
        record: Record,
        on_replay: Callable[[], None],
    ) -> None:
        self._coordinator = coordinator
        self._reports = reports
        self._request = request
        self._record = record
        self._on_replay = on_replay
        self._shown = Assembly()
        self._finish_reason = chat_pb2.FINISH_REASON_CUT

    @property
    def spent(self) -> bool:
        return self._record.cost_nano_usd > 0

    @property
    def worth_keeping(self) -> bool:
        return NO_MODEL not in self._record.degraded

    async def run(self) -> AsyncGenerator[pb.CompleteStreamResponse, None]:
        async with aclosing(self._coordinator.stream(self._request, self._record)) as events:
            async for event in events:
                message = self._reports.event(event)
                if message.HasField("delta"):
                    self._shown.add(message.delta)
                elif message.HasField("finished"):
                    self._finish_reason = message.finished.finish_reason
                yield message

    def is_last(self, event: pb.CompleteStreamResponse) -> bool:
        return event.HasField("finished")

    def delivered(self) -> bytes:
        completion = self._shown.completion(self._finish_reason)
        answer = pb.CompleteResponse(completion=completion, report=self._reports.report(self._record))
        return answer.SerializeToString()

    def failure(self, error: BaseException) -> bytes:
        left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        return details_of(_LEFT if left else describe(error))

    async def replay(self, outcome: Outcome) -> AsyncGenerator[pb.CompleteStreamResponse, None]:
        self._on_replay()
        if outcome.answer:
            answer = pb.CompleteResponse.FromString(outcome.answer)
            report, completion = answer.report, answer.completion
            report.replayed = True
            yield pb.CompleteStreamResponse(started=_started(report))
            yield pb.CompleteStreamResponse(delta=delta_of(completion))
            if not outcome.failure:
                finished = pb.StreamFinished(finish_reason=completion.finish_reason, report=report)
                yield pb.CompleteStreamResponse(finished=finished)
        if outcome.failure:
            raise CallError(_again(outcome.failure))


def _started(report: pb.CallReport) -> pb.StreamStarted:
    return pb.StreamStarted(
        request_id=report.request_id,
        trace_id=report.trace_id,
        model=report.model,
        prompt_version=report.prompt_version,
        cache_status=report.cache_status,
        replayed=True,
        degraded=report.degraded,
    )


def _again(details: bytes) -> Failure:
    """A kept failure. Waiting does not change it, so it names no time any more."""
    failure = failure_of(details)
    return replace(failure, metadata={**failure.metadata, REPLAYED: "true"}, retry_after_s=None)


def _name(rpc: str, key: str, request: Message) -> RequestName:
    if not _KEY.fullmatch(key):
        raise KeyMalformed(MAX_KEY_CHARS)
    principal = current().principal
    content = request.SerializeToString(deterministic=True)
    return name_of(principal.organisation, principal.key_id, rpc, key, content)


def _limited(max_call_s: float) -> CallContext:
    """The running call with a deadline, also when it came without one."""
    call = current()
    latest_s = asyncio.get_running_loop().time() + max_call_s
    deadline_s = latest_s if call.deadline_s is None else min(call.deadline_s, latest_s)
    return replace(call, deadline_s=deadline_s)
