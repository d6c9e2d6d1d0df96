"""The second half of a request: the model, the answer, the account. One answer, or a stream of pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from services.orchestrator.core.admission import Admitted, Services, admit, from_cache
from services.orchestrator.core.asking import UNTRUSTED, Asking
from services.orchestrator.core.booking import mark_dispatched, settle
from services.orchestrator.core.errors import ModelFailed, OutputBlocked, SchemaMismatch, StreamCut
from services.orchestrator.core.ladder import stand_in
from services.orchestrator.core.metering import Meter
from services.orchestrator.core.model import (
    Answer,
    CheckedOutput,
    Continued,
    Delta,
    Finished,
    ModelAnswer,
    Progress,
    Record,
    Started,
    StreamEvent,
    UsageLine,
)
from services.orchestrator.core.policy import Policy, is_covered, lines_so_far, may_store
from services.orchestrator.core.shadows import Shadows


class Coordinator:
    """Runs requests. Holds nothing of them when they have ended."""

    def __init__(self, services: Services, policy: Policy, shadows: Shadows | None = None) -> None:
        self._services = services
        self._policy = policy
        self._asking = Asking(services, policy)
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
            if isinstance(error, StreamCut):
                error.bill(record.cost_nano_usd)
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
                async with aclosing(self._stream_model(admitted, record, progress)) as events:
                    async for event in events:
                        yield event
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

    async def _stream_model(
        self, admitted: Admitted, record: Record, progress: Progress
    ) -> AsyncGenerator[StreamEvent, None]:
        assert admitted.reservation is not None
        started_s = self._services.clock.monotonic()
        lines: Sequence[UsageLine] | None = None
        meter = self._meter(admitted, progress)
        meter.open()
        mark_dispatched(self._services, admitted.reservation)
        try:
            async with aclosing(self._pieces(admitted, record, progress)) as events:
                async for event in events:
                    yield event
        except Exception as error:
            lines = self._services.router.billed_lines(error)
            progress.attempts = progress.attempts or self._services.router.attempts(error)
            raise
        finally:
            meter.close()
            record.steps.append(("model", self._services.clock.monotonic() - started_s))
            self._settle_stream(admitted, record, progress, lines)
        assert progress.output is not None
        # A guard that blocks in mid-stream ends it before the model does: there is no answer then.
        raise_if_blocked(progress.output)
        assert progress.answer is not None
        self._keep(admitted, progress.answer, progress.output)
        self._copy(admitted, record)

    def _meter(self, admitted: Admitted, progress: Progress) -> Meter:
        services, turn, plan, reservation = self._services, admitted.turn, admitted.plan, admitted.reservation
        assert reservation is not None
        covered = is_covered(turn, plan, reservation.covered_output_tokens)
        return Meter(
            services.ledger,
            services.afterwards,
            self._policy.metering,
            reservation,
            turn,
            plan,
            progress,
            covered=covered,
        )

    async def _pieces(
        self, admitted: Admitted, record: Record, progress: Progress
    ) -> AsyncGenerator[StreamEvent, None]:
        """Router, guard, caller: each pulls from the one before, so a slow caller slows the provider."""
        router, guard = self._services.router, self._services.guard
        begun, continued = False, False
        async with (
            aclosing(router.stream(admitted.turn, admitted.plan, admitted.checked, progress)) as pieces,
            aclosing(guard.check_stream(admitted.turn, admitted.checked, pieces, progress)) as released,
        ):
            async for piece in released:
                if not begun:
                    begun = True
                    record.model = progress.model
                    yield Started(record)
                if progress.continued and not continued:
                    continued = True
                    yield Continued(progress.model)
                yield Delta(piece)
        if not begun and progress.output is not None and not progress.output.blocked:
            record.model = progress.model
            yield Started(record)

    def _settle_stream(
        self, admitted: Admitted, record: Record, progress: Progress, billed: Sequence[UsageLine] | None
    ) -> None:
        """Books a stream that ended in whatever way: by the provider's word, or else by what was seen."""
        assert admitted.reservation is not None
        record.model = progress.model
        record.attempts = progress.attempts
        if progress.output is not None:
            record.output_verdict, record.grounding_score = progress.output.verdict, progress.output.grounding_score
        if progress.answer is not None:
            record.usage = progress.answer.usage
            lines: Sequence[UsageLine] = progress.answer.lines
        elif billed is not None and (billed or not progress.received_bytes):
            lines = billed
        elif not progress.asked:
            lines = ()
        else:
            lines = lines_so_far(progress, admitted.plan, admitted.turn, progress.received_bytes)
        settle(self._services, record, admitted.reservation, lines)

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
