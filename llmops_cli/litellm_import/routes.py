"""Groups, fallbacks and aliases of LiteLLM as routes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from fractions import Fraction

from llmops_cli.litellm_import.deployments import RATES, Deployment, Group, Inventory
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
_LADDERS = (
    ("candidates", "fallbacks"),
    ("context_fallbacks", "context_window_fallbacks"),
    ("content_policy_fallbacks", "content_policy_fallbacks"),
)
# What a model that is named directly gets.
_USUAL_RETRIES = 1
_MAX_DENOMINATOR = 10_000

# Group by group, which others stand in, and where that was written.
Ladder = dict[str, list[tuple[str, str]]]


class Routes:
    """Decides which groups need a route, then names the models, then writes the routes."""

    def __init__(self, inventory: Inventory, router: Section, litellm: Section) -> None:
        self._inventory, self._report = inventory, inventory.report
        self._router, self._litellm = router, litellm
        self._groups = inventory.groups
        self.routes: dict[str, dict[str, object]] = {}

    def make(self) -> None:
        """Fills `routes`, and gives every deployment its name."""
        strategy, retries = self._strategy(), self._retries()
        ladders = {ours: self._ladder(theirs) for ours, theirs in _LADDERS}
        self._add_defaults(ladders["candidates"])
        aliases = self._aliases()
        routed = [
            name
            for name, group in self._groups.items()
            if len(group.deployments) > 1
            or any(ladder.get(name) for ladder in ladders.values())
            or retries not in {None, _USUAL_RETRIES}
        ]
        self._name_models(routed, aliases)
        for name in routed:
            self.routes[name] = self._route(name, strategy, retries, ladders)
        for alias, target in aliases.items():
            self.routes[alias] = deepcopy(self.routes.get(target, {"candidates": self._groups[target].models}))

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
        found: int | None = None
        for section in (self._router, self._litellm):
            retries, path = section.number("num_retries"), f"{section.path}.num_retries"
            if retries is None:
                continue
            if found is not None:
                self._report.note(path, "left out, router_settings has it")
                continue
            found = min(int(retries), MAX_RETRIES)
            self._report.note(path, f"{retries:g} became max_retries {found} of every route; the most is {MAX_RETRIES}")
        return found

    def _ladder(self, key: str) -> Ladder:
        """`[{"a": ["b", "c"]}, …]`, `*` for all. The router's own list wins, as it does there."""
        found: Ladder = {}
        steps: list[tuple[str, str, object]] = []
        for section in (self._router, self._litellm):
            for path, entry in section.entries(key):
                if isinstance(entry, Mapping):
                    steps += [(f"{path}.{name}", str(name), others) for name, others in entry.items()]
                else:
                    self._report.refuse(path, 'expected {"model": ["other", …]}')
        # `*` is for those that have no list of their own.
        for path, name, others in sorted(steps, key=lambda step: step[1] == "*"):
            self._add_step(found, path, name, others)
        return found

    def _add_step(self, ladder: Ladder, path: str, name: str, others: object) -> None:
        targets = [(path, other) for other in (others if isinstance(others, list) else [others])]
        if name == "*":
            self._report.note(path, "the list of every model_name that has none of its own")
        for group in self._groups if name == "*" else [name]:
            if group not in self._groups:
                self._report.refuse(path, f"{group!r} is no model_name of model_list that could be mapped")
            elif group in ladder and name != "*":
                self._report.note(path, f"left out, {group} has a list already")
            else:
                ladder.setdefault(group, self._fitting(group, targets))

    def _fitting(self, group: str, targets: Sequence[tuple[str, object]]) -> list[tuple[str, str]]:
        """Those that can stand in for a group: of its kind, and with comparable vectors."""
        kept: list[tuple[str, str]] = []
        for path, raw in targets:
            other = self._groups.get(raw) if isinstance(raw, str) else None
            if other is None or not isinstance(raw, str):
                self._report.refuse(path, f"{raw!r} is no model_name of model_list that could be mapped")
            elif other.fit != self._groups[group].fit:
                self._report.refuse(
                    path, f"{raw} cannot stand in for {group}: another kind, or vectors of another space"
                )
            elif raw == group:
                self._report.note(path, f"left out, {group} needs no fallback to itself")
            else:
                kept.append((path, raw))
        return kept

    def _add_defaults(self, ladder: Ladder) -> None:
        """`default_fallbacks` stand in for those that have no list; groups of another kind are passed over."""
        without = [name for name in self._groups if name not in ladder]
        for section in (self._router, self._litellm):
            for path, raw in section.entries("default_fallbacks"):
                target = self._groups.get(raw) if isinstance(raw, str) else None
                if target is None or not isinstance(raw, str):
                    self._report.refuse(path, f"{raw!r} is no model_name of model_list that could be mapped")
                    continue
                self._report.note(path, f"{raw} stands in for every model_name of its kind that has no fallbacks")
                for name in without:
                    if name != raw and self._groups[name].fit == target.fit:
                        ladder.setdefault(name, []).append((path, raw))

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

    def _route(self, name: str, strategy: str, retries: int | None, ladders: Mapping[str, Ladder]) -> dict[str, object]:
        deployments = self._in_order(name, self._groups[name])
        several = len(deployments) > 1 and len({d.order for d in deployments}) == 1
        weights = self._weights(deployments) if several and strategy == "weighted" else []
        own = [deployment.name for deployment in deployments]
        extra = [model for model in self._models_of(ladders["candidates"].get(name, ())) if model not in own]
        candidates: list[object] = [*own, *extra]
        if weights:
            pairs = zip(candidates, [*weights, *([0] * len(extra))], strict=True)
            candidates = [{"model": model, "weight": weight} for model, weight in pairs]
        route: dict[str, object] = {"candidates": candidates[:MAX_CANDIDATES]}
        if several:
            route["strategy"] = strategy
            if extra and not weights:
                self._report.note(f"fallbacks of {name}", f"they take part in strategy {strategy}")
        if retries is not None:
            route["max_retries"] = retries
        room = MAX_CANDIDATES - len(candidates)
        for key in ("context_fallbacks", "content_policy_fallbacks"):
            if models := self._models_of(ladders[key].get(name, ()))[: max(0, room)]:
                route[key] = models
                room -= len(models)
        if room < 0:
            self._report.refuse("model_list", f"{name} has more than {MAX_CANDIDATES} models; the last are left out")
        return route

    def _in_order(self, name: str, group: Group) -> list[Deployment]:
        """By `order`; there, a deployment without one comes after those that have one."""
        deployments = sorted(group.deployments, key=lambda d: math.inf if d.order is None else d.order)
        distinct = {deployment.order for deployment in deployments}
        if 1 < len(distinct) < len(deployments):
            self._report.note(f"order of {name}", "deployments of one order are tried in the order of the file")
        return deployments

    def _weights(self, deployments: Sequence[Deployment]) -> list[int]:
        """As simple-shuffle: by what the first one names of weight, rpm and tpm; who does not name it gets nothing."""
        by = next((name for name in RATES if name in deployments[0].rates), "")
        shares = [Fraction(d.rates.get(by, 0)).limit_denominator(_MAX_DENOMINATOR) for d in deployments]
        scale = math.lcm(*(share.denominator for share in shares))
        numbers = [int(share * scale) for share in shares]
        common = math.gcd(*numbers)
        return [number // common for number in numbers] if common else [1] * len(deployments)

    def note_choices(self) -> None:
        """Tells what became of orders, weights and rates; the rates are no limits there."""
        for name, group in self._groups.items():
            ordered = len({deployment.order for deployment in group.deployments}) > 1
            how = f"decides where it stands in route {name}" if ordered else "left out, nothing to put in order"
            for deployment in group.deployments:
                if deployment.order is not None:
                    self._report.note(f"{deployment.path}.litellm_params.order", how)
            weighted = self.routes.get(name, {}).get("strategy") == "weighted"
            by = next((rate for rate in RATES if weighted and rate in group.deployments[0].rates), "")
            for deployment in group.deployments:
                for rate in deployment.rates:
                    path = f"{deployment.path}.litellm_params.{rate}"
                    used = "taken as the weight of the deployment" if rate == by else "left out"
                    about = _ABOUT_WEIGHTS if rate == "weight" else _ABOUT_RATES
                    self._report.note(path, f"{used}; {about}")

    def _models_of(self, steps: Sequence[tuple[str, str]]) -> list[str]:
        """The deployments of groups, in order, each once."""
        return list(dict.fromkeys(model for _, group in steps for model in self._groups[group].models))
