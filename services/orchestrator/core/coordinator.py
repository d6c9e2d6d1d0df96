"""The second half of a request: the model, the answer, the account. One answer, or a stream of pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.orchestrator.core.admission import Admitted, Services, admit, from_cache
from services.orchestrator.core.asking import UNTRUSTED, Asking
from services.orchestrator.core.draining import Drains
from services.orchestrator.core.errors import ModelFailed, OutputBlocked, SchemaMismatch
from services.orchestrator.core.ladder import stand_in
from services.orchestrator.core.model import (
    Answer,
    CheckedOutput,
    Delta,
    Finished,
    ModelAnswer,
    Progress,
    Record,
    Started,
    StreamEvent,
)
from services.orchestrator.core.policy import Policy, may_store
from services.orchestrator.core.shadows import Shadows
from services.orchestrator.core.streaming import Streaming


class Coordinator:
    """Runs requests. Holds nothing of them when they have ended."""

    def __init__(self, services: Services, policy: Policy, drains: Drains, shadows: Shadows | None = None) -> None:
        self._services = services
        self._policy = policy
        self._asking = Asking(services, policy, drains)
        self._streaming = Streaming(services, policy, drains)
        self._shadows = shadows

    async def complete(self, request: object, record: Record) -> Answer:
        """One answer. Raises RequestFailed."""
        started_s = self._services.clock.monotonic()
        try:
            admitted = await admit(self._services, self._policy, request, record)
            if admitted.found is not None:
                return from_cache(admitted.found, record)
            return await self._from_model(admitted, record)
        except BaseException as error:
            note_failure(record, error)
            raise
        finally:
            self._remember(record, started_s)

    async def stream(self, request: object, record: Record) -> AsyncGenerator[StreamEvent, None]:
        """The same as a stream. Raises RequestFailed; after the first delta the caller keeps what it has."""
        started_s = self._services.clock.monotonic()
        try:
            admitted = await admit(self._services, self._policy, request, record)
            if admitted.found is not None:
                for part in _as_stream(from_cache(admitted.found, record)):
                    record.duration_s = self._services.clock.monotonic() - started_s
                    yield part
                return
            async with aclosing(self._stream_answer(admitted, record)) as events:
                async for event in events:
                    record.duration_s = self._services.clock.monotonic() - started_s
                    yield event
        except BaseException as error:
            note_failure(record, error)
            raise
        finally:
            self._remember(record, started_s)

    def _remember(self, record: Record, started_s: float) -> None:
        record.duration_s = self._services.clock.monotonic() - started_s
        self._services.records.put(record)

    async def _from_model(self, admitted: Admitted, record: Record) -> Answer:
        try:
            if admitted.plan.refusal is not None:
                raise admitted.plan.refusal
            answer, output = await self._asking.answer(admitted, record)
        except ModelFailed as error:
            return await stand_in(self._services, admitted, record, error)
        raise_if_blocked(output)
        if UNTRUSTED not in record.degraded:
            self._keep(admitted, answer, output)
        self._copy(admitted, record)
        return Answer(output.completion, record)

    async def _stream_answer(self, admitted: Admitted, record: Record) -> AsyncGenerator[StreamEvent, None]:
        """From a model, or from what stands in for it before anything was shown. Ends with `Finished`."""
        progress, failed = Progress(), admitted.plan.refusal
        if failed is None:
            try:
                async with aclosing(self._streaming.events(admitted, record, progress)) as events:
                    async for event in events:
                        yield event
                self._accept(admitted, record, progress)
            except ModelFailed as error:
                if progress.received_bytes:
                    raise
                failed = error
        if failed is None:
            assert progress.output is not None
            yield Finished(progress.output.completion, record)
            return
        assert isinstance(failed, ModelFailed)
        answer = await stand_in(self._services, admitted, record, failed)
        for part in _as_stream(answer):
            yield part

    def _accept(self, admitted: Admitted, record: Record, progress: Progress) -> None:
        """A guard that blocks in mid-stream ends it before the model does: there is no answer then."""
        assert progress.output is not None
        raise_if_blocked(progress.output)
        assert progress.answer is not None
        self._keep(admitted, progress.answer, progress.output)
        self._copy(admitted, record)

    def _keep(self, admitted: Admitted, answer: ModelAnswer, output: CheckedOutput) -> None:
        if may_store(admitted.turn, admitted.checked, answer, output):
            store, turn, plan, checked = self._services.cache.store, admitted.turn, admitted.plan, admitted.checked
            self._services.afterwards.run("store", lambda: store(turn, plan, checked, answer, output))

    def _copy(self, admitted: Admitted, record: Record) -> None:
        if self._shadows is not None:
            self._shadows.copy(admitted, record)


def _as_stream(answer: Answer) -> tuple[StreamEvent, ...]:
    return Started(answer.record), Delta(answer.completion), Finished(answer.completion, answer.record)


def raise_if_blocked(output: CheckedOutput) -> None:
    """Turns the guard's decision into what the caller sees."""
    if output.blocked and output.schema_violations:
        raise SchemaMismatch(output.schema_violations)
    if output.blocked:
        raise OutputBlocked(output.detectors)


def note_failure(record: Record, error: BaseException) -> None:
    """Keeps why a request failed, for Explain: what the caller was told, never more."""
    status, reason = getattr(error, "status", None), getattr(error, "reason", None)
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        record.status, record.reason, record.message = "CANCELLED", "CANCELLED", "the caller left"
    elif isinstance(status, str) and isinstance(reason, str):
        record.status, record.reason, record.message = status, reason, str(error)
    else:
        record.status, record.reason, record.message = "INTERNAL", "INTERNAL", "internal error"
