"""Providers for the fault tests: one simulator, models of it behind one router, and the bill."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from llmops_cli.provider_sim import ProviderSim
from services.router.provider_settings import ModelConfig, Provider
from services.router.route_settings import Route
from services.router.settings import Limits, RouterSettings
from tests.support.router_service import RunningRouter

Serve = Callable[[RouterSettings], Awaitable[RunningRouter]]
# Nothing waits, and nobody is left alone, unless a test says so.
LIMITS = Limits(backoff_base_s=0.001, cooldown_s=0.001, breaker_min_calls=1_000)


def faulty(
    base_url: str,
    *models: str,
    provider: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    route: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> RouterSettings:
    """One provider with these models, all of them candidates of the default route in this order."""
    return RouterSettings(
        providers={"vendor": Provider(base_url=base_url, **(provider or {}))},
        models={name: ModelConfig(provider="vendor", model=name, **(model or {})) for name in models},
        routes={"default": Route(**{"candidates": models, "max_retries": 0, **(route or {})})},
        limits=replace(LIMITS, **(limits or {})),
    )


def with_healthy(settings: RouterSettings, sim: ProviderSim) -> RouterSettings:
    """The same with a last candidate that answers, at a provider of its own."""
    route = settings.routes["default"]
    return replace(
        settings,
        providers={**settings.providers, "healthy": Provider(base_url=sim.base_url)},
        models={**settings.models, "healthy": ModelConfig(provider="healthy", model="healthy")},
        routes={"default": replace(route, candidates=(*route.candidates, "healthy"))},
    )


def asked(sim: ProviderSim) -> list[str]:
    """Models of the calls that the provider has on its books, in the order in which they ended."""
    return [record.model for record in sim.billing]


async def idle(sim: ProviderSim) -> None:
    """The provider works on nothing any more."""
    await sim.wait_until(lambda: sim.stats.in_flight == 0)
