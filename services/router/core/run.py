"""One call on its way through the candidates: bookkeeping around the pure decisions of `plan` and `fallback`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.router.core import attempts as records
from services.router.core.attempts import Attempt, attempts_json
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import ModelCall, Usage
from services.router.core.cooldown import Cooldowns
from services.router.core.errors import RouterError
from services.router.core.failure import MAY_BE_BILLED, Failure, Outcome
from services.router.core.fallback import (
    GiveUp,
    RetryPolicy,
    RetrySame,
    Spent,
    cooldown_after,
    final_error,
    next_action,
)
from services.router.core.plan import Plan, step_timeout_s
from services.router.core.ports import AttemptObserver
from services.router.core.tokens import estimate_usage


class Run:
    """The state of one call. `now_s` is monotonic; the deadline is on the same clock."""

    def __init__(
        self,
        call: ModelCall,
        plan: Plan,
        deadline_s: float,
        *,
        policy: RetryPolicy,
        cooldowns: Cooldowns,
        observer: AttemptObserver,
        now: Callable[[], float],
    ) -> None:
        self.attempts: list[Attempt] = []
        self._call = call
        self._plan = plan
        self._deadline_s = deadline_s
        self._policy = policy
        self._cooldowns = cooldowns
        self._observer = observer
        self._now = now
        self._position = 0
        self._retries_left = plan.route.max_retries
        self._failures: list[tuple[ModelSpec, Failure]] = []
        self._started_s = 0.0

    def remaining_s(self) -> float:
        """Time until the deadline, never negative."""
        return max(0.0, self._deadline_s - self._now())

    def start(self) -> ModelSpec:
        """Begins the next try and names its model. Raises the final error when the plan has no candidate."""
        if self._position >= len(self._plan.candidates) or self.remaining_s() < self._policy.min_step_s:
            raise self._final_error()
        self._started_s = self._now()
        return self._plan.candidates[self._position]

    def timeout_s(self, limit_s: float, later_limits: Callable[[ModelSpec], float]) -> float:
        """Time for the running try, leaving the later candidates their fair share."""
        later = [later_limits(spec) for spec in self._later()]
        return step_timeout_s(limit_s, later, self.remaining_s())

    def succeeded(self, usage: Usage) -> tuple[Attempt, ...]:
        """The running try gave the answer; all tries in order."""
        self._record(records.succeeded(self._spec(), self._now() - self._started_s, usage))
        return tuple(self.attempts)

    def running(self) -> Attempt:
        """The running try as it stands."""
        spec = self._spec()
        return Attempt(spec.name, spec.provider, spec.model, None, 0, self._now() - self._started_s)

    def failed(self, failure: Failure, jitter: float) -> float:
        """Notes a failed try and decides. Returns the wait before the next try; raises when nothing is left."""
        self._note_failure(failure, ())
        action = next_action(
            failure,
            current=self._spec(),
            later=self._later(),
            retries_left=self._retries_left,
            attempts=len(self.attempts),
            remaining_s=self.remaining_s(),
            jitter=jitter,
            policy=self._policy,
        )
        if isinstance(action, GiveUp):
            raise self._final_error()
        if isinstance(action, RetrySame):
            self._retries_left -= 1
            return action.delay_s
        self._position += 1 + action.skip
        self._retries_left = self._plan.route.max_retries
        return 0.0

    def cut(self, failure: Failure, delivered: Sequence[str], error: RouterError) -> RouterError:
        """Ends a call whose answer broke off after the first delta: no other model may continue it."""
        self._note_failure(failure, delivered)
        return self.with_attempts(error)

    def cancelled(self, delivered: Sequence[str]) -> None:
        """The caller left; what was delivered may be billed."""
        spec = self._spec()
        usage = estimate_usage(self._call, delivered)
        self._record(
            Attempt(
                spec.name,
                spec.provider,
                spec.model,
                Outcome.CANCELLED,
                0,
                self._now() - self._started_s,
                usage,
                "caller-left",
            )
        )

    def _note_failure(self, failure: Failure, delivered: Sequence[str]) -> None:
        spec = self._spec()
        usage = failure.usage
        # Whatever ended an answer that had begun: what was delivered was generated.
        if usage is None and (failure.kind in MAY_BE_BILLED or delivered):
            usage = estimate_usage(self._call, delivered)
        self._failures.append((spec, failure))
        self._record(records.failed(spec, self._now() - self._started_s, failure, usage))
        cooldown = cooldown_after(failure, self._now(), self._policy)
        if cooldown is not None:
            self._cooldowns.note(spec.name, cooldown)

    def _record(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self._observer.attempt_ended(attempt)

    def _spec(self) -> ModelSpec:
        return self._plan.candidates[self._position]

    def _later(self) -> tuple[ModelSpec, ...]:
        return self._plan.candidates[self._position + 1 :]

    def _final_error(self) -> RouterError:
        spent = Spent(self._failures, self._plan.rejected, self._now(), self.remaining_s())
        return self.with_attempts(final_error(spent, self._policy))

    def with_attempts(self, error: RouterError) -> RouterError:
        """Puts the tries so far into the error's metadata. An empty list says that nobody was asked."""
        error.metadata["attempts_json"] = attempts_json(self.attempts)
        return error
