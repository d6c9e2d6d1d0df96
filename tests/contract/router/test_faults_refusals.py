"""F13 and F14: providers that limit us or fail in bursts. What the caller sees, what is billed, a control."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from llmops_cli.provider_sim import ProviderSim, Rule
from services.router.provider_settings import ModelConfig
from tests.contract.router.faults import Serve, asked, faulty, with_healthy
from tests.support.router_service import ask, billed


def in_a_minute() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=61), usegmt=True)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("wait", "at_least_s", "at_most_s"), [("60", 59, 60), ("", 50, 61), ("99999999999", 299, 300), ("soon", 0, 0.01)]
)
async def test_f13_a_limit_is_kept_as_long_as_the_provider_says(
    serve: Serve, sim: ProviderSim, wait: str, at_least_s: float, at_most_s: float, *, streamed: bool
) -> None:
    """Seconds, a date (the empty row), an absurd value, which is capped, and prose, which is the default pause."""
    sim.script = [Rule(model="first", status=429, headers={"Retry-After": wait or in_a_minute()})]
    router = await serve(with_healthy(faulty(sim.base_url, "first"), sim))
    seen = await ask(router, streamed=streamed)
    assert seen.names() == [("first", "RATE_LIMITED"), ("healthy", "SUCCEEDED")]
    assert seen.tokens() == billed(sim.billing)
    await asyncio.sleep(0.01)
    again = await ask(router, streamed=streamed)
    await asyncio.sleep(0.01)
    alone = await ask(router, "first", streamed=streamed)
    if wait == "soon":
        assert again.names()[0] == ("first", "RATE_LIMITED"), "the control: a short pause is over"
        assert {tried.outcome for tried in alone.tries} == {"RATE_LIMITED"}
        return
    assert again.names() == [("healthy", "SUCCEEDED")], "and is not asked before"
    assert (alone.status, alone.reason) == ("RESOURCE_EXHAUSTED", "UPSTREAM_RATE_LIMITED")
    assert alone.retry_after_s is not None
    assert at_least_s <= alone.retry_after_s <= at_most_s
    assert alone.tries == []


@pytest.mark.parametrize("quota", ["account", ""])
async def test_f13_whoever_shares_the_quota_waits_too(serve: Serve, sim: ProviderSim, quota: str) -> None:
    """Other names of the same account are not asked either; the control is without a shared quota."""
    sim.script = [Rule(model="first", status=429, headers={"Retry-After": "60"})]
    settings = with_healthy(faulty(sim.base_url, "first", "sibling", model={"quota": quota}), sim)
    seen = await ask(await serve(settings))
    assert asked(sim) == ["first", "healthy" if quota else "sibling"]
    assert seen.tokens() == billed(sim.billing)


@pytest.mark.parametrize("streamed", [False, True])
async def test_f14_a_pause_that_comes_with_a_5xx_is_kept_as_after_429(
    serve: Serve, sim: ProviderSim, *, streamed: bool
) -> None:
    """It was asked again by every call, under each name of its quota. What the caller learns stays another error."""
    sim.script = [Rule(model="first", status=503, headers={"Retry-After": "60"}), Rule(model="plain", status=503)]
    settings = faulty(sim.base_url, "first", "sibling", model={"quota": "account"}, limits={"cooldown_s": 60.0})
    settings.models["plain"] = ModelConfig(provider="vendor", model="plain")
    router = await serve(with_healthy(settings, sim))
    for tries in ([("first", "REFUSED"), ("healthy", "SUCCEEDED")], [("healthy", "SUCCEEDED")]):
        seen = await ask(router, streamed=streamed)
        assert seen.names() == tries
    for name in ("first", "sibling"):
        alone = await ask(router, name, streamed=streamed)
        assert (alone.reason, alone.tries) == ("UPSTREAM_UNAVAILABLE", [])
        assert alone.retry_after_s == pytest.approx(60, abs=5)
    for _ in range(2):
        control = await ask(router, "plain", streamed=streamed)
        assert control.names()[0] == ("plain", "REFUSED"), "who merely failed is asked where nobody else is left"
    assert asked(sim).count("first") == 1


async def test_f13_two_names_of_one_model_share_its_quota(serve: Serve, sim: ProviderSim) -> None:
    sim.script = [Rule(model="big", status=429, headers={"Retry-After": "60"})]
    settings = faulty(sim.base_url, "one", "two")
    same = {name: ModelConfig(provider="vendor", model="big") for name in ("one", "two")}
    settings.models.update(same)
    seen = await ask(await serve(settings))
    assert (asked(sim), seen.reason) == (["big"], "UPSTREAM_RATE_LIMITED")


async def test_f13_a_short_limit_is_waited_for(serve: Serve, sim: ProviderSim) -> None:
    sim.script = [Rule(model="first", last_call=1, status=429, headers={"Retry-After": "0.3"})]
    router = await serve(with_healthy(faulty(sim.base_url, "first", route={"max_retries": 1}), sim))
    begun_s = asyncio.get_running_loop().time()
    seen = await ask(router)
    assert asyncio.get_running_loop().time() - begun_s >= 0.3
    assert seen.names() == [("first", "RATE_LIMITED"), ("first", "SUCCEEDED")]
    assert seen.tokens() == billed(sim.billing)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("status", "reason"), [(401, "UPSTREAM_CREDENTIAL"), (404, "UPSTREAM_UNAVAILABLE")])
async def test_who_refuses_key_or_name_is_not_asked_first_each_time(
    serve: Serve, sim: ProviderSim, status: int, reason: str, *, streamed: bool
) -> None:
    """Every call went there first and waited for the refusal. Whoever has no other model learns the cause each time."""
    sim.script = [Rule(model="first", last_call=3, status=status)]
    limits = {"cooldown_s": 0.3}
    router = await serve(with_healthy(faulty(sim.base_url, "first", limits=limits), sim))
    assert (await ask(router, streamed=streamed)).names() == [("first", "REFUSED"), ("healthy", "SUCCEEDED")]
    for _ in range(3):
        seen = await ask(router, streamed=streamed)
        assert seen.names() == [("healthy", "SUCCEEDED")]
    assert seen.tokens() == billed(sim.billing[-1:])
    for _ in range(2):
        alone = await ask(router, "first", streamed=streamed)
        assert (alone.names(), alone.reason) == ([("first", "REFUSED")], reason)
    await asyncio.sleep(0.3)
    assert (await ask(router, streamed=streamed)).names() == [("first", "SUCCEEDED")], "and comes back by itself"


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_others_say_is_told_while_a_misconfigured_model_rests(
    serve: Serve, sim: ProviderSim, *, streamed: bool
) -> None:
    """The second call was told to come back in five seconds: with a conversation that fits no window."""
    sim.script = [Rule(model="first", status=404), Rule(model="second", status=413)]
    router = await serve(faulty(sim.base_url, "first", "second", limits={"cooldown_s": 60.0}))
    for tried in (["first", "second"], ["second"]):
        seen = await ask(router, streamed=streamed)
        assert [name for name, _ in seen.names()] == tried
        assert (seen.reason, seen.retry_after_s) == ("CONTEXT_TOO_LONG", None)


BREAKER = {"breaker_min_calls": 3, "breaker_wait_s": 0.4}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_f14_a_burst_opens_the_breaker_and_one_probe_closes_it(
    serve: Serve, sim: ProviderSim, status: int, *, streamed: bool
) -> None:
    sim.script = [Rule(model="first", last_call=3, status=status)]
    router = await serve(with_healthy(faulty(sim.base_url, "first", limits=BREAKER), sim))
    for _ in range(6):
        seen = await ask(router, streamed=streamed)
        assert seen.names()[-1] == ("healthy", "SUCCEEDED")
        await asyncio.sleep(0.002)  # longer than the pause after a single failure
    assert asked(sim).count("first") == 3, "the first three, and none of the others"
    assert router.metric('llmops_router_breaker_state{model_name="first"}') == 2
    alone = await ask(router, "first", streamed=streamed)
    assert (alone.reason, alone.tries) == ("UPSTREAM_UNAVAILABLE", [])
    await asyncio.sleep(0.4)
    probes = await asyncio.gather(*(ask(router, streamed=streamed) for _ in range(5)))
    assert all(probe.reason == "" for probe in probes)
    assert router.metric('llmops_router_breaker_state{model_name="first"}') == 0
    assert (await ask(router, streamed=streamed)).names() == [("first", "SUCCEEDED")]


async def test_f14_while_a_probe_is_under_way_nobody_else_goes_there(serve: Serve, sim: ProviderSim) -> None:
    sim.script = [Rule(model="first", last_call=3, status=500), Rule(model="first", latency_ms=300)]
    router = await serve(with_healthy(faulty(sim.base_url, "first", limits=BREAKER), sim))
    for _ in range(3):
        await ask(router)
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.4)
    seen = await asyncio.gather(*(ask(router) for _ in range(5)))
    assert sorted(each.names()[-1][0] for each in seen) == ["first"] + ["healthy"] * 4


async def test_f14_without_a_breaker_every_call_goes_there(serve: Serve, sim: ProviderSim) -> None:
    """The negative control of the tests above."""
    sim.script = [Rule(model="first", status=500)]
    router = await serve(with_healthy(faulty(sim.base_url, "first"), sim))
    for _ in range(6):
        await ask(router)
        await asyncio.sleep(0.002)
    assert asked(sim).count("first") == 6


@pytest.mark.parametrize(("share", "at_most"), [(0.2, 1.3), (1.0, 2.1)])
async def test_f14_an_outage_is_not_made_worse_by_retries(
    serve: Serve, sim: ProviderSim, share: float, at_most: float
) -> None:
    """The second row is the control: with a budget of one retry a call there are twice as many."""
    sim.script = [Rule(model="first", status=500)]
    settings = faulty(sim.base_url, "first", route={"max_retries": 3}, limits={"retry_share": share})
    router = await serve(settings)
    calls = 60
    for _ in range(calls):
        assert (await ask(router)).tokens() == (0, 0)
    assert at_most - 0.2 < len(sim.billing) / calls <= at_most
    assert billed(sim.billing) == (0, 0)
    assert router.metric('llmops_router_retries_refused_total{route="default"}') > 0
