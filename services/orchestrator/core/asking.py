"""Whole answers: the models asked one after the other, each answer checked, everything paid for together."""

from __future__ import annotations

import asyncio

from services.orchestrator.core.admission import Admitted, Services, timed
from services.orchestrator.core.booking import LeftCall, Tab, mark_dispatched, note_estimate, settle
from services.orchestrator.core.cascade import Raters, first_and_others, is_trusted, others_may_answer
from services.orchestrator.core.draining import Drains, is_drained
from services.orchestrator.core.errors import GuardUnavailable, ModelFailed
from services.orchestrator.core.model import CheckedOutput, ModelAnswer, Plan, Progress, Record, Usage
from services.orchestrator.core.policy import Policy, lines_so_far

# In `degraded`: the first model was left out because nobody rates answers here; and its answer, which was not trusted,
# was given because the others failed.
UNRATED, UNTRUSTED = "confidence", "cascade"


class Asking:
    """Asks models for whole answers."""

    def __init__(self, services: Services, policy: Policy, drains: Drains) -> None:
        self._services = services
        self._policy = policy
        self._drains = drains
        self._raters = Raters()

    async def answer(self, admitted: Admitted, record: Record) -> tuple[ModelAnswer, CheckedOutput]:
        """The answer and the guard's word on it, which may be no. However it ends, its calls are booked, once."""
        assert admitted.reservation is not None
        tab = Tab()
        mark_dispatched(self._services, admitted.reservation)
        try:
            if admitted.plan.min_confidence is not None:
                return await self._cascade(admitted, record, tab, admitted.plan.min_confidence)
            return await self._ask_and_check(admitted, admitted.plan, record, tab)
        finally:
            await self._settle(admitted, record, tab)

    async def _settle(self, admitted: Admitted, record: Record, tab: Tab) -> None:
        """Books the calls, or has the one that was left read to its end first."""
        left = tab.left
        if left is None:
            self._book(admitted, record, tab)
            return
        goes_on = left.task.done() or is_drained(left.plan, left.progress)
        if goes_on and self._drains.take(lambda: self._drain(admitted, record, tab, left.task)):
            assert admitted.reservation is not None
            lines = () if left.task.done() else lines_so_far(left.progress, left.plan, admitted.turn, 0)
            note_estimate(self._services, record, admitted.reservation, (*tab.lines, *lines))
            record.attempts = tab.attempts
            return
        left.task.cancel()
        try:
            await asyncio.gather(left.task, return_exceptions=True)
        finally:  # whoever is impatient here has ended the task all the same
            self._book(admitted, record, tab)

    async def _drain(self, admitted: Admitted, record: Record, tab: Tab, task: asyncio.Future[ModelAnswer]) -> bool:
        try:
            answer = await task
        except Exception:  # noqa: BLE001 - it is on the tab as any call that failed
            return False
        finally:
            record.usage = Usage()
            self._book(admitted, record, tab)
        record.model, record.usage = answer.model, answer.usage
        return True

    def _book(self, admitted: Admitted, record: Record, tab: Tab) -> None:
        assert admitted.reservation is not None
        record.attempts = tab.attempts
        settle(self._services, record, admitted.reservation, tab.lines)

    async def _cascade(
        self, admitted: Admitted, record: Record, tab: Tab, min_confidence: float
    ) -> tuple[ModelAnswer, CheckedOutput]:
        """The first model's answer if it is trusted, else the others'. If they fail, the first one's after all."""
        first, others = first_and_others(admitted.plan)
        guarded, policy = admitted.checked.verdict is not None, admitted.turn.guard_policy
        if not guarded or not self._raters.may_try(policy, self._services.clock.monotonic()):
            record.degraded.append(UNRATED)
            return await self._ask_and_check(admitted, others, record, tab)
        try:
            answer, output = await self._ask_and_check(admitted, first, record, tab)
        except ModelFailed as error:
            if not others_may_answer(error):
                raise
            return await self._ask_and_check(admitted, others, record, tab)
        self._raters.note(policy, output, self._services.clock.monotonic())
        if is_trusted(output, min_confidence):
            return answer, output
        try:
            second = await self._ask(admitted, others, record, tab)
        except ModelFailed:
            if output.blocked:
                raise
            record.degraded.append(UNTRUSTED)
            return answer, output
        return second, await self._check(admitted, second, record)

    async def _ask_and_check(
        self, admitted: Admitted, plan: Plan, record: Record, tab: Tab
    ) -> tuple[ModelAnswer, CheckedOutput]:
        answer = await self._ask(admitted, plan, record, tab)
        return answer, await self._check(admitted, answer, record)

    async def _ask(self, admitted: Admitted, plan: Plan, record: Record, tab: Tab) -> ModelAnswer:
        progress = Progress()
        calling = self._on_the_tab(admitted, plan, progress, tab)
        # A task for each call: only for plans that may need it.
        if plan.drained:
            task = asyncio.ensure_future(calling)
            try:
                answer = await timed(self._services, record, "model", asyncio.shield(task))
            except asyncio.CancelledError:
                tab.left = LeftCall(plan, progress, task)
                raise
        else:
            answer = await timed(self._services, record, "model", calling)
        record.model, record.usage = answer.model, answer.usage
        return answer

    async def _on_the_tab(self, admitted: Admitted, plan: Plan, progress: Progress, tab: Tab) -> ModelAnswer:
        router, turn = self._services.router, admitted.turn
        try:
            answer = await router.complete(turn, plan, admitted.checked, progress)
        except Exception as error:
            billed = router.billed_lines(error)
            lines = lines_so_far(progress, plan, turn, 0) if billed is None else billed
            tab.add(lines, router.attempts(error) or progress.attempts)
            raise
        except BaseException:
            tab.add(lines_so_far(progress, plan, turn, 0), progress.attempts)
            raise
        tab.add(answer.lines, answer.attempts)
        return answer

    async def _check(self, admitted: Admitted, answer: ModelAnswer, record: Record) -> CheckedOutput:
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
