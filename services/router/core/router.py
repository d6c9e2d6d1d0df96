"""Complete, CompleteStream, Plan and ListModels: the decisions of this package carried out on the ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.router.core.attempts import Attempt
from services.router.core.catalogue import CHAT, Catalogue, ModelSpec, RouteSpec
from services.router.core.chat import Completion, Delta, FinishReason, ModelCall, Usage
from services.router.core.cooldown import Cooldowns
from services.router.core.errors import DeadlineExceeded, RouterError, UpstreamStreamCut, UpstreamUnavailable
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.fallback import RetryPolicy
from services.router.core.patience import Patience
from services.router.core.plan import Needs, Plan, make_plan, needs_of, step_timeout_s
from services.router.core.ports import (
    AttemptObserver,
    Chunk,
    Clock,
    Provider,
    ProviderAnswer,
    ProviderRequest,
    TokenCounter,
)
from services.router.core.run import Run
from services.router.core.tokens import input_texts, overhead_tokens


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
    """The first delta is about to follow; no other model will be tried."""

    attempts: tuple[Attempt, ...]
    served_model: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The stream is complete."""

    finish_reason: FinishReason
    usage: Usage
    attempts: tuple[Attempt, ...]
    response_id: str


StreamEvent = Started | Delta | Finished


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A name that callers may use."""

    route: RouteSpec
    cooling_down: bool


def _unary_limit_s(spec: ModelSpec) -> float:
    return spec.timeout_s


def _first_token_limit_s(spec: ModelSpec) -> float:
    return min(spec.first_token_timeout_s, spec.timeout_s)


class Router:
    """Asks models in order until one answers. Holds no request state between calls but the cooldowns."""

    def __init__(
        self,
        catalogue: Catalogue,
        providers: Mapping[str, Provider],
        *,
        policy: RetryPolicy,
        clock: Clock,
        jitter: Callable[[], float],
        observer: AttemptObserver,
        counter: TokenCounter,
        cooldowns: Cooldowns | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._observer = observer
        self._counter = counter
        self._cooldowns = cooldowns or Cooldowns()

    async def complete(self, call: ModelCall, request_id: str, budget_s: float) -> Answer:
        """One answer within `budget_s` seconds. Raises RouterError."""
        run = self._begin(call, budget_s)
        while True:
            spec = run.start()
            outcome = await self._try(run, ProviderRequest(call, spec, request_id))
            if isinstance(outcome, ProviderAnswer):
                usage = await self._usage(outcome.usage, call, _texts(outcome.completion))
                attempts = run.succeeded(usage)
                served_model = outcome.served_model or spec.model
                return Answer(outcome.completion, usage, attempts, served_model, outcome.response_id)
            await self._clock.sleep(run.failed(outcome, self._jitter()))

    async def stream(self, call: ModelCall, request_id: str, budget_s: float) -> AsyncGenerator[StreamEvent, None]:
        """`Started`, deltas, `Finished`. Closing it ends the provider's call. Raises RouterError."""
        run = self._begin(call, budget_s)
        delivered: list[str] = []
        with Patience() as patience:
            spec, chunk, chunks = await self._open_stream(run, patience, call, request_id)
            recorded = len(run.attempts)
            try:
                async with aclosing(chunks):
                    yield Started((*run.attempts, run.running()), chunk.served_model or spec.model)
                    while True:
                        if chunk.delta is not None:
                            delivered.extend(_delta_texts(chunk.delta))
                            yield chunk.delta
                        if chunk.finished:
                            break
                        chunk = await self._next_chunk(run, patience, spec, chunks, delivered)
                    usage = await self._usage(chunk.usage, call, delivered)
                    # The caller has the end before the connection is wound up.
                    yield Finished(chunk.finish_reason, usage, run.succeeded(usage), chunk.response_id)
                    await anext(chunks, None)
            except (asyncio.CancelledError, GeneratorExit):
                # Not a second time: the caller may leave while a connection is closed whose try is on record.
                if len(run.attempts) == recorded:
                    run.cancelled(delivered)
                raise

    def plan(self, model: str, needs: Needs) -> tuple[Plan, str]:
        """What `complete` would do now, and the route's policy. Raises ModelNotFound."""
        route = self._catalogue.resolve(model, CHAT)
        return make_plan(route, needs, self._cooldowns, self._clock.monotonic()), self._catalogue.policy_of(route)

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
        now_s = self._clock.monotonic()
        return [
            ListedModel(route, all(self._cooldowns.active(spec.name, now_s) for spec in route.candidates))
            for route in self._catalogue.routes()
        ]

    def _begin(self, call: ModelCall, budget_s: float) -> Run:
        route = self._catalogue.resolve(call.model, CHAT).among(call.model_names)
        if not route.candidates:
            raise UpstreamUnavailable("The models that were planned for this call are no longer configured; try again.")
        plan = make_plan(route, needs_of(call), self._cooldowns, self._clock.monotonic())
        return Run(
            call,
            plan,
            self._clock.monotonic() + budget_s,
            policy=self._policy,
            cooldowns=self._cooldowns,
            observer=self._observer,
            now=self._clock.monotonic,
        )

    async def _try(self, run: Run, request: ProviderRequest) -> ProviderAnswer | Failure:
        timeout_s = run.timeout_s(_unary_limit_s(request.spec), _unary_limit_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._providers[request.spec.provider].complete(request)
        except TimeoutError:
            return Failure(FailureKind.TIMED_OUT, "step-timeout")
        except ProviderError as error:
            return error.failure
        except RouterError as error:
            raise run.with_attempts(error) from None
        except asyncio.CancelledError:
            run.cancelled(())
            raise

    async def _open_stream(
        self, run: Run, patience: Patience, call: ModelCall, request_id: str
    ) -> tuple[ModelSpec, Chunk, AsyncGenerator[Chunk, None]]:
        """The first model that begins an answer: its first chunk, and where the others come from."""
        while True:
            request = ProviderRequest(call, run.start(), request_id)
            chunks = self._providers[request.spec.provider].stream(request)
            first: Chunk | Failure | None = None
            try:
                first = await self._first_chunk(run, patience, request.spec, chunks)
            finally:
                if not isinstance(first, Chunk):
                    await chunks.aclose()
            if isinstance(first, Chunk):
                return request.spec, first, chunks
            await self._clock.sleep(run.failed(first, self._jitter()))

    async def _first_chunk(
        self, run: Run, patience: Patience, spec: ModelSpec, chunks: AsyncGenerator[Chunk, None]
    ) -> Chunk | Failure:
        """Reads until the first delta or the end; hidden reasoning proves life and moves the limit to the idle one."""
        timeout_s = run.timeout_s(_first_token_limit_s(spec), _first_token_limit_s)
        cause = "first-token-timeout"
        try:
            while True:
                chunk = await _pull(chunks, patience, timeout_s)
                if chunk.delta is not None or chunk.finished:
                    return chunk
                timeout_s, cause = min(spec.idle_timeout_s, run.remaining_s()), "idle-timeout"
        except TimeoutError:
            return Failure(FailureKind.TIMED_OUT, cause)
        except ProviderError as error:
            return error.failure
        except StopAsyncIteration:
            return Failure(FailureKind.BROKEN, "stream-ended-early", http_status=200)
        except RouterError as error:
            raise run.with_attempts(error) from None
        except asyncio.CancelledError:
            run.cancelled(())
            raise

    async def _next_chunk(
        self, run: Run, patience: Patience, spec: ModelSpec, chunks: AsyncGenerator[Chunk, None], delivered: list[str]
    ) -> Chunk:
        try:
            return await _pull(chunks, patience, min(spec.idle_timeout_s, run.remaining_s()))
        except TimeoutError:
            failure = Failure(FailureKind.TIMED_OUT, "idle-timeout")
        except ProviderError as error:
            failure = error.failure
        except StopAsyncIteration:
            failure = Failure(FailureKind.BROKEN, "stream-ended-early", http_status=200)
        cut: RouterError = UpstreamStreamCut("The model's answer broke off; what was delivered is incomplete.")
        if run.remaining_s() < self._policy.min_step_s:
            cut = DeadlineExceeded("The time for this call passed while the model was answering; allow more time.")
        raise run.cut(failure, delivered, cut)

    async def _usage(self, usage: Usage | None, call: ModelCall, output_texts: list[str]) -> Usage:
        if usage is not None:
            return usage
        read = await self._counter.count(list(input_texts(call)))
        written = await self._counter.count(output_texts)
        return replace(Usage(estimated=True), input_tokens=read + overhead_tokens(call), output_tokens=written)


async def _pull(chunks: AsyncGenerator[Chunk, None], patience: Patience, limit_s: float) -> Chunk:
    """The next chunk. Raises TimeoutError when it takes longer than `limit_s`."""
    patience.begin(limit_s)
    try:
        return await anext(chunks)
    except asyncio.CancelledError:
        if patience.end():
            raise TimeoutError from None
        raise
    finally:
        patience.end()


def _texts(completion: Completion) -> list[str]:
    calls = [text for call in completion.tool_calls for text in (call.name, call.arguments_json)]
    return [completion.content, completion.refusal, *calls]


def _delta_texts(delta: Delta) -> list[str]:
    if not delta.tool_calls and not delta.refusal:
        return [delta.content]
    calls = [text for call in delta.tool_calls for text in (call.name, call.arguments_json)]
    return [delta.content, delta.refusal, *calls]
