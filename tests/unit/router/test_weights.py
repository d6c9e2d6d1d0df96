"""What a weight of 0 means, whatever the strategy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.router.adapters.memory import DeclaredPrices, ManualLoad
from services.router.core.catalogue import ModelSpec, RouteSpec
from services.router.core.chat import Message, ModelCall
from services.router.core.facts import Origin
from services.router.core.planner import Planner
from services.router.core.prices import ModelPrice
from services.router.core.speed import Speed
from tests.unit.router.routes import STRATEGIES
from tests.unit.router.test_planning import LIMITED, at, order

A, B, C, D = (ModelSpec(name, "north", f"model-{name}") for name in "abcd")
CALL = ModelCall("r", (Message("user", "hello there"),))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weight_zero_is_for_fallback_only_whatever_the_strategy(strategy: str) -> None:
    """`c` is the cheapest, the fastest and idle, and dear calls begin at its end of the list."""
    prices = {"a": ModelPrice(3, 3), "b": ModelPrice(2, 2), "c": ModelPrice(0, 0), "d": ModelPrice(9, 9)}
    load = ManualLoad()
    load.under_way = {"a": 5, "b": 2, "d": 7}
    load.streams = {"a": Speed(3.0, 9.0), "b": Speed(2.0, 9.0), "c": Speed(0.1, 9.0), "d": Speed(9.0, 9.0)}
    route = RouteSpec("r", (C, A, D, B), 1, strategy=strategy, weights={"a": 1, "b": 1, "c": 0, "d": 0})
    planner = Planner(prices=DeclaredPrices(prices))
    plan = at(route, load=load, planner=planner)
    assert (set(order(plan)[:2]), order(plan)[2:]) == ({"a", "b"}, "cd")
    assert plan.reasons[2:] == tuple(
        f"weight 0: only as a fallback; {place} of 4 in the route's list" for place in (1, 3)
    )
    load.shut_by = {"a": LIMITED, "b": LIMITED}
    assert order(at(route, load=load, planner=planner)) == "cd", "those who are left, as listed"
    load.shut_by = {}
    kept = replace(route, affinity="user")
    homes = {order(at(kept, replace(CALL, origin=Origin(user=str(n))), load, planner))[0] for n in range(60)}
    assert homes == {"a", "b"}
