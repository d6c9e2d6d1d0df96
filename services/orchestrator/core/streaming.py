"""One stream: the model, the guard, the caller, each pulling from the one before; and its account, however it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from services.orchestrator.core.admission import Admitted, Services
from services.orchestrator.core.booking import mark_dispatched, settle
from services.orchestrator.core.draining import DetachedStream, Drains, is_drained
from services.orchestrator.core.errors import StreamCut
from services.orchestrator.core.metering import Meter
from services.orchestrator.core.model import Continued, Delta, Progress, Record, Started, StreamEvent, Usage, UsageLine
from services.orchestrator.core.policy import Policy, is_covered, lines_so_far, total_usage


class Streaming:
    """Asks models for streams."""

    def __init__(self, services: Services, policy: Policy, drains: Drains) -> None:
        self._services = services
        self._policy = policy
        self._drains = drains

    async def events(self, admitted: Admitted, record: Record, progress: Progress) -> AsyncGenerator[StreamEvent, None]:
        """`Started` and pieces; the answer and the guard's word on it are in `progress` then. Raises RequestFailed."""
        assert admitted.reservation is not None
        started_s, failure = self._services.clock.monotonic(), None
        meter = self._meter(admitted, progress)
        meter.open()
        mark_dispatched(self._services, admitted.reservation)
        stream = self._services.router.stream(admitted.turn, admitted.plan, admitted.checked, progress)
        # A task and a hand-over for each piece: only for plans that may need it.
        detached = DetachedStream(stream, admitted.plan, progress) if admitted.plan.drained else None
        pieces = stream if detached is None else detached.pieces()
        try:
            async with aclosing(self._released(admitted, record, progress, pieces)) as events:
                async for event in events:
                    yield event
        except Exception as error:
            failure = error
            raise
        finally:
            meter.close()
            record.steps.append(("model", self._services.clock.monotonic() - started_s))
            final = self._end(admitted, record, progress, detached, failure)
            if isinstance(failure, StreamCut):
                failure.bill(record.cost_nano_usd, final=final)

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

    async def _released(
        self, admitted: Admitted, record: Record, progress: Progress, pieces: AsyncGenerator[object, None]
    ) -> AsyncGenerator[StreamEvent, None]:
        """What the guard lets through. A slow caller slows the provider."""
        begun, continued = False, False
        async with (
            aclosing(pieces),
            aclosing(self._services.guard.check_stream(admitted.turn, admitted.checked, pieces, progress)) as released,
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

    def _end(
        self,
        admitted: Admitted,
        record: Record,
        progress: Progress,
        detached: DetachedStream | None,
        failure: Exception | None,
    ) -> bool:
        """Books a stream that ended in whatever way, or has it read to its end first. Returns whether it is counted."""
        assert admitted.reservation is not None
        lines = self._lines(admitted, record, progress, failure)
        if detached is not None and detached.left:
            drained = is_drained(admitted.plan, progress)
            if drained and self._drains.take(lambda: self._drain(admitted, record, progress, detached)):
                record.cost_nano_usd = self._services.ledger.cost_nano_usd(admitted.reservation, lines)
                record.usage = total_usage(lines)
                return progress.answer is not None
            detached.cancel()
        settle(self._services, record, admitted.reservation, lines)
        return True

    async def _drain(self, admitted: Admitted, record: Record, progress: Progress, detached: DetachedStream) -> bool:
        assert admitted.reservation is not None
        failure = None
        try:
            await detached.end()
        except Exception as error:  # noqa: BLE001 - booked as any stream that failed
            failure = error
        finally:
            record.usage = Usage()
            lines = self._lines(admitted, record, progress, failure)
            settle(self._services, record, admitted.reservation, lines)
        return progress.answer is not None

    def _lines(
        self, admitted: Admitted, record: Record, progress: Progress, failure: Exception | None
    ) -> Sequence[UsageLine]:
        """What to book: by the provider's word, or else by what was seen."""
        router = self._services.router
        billed = router.billed_lines(failure) if failure is not None else None
        progress.attempts = progress.attempts or (router.attempts(failure) if failure is not None else None)
        record.model = progress.model
        record.attempts = progress.attempts
        if progress.output is not None:
            record.output_verdict, record.grounding_score = progress.output.verdict, progress.output.grounding_score
        if progress.answer is not None:
            record.usage = progress.answer.usage
            return progress.answer.lines
        if billed is not None and (billed or not progress.received_bytes):
            return billed
        if not progress.asked:
            return ()
        return lines_so_far(progress, admitted.plan, admitted.turn, progress.received_bytes)
