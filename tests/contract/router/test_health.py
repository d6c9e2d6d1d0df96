"""What the list of models and the metrics tell of each model, as callers and operators read it."""

from __future__ import annotations

import pytest
from llmops.router.v1 import router_pb2 as pb

from llmops_cli.provider_sim import ProviderSim, Rule
from services.router.route_settings import Hedge
from tests.contract.router.faults import Serve, faulty, with_healthy
from tests.support.router_service import CALLER, RunningRouter, ask


async def health(router: RunningRouter) -> dict[str, pb.ModelHealth]:
    listed: pb.ListModelsResponse = await router.stub.ListModels(pb.ListModelsRequest(), metadata=CALLER)
    return {model.name: model.health for model in listed.models}


async def test_the_list_shows_how_each_model_does(serve: Serve, sim: ProviderSim) -> None:
    sim.script = [
        Rule(model="failing", status=500),
        Rule(model="limited", status=429, headers={"Retry-After": "60"}),
    ]
    settings = faulty(
        sim.base_url,
        "failing",
        "limited",
        "fresh",
        limits={"breaker_min_calls": 2, "breaker_wait_s": 30.0, "cooldown_s": 1e-6},
    )
    router = await serve(with_healthy(settings, sim))
    assert {each.state for each in (await health(router)).values()} == {pb.MODEL_STATE_LIVE}
    for model in ("failing", "failing", "limited", "healthy"):
        await ask(router, model)
    found = await health(router)
    assert {name: each.state for name, each in found.items()} == {
        "default": pb.MODEL_STATE_LIVE,
        "failing": pb.MODEL_STATE_BREAKER_OPEN,
        "limited": pb.MODEL_STATE_COOLING,
        "fresh": pb.MODEL_STATE_LIVE,
        "healthy": pb.MODEL_STATE_LIVE,
    }
    assert 25 < found["failing"].shut_for.ToTimedelta().total_seconds() <= 30
    assert 55 < found["limited"].shut_for.ToTimedelta().total_seconds() <= 60
    assert not found["healthy"].HasField("shut_for")
    assert (found["healthy"].HasField("first_token"), found["fresh"].HasField("first_token")) == (True, False)
    assert (found["healthy"].failure_rate, found["healthy"].calls_under_way) == (0.0, 0)


async def test_the_metrics_show_it_too(serve: Serve, sim: ProviderSim) -> None:
    sim.script = [Rule(model="first", first_token_ms=300), Rule(model="failing", status=503)]
    settings = faulty(
        sim.base_url,
        "first",
        "second",
        route={"hedge": Hedge(after_s=0.05, max_rate=0.1)},
        limits={"breaker_min_calls": 1},
    )
    settings.models["failing"] = settings.models["first"].__class__(provider="vendor", model="failing")
    router = await serve(settings)
    for _ in range(2):
        await ask(router, streamed=True)
    await ask(router, "failing")
    values = {
        line: router.metric(line)
        for line in (
            'llmops_router_hedges_total{event="sent",route="default"}',
            'llmops_router_hedges_total{event="won",route="default"}',
            'llmops_router_hedges_total{event="capped",route="default"}',
            'llmops_router_first_token_seconds_count{model_name="second",provider="vendor"}',
            'llmops_router_first_token_seconds_count{model_name="first",provider="vendor"}',
            'llmops_router_breaker_state{model_name="failing"}',
            'llmops_router_shut{model_name="failing"}',
            'llmops_router_shut{model_name="first"}',
            'llmops_router_calls_under_way{model_name="first"}',
        )
    }
    assert list(values.values()) == [1, 1, 1, 1, 1, 2, 1, 0, 0]
    kind = 'llmops_router_failures_total{kind="unavailable",model_name="failing",provider="vendor"}'
    assert router.metric(kind) == pytest.approx(1)
