"""What choosing a model costs, from memory: `python -m bench.routing`. No network, no provider.

Every strategy plans for the same call over eight candidates, in turns with a plain function call that does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from bench.machine import describe
from bench.statistics import median, percentile
from services.router.adapters.memory import DeclaredPrices, ManualLoad
from services.router.core.catalogue import Condition, HedgeRule, ModelSpec, RouteSpec, ShadowRule
from services.router.core.facts import Facts, Judged, Needs, Origin
from services.router.core.plan import Plan, make_plan
from services.router.core.prices import ModelPrice
from services.router.core.speed import Speed
from services.router.core.vendors import Requirement, Terms, VendorRegister

_ROUNDS: Final = 40
_CALLS: Final = 500
_MODELS: Final = 8
STRATEGIES: Final = ("ordered", "weighted", "cheapest", "fastest", "least-busy", "complexity")


def planner(strategy: str) -> Callable[[], Plan]:
    """Plans one call: each candidate passes a condition and a requirement; two ladders of two, and a shadow."""
    specs = tuple(ModelSpec(f"m{number}", f"p{number}", f"model-{number}") for number in range(_MODELS))
    route = RouteSpec(
        "r",
        specs,
        1,
        strategy=strategy,
        affinity="conversation",
        conditions={
            spec.name: Condition(languages=frozenset({"en", "de"}), max_input_tokens=100_000) for spec in specs
        },
        context_fallbacks=specs[:2],
        rate_limit_fallbacks=specs[2:4],
        hedge=HedgeRule(0.95, 2.0, 0.05),
        shadow=ShadowRule(specs[7], 1.0),
    )
    load = ManualLoad()
    load.streams = {spec.name: Speed(0.3) for spec in specs}
    prices = DeclaredPrices({spec.name: ModelPrice(10**8, 10**9) for spec in specs})
    agreed = {spec.provider: Terms(dpa=True, regions=frozenset({"eu"})) for spec in specs}
    asked = {"personal": Requirement("personal", dpa=True, regions=frozenset({"eu"}))}
    register = VendorRegister(agreed, asked, {"acme": "personal"})
    origin = Origin("acme", "chat", "conversation-1", "ada", "", "en", "request-1")
    facts = Facts(origin, Needs(input_tokens=2_000), Judged(0.8, 0.05, simple=True), final=True, streamed=True)

    def plan() -> Plan:
        return make_plan(route, facts, register.gate("acme", ""), load, 10.0, prices=prices)

    return plan


def nothing() -> None:
    """The call to compare with."""


def measure(rounds: int = _ROUNDS, calls: int = _CALLS) -> dict[str, list[float]]:
    """Microseconds per call, a value per round; the ways take turns within a round."""
    ways: dict[str, Callable[[], object]] = {"a plain call": nothing} | {name: planner(name) for name in STRATEGIES}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started_ns = time.perf_counter_ns()
            for _ in range(calls):
                way()
            found[name].append((time.perf_counter_ns() - started_ns) / calls / 1_000)
    return found


def main() -> None:
    """Prints the least, the median and the 95th percentile of the rounds."""
    print(describe())
    for name, rounds in measure().items():
        middle, high = median(rounds), percentile(sorted(rounds), 95)
        print(f"{name:14} least {min(rounds):6.2f} us, median {middle:6.2f} us, p95 of rounds {high:6.2f} us")


if __name__ == "__main__":
    main()
