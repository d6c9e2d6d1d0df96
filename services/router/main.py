"""Wires the router: settings into providers, providers into the core, the core behind the servicer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from llmops.router.v1 import router_pb2_grpc

from meshkit.executors import Executor
from meshkit.kit import Kit
from services.router.adapters.call_answers import CallAnswers
from services.router.adapters.call_requests import CallRequests
from services.router.adapters.canary_desk import CanaryDesk
from services.router.adapters.canary_file import CanaryFile
from services.router.adapters.complexity import ShippedScorer, load_complexity
from services.router.adapters.http import HttpLimits, HttpProvider
from services.router.adapters.litellm_bridge import LitellmProvider
from services.router.adapters.local import LocalLimits, LocalProvider, MeshSentenceEncoder
from services.router.adapters.memory import DeclaredPrices, MemoryCanaries
from services.router.adapters.prices import load_table_prices
from services.router.adapters.remote import open_remote
from services.router.adapters.retirement import Retirement
from services.router.adapters.system import AttemptMetrics, LoopClock, watch
from services.router.adapters.tokens import CharacterTokenCounter, EncoderTokenCounter
from services.router.api import Budgets, RouterApi
from services.router.core.breaker import BreakerPolicy
from services.router.core.canaries import Canaries
from services.router.core.catalogue import Catalogue
from services.router.core.deployments import Deployments
from services.router.core.embeddings import Embeddings
from services.router.core.fallback import RetryPolicy
from services.router.core.planner import Planner
from services.router.core.ports import CanaryStore, ComplexityScorer, PriceList, TokenCounter
from services.router.core.router import Router
from services.router.provider_settings import Provider
from services.router.settings import Limits, RouterSettings

_NICENESS = 10
_CANARY_QUEUE = 64


@asynccontextmanager
async def build(settings: RouterSettings, kit: Kit) -> AsyncIterator[None]:
    """Serves llmops.router.v1.RouterService until the context ends; sessions to providers are closed then."""
    settings.validate()
    executor = kit.executor("canaries", 1, _CANARY_QUEUE, _NICENESS)
    desk = CanaryDesk(Canaries(kit.derived_key("router-canaries")), executor, kit, kit.logger)
    generations = Generations(kit, AttemptMetrics(kit), desk)
    try:
        running = await generations.prepare(settings)
        await desk.open(settings.canaries.plan(), running.catalogue, _canary_store(settings, kit))
        requests, answers = CallRequests(), CallAnswers()
        api = RouterApi(running.router, running.embeddings, running.budgets, desk, requests, answers)
        generations.begin(running, api)
        kit.serve(router_pb2_grpc.add_RouterServiceServicer_to_server, api)
        kit.on_reload(generations.on_reload)
        yield
    finally:
        await generations.close()


@dataclass(frozen=True, slots=True)
class Generation:
    """What one configuration needs to serve calls. `resources` are its sessions and threads."""

    settings: RouterSettings
    catalogue: Catalogue
    router: Router
    embeddings: Embeddings
    budgets: Budgets
    resources: AsyncExitStack


class Generations:
    """The configuration that serves, and those before it whose calls have not ended."""

    def __init__(self, kit: Kit, observer: AttemptMetrics, desk: CanaryDesk) -> None:
        self._desk = desk
        self._kit = kit
        self._observer = observer
        self._retirement = Retirement(kit.logger)
        self._running: Generation | None = None
        self._prepared: Generation | None = None

    def begin(self, running: Generation, api: RouterApi) -> None:
        """The first one."""
        self._running, self._prepared, self._api = running, None, api
        self._watch()

    async def on_reload(self, settings: RouterSettings) -> Callable[[], None]:
        """Opens everything that new settings need; what it returns lets new calls use it. Raises ValueError."""
        fresh = await self.prepare(settings)
        return lambda: self._take_over(fresh)

    async def prepare(self, settings: RouterSettings) -> Generation:
        """A generation that serves nobody yet. Raises ValueError, and leaves nothing open then."""
        if self._prepared is not None:
            # Another target refused the file, so it never served.
            await self._prepared.resources.aclose()
            self._prepared = None
        async with AsyncExitStack() as resources:
            generation = await self._open(settings, resources)
            self._prepared = replace(generation, resources=resources.pop_all())
        return self._prepared

    async def close(self) -> None:
        """Closes the sessions of all of them."""
        await self._retirement.close()
        for generation in (self._prepared, self._running):
            if generation is not None:
                await generation.resources.aclose()

    def _take_over(self, fresh: Generation) -> None:
        before = self._running
        assert before is not None
        before.router.planner.follow(fresh.router.planner)
        fresh.router.deployments.take_over(before.router.deployments, fresh.catalogue.unchanged(before.catalogue))
        self._running, self._prepared = fresh, None
        self._watch()
        under_way = self._api.take_over(fresh.router, fresh.embeddings, fresh.budgets)
        self._desk.reconfigure(
            fresh.settings.canaries.plan(), fresh.catalogue, _canary_store(fresh.settings, self._kit)
        )
        # A call has its caller's deadline, or else this one.
        limit_s = max(before.budgets.stream_s, before.budgets.unary_s)
        self._retirement.retire(under_way, before.resources, limit_s)

    def _watch(self) -> None:
        assert self._running is not None
        watch(self._kit, self._running.router.deployments.names(), self._deployments, asyncio.get_running_loop().time)

    def _deployments(self) -> Deployments:
        assert self._running is not None
        return self._running.router.deployments

    async def _open(self, settings: RouterSettings, resources: AsyncExitStack) -> Generation:
        kit, limits = self._kit, settings.limits
        local, counter = await _local(settings, kit, resources)
        providers: dict[str, LocalProvider | HttpProvider | LitellmProvider] = {}
        for name, provider in settings.providers.items():
            if provider.dialect == "local":
                providers[name] = local
            else:
                providers[name] = await _remote(name, provider, settings, kit, resources)
        catalogue, clock = settings.catalogue(), LoopClock(asyncio.get_running_loop())
        jitter = random.SystemRandom().random
        prices = await _prices(settings, kit, resources)
        router = Router(
            catalogue,
            providers,
            policy=_retry_policy(limits),
            breaker=_breaker_policy(limits),
            clock=clock,
            wall_now=kit.clock.now,
            jitter=jitter,
            observer=self._observer,
            counter=counter,
            planner=Planner(settings.vendor_register(kit.clock.now), prices, _scorer(catalogue)),
            quarantined=self._desk.canaries.quarantined,
        )
        shared, planner = router.shared, router.planner
        embeddings = Embeddings(catalogue, providers, shared, planner, clock=clock, jitter=jitter, counter=counter)
        budgets = Budgets(limits.default_timeout_s, limits.default_stream_timeout_s, limits.deadline_margin_s)
        return Generation(settings, catalogue, router, embeddings, budgets, resources)


async def _remote(
    name: str, provider: Provider, settings: RouterSettings, kit: Kit, resources: AsyncExitStack
) -> HttpProvider | LitellmProvider:
    remote = open_remote(provider, _http_limits(settings), kit.clock.now)
    try:
        return await resources.enter_async_context(remote)
    except OSError as error:
        raise ValueError(f"router.providers.{name}.ca_file cannot be used: {error.strerror or error}.") from None


async def _local(settings: RouterSettings, kit: Kit, resources: AsyncExitStack) -> tuple[LocalProvider, TokenCounter]:
    """The built-in model and the token counter, both on the mesh's encoder where one is installed."""
    bounds = settings.extractive
    executor = Executor("router-extractive", bounds.threads, bounds.max_queue, _NICENESS)
    resources.callback(executor.close)
    encoder = await kit.encoder()
    counter: TokenCounter = CharacterTokenCounter()
    if encoder is not None:
        counter = EncoderTokenCounter(encoder, executor, bounds.encoder_count_max_chars)
    limits = LocalLimits(bounds.max_sentences, bounds.max_encoded_sentences)
    sentences = MeshSentenceEncoder(encoder) if encoder is not None else None
    return LocalProvider(sentences, executor, counter, limits), counter


def _canary_store(settings: RouterSettings, kit: Kit) -> CanaryStore:
    path = settings.canaries.state_path
    return CanaryFile(Path(path), kit.derived_key("router-canaries"), kit.logger) if path else MemoryCanaries()


def _retry_policy(limits: Limits) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=limits.max_attempts,
        backoff_base_s=limits.backoff_base_s,
        backoff_max_s=limits.backoff_max_s,
        max_retry_wait_s=limits.max_retry_wait_s,
        cooldown_s=limits.cooldown_s,
        max_cooldown_s=limits.max_cooldown_s,
        retry_share=limits.retry_share,
    )


def _breaker_policy(limits: Limits) -> BreakerPolicy:
    return BreakerPolicy(
        failure_share=limits.breaker_failure_share,
        min_calls=limits.breaker_min_calls,
        window_s=limits.breaker_window_s,
        wait_s=limits.breaker_wait_s,
        max_wait_s=limits.breaker_max_wait_s,
        patient_s=limits.breaker_patient_s,
    )


def _scorer(catalogue: Catalogue) -> ComplexityScorer | None:
    """The weights are read where a route depends on them. Raises ModelRefused for files that are not as released."""
    if not any(route.judges_complexity() for route in catalogue.routes()):
        return None
    return ShippedScorer(load_complexity())


async def _prices(settings: RouterSettings, kit: Kit, resources: AsyncExitStack) -> PriceList:
    """The dated table costs memory: it is read when a route compares prices and one of them is not declared."""
    declared = settings.declared_prices()
    compared = (choice.model for route in settings.routes.values() for choice in route.choices() if route.compares())
    if declared.keys() >= set(compared):
        return DeclaredPrices(declared)
    try:
        executor = Executor("router-prices", 1, 0)
        resources.callback(executor.close)
        return await executor.run(load_table_prices, declared, kit.clock.now)
    except ImportError:
        kit.logger.warning("genai-prices is not installed: for routes by price, only router.models.*.price counts")
        return DeclaredPrices(declared)


def _http_limits(settings: RouterSettings) -> HttpLimits:
    bounds = settings.limits
    return HttpLimits(
        max_response_bytes=bounds.max_response_bytes,
        max_error_bytes=bounds.max_error_bytes,
        max_stream_bytes=bounds.max_stream_bytes,
        max_line_bytes=bounds.max_line_bytes,
        max_event_bytes=bounds.max_event_bytes,
        stream_join_s=settings.stream_join_s,
    )
