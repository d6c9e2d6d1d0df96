"""Embed: vectors of texts, with the retries, fallback and cooldowns of a chat call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from services.router.core.attempts import Attempt
from services.router.core.catalogue import Catalogue, ModelSpec, RouteSpec
from services.router.core.chat import Message, ModelCall, TextPart, Usage
from services.router.core.errors import RouterError, UpstreamUnavailable
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.plan import nobody_may
from services.router.core.planner import Planner
from services.router.core.ports import (
    Clock,
    Embedder,
    EmbedderAnswer,
    EmbedderRequest,
    EmbedTexts,
    TokenCounter,
    Vectors,
)
from services.router.core.run import Run, Shared
from services.router.core.tries import Tried, Try, beside

EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors [texts, dimensions] and what they took."""

    vectors: Vectors
    vector_space: str
    usage: Usage
    attempts: tuple[Attempt, ...]
    served_model: str


async def _drop_nothing(embedded: Embedded) -> None:
    """They are on record, and paid for."""


def _limit_s(spec: ModelSpec) -> float:
    return spec.timeout_s


class Embeddings:
    """Asks models in order until one gives vectors. `shared` is the router's, by route: one state of each model."""

    def __init__(
        self,
        catalogue: Catalogue,
        embedders: Mapping[str, Embedder],
        shared: Mapping[str, Shared],
        planner: Planner,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        counter: TokenCounter,
    ) -> None:
        self._catalogue = catalogue
        self._embedders = embedders
        self._shared = shared
        self._planner = planner
        self._clock = clock
        self._jitter = jitter
        self._counter = counter

    def route(self, name: str) -> RouteSpec:
        """The route that a caller means. Raises ModelNotFound, and InvalidRequest for a chat model."""
        return self._catalogue.resolve(name, EMBEDDINGS)

    async def embed(self, wanted: EmbedTexts, request_id: str, budget_s: float) -> Embedded:
        """Vectors within `budget_s` seconds. Raises RouterError."""
        with self._begin(wanted, budget_s) as run:
            return await self._answer(run, wanted, request_id)

    async def embed_with_tries(
        self, wanted: EmbedTexts, request_id: str, budget_s: float
    ) -> AsyncGenerator[Tried | Embedded, None]:
        """The same, and what is tried until then. Raises RouterError. Closing it ends the providers' calls."""
        with self._begin(wanted, budget_s) as run:
            async with beside(self._answer(run, wanted, request_id), _drop_nothing) as answering:
                async for tried in run.tries.until(answering):
                    yield tried
            yield answering.result()

    async def _answer(self, run: Run, wanted: EmbedTexts, request_id: str) -> Embedded:
        while True:
            tried = run.start()
            timeout_s = run.timeout_s(tried, _limit_s(tried.spec), _limit_s)
            request = EmbedderRequest(wanted, tried.spec, request_id, timeout_s, partial(run.waits, tried))
            outcome = await self._try(run, tried, request)
            if isinstance(outcome, EmbedderAnswer):
                usage = outcome.usage or Usage(await self._counter.count(wanted.texts), estimated=True)
                attempts = run.succeeded(tried, usage)
                served_model = outcome.served_model or tried.spec.model
                return Embedded(outcome.vectors, tried.spec.vector_space, usage, attempts, served_model)
            await self._clock.sleep(run.failed(tried, outcome, self._jitter()))

    def _begin(self, wanted: EmbedTexts, budget_s: float) -> Run:
        whole = self.route(wanted.model)
        route = whole.among(wanted.model_names)
        if not route.everyone():
            raise UpstreamUnavailable("The models that were planned for this call are no longer configured; try again.")
        # One message of many parts: what a try that broke off may have cost is estimated from its text.
        parts = tuple(TextPart(text) for text in wanted.texts)
        message = Message("user", parts=parts)
        call = ModelCall(wanted.model, (message,), model_names=wanted.model_names, origin=wanted.origin)
        now_s, shared = self._clock.monotonic(), self._shared[route.name]
        shared.retries.called()
        plan = self._planner.at(route, call, shared.deployments, now_s, streamed=False, whole=whole)
        if (kept_out := nobody_may(plan)) is not None:
            raise kept_out
        return Run(call, plan, now_s + budget_s, shared, streamed=False)

    async def _try(self, run: Run, tried: Try, request: EmbedderRequest) -> EmbedderAnswer | Failure:
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._embedders[tried.spec.provider].embed(request)
        except TimeoutError:
            return Failure(FailureKind.TIMED_OUT, "step-timeout")
        except ProviderError as error:
            return error.failure
        except RouterError as error:
            raise run.with_attempts(error) from None
