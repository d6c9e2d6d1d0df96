"""Groups and aliases of LiteLLM as routes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from llmops_cli.litellm_import.deployments import RATES, Deployment, Group, Inventory
from llmops_cli.litellm_import.fallbacks import Fallbacks
from llmops_cli.litellm_import.reading import Section
from services.router.route_settings import MAX_CANDIDATES, MAX_RETRIES

_ABOUT_WEIGHTS = "only simple-shuffle weighs, by what the first deployment of the name gives"
_ABOUT_RATES = "limits on rates are set under `ledger.limits`"
_STRATEGIES = {
    "simple-shuffle": "weighted",
    "least-busy": "least-busy",
    "latency-based-routing": "fastest",
    "cost-based-routing": "cheapest",
}
# What a model that is named directly gets.
_USUAL_RETRIES = 1
_MAX_DENOMINATOR = 10_000


class Routes:
    """Decides which groups need a route, then names the models, then writes the routes."""

    def __init__(self, inventory: Inventory, router: Section, litellm: Section) -> None:
        self._inventory, self._report = inventory, inventory.report
        self._router, self._litellm = router, litellm
        self._groups = inventory.groups
        self.routes: dict[str, dict[str, object]] = {}
        # After which the last model of the longest route has been tried.
        self.most_tries = 0

    def make(self) -> None:
        """Fills `routes`, and gives every deployment its name."""
        strategy, retries = self._strategy(), self._retries()
        tries_of_each = 1 + (_USUAL_RETRIES if retries is None else retries)
        aliases = self._aliases()
        names = self._groups | {alias: self._groups[target] for alias, target in aliases.items()}
        fallbacks = Fallbacks(names, self._inventory, self._router, self._litellm)
        ladders = {name: fallbacks.of(name) for name in names}
        routed = [
            name
            for name, group in names.items()
            if name in aliases or len(group.deployments) > 1 or ladders[name] or retries not in {None, _USUAL_RETRIES}
        ]
        self._name_models(routed, aliases)
        for alias, target in aliases.items():
            if ladders[alias] != ladders[target]:
                path = f"{self._router.path}.model_group_alias.{alias}"
                self._report.note(path, f"lists of fallbacks are looked up by the name that is called, not by {target}")
        for name in routed:
            ladder = {
                key: list(dict.fromkeys(model for other in others for model in names[other].models))
                for key, others in ladders[name].items()
            }
            self.routes[name] = self._route(name, names[name], strategy, retries, ladder)
            models = {*names[name].models, *ladder.get("candidates", ())}
            self.most_tries = max(self.most_tries, tries_of_each * len(models))

    def _strategy(self) -> str:
        path = f"{self._router.path}.routing_strategy"
        theirs = self._router.text("routing_strategy")
        if theirs in _STRATEGIES:
            self._report.note(
                path, f"{theirs} became {_STRATEGIES[theirs]}, where a model_name has several deployments"
            )
        elif theirs:
            known = ", ".join(_STRATEGIES)
            self._report.refuse(path, f"{theirs} is not known; use {known}. Rates are limited by the ledger")
        return _STRATEGIES.get(theirs, "weighted")

    def _retries(self) -> int | None:
        retries, path = self._router.first_number("num_retries", self._litellm)
        if retries is None:
            return None
        found = min(int(retries), MAX_RETRIES)
        self._report.note(path, f"{retries:g} became max_retries {found} of every route; the most is {MAX_RETRIES}")
        return found

    def _aliases(self) -> dict[str, str]:
        """Other names of groups."""
        aliases = Section(
            self._router.take("model_group_alias"), f"{self._router.path}.model_group_alias", self._report
        )
        found: dict[str, str] = {}
        for alias in aliases.names():
            value, path = aliases.take(alias), f"{aliases.path}.{alias}"
            target = value
            if isinstance(value, Mapping):
                inner = Section(value, path, self._report)
                target = inner.text("model")
                inner.close({}, "has no counterpart: every name is listed")
            if alias in self._groups:
                self._report.refuse(path, "is the name of a model_name already")
            elif isinstance(target, str) and target in self._groups:
                found[alias] = target
            else:
                self._report.refuse(path, f"{target!r} is no model_name of model_list that could be mapped")
        return found

    def _name_models(self, routed: Sequence[str], aliases: Mapping[str, str]) -> None:
        """A model may not have the name of a route; one without a route keeps the name of its group."""
        taken = {*self._groups, *aliases}
        for name, group in self._groups.items():
            if name not in routed:
                group.deployments[0].name = name
                continue
            number = 0
            for deployment in group.deployments:
                number += 1
                while f"{name}/{number}" in taken:
                    number += 1
                deployment.name = f"{name}/{number}"
                taken.add(deployment.name)

    def _route(
        self, name: str, group: Group, strategy: str, retries: int | None, ladder: Mapping[str, Sequence[str]]
    ) -> dict[str, object]:
        deployments = _in_order(group)
        self._note_later_orders(name, deployments)
        first = _first_order(deployments)
        several = len(first) > 1
        own = [deployment.name for deployment in deployments]
        candidates: list[object] = [*own, *(model for model in ladder.get("candidates", ()) if model not in own)]
        behind = [0] * (len(candidates) - len(first))
        if several and (strategy == "weighted" or behind):
            weights = _weights(first) if strategy == "weighted" else [1] * len(first)
            pairs = zip(candidates, [*weights, *behind], strict=True)
            candidates = [{"model": model, "weight": weight} for model, weight in pairs]
        route: dict[str, object] = {"candidates": candidates[:MAX_CANDIDATES]}
        if several:
            route["strategy"] = strategy
        if retries is not None:
            route["max_retries"] = retries
        room = MAX_CANDIDATES - len(candidates)
        for key in ("context_fallbacks", "content_policy_fallbacks"):
            if models := ladder.get(key, ())[: max(0, room)]:
                route[key] = list(models)
                room -= len(models)
        if room < 0:
            self._report.refuse("model_list", f"{name} has more than {MAX_CANDIDATES} models; the last are left out")
        return route

    def _note_later_orders(self, name: str, deployments: Sequence[Deployment]) -> None:
        """The strategy is for those of the first order; a weight of 0 keeps the others behind them, as listed."""
        later = [deployment.order for deployment in deployments[len(_first_order(deployments)) :]]
        if len(set(later)) < len(later):
            self._report.note(f"order of {name}", "behind the first, those of one order are tried as the file has them")

    def note_choices(self) -> None:
        """Tells what became of orders, weights and rates; the rates are no limits there."""
        for name, group in self._groups.items():
            first = _first_order(_in_order(group))
            ordered = len(first) < len(group.deployments)
            how = f"decides where it stands in route {name}" if ordered else "left out, nothing to put in order"
            for deployment in group.deployments:
                if deployment.order is not None:
                    self._report.note(f"{deployment.path}.litellm_params.order", how)
            weighted = self.routes.get(name, {}).get("strategy") == "weighted"
            by = _weighs_by(first) if weighted else ""
            for deployment in group.deployments:
                for rate in deployment.rates:
                    path = f"{deployment.path}.litellm_params.{rate}"
                    taken = rate == by and deployment in first
                    used = "taken as the weight of the deployment" if taken else "left out"
                    about = _ABOUT_WEIGHTS if rate == "weight" else _ABOUT_RATES
                    self._report.note(path, f"{used}; {about}")


def _in_order(group: Group) -> list[Deployment]:
    """By `order`; there, a deployment without one comes after those that have one."""
    return sorted(group.deployments, key=lambda d: math.inf if d.order is None else d.order)


def _first_order(deployments: Sequence[Deployment]) -> list[Deployment]:
    """Those that are asked before any other: of the order of the first."""
    return [deployment for deployment in deployments if deployment.order == deployments[0].order]


def _weighs_by(deployments: Sequence[Deployment]) -> str:
    """What simple-shuffle goes by: what the first one names of weight, rpm and tpm; empty when it names nothing."""
    return next((name for name in RATES if name in deployments[0].rates), "")


def _weights(deployments: Sequence[Deployment]) -> list[int]:
    """As simple-shuffle; who does not name what it goes by gets nothing."""
    by = _weighs_by(deployments)
    shares = [Fraction(d.rates.get(by, 0)).limit_denominator(_MAX_DENOMINATOR) for d in deployments]
    scale = math.lcm(*(share.denominator for share in shares))
    numbers = [int(share * scale) for share in shares]
    common = math.gcd(*numbers)
    return [number // common for number in numbers] if common else [1] * len(deployments)
