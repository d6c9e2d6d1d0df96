"""What the model calls of one request used, and its booking: once, however many calls there were."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.orchestrator.core.admission import Services
from services.orchestrator.core.model import ModelAnswer, Plan, Progress, Record, Reservation, UsageLine
from services.orchestrator.core.policy import total_usage


@dataclass(frozen=True, slots=True)
class LeftCall:
    """A call that may outlive its caller. However it ends, it puts itself on the tab."""

    plan: Plan
    progress: Progress
    task: asyncio.Future[ModelAnswer]


@dataclass(slots=True)
class Tab:
    """Tries of all calls of one request, in order; their numbers go on from call to call."""

    lines: tuple[UsageLine, ...] = ()
    attempts: tuple[object, ...] = ()
    left: LeftCall | None = None

    def add(self, lines: Sequence[UsageLine], attempts: Sequence[object]) -> None:
        """The tries of one more call."""
        before = max([len(self.attempts), *(line.attempt for line in self.lines)])
        self.lines += tuple(replace(line, attempt=line.attempt + before) for line in lines)
        self.attempts += tuple(attempts)


def note_estimate(services: Services, record: Record, reservation: Reservation, lines: Sequence[UsageLine]) -> None:
    """What a request costs as far as is known, while a call of it goes on without its caller."""
    record.cost_nano_usd = services.ledger.cost_nano_usd(reservation, lines)
    record.usage = total_usage(lines)


def settle(services: Services, record: Record, reservation: Reservation, lines: Sequence[UsageLine]) -> None:
    """Books what was used, after the answer; the cost is known now, at the reservation's prices."""
    ledger, afterwards = services.ledger, services.afterwards
    if not lines:
        record.cost_nano_usd = 0
        afterwards.run("void", lambda: ledger.void(reservation, "upstream-refused"))
        return
    record.cost_nano_usd = ledger.cost_nano_usd(reservation, lines)
    if record.usage.input_tokens == 0:
        record.usage = total_usage(lines)
    afterwards.run("commit", lambda: ledger.commit(reservation, lines))


def mark_dispatched(services: Services, reservation: Reservation) -> None:
    """Beside the call, so that it waits for nobody: a mark that is lost costs nobody an answer."""
    services.afterwards.run("mark-dispatched", lambda: services.ledger.mark_dispatched(reservation))
