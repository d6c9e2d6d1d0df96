"""`python -m bench.routing_faults`: what hedging takes off the tail, and what a fallback adds after the failing step.

The router's engine with its HTTP adapter against the simulator in one process: read the ratios of rows measured in
turn, not the milliseconds. Both providers answer one call in twenty slowly.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from bench.statistics import percentile
from llmops_cli.provider_sim import ProviderSim, Rule
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.http import Endpoint, HttpLimits, HttpProvider, open_session
from services.router.adapters.memory import AttemptLog
from services.router.adapters.system import LoopClock
from services.router.adapters.tokens import CharacterTokenCounter
from services.router.core.attempts import Attempt
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import Catalogue, HedgeRule, ModelSpec, RouteSpec
from services.router.core.chat import Message, ModelCall
from services.router.core.fallback import RetryPolicy
from services.router.core.router import Router

_CALLERS: Final = 8
_FAST_MS, _SLOW_MS, _SLOW_EVERY = 20.0, 400.0, 20
_CALL: Final = ModelCall("", (Message("user", "hello"),))


@asynccontextmanager
async def open_router(base_url: str, hedge: HedgeRule | None = None) -> AsyncIterator[Router]:
    """Two models of one provider, the second for fallback and hedges. No pause and no breaker hides a failure."""
    endpoint = Endpoint(base_url, "key", "", "", {}, 5.0, 64, 30.0, "", allow_private=False, allow_loopback=True)
    dialect = OpenAiChat()
    async with open_session(endpoint, dialect) as session:
        provider = HttpProvider(dialect, endpoint.base_url, session, limits=HttpLimits(), now=lambda: datetime.now(UTC))
        specs = (ModelSpec("first", "sim", "first"), ModelSpec("second", "sim", "second"))
        yield Router(
            Catalogue({"default": RouteSpec("default", specs, 0, hedge=hedge)}, "default"),
            {"sim": provider},
            policy=RetryPolicy(cooldown_s=1e-6),
            breaker=BreakerPolicy(min_calls=sys.maxsize),
            clock=LoopClock(asyncio.get_running_loop()),
            wall_now=lambda: datetime.now(UTC),
            jitter=random.random,
            observer=AttemptLog(),
            counter=CharacterTokenCounter(),
        )


async def _timed(router: Router, calls: int, callers: int) -> tuple[list[float], list[tuple[Attempt, ...]]]:
    """Milliseconds of each call, and its tries."""
    left, took, tries = iter(range(calls)), list[float](), list[tuple[Attempt, ...]]()

    async def caller() -> None:
        for _ in left:
            begun_s = time.perf_counter()
            answer = await router.complete(_CALL, "bench", 30.0)
            took.append((time.perf_counter() - begun_s) * 1000)
            tries.append(answer.attempts)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return took, tries


async def _hedging(calls: int) -> None:
    print(f"{calls} calls, one in {_SLOW_EVERY} takes {_SLOW_MS:.0f} ms, the others {_FAST_MS:.0f} ms\n")
    print("| hedging | p50 ms | p95 ms | p99 ms | extra calls |\n|---|---|---|---|---|")
    slow, fast = Rule(every=_SLOW_EVERY, latency_ms=_SLOW_MS), Rule(latency_ms=_FAST_MS)
    for hedge in (None, HedgeRule(percentile=0.95, after_s=0.06, max_rate=0.05)) * 2:
        async with ProviderSim(script=[slow, fast]) as sim, open_router(sim.base_url, hedge) as router:
            took, _ = await _timed(router, calls, _CALLERS)
            row = " | ".join(f"{percentile(sorted(took), share):.0f}" for share in (50, 95, 99))
            print(f"| {'on' if hedge else 'off'} | {row} | {sim.stats.requests / calls - 1:.1%} |")


async def _fallback(calls: int) -> None:
    """What remains of a call when the time of its tries is taken away, with one try and with a failed one before."""
    print("\n| tries of a call | beside its tries, p50 ms | p99 ms |\n|---|---|---|")
    for rules in ([], [Rule(model="first", status=503)]) * 2:
        async with ProviderSim(script=rules) as sim, open_router(sim.base_url) as router:
            took, tries = await _timed(router, calls, 1)
            beside = [ms - 1000 * sum(each.duration_s for each in made) for ms, made in zip(took, tries, strict=True)]
            ordered = sorted(beside)
            print(f"| {len(tries[0])} | {percentile(ordered, 50):.3f} | {percentile(ordered, 99):.3f} |")


async def _main(calls: int) -> None:
    await _hedging(calls)
    await _fallback(calls)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
