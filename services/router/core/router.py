"""Complete, CompleteStream, Plan and ListModels: the decisions of this package carried out on the ports."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Container, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from services.router.core.attempts import Attempt
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import CHAT, Catalogue, ModelSpec, RouteSpec
from services.router.core.chat import Completion, Delta, FinishReason, ModelCall, Usage
from services.router.core.continuation import asked_to_go_on
from services.router.core.deployments import Deployments, Health, healthiest
from services.router.core.errors import DeadlineExceeded, RouterError, UpstreamStreamCut, UpstreamUnavailable
from services.router.core.facts import NOBODY, Needs, Origin
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.fallback import RetryPolicy, Spent, final_error
from services.router.core.hedge import Contest
from services.router.core.opening import Opened, next_chunk, open_stream
from services.router.core.plan import Plan, nobody_may, step_timeout_s
from services.router.core.planner import Planner
from services.router.core.ports import (
    AttemptObserver,
    Chunk,
    Clock,
    Provider,
    ProviderAnswer,
    ProviderRequest,
    TokenCounter,
)
from services.router.core.retry_budget import SAVED, ShareBucket
from services.router.core.run import Run, Shared
from services.router.core.tokens import input_texts, overhead_tokens
from services.router.core.tries import Tried, Try, beside


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer and what it took."""

    completion: Completion
    usage: Usage
    attempts: tuple[Attempt, ...]
    served_model: str
    response_id: str


@dataclass(frozen=True, slots=True)
class Started:
    """The first delta is about to follow; unless the route allows a continuation, no other model will be tried."""

    attempts: tuple[Attempt, ...]
    served_model: str


@dataclass(frozen=True, slots=True)
class Continued:
    """The answer broke off, and what follows is another model's."""

    attempts: tuple[Attempt, ...]
    served_model: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The stream is complete."""

    finish_reason: FinishReason
    usage: Usage
    attempts: tuple[Attempt, ...]
    response_id: str


StreamEvent = Tried | Started | Delta | Continued | Finished


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A name that callers may use, and how it does; a route as well as the best of its candidates."""

    route: RouteSpec
    cooling_down: bool
    health: Health


def _unary_limit_s(spec: ModelSpec) -> float:
    return spec.timeout_s


class Router:
    """Asks models in order until one answers. Between calls it keeps what it saw of the models, and the two budgets."""

    def __init__(
        self,
        catalogue: Catalogue,
        providers: Mapping[str, Provider],
        *,
        policy: RetryPolicy,
        breaker: BreakerPolicy,
        clock: Clock,
        wall_now: Callable[[], datetime],
        jitter: Callable[[], float],
        observer: AttemptObserver,
        counter: TokenCounter,
        planner: Planner | None = None,
        quarantined: Container[str] = frozenset(),
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._clock = clock
        self._jitter = jitter
        self._counter = counter
        self.planner = planner or Planner()
        self.deployments = Deployments(catalogue.models(), breaker, quarantined)
        self.shared = {
            route.name: Shared(
                policy=policy,
                deployments=self.deployments,
                retries=ShareBucket(policy.retry_share, start=SAVED, most=SAVED),
                hedges=ShareBucket(route.hedge.max_rate if route.hedge is not None else 0.0, start=1.0, most=SAVED),
                observer=observer,
                now=clock.monotonic,
                wall_now=wall_now,
                patient_s=breaker.patient_s,
                revoked=self.planner.revoked,
            )
            for route in catalogue.routes()
        }

    async def complete(self, call: ModelCall, request_id: str, budget_s: float) -> Answer:
        """One answer within `budget_s` seconds. Raises RouterError."""
        with self._begin(call, budget_s, streamed=False) as run:
            return await self._answer(run, request_id)

    async def complete_with_tries(
        self, call: ModelCall, request_id: str, budget_s: float
    ) -> AsyncGenerator[Tried | Answer, None]:
        """The same, and what is tried until then. Raises RouterError. Closing it ends the providers' calls."""
        with self._begin(call, budget_s, streamed=False) as run:
            async with beside(self._answer(run, request_id), _drop_nothing) as answering:
                async for tried in run.tries.until(answering):
                    yield tried
            yield answering.result()

    async def stream(self, call: ModelCall, request_id: str, budget_s: float) -> AsyncGenerator[StreamEvent, None]:
        """`Started`, deltas, `Finished`, and at most one `Continued` among the deltas. Raises RouterError.

        While nothing comes, `Tried`. Closing it ends the providers' calls.
        """
        with self._begin(call, budget_s, streamed=True) as run:
            async with beside(self._open(run, request_id), _drop_opened) as opening:
                async for step in run.tries.until(opening):
                    yield step
            tried, opened = opening.result()
            event: StreamEvent = Started(run.so_far(tried), opened.first.served_model or tried.spec.model)
            while True:
                # Before anything is yielded: a caller may leave at any event, and the provider's call ends with him.
                async with aclosing(opened):
                    yield event
                    chunk: Chunk | Failure = opened.first
                    while not isinstance(chunk, Failure):
                        if chunk.delta is not None:
                            _note_delta(tried, chunk.delta)
                            yield chunk.delta
                        if chunk.finished:
                            usage = await self._usage(chunk.usage, tried)
                            # The caller has the end before the connection is wound up; how that goes is all one.
                            yield Finished(chunk.finish_reason, usage, run.succeeded(tried, usage), chunk.response_id)
                            await next_chunk(run, tried, opened)
                            return
                        chunk = await next_chunk(run, tried, opened)
                async with beside(self._go_on(run, request_id, tried, chunk), _drop_opened) as opening:
                    async for step in run.tries.until(opening):
                        yield step
                tried, opened = opening.result()
                event = Continued(run.so_far(tried), opened.first.served_model or tried.spec.model)

    def plan(self, model: str, needs: Needs, origin: Origin = NOBODY, kind: str = CHAT) -> tuple[Plan, str]:
        """Everyone whom a call of this kind may ask, and its policy. Raises ModelNotFound, InvalidRequest."""
        route = self._catalogue.resolve(model, kind)
        plan = self.planner.before(route, origin, needs, self.deployments, self._clock.monotonic())
        return plan, self.planner.policy(route, self._catalogue.policy_of(route), plan.gate)

    def refusal(self, plan: Plan) -> RouterError | None:
        """What a call by this plan would end with at once; None where somebody may be asked."""
        if plan.candidates:
            return None
        shared = self.shared[plan.route.name]
        return nobody_may(plan) or final_error(Spent((), plan.rejected, shared.now(), math.inf), shared.policy)

    def step_timeouts_s(self, plan: Plan, budget_s: float) -> list[float]:
        """Time that each candidate of a plan would get if all before it failed at once."""
        limits_s = [_unary_limit_s(spec) for spec in plan.candidates]
        return [
            step_timeout_s(limit_s, limits_s[position + 1 :], budget_s) for position, limit_s in enumerate(limits_s)
        ]

    def route(self, name: str) -> RouteSpec:
        """The route that a caller means. Raises ModelNotFound."""
        return self._catalogue.resolve(name)

    def models(self) -> list[ListedModel]:
        """Every route and model, ordered by name. A route cools when all its candidates do."""
        now_s, known = self._clock.monotonic(), self.deployments
        return [
            ListedModel(
                route,
                all(known.cooling(spec.name, now_s) for spec in route.candidates),
                healthiest([known.health(spec.name, now_s) for spec in route.candidates]),
            )
            for route in self._catalogue.routes()
        ]

    def _begin(self, call: ModelCall, budget_s: float, *, streamed: bool) -> Run:
        whole = self._catalogue.resolve(call.model, CHAT)
        route = whole.among(call.model_names)
        if not route.everyone():
            raise UpstreamUnavailable("The models that were planned for this call are no longer configured; try again.")
        now_s, shared = self._clock.monotonic(), self.shared[route.name]
        shared.retries.called()
        shared.hedges.called()
        plan = self.planner.at(route, call, self.deployments, now_s, streamed=streamed, whole=whole)
        if (kept_out := nobody_may(plan)) is not None:
            raise kept_out
        return Run(call, plan, now_s + budget_s, shared, streamed=streamed)

    async def _answer(self, run: Run, request_id: str) -> Answer:
        ask = partial(self._ask, run, request_id)
        while True:
            tried, outcome = await Contest(run, ask, _drop_answer).decide(run.start())
            if isinstance(outcome, ProviderAnswer):
                tried.delivered = _texts(outcome.completion)
                usage = await self._usage(outcome.usage, tried)
                attempts = run.succeeded(tried, usage)
                served_model = outcome.served_model or tried.spec.model
                return Answer(outcome.completion, usage, attempts, served_model, outcome.response_id)
            await self._clock.sleep(run.failed(tried, outcome, self._jitter()))

    async def _ask(self, run: Run, request_id: str, tried: Try) -> ProviderAnswer | Failure:
        timeout_s = run.timeout_s(tried, _unary_limit_s(tried.spec), _unary_limit_s)
        request = ProviderRequest(tried.call, tried.spec, request_id, timeout_s, partial(run.waits, tried))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._providers[tried.spec.provider].complete(request)
        except TimeoutError:
            return Failure(FailureKind.TIMED_OUT, "step-timeout")
        except ProviderError as error:
            return error.failure
        except RouterError as error:
            raise run.with_attempts(error) from None

    async def _ask_stream(self, run: Run, request_id: str, tried: Try) -> Opened | Failure:
        return await open_stream(self._providers[tried.spec.provider], run, tried, request_id)

    async def _open(self, run: Run, request_id: str) -> tuple[Try, Opened]:
        """The first model that begins an answer."""
        ask = partial(self._ask_stream, run, request_id)
        while True:
            tried, outcome = await Contest(run, ask, _drop_stream).decide(run.start())
            if isinstance(outcome, Opened):
                return tried, outcome
            await self._clock.sleep(run.failed(tried, outcome, self._jitter()))

    async def _go_on(self, run: Run, request_id: str, broken: Try, failure: Failure) -> tuple[Try, Opened]:
        """Another model goes on with an answer that broke off, where the route allows it. Raises UpstreamStreamCut.

        Whoever certainly took no money may be followed by the next one: only one more than the broken one is billed.
        """
        run.note(broken, failure)
        allowed = run.may_continue(broken, failure)
        call = asked_to_go_on(broken.call, "".join(broken.delivered)) if allowed else broken.call
        while allowed and (tried := run.continuation(call)) is not None:
            outcome = await self._ask_stream(run, request_id, tried)
            if isinstance(outcome, Opened):
                return tried, outcome
            run.note(tried, outcome)
            allowed = not outcome.may_be_billed
        cut: RouterError = UpstreamStreamCut("The model's answer broke off; what was delivered is incomplete.")
        if run.out_of_time():
            cut = DeadlineExceeded("The time for this call passed while the model was answering; allow more time.")
        raise run.with_attempts(cut)

    async def _usage(self, usage: Usage | None, tried: Try) -> Usage:
        if usage is not None:
            return usage
        read = await self._counter.count(list(input_texts(tried.call)))
        written = await self._counter.count(tried.delivered)
        return replace(Usage(estimated=True), input_tokens=read + overhead_tokens(tried.call), output_tokens=written)


async def _drop_answer(answer: ProviderAnswer) -> Usage | None:
    return answer.usage


async def _drop_stream(opened: Opened) -> None:
    await opened.aclose()


async def _drop_opened(begun: tuple[Try, Opened]) -> None:
    await begun[1].aclose()


async def _drop_nothing(answer: Answer) -> None:
    """It is on record, and paid for."""


def _texts(completion: Completion) -> list[str]:
    calls = [text for call in completion.tool_calls for text in (call.name, call.arguments_json)]
    return [completion.content, completion.refusal, *calls]


def _note_delta(tried: Try, delta: Delta) -> None:
    tried.delivered.append(delta.content)
    if delta.tool_calls or delta.refusal:
        tried.plain = False
        tried.delivered.append(delta.refusal)
        tried.delivered.extend(text for call in delta.tool_calls for text in (call.name, call.arguments_json))
