"""The second half of a request: the model, the answer, the account. One answer, or a stream of pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from services.orchestrator.core.admission import Admitted, Services, admit, timed
from services.orchestrator.core.errors import GuardUnavailable, OutputBlocked, SchemaMismatch, StreamCut
from services.orchestrator.core.metering import Meter
from services.orchestrator.core.model import (
    Answer,
    CheckedOutput,
    Continued,
    Delta,
    Finished,
    Found,
    ModelAnswer,
    Progress,
    Record,
    Reservation,
    Started,
    StreamEvent,
    UsageLine,
)
from services.orchestrator.core.policy import Policy, abandoned_lines, is_covered, may_store
from services.orchestrator.core.settlement import mark_dispatched, settle


class Coordinator:
    """Runs requests. Holds no state of its own between them."""

    def __init__(self, services: Services, policy: Policy) -> None:
        self._services = services
        self._policy = policy

    async def complete(self, request: object, record: Record) -> Answer:
        """One answer. Raises RequestFailed."""
        started_s = self._services.clock.monotonic()
        try:
            admitted = await admit(self._services, self._policy, request, record)
            if admitted.found is not None:
                return self._from_cache(admitted.found, record)
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
                completion = self._from_cache(admitted.found, record).completion
                yield Started(record)
                yield Delta(completion)
            else:
                progress = Progress()
                async with aclosing(self._stream_model(admitted, record, progress)) as events:
                    async for event in events:
                        yield event
                assert progress.output is not None
                completion = progress.output.completion
            record.duration_s = self._services.clock.monotonic() - started_s
            yield Finished(completion, record)
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

    def _from_cache(self, found: Found, record: Record) -> Answer:
        record.cache_entry_id = found.entry_id
        record.usage = found.usage
        record.model = found.model
        record.output_verdict = found.verdict
        return Answer(found.completion, record)

    async def _from_model(self, admitted: Admitted, record: Record) -> Answer:
        assert admitted.reservation is not None
        self._mark_dispatched(admitted.reservation)
        try:
            calling = self._services.router.complete(admitted.turn, admitted.plan, admitted.checked)
            answer = await timed(self._services, record, "model", calling)
        except asyncio.CancelledError:
            self._settle(record, admitted.reservation, abandoned_lines(admitted.plan.candidates[0], admitted.turn))
            raise
        except Exception as error:
            billed = self._services.router.billed_lines(error)
            if billed is None:
                billed = abandoned_lines(admitted.plan.candidates[0], admitted.turn)
            self._settle(record, admitted.reservation, billed)
            raise
        record.model, record.attempts, record.usage = answer.model, answer.attempts, answer.usage
        self._settle(record, admitted.reservation, answer.lines)
        output = await self._check_output(admitted, answer, record)
        raise_if_blocked(output)
        self._keep(admitted, answer, output)
        return Answer(output.completion, record)

    async def _check_output(self, admitted: Admitted, answer: ModelAnswer, record: Record) -> CheckedOutput:
        checking = self._services.guard.check_output(admitted.turn, admitted.checked, answer.completion)
        try:
            output = await timed(self._services, record, "guard-output", checking)
        except GuardUnavailable:
            # Masked values could not be restored: an answer full of tokens helps nobody, whatever the policy.
            if self._policy.guard_required or admitted.checked.masked:
                raise
            if "guard" not in record.degraded:
                record.degraded.append("guard")
            return CheckedOutput(
                blocked=False,
                detectors=(),
                schema_violations=(),
                completion=answer.completion,
                verdict=None,
                grounding_score=None,
            )
        record.output_verdict, record.grounding_score = output.verdict, output.grounding_score
        return output

    async def _stream_model(
        self, admitted: Admitted, record: Record, progress: Progress
    ) -> AsyncGenerator[StreamEvent, None]:
        assert admitted.reservation is not None
        started_s = self._services.clock.monotonic()
        lines: Sequence[UsageLine] | None = None
        meter = self._meter(admitted, progress)
        meter.open()
        self._mark_dispatched(admitted.reservation)
        try:
            async with aclosing(self._pieces(admitted, record, progress)) as events:
                async for event in events:
                    yield event
        except Exception as error:
            lines = self._services.router.billed_lines(error)
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

    def _mark_dispatched(self, reservation: Reservation) -> None:
        mark_dispatched(self._services, reservation)

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
            candidate, tries = progress.candidate or admitted.plan.candidates[0], progress.lines
            own_bytes = progress.received_bytes - progress.earlier_bytes
            lines = (*tries, *abandoned_lines(candidate, admitted.turn, own_bytes, len(tries) + 1))
        self._settle(record, admitted.reservation, lines)

    def _settle(self, record: Record, reservation: Reservation, lines: Sequence[UsageLine]) -> None:
        settle(self._services, record, reservation, lines)

    def _keep(self, admitted: Admitted, answer: ModelAnswer, output: CheckedOutput) -> None:
        if may_store(admitted.turn, admitted.checked, answer, output):
            store, turn, plan, checked = self._services.cache.store, admitted.turn, admitted.plan, admitted.checked
            self._services.afterwards.run("store", lambda: store(turn, plan, checked, answer, output))


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
