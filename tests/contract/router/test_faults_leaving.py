"""F28 and F29: callers who leave, and providers that bill what was cancelled. What is billed, and a control."""

from __future__ import annotations

import asyncio

import pytest
from llmops.router.v1 import router_pb2 as pb

from llmops_cli.provider_sim import ProviderSim, Rule
from services.router.route_settings import Hedge
from tests.contract.router.faults import Serve, faulty, idle
from tests.support.router_service import CALLER, RunningRouter, Tried, ask, billed, call

WITHIN_S = 0.2


def tokens(router: RunningRouter, kind: str) -> int:
    """What the router counted for the model that was left: nobody is there to be told."""
    return int(router.metric(f'llmops_router_tokens_total{{kind="{kind}",model_name="first",provider="vendor"}}'))


def ended(router: RunningRouter, outcome: str) -> float:
    labels = f'model_name="first",outcome="{outcome}",provider="vendor"'
    return router.metric(f"llmops_router_attempts_total{{{labels}}}")


async def left_at(router: RunningRouter, moment: str) -> float:
    """Reads a stream until the moment, then leaves. Returns when, on the loop's clock."""
    stream = router.stub.CompleteStream(pb.CompleteStreamRequest(call=call()), metadata=CALLER, timeout=20)
    async for event in stream:
        if event.WhichOneof("event") == moment:
            break
    stream.cancel()
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("streamed", [False, True])
async def test_f28_left_before_the_first_token(serve: Serve, sim: ProviderSim, *, streamed: bool) -> None:
    """BerriAI/litellm#31499."""
    sim.script = [Rule(model="first", first_token_ms=10_000)]
    router = await serve(faulty(sim.base_url, "first"))
    task = asyncio.create_task(ask(router, streamed=streamed))
    await sim.wait_until(lambda: sim.stats.in_flight == 1)
    left_s = asyncio.get_running_loop().time()
    task.cancel()
    await idle(sim)
    assert asyncio.get_running_loop().time() - left_s < WITHIN_S
    assert sim.billing[0].outcome == "cancelled"
    while not ended(router, "cancelled"):
        await asyncio.sleep(0.01)
    assert tokens(router, "input") >= billed(sim.billing)[0] > 0
    assert tokens(router, "output") == billed(sim.billing)[1] == 0
    assert router.metric('llmops_router_calls_under_way{model_name="first"}') == 0


async def test_f28_left_in_mid_stream(serve: Serve, sim: ProviderSim) -> None:
    """etalab-ia/OpenGateLLM#1148."""
    sim.script = [Rule(model="first", output_tokens=10_000, token_interval_ms=20)]
    router = await serve(faulty(sim.base_url, "first"))
    left_s = await left_at(router, "delta")
    await idle(sim)
    assert asyncio.get_running_loop().time() - left_s < WITHIN_S
    while not ended(router, "cancelled"):
        await asyncio.sleep(0.01)
    charged = billed(sim.billing)
    assert tokens(router, "input") >= charged[0]
    # What was on its way when the caller left was generated as well: pieces of up to 20 ms and the 200 ms above. By its
    # bytes, as it is counted here, a word of the simulator's is up to three tokens.
    assert 0 < tokens(router, "output") <= 3 * (charged[1] + 2)
    assert charged[1] - tokens(router, "output") <= 12


async def test_f28_left_after_the_last_token_is_a_success(serve: Serve, sim: ProviderSim) -> None:
    """BerriAI/litellm#30527: an answer that had come whole was booked as one that was left. Also the control."""
    router = await serve(faulty(sim.base_url, "first"))
    await left_at(router, "finished")
    await idle(sim)
    assert (ended(router, "succeeded"), ended(router, "cancelled")) == (1, 0)
    assert (tokens(router, "input"), tokens(router, "output")) == billed(sim.billing)
    assert sim.billing[0].outcome == "completed"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("provider_bills", ["full", "generated", "none"])
@pytest.mark.parametrize("told", ["full", "delivered", "nothing"])
async def test_f29_what_a_lost_request_costs_as_the_provider_bills_it(
    serve: Serve, sim: ProviderSim, provider_bills: str, told: str, *, streamed: bool
) -> None:
    """BerriAI/litellm#36008. The rows in which the operator told less than the provider bills are the controls."""
    sim.script = [Rule(model="first", first_token_ms=10_000, cancel_billing=provider_bills)]  # type: ignore[arg-type]
    hedge = {"hedge": Hedge(after_s=0.05, max_rate=0.2)}
    settings = faulty(sim.base_url, "first", "second", provider={"bills_cancelled": told}, route=hedge)
    seen = await ask(await serve(settings), streamed=streamed)
    await idle(sim)
    assert [(tried.model, tried.outcome, tried.cause, tried.purpose) for tried in seen.tries] == [
        ("first", "CANCELLED", "hedge-lost", "FIRST"),
        ("second", "SUCCEEDED", "", "HEDGE"),
    ]
    (lost,) = [record for record in sim.billing if record.model == "first"]
    booked = seen.tries[0]
    charged = lost.billed_input_tokens, lost.billed_output_tokens
    assert lost.outcome == "cancelled"
    if (told, provider_bills) in {("full", "full"), ("delivered", "generated"), ("full", "generated")}:
        assert (booked.input_tokens >= charged[0], booked.output_tokens >= charged[1]) == (True, True)
    if (told, provider_bills) == ("delivered", "full"):
        assert booked.output_tokens < charged[1], "the invoice has more: Reconcile shows it, Adjust corrects it"
    if told == "nothing":
        assert booked == Tried("first", "CANCELLED", "hedge-lost", purpose="FIRST")
    winner = seen.tries[1]
    (paid,) = [record for record in sim.billing if record.model == "second"]
    assert (winner.input_tokens, winner.output_tokens) == (paid.billed_input_tokens, paid.billed_output_tokens)


async def test_f29_without_a_hedge_nothing_is_cancelled(serve: Serve, sim: ProviderSim) -> None:
    sim.script = [Rule(model="first", first_token_ms=200, cancel_billing="full")]
    seen = await ask(await serve(faulty(sim.base_url, "first", "second")))
    assert (seen.names(), seen.tokens()) == ([("first", "SUCCEEDED")], billed(sim.billing))
