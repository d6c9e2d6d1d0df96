"""What follows a model call in the ledger, whatever kind of call it was."""

from __future__ import annotations

from collections.abc import Sequence

from services.orchestrator.core.admission import Services
from services.orchestrator.core.model import Record, Reservation, UsageLine
from services.orchestrator.core.policy import total_usage


def mark_dispatched(services: Services, reservation: Reservation) -> None:
    """Beside the call, so that it waits for nobody: a mark that is lost costs nobody an answer."""
    services.afterwards.run("mark-dispatched", lambda: services.ledger.mark_dispatched(reservation))


def settle(services: Services, record: Record, reservation: Reservation, lines: Sequence[UsageLine]) -> None:
    """Books what was used, after the answer; the cost is known now, at the reservation's prices."""
    ledger, afterwards = services.ledger, services.afterwards
    if not lines:
        afterwards.run("void", lambda: ledger.void(reservation, "upstream-refused"))
        return
    record.cost_nano_usd = ledger.cost_nano_usd(reservation, lines)
    if record.usage.input_tokens == 0:
        record.usage = total_usage(lines)
    afterwards.run("commit", lambda: ledger.commit(reservation, lines))
