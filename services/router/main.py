"""Wires the router: settings into providers, providers into the core, the core behind the servicer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from llmops.router.v1 import router_pb2_grpc

from meshkit.kit import Kit
from services.router.adapters.complexity import ShippedScorer, load_complexity
from services.router.adapters.http import HttpLimits, HttpProvider
from services.router.adapters.litellm_bridge import LitellmProvider
from services.router.adapters.local import LocalLimits, LocalProvider, MeshSentenceEncoder
from services.router.adapters.memory import DeclaredPrices
from services.router.adapters.prices import load_table_prices
from services.router.adapters.remote import open_remote
from services.router.adapters.system import AttemptMetrics, LoopClock, watch
from services.router.adapters.tokens import CharacterTokenCounter, EncoderTokenCounter
from services.router.api import Budgets, RouterApi
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import Catalogue
from services.router.core.embeddings import Embeddings
from services.router.core.fallback import RetryPolicy
from services.router.core.planner import Planner
from services.router.core.ports import ComplexityScorer, PriceList, TokenCounter
from services.router.core.router import Router
from services.router.settings import Limits, RouterSettings

_NICENESS = 10


@asynccontextmanager
async def build(settings: RouterSettings, kit: Kit) -> AsyncIterator[None]:
    """Serves llmops.router.v1.RouterService until the context ends; sessions to providers are closed then."""
    settings.validate()
    limits = settings.limits
    async with AsyncExitStack() as resources:
        local, counter = await _local(settings, kit)
        providers: dict[str, LocalProvider | HttpProvider | LitellmProvider] = {}
        for name, provider in settings.providers.items():
            if provider.dialect == "local":
                providers[name] = local
            else:
                remote = open_remote(provider, _http_limits(settings), kit.clock.now)
                providers[name] = await resources.enter_async_context(remote)
        catalogue = settings.catalogue()
        clock, jitter = LoopClock(asyncio.get_running_loop()), random.SystemRandom().random
        router = Router(
            catalogue,
            providers,
            policy=_retry_policy(limits),
            breaker=_breaker_policy(limits),
            clock=clock,
            wall_now=kit.clock.now,
            jitter=jitter,
            observer=AttemptMetrics(kit),
            counter=counter,
            planner=Planner(settings.vendor_register(kit.clock.now), await _prices(settings, kit), _scorer(catalogue)),
        )
        embeddings = Embeddings(
            catalogue, providers, router.shared, router.planner, clock=clock, jitter=jitter, counter=counter
        )
        watch(kit, router.deployments, asyncio.get_running_loop().time)
        budgets = Budgets(limits.default_timeout_s, limits.default_stream_timeout_s, limits.deadline_margin_s)
        kit.serve(router_pb2_grpc.add_RouterServiceServicer_to_server, RouterApi(router, embeddings, budgets))
        yield


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


async def _prices(settings: RouterSettings, kit: Kit) -> PriceList:
    """The dated table costs memory: it is read when a route compares prices and one of them is not declared."""
    declared = settings.declared_prices()
    compared = (choice.model for route in settings.routes.values() for choice in route.choices() if route.compares())
    if declared.keys() >= set(compared):
        return DeclaredPrices(declared)
    try:
        executor = kit.executor("prices", threads=1, max_queue=0)
        return await executor.run(load_table_prices, declared, kit.clock.now)
    except ImportError:
        kit.logger.warning("genai-prices is not installed: for routes by price, only router.models.*.price counts")
        return DeclaredPrices(declared)


async def _local(settings: RouterSettings, kit: Kit) -> tuple[LocalProvider, TokenCounter]:
    """The built-in model and the token counter, both on the mesh's encoder where one is installed."""
    bounds = settings.extractive
    executor = kit.executor("extractive", bounds.threads, bounds.max_queue, _NICENESS)
    encoder = await kit.encoder()
    counter: TokenCounter = CharacterTokenCounter()
    if encoder is not None:
        counter = EncoderTokenCounter(encoder, executor, bounds.encoder_count_max_chars)
    limits = LocalLimits(bounds.max_sentences, bounds.max_encoded_sentences)
    sentences = MeshSentenceEncoder(encoder) if encoder is not None else None
    return LocalProvider(sentences, executor, counter, limits), counter


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
