"""One stream: the model, the guard, the caller, each pulling from the one before; and its account, however it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from services.orchestrator.core.admission import Admitted, Services
from services.orchestrator.core.booking import mark_dispatched, note_estimate, settle
from services.orchestrator.core.draining import DetachedStream, Drains, is_drained
from services.orchestrator.core.errors import StreamCut
from services.orchestrator.core.metering import Meter
from services.orchestrator.core.model import (
    Continued,
    Delta,
    Progress,
    Record,
    Reservation,
    Started,
    StreamEvent,
    Usage,
    UsageLine,
)
from services.orchestrator.core.policy import Policy, is_covered, lines_so_far


@dataclass(frozen=True, slots=True)
class _Stream:
    """One stream; `detached` where it may have to outlive its caller."""

    admitted: Admitted
    record: Record
    progress: Progress
    reservation: Reservation
    meter: Meter
    detached: DetachedStream | None


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
        pieces = self._services.router.stream(admitted.turn, admitted.plan, admitted.checked, progress)
        # A task and a hand-over for each piece: only for plans that may need it.
        detached = DetachedStream(pieces, admitted.plan, progress) if admitted.plan.drained else None
        meter = self._meter(admitted, admitted.reservation, progress)
        stream = _Stream(admitted, record, progress, admitted.reservation, meter, detached)
        meter.open()
        mark_dispatched(self._services, admitted.reservation)
        try:
            async with aclosing(self._released(stream, pieces if detached is None else detached.pieces())) as events:
                async for event in events:
                    yield event
        except Exception as error:
            failure = error
            raise
        finally:
            record.steps.append(("model", self._services.clock.monotonic() - started_s))
            final = self._end(stream, failure)
            if isinstance(failure, StreamCut):
                failure.bill(record.cost_nano_usd, final=final)

    def _meter(self, admitted: Admitted, reservation: Reservation, progress: Progress) -> Meter:
        services, turn, plan = self._services, admitted.turn, admitted.plan
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
        self, stream: _Stream, pieces: AsyncGenerator[object, None]
    ) -> AsyncGenerator[StreamEvent, None]:
        """What the guard lets through. A slow caller slows the provider."""
        admitted, record, progress = stream.admitted, stream.record, stream.progress
        taken = progress if stream.detached is None else stream.detached
        begun, continued = False, False
        async with (
            aclosing(pieces),
            aclosing(self._services.guard.check_stream(admitted.turn, admitted.checked, pieces, progress)) as released,
        ):
            async for piece in released:
                if not begun:
                    begun = True
                    record.model = taken.model
                    yield Started(record)
                if taken.continued and not continued:
                    continued = True
                    yield Continued(taken.model)
                yield Delta(piece)
        if not begun and progress.output is not None and not progress.output.blocked:
            record.model = progress.model
            yield Started(record)

    def _end(self, stream: _Stream, failure: Exception | None) -> bool:
        """Books a stream that ended in whatever way, or has it read to its end first. Returns whether it is booked."""
        detached, progress = stream.detached, stream.progress
        if detached is not None and detached.left:
            goes_on = progress.answer is None and is_drained(stream.admitted.plan, progress)
            if goes_on and self._drains.take(lambda: self._drain(stream, detached)):
                lines = self._lines(stream, failure)
                note_estimate(self._services, stream.record, stream.reservation, lines)
                return False
            detached.cancel()
        stream.meter.close()
        settle(self._services, stream.record, stream.reservation, self._lines(stream, failure))
        return True

    async def _drain(self, stream: _Stream, detached: DetachedStream) -> bool:
        """The meter runs on: what others may still spend depends on the hold, and its end on reports."""
        failure = None
        try:
            await detached.end()
        except Exception as error:  # noqa: BLE001 - booked as any stream that failed
            failure = error
        finally:
            stream.meter.close()
            stream.record.usage = Usage()
            settle(self._services, stream.record, stream.reservation, self._lines(stream, failure))
        return stream.progress.answer is not None

    def _lines(self, stream: _Stream, failure: Exception | None) -> Sequence[UsageLine]:
        """What to book: by the provider's word, or else by what was seen."""
        router, admitted, record, progress = self._services.router, stream.admitted, stream.record, stream.progress
        billed = router.billed_lines(failure) if failure is not None else None
        if failure is not None:
            progress.attempts = router.attempts(failure) or progress.attempts
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
