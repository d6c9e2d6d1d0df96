"""One call on its way through the models: bookkeeping around the pure decisions of `fallback` and `deployments`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Self

from services.router.core.attempts import WAITING, Attempt, Purpose, attempts_json, outcome_of
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import ModelCall, Usage
from services.router.core.deployments import COOLING, Deployments, Shut
from services.router.core.errors import RouterError
from services.router.core.facts import Origin
from services.router.core.failure import Failure, FailureKind, Outcome
from services.router.core.fallback import (
    Action,
    GiveUp,
    RetryPolicy,
    RetrySame,
    Spent,
    cooldown_after,
    final_error,
    healthy_after,
    is_larger,
    is_shared,
    ladder_after,
    next_action,
)
from services.router.core.plan import Plan, Rejected, step_timeout_s
from services.router.core.ports import AttemptObserver
from services.router.core.retry_budget import ShareBucket
from services.router.core.tokens import estimate_usage, tokens_of_texts
from services.router.core.tries import Tries, Try

# Below this nobody can say what is slow; until then the route's own `after_s` counts.
MIN_HEDGE_SAMPLES = 50


@dataclass(frozen=True, slots=True)
class Shared:
    """What the calls of one route share. `now` is monotonic, `wall_now` ends agreements, `revoked` tells of reloads."""

    policy: RetryPolicy
    deployments: Deployments
    retries: ShareBucket
    hedges: ShareBucket
    observer: AttemptObserver
    now: Callable[[], float]
    wall_now: Callable[[], datetime]
    patient_s: float
    revoked: Callable[[ModelSpec, Origin], str]


class Run:
    """The state of one call, streamed or not. The deadline is on the monotonic clock.

    As a context it records the tries that the caller walked away from, and lets go of whatever was under way.
    """

    def __init__(self, call: ModelCall, plan: Plan, deadline_s: float, shared: Shared, *, streamed: bool) -> None:
        self.attempts: list[Attempt] = []
        self._call = call
        self._plan = plan
        self._deadline_s = deadline_s
        self._shared = shared
        self._streamed = streamed
        self._queue: tuple[ModelSpec, ...] = plan.candidates
        self._again: ModelSpec | None = None
        self._retries_left = plan.route.max_retries
        self._failures: list[tuple[ModelSpec, Failure]] = []
        self._rejected = list(plan.rejected)
        self._tried: set[str] = set()
        self._open: list[Try] = []
        self._beside: list[tuple[ModelSpec, Failure]] = []
        self._lost: list[int] = []
        self._hedged = False
        self._delivered_tokens = 0
        self._rests_until_s: dict[str, float] = {}
        self._waited = False
        self.tries = Tries()

    def remaining_s(self) -> float:
        """Time until the deadline, never negative."""
        return max(0.0, self._deadline_s - self._shared.now())

    def out_of_time(self) -> bool:
        """Whether another try would have no time to answer."""
        return self.remaining_s() < self._shared.policy.min_step_s

    # Tries begin.

    def start(self) -> Try:
        """Begins the next try. Raises the final error when nobody is left who may be asked."""
        tried = None if self.out_of_time() else self._next()
        if tried is None:
            raise self._final_error()
        return tried

    def _next(self) -> Try | None:
        spec, self._again = self._again, None
        if spec is not None and (tried := self._begin(spec, Purpose.RETRY)) is not None:
            return tried
        purpose = Purpose.FALLBACK if self.attempts else Purpose.FIRST
        self._retries_left = self._plan.route.max_retries
        return self._first_of_queue(purpose, self._call)

    def hedge_delay_s(self, tried: Try) -> float | None:
        """After how long a second request may be sent beside this one, once a call; None where there is nobody left."""
        rule = self._plan.route.hedge
        if rule is None or self._hedged or not self._queue:
            return None
        slow_s = self._shared.deployments.slow_after_s(
            tried.spec.name, rule.percentile, MIN_HEDGE_SAMPLES, streamed=self._streamed
        )
        return rule.after_s if slow_s is None else slow_s

    def hedge(self) -> Try | None:
        """Begins a second try beside the running one; None when nobody is fit for it or the route's rate is used up.

        Unlike a fallback it is a luxury: whoever rests for any reason is left alone.
        """
        if self.out_of_time() or len(self.attempts) + len(self._open) >= self._shared.policy.max_attempts:
            return None
        now_s, shut = self._shared.now(), self._shared.deployments.shut
        fit = [spec for spec in self._queue if self._refusal(spec) == "" and shut(spec.name, now_s) is None]
        if not fit:
            return None
        if not self._shared.hedges.take():
            self._shared.observer.hedged(self._plan.route.name, "capped")
            return None
        tried = self._begin(fit[0], Purpose.HEDGE)
        if tried is not None:
            self._hedged = True
            self._queue = tuple(spec for spec in self._queue if spec is not fit[0])
            self._shared.observer.hedged(self._plan.route.name, "sent")
        return tried

    def continuation(self, call: ModelCall) -> Try | None:
        """Begins a try that goes on where an answer broke off; `call` holds what came. None when nobody is left."""
        if self.out_of_time() or len(self.attempts) >= self._shared.policy.max_attempts:
            return None
        return self._first_of_queue(Purpose.CONTINUATION, call)

    def may_continue(self, tried: Try, failure: Failure) -> bool:
        """Whether another model may go on: once a stream, and only with plain text that nobody objected to."""
        return (
            self._plan.route.continue_on_another
            and tried.plain
            and tried.purpose is not Purpose.CONTINUATION
            and not self._call.parameters.response_format.structured
            and failure.kind not in {FailureKind.REJECTED, FailureKind.CONTENT_POLICY}
        )

    def _first_of_queue(self, purpose: Purpose, call: ModelCall) -> Try | None:
        while self._queue:
            spec, self._queue = self._queue[0], self._queue[1:]
            tried = self._begin(spec, purpose, call)
            if tried is not None:
                return tried
        return None

    def _refusal(self, spec: ModelSpec) -> str:
        return self._plan.gate.allowed(spec, self._shared.wall_now()) or self._shared.revoked(spec, self._call.origin)

    def _begin(self, spec: ModelSpec, purpose: Purpose, call: ModelCall | None = None) -> Try | None:
        """A try of this model, unless what was so when the call was planned is so no longer."""
        now_s = self._shared.now()
        reason = self._refusal(spec)
        shut = None if reason else self._shut(spec, purpose, now_s)
        permit = None
        if not reason and shut is None:
            permit = self._shared.deployments.begin(spec.name, now_s, streamed=self._streamed)
        if permit is None:
            self._rejected.append(Rejected(spec, reason or (shut.reason if shut else "breaker-open"), shut))
            return None
        tried = Try(spec, purpose, call or self._call, permit)
        self._open.append(tried)
        self._tried.add(spec.name)
        self._tell()
        return tried

    def _shut(self, spec: ModelSpec, purpose: Purpose, now_s: float) -> Shut | None:
        """A pause that only this call's own failure began does not stop its retry, which waited as long as it was told.

        Other pauses after mere failures were weighed when the call was planned: whoever is left is asked.
        """
        shut = self._shared.deployments.shut(spec.name, now_s)
        if shut is None or shut.last_resort:
            return None
        own_s = self._rests_until_s.get(spec.name, 0.0)
        own = purpose is Purpose.RETRY and shut.reason == COOLING and (shut.until_s or 0.0) <= own_s
        return None if own else shut

    def timeout_s(self, tried: Try, limit_s: float, later_limits: Callable[[ModelSpec], float]) -> float:
        """Time for a try, leaving those who are asked when it passes their fair share.

        The lists for other causes are not among them: nobody waits long for a refusal.
        """
        tried.limit_s = limit_s
        tried.given_s = step_timeout_s(limit_s, [later_limits(spec) for spec in self._queue], self.remaining_s())
        return tried.given_s

    def idle_s(self, tried: Try) -> float:
        """Time for the next piece of an answer."""
        tried.limit_s = tried.spec.idle_timeout_s
        tried.given_s = min(tried.limit_s, self.remaining_s())
        return tried.given_s

    # Tries end.

    def began_answer(self, tried: Try) -> None:
        """The first token of a stream came."""
        now_s = self._shared.now()
        self._shared.deployments.began_answer(tried.permit, now_s)
        self._shared.observer.first_token(tried.spec, now_s - tried.permit.began_s)

    def succeeded(self, tried: Try, usage: Usage) -> tuple[Attempt, ...]:
        """This try gave the answer; all tries in order."""
        self._shared.deployments.answered(tried.permit, self._shared.now())
        self._record(tried, Outcome.SUCCEEDED, usage)
        self._delivered_tokens += usage.output_tokens
        self._settle_lost(self._delivered_tokens)
        return tuple(self.attempts)

    def so_far(self, tried: Try) -> tuple[Attempt, ...]:
        """All tries that ended, and the running one as it stands."""
        return (*self.attempts, self._attempt(tried, None, None))

    def waits(self, tried: Try, waiting: bool) -> None:  # noqa: FBT001 - a callback
        """A try waits for a connection of ours, or has one now."""
        tried.waiting, self._waited = waiting, True
        self._tell()

    def _tell(self) -> None:
        planned = self._call.model_names  # that the first of them runs goes without saying
        other_first = bool(planned and self._open and self._open[0].spec.name != planned[0])
        if self._waited or self.attempts or len(self._open) > 1 or other_first:
            running = (self._attempt(tried, None, None, WAITING if tried.waiting else "") for tried in self._open)
            self.tries.tell((*self.attempts, *running))

    def note(self, tried: Try, failure: Failure, *, told: bool = True) -> None:
        """A try failed; what its cause says about who may be asked now holds, whatever becomes of others under way."""
        usage = failure.usage
        # Whatever ended an answer that had begun: what was delivered was generated.
        if usage is None and (failure.may_be_billed or tried.delivered):
            usage = estimate_usage(tried.call, tried.delivered)
        if tried.delivered and usage is not None:
            self._delivered_tokens += usage.output_tokens
        now_s, deployments = self._shared.now(), self._shared.deployments
        healthy = healthy_after(failure, tried.given_s, tried.limit_s, self._shared.patient_s)
        if failure.kind is FailureKind.TIMED_OUT and healthy is False:
            deployments.given_up(tried.permit, now_s)
        deployments.ended(tried.permit, now_s, healthy=healthy)
        self._failures.append((tried.spec, failure))
        self._record(tried, outcome_of(failure), usage, failure.cause, failure.http_status)
        self._shared.observer.attempt_failed(tried.spec, failure.kind)
        cooldown = cooldown_after(failure, now_s, self._shared.policy)
        if cooldown is not None:
            until_s = self._rests_until_s.get(tried.spec.name, 0.0)
            self._rests_until_s[tried.spec.name] = max(until_s, cooldown.until_s)
            deployments.rest(tried.spec.name, cooldown, shared=is_shared(failure))
        own = [spec for spec in self._own_ladder(failure) if spec.name not in self._tried]
        self._queue = ladder_after(failure, tried.spec, own, self._queue)
        if told:
            self._tell()

    def failed_beside(self, tried: Try, failure: Failure) -> None:
        """Notes a failed try beside which another one runs on. It keeps its retry, should that one fail as well."""
        self.note(tried, failure)
        self._beside.append((tried.spec, failure))

    def failed(self, tried: Try, failure: Failure, jitter: float) -> float:
        """Notes a failed try and decides. Returns the wait before the next try; raises when nothing is left."""
        self.note(tried, failure, told=False)
        failed, self._beside = [(tried.spec, failure), *self._beside], []
        decided = [(spec, self._decide(why, self._retries_for(spec), jitter)) for spec, why in failed]
        spec, action = next((each for each in decided if isinstance(each[1], RetrySame)), decided[0])
        if isinstance(action, RetrySame) and not self._shared.retries.take():
            self._shared.observer.retry_refused(self._plan.route.name)
            action = self._decide(failure, 0, jitter)
        if isinstance(action, GiveUp):
            raise self._final_error()
        if isinstance(action, RetrySame):
            self._retries_left -= 1
            self._again = spec
            if action.delay_s:  # else the next try is told at once: that nobody is at work would be told too late
                self._tell()
            return action.delay_s
        return 0.0

    def _decide(self, failure: Failure, retries_left: int, jitter: float) -> Action:
        # The one beside it may have been told that the request itself is wrong.
        if any(noted.kind is FailureKind.REJECTED for _, noted in self._failures):
            return GiveUp()
        return next_action(
            failure,
            later=self._queue,
            retries_left=retries_left,
            attempts=len(self.attempts),
            remaining_s=self.remaining_s(),
            jitter=jitter,
            policy=self._shared.policy,
        )

    def _retries_for(self, spec: ModelSpec) -> int:
        """None for a window that another one, no smaller, has shown to be too small."""
        too_long = [failed for failed, noted in self._failures if noted.kind is FailureKind.CONTEXT_TOO_LONG]
        return self._retries_left if all(is_larger(spec, failed) for failed in too_long) else 0

    def _own_ladder(self, failure: Failure) -> tuple[ModelSpec, ...]:
        return {
            FailureKind.CONTEXT_TOO_LONG: self._plan.context_fallbacks,
            FailureKind.CONTENT_POLICY: self._plan.content_policy_fallbacks,
            FailureKind.RATE_LIMITED: self._plan.rate_limit_fallbacks,
        }.get(failure.kind, ())

    def lost(self, tried: Try, usage: Usage | None) -> None:
        """Another answer came first, and this try was cancelled. `usage` where it had an answer too.

        What was used is estimated; where cancelled calls are billed in full, as all that was delivered in the end.
        """
        now_s = self._shared.now()
        if tried.purpose is not Purpose.HEDGE:  # that one was young: it says nothing about how slow its model is
            self._shared.deployments.given_up(tried.permit, now_s)
        self._shared.deployments.ended(tried.permit, now_s, healthy=None)
        if usage is None and tried.spec.bills_cancelled != "nothing" and not tried.waiting:
            usage = estimate_usage(tried.call, tried.delivered)
            if tried.spec.bills_cancelled == "full":
                self._lost.append(len(self.attempts))
                self._open.remove(tried)
                self.attempts.append(self._attempt(tried, Outcome.CANCELLED, usage, "hedge-lost"))
                return
        self._record(tried, Outcome.CANCELLED, usage, "hedge-lost")

    def won(self, tried: Try) -> None:
        """An answer came while two tries were under way."""
        if tried.purpose is Purpose.HEDGE:
            self._shared.observer.hedged(self._plan.route.name, "won")

    def with_attempts(self, error: RouterError) -> RouterError:
        """Puts the tries so far into the error's metadata. An empty list says that nobody was asked."""
        self._settle_lost(self._delivered_tokens)
        error.metadata["attempts_json"] = attempts_json(self.attempts)
        return error

    def _settle_lost(self, output_tokens: int) -> None:
        for position in self._lost:
            attempt = self.attempts[position]
            assert attempt.usage is not None
            longest = max(attempt.usage.output_tokens, output_tokens)
            self.attempts[position] = replace(attempt, usage=replace(attempt.usage, output_tokens=longest))
            self._shared.observer.attempt_ended(self.attempts[position])
        self._lost = []

    def _record(self, tried: Try, outcome: Outcome, usage: Usage | None, cause: str = "", http_status: int = 0) -> None:
        self._open.remove(tried)
        self.attempts.append(self._attempt(tried, outcome, usage, cause, http_status))
        self._shared.observer.attempt_ended(self.attempts[-1])

    def _attempt(
        self, tried: Try, outcome: Outcome | None, usage: Usage | None, cause: str = "", http_status: int = 0
    ) -> Attempt:
        spec, duration_s = tried.spec, self._shared.now() - tried.permit.began_s
        return Attempt(
            spec.name, spec.provider, spec.model, outcome, http_status, duration_s, usage, cause, tried.purpose
        )

    def _final_error(self) -> RouterError:
        spent = Spent(self._failures, self._rejected, self._shared.now(), self.remaining_s())
        return self.with_attempts(final_error(spent, self._shared.policy))

    def __enter__(self) -> Self:
        """For one call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Who is still under way may be billed for what was delivered, whether the caller left or something broke here.

        Not so after a RouterError: that request could not be written. None of it says anything about a model.
        """
        left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        outcome, cause = (Outcome.CANCELLED, "caller-left") if left else (Outcome.BROKEN, "internal")
        written = tokens_of_texts(text for tried in self._open for text in tried.delivered)
        for tried in tuple(self._open):
            self._shared.deployments.ended(tried.permit, self._shared.now(), healthy=None)
            if not isinstance(error, RouterError):
                usage = None if tried.waiting else estimate_usage(tried.call, tried.delivered)
                self._record(tried, outcome, usage, cause)
        self._settle_lost(self._delivered_tokens + written)
