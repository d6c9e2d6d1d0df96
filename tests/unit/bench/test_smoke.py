"""The generator against the real simulator over sockets: counts only, no times."""

from __future__ import annotations

import pytest

from bench.config import CHAT_PATH
from bench.loadgen import Job, run
from bench.payloads import PromptPlan
from bench.tally import Counts
from llmops_cli.provider_sim import ProviderSim, Rule


def job(sim: ProviderSim, mode: str, **fields: object) -> Job:
    base: dict[str, object] = {
        "mode": mode,
        "host": "127.0.0.1",
        "port": sim.port,
        "path": CHAT_PATH,
        "api_key": "key",
        "prompts": PromptPlan(model="m", words=5),
        "duration_s": 0.2,
        "warm_up_s": 0.0,
        "connections": 64,
        "seed": 1,
        "rate_per_s": 250.0,
        "spacing": "even",
    }
    return Job(**(base | fields))  # type: ignore[arg-type]


async def test_every_scheduled_request_reaches_the_provider_once() -> None:
    async with ProviderSim() as sim:
        outcome = await run(job(sim, "open"))
        assert (outcome.counts.scheduled, outcome.counts.answered, outcome.counts.dropped) == (50, 50, 0)
        assert len(sim.billing) == len(outcome.latency_us) == 50
        assert sim.stats.connections_opened == 64


async def test_streams_are_good_only_with_their_end() -> None:
    rules = [Rule(output_tokens=10, last_call=4), Rule(omit_done=True)]
    async with ProviderSim(script=rules) as sim:
        prompts = PromptPlan(model="m", words=5, stream=True)
        outcome = await run(job(sim, "open", prompts=prompts, rate_per_s=50.0))
        assert (outcome.counts.answered, outcome.failures) == (4, {"stream without its end": 6})
        # Ten tokens, the role, the finish reason, the usage and [DONE].
        assert outcome.events == 4 * 14


async def test_a_hanging_provider_fills_the_connections_and_the_rest_is_dropped() -> None:
    async with ProviderSim(script=[Rule(hang_before_headers=True)]) as sim:
        outcome = await run(job(sim, "open", connections=2, settle_s=0.01))
        assert outcome.counts == Counts(
            scheduled=50, sent=2, dropped=48, late=outcome.counts.late, answered=0, failed=0, unfinished=2
        )


async def test_what_the_warm_up_left_behind_does_not_count() -> None:
    async with ProviderSim(script=[Rule(hang_before_headers=True, last_call=2)]) as sim:
        outcome = await run(job(sim, "open", connections=8, warm_up_s=0.01, settle_s=0.05))
        assert outcome.counts.scheduled == 50
        assert outcome.counts.failed == outcome.counts.unfinished == 0


@pytest.mark.parametrize(
    ("rule", "cause"), [(Rule(status=503), "503"), (Rule(cut_before_headers=True), "connection lost")]
)
async def test_failures_are_counted_by_cause(rule: Rule, cause: str) -> None:
    async with ProviderSim(script=[rule]) as sim:
        outcome = await run(job(sim, "open"))
        assert set(outcome.failures) == {cause}
        assert outcome.counts.failed + outcome.counts.dropped == 50
        assert outcome.counts.answered == 0


async def test_the_closed_loop_keeps_every_connection_busy() -> None:
    async with ProviderSim() as sim:
        outcome = await run(job(sim, "closed", connections=4))
        assert outcome.counts.answered == outcome.counts.sent == len(sim.billing) > 4
        assert outcome.counts.dropped == 0


async def test_a_target_that_is_not_there_is_an_error() -> None:
    async with ProviderSim() as sim:
        gone = job(sim, "open")
    with pytest.raises(OSError, match=str(gone.port)):
        await run(gone)
