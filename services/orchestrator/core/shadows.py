"""Copies of answered calls for another model, out of the caller's sight: paid for, compared, never shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.orchestrator.core.admission import Admitted
from services.orchestrator.core.errors import BudgetExhausted, RateLimited, RequestFailed
from services.orchestrator.core.model import Plan, Progress, Record, Reservation, Shadow, Turn, UsageLine
from services.orchestrator.core.policy import Policy, lines_so_far, tokens_to_hold
from services.orchestrator.core.ports import Afterwards, Clock, Ledger, Router, ShadowEvents

# The label `feature` of every copy: a limit on it is the budget of all shadows.
FEATURE = "shadow"


@dataclass(frozen=True, slots=True)
class ShadowPorts:
    """What copies need. `accounting` is for their bookings, `background` for the copies themselves.

    The ledger is asked as it is: nothing is lent for copies, so that while it is away there are none.
    """

    router: Router
    ledger: Ledger
    accounting: Afterwards
    background: Afterwards
    clock: Clock
    events: ShadowEvents
    copy_of: Callable[[Turn, Shadow], Turn]


class Shadows:
    """Sends copies. Above `max_at_once` under way, and when no limit covers them, they are dropped and counted."""

    def __init__(self, ports: ShadowPorts, policy: Policy, max_at_once: int) -> None:
        self._ports = ports
        self._policy = policy
        self._max_at_once = max_at_once
        self._under_way = 0

    def copy(self, admitted: Admitted, record: Record) -> None:
        """A request was answered by a model; its plan says whether it is copied. Returns at once."""
        shadow = admitted.plan.shadow
        if shadow is None:
            return
        if self._under_way >= self._max_at_once:
            self._ports.events.ended(shadow.name, "dropped")
            return
        answer_s = sum(duration_s for step, duration_s in record.steps if step == "model")
        self._under_way += 1
        self._ports.background.run("shadow", lambda: self._run(shadow, admitted, answer_s))

    async def _run(self, shadow: Shadow, admitted: Admitted, answer_s: float) -> None:
        outcome = "cancelled"
        try:
            turn = self._ports.copy_of(admitted.turn, shadow)
            plan = Plan((shadow.candidate,), (shadow.name,), 0, "")
            try:
                reservation = await self._ports.ledger.reserve(turn, plan, *tokens_to_hold(self._policy, turn, plan))
            except RequestFailed as error:
                outcome = self._not_reserved(error)
                return
            outcome = await self._ask(shadow, admitted, turn, plan, reservation, answer_s)
        finally:
            self._under_way -= 1
            self._ports.events.ended(shadow.name, outcome)

    def _not_reserved(self, error: RequestFailed) -> str:
        if error.unanswered is not None:
            self._ports.accounting.run("void", lambda: self._ports.ledger.withdraw(error.unanswered))
        return "denied" if isinstance(error, BudgetExhausted | RateLimited) else "failed"

    async def _ask(
        self, shadow: Shadow, admitted: Admitted, turn: Turn, plan: Plan, reservation: Reservation, answer_s: float
    ) -> str:
        """Returns what became of it. Whatever does, it is booked."""
        ports, started_s = self._ports, self._ports.clock.monotonic()
        lines: Sequence[UsageLine] | None = None
        progress = Progress()
        ports.accounting.run("mark-dispatched", lambda: ports.ledger.mark_dispatched(reservation))
        try:
            answer = await ports.router.complete(turn, plan, admitted.checked, progress)
            lines = answer.lines
        except RequestFailed as error:
            lines = ports.router.billed_lines(error)
            return "failed"
        finally:
            self._settle(reservation, lines_so_far(progress, plan, turn, 0) if lines is None else lines)
        ports.events.compared(shadow.name, ports.clock.monotonic() - started_s, answer_s)
        return "answered"

    def _settle(self, reservation: Reservation, lines: Sequence[UsageLine]) -> None:
        ledger = self._ports.ledger
        if lines:
            self._ports.accounting.run("commit", lambda: ledger.commit(reservation, lines))
        else:
            self._ports.accounting.run("void", lambda: ledger.void(reservation, "upstream-refused"))
