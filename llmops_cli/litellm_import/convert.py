"""The import itself: sections of LiteLLM's file into sections of mesh.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from llmops_cli.litellm_import import advice
from llmops_cli.litellm_import.providers import provider_of, split_model
from llmops_cli.litellm_import.reading import Refused, Report, Section

_STRATEGIES = {
    "simple-shuffle": "weighted",
    "least-busy": "least-busy",
    "latency-based-routing": "fastest",
    "cost-based-routing": "cheapest",
}
# Weights of LiteLLM may be fractions, ours are whole.
_WEIGHT_SCALE = 100
_MAX_RETRIES = 5
_PER_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Imported:
    """`sections` of a mesh.yaml, what was refused, and remarks on what was mapped."""

    sections: dict[str, object]
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Group:
    """The deployments of one `model_name`."""

    models: list[str] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    orders: list[float] = field(default_factory=list)


class _Import:
    """One file on its way."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.providers: dict[str, dict[str, object]] = {}
        self.models: dict[str, dict[str, object]] = {}
        self.prices: dict[str, dict[str, str]] = {}
        self.groups: dict[str, _Group] = {}
        self.routes: dict[str, dict[str, object]] = {}
        self.limits: dict[str, object] = {}

    def add_deployment(self, path: str, raw: object, count: int) -> None:
        """One entry of `model_list`; `count` is how many its group has."""
        entry = Section(raw, path, self.report)
        group_name = entry.text("model_name")
        if not group_name:
            self.report.refuse(f"{path}.model_name", "is missing")
            return
        params = Section(entry.take("litellm_params"), f"{path}.litellm_params", self.report)
        info = Section(entry.take("model_info"), f"{path}.model_info", self.report)
        entry.close({}, advice.MODEL_OTHERWISE)
        prefix, model = split_model(params)
        provider = provider_of(prefix, params)
        if provider is None:
            return
        name = self._provider_name(prefix, provider)
        config: dict[str, object] = {"provider": name, "model": model}
        _put(config, "timeout_s", params.number("timeout"))
        _put(config, "first_token_timeout_s", params.number("stream_timeout"))
        self._add_price(f"{name}/{model}", params, info)
        self._add_facts(config, params, info)
        group = self.groups.setdefault(group_name, _Group())
        own = group_name if count == 1 else f"{group_name}/{len(group.models) + 1}"
        group.models.append(own)
        group.weights.append(self._weight(params))
        group.orders.append(params.number("order") or 0)
        self.models[own] = config
        for ignored in ("drop_params", "additional_drop_params", "base_model"):
            params.take(ignored)
        params.close(advice.MODEL, advice.MODEL_OTHERWISE)
        info.close({}, advice.MODEL_OTHERWISE)

    def _weight(self, params: Section) -> int:
        """As simple-shuffle chooses: by weight, else by requests or tokens per minute, which are no limits there."""
        weight = params.number("weight")
        if weight is not None:
            for unused in ("rpm", "tpm"):
                if unused in params:
                    params.take(unused)
                    self.report.notes.append(f"{params.path}.{unused}: left out, the weight is there")
            return round(weight * _WEIGHT_SCALE)
        for name in ("rpm", "tpm"):
            rate = params.number(name)
            if rate is not None:
                params.take("tpm")
                self.report.notes.append(
                    f"{params.path}.{name}: taken as the weight of the deployment, as LiteLLM does; a limit is set "
                    "under `ledger.limits`"
                )
                return round(rate)
        return _WEIGHT_SCALE

    def _provider_name(self, prefix: str, entry: dict[str, object]) -> str:
        """The name of an equal provider, or a new one."""
        number = 1
        name = prefix
        while name in self.providers and self.providers[name] != entry:
            number += 1
            name = f"{prefix}-{number}"
        self.providers[name] = entry
        return name

    def _add_price(self, name: str, params: Section, info: Section) -> None:
        """USD per token there, USD per million tokens here."""
        found: dict[str, str] = {}
        for theirs, ours in (
            ("input_cost_per_token", "input_usd_per_million"),
            ("output_cost_per_token", "output_usd_per_million"),
        ):
            text = params.text(theirs) or info.text(theirs)
            info.take(theirs)
            if not text:
                continue
            try:
                found[ours] = f"{(Decimal(text) * _PER_MILLION).normalize():f}"
            except InvalidOperation:
                self.report.refuse(f"{params.path}.{theirs}", f"expected an amount, found {text!r}")
        if len(found) == 1:
            self.report.refuse(f"{params.path}.input_cost_per_token", "give the prices of input and output, or neither")
        elif found:
            free = set(found.values()) == {"0"}
            self.prices[name] = {"free": True} if free else found  # type: ignore[dict-item]

    def _add_facts(self, config: dict[str, object], params: Section, info: Section) -> None:
        info.take("id")
        mode = info.text("mode")
        if mode == "embedding":
            config["kind"] = "embeddings"
        elif mode not in {"", "chat", "responses"}:
            self.report.refuse(f"{info.path}.mode", f"{mode} is not served; chat and embedding are")
        _put(config, "context_tokens", _whole(info.number("max_input_tokens")))
        _put(config, "max_output_tokens", _whole(info.number("max_output_tokens") or info.number("max_tokens")))
        for theirs, ours in (
            ("supports_function_calling", "supports_tools"),
            ("supports_vision", "supports_images"),
            ("supports_response_schema", "supports_structured_output"),
        ):
            value = info.take(theirs)
            if isinstance(value, bool):
                config[ours] = value
        info.take("base_model")
        params.take("model_id")

    def make_routes(self, router: Section, litellm: Section) -> None:
        """Groups with more than one deployment, fallbacks and aliases."""
        strategy = self._strategy(router)
        retries = self._retries(router, litellm)
        ladders = {
            ours: {**self._lists(litellm, theirs), **self._lists(router, theirs)}
            for ours, theirs in (
                ("candidates", "fallbacks"),
                ("context_fallbacks", "context_window_fallbacks"),
                ("content_policy_fallbacks", "content_policy_fallbacks"),
            )
        }
        defaults = self._names(litellm, "default_fallbacks") + self._names(router, "default_fallbacks")
        for name, group in self.groups.items():
            extra = [n for n in (*ladders["candidates"].get(name, ()), *defaults) if n != name]
            own = [ladders[key].get(name, []) for key in ("context_fallbacks", "content_policy_fallbacks")]
            if len(group.models) == 1 and not extra and not any(own):
                continue
            self._make_route(name, group, strategy, retries, extra, own)
        self._aliases(router)

    def _make_route(
        self, name: str, group: _Group, strategy: str, retries: int | None, extra: list[str], own: list[list[str]]
    ) -> None:
        if group.models == [name]:
            # A route may not have the name of a model.
            self.models[f"{name}/1"] = self.models.pop(name)
            group.models = [f"{name}/1"]
        ordered = len(set(group.orders)) > 1
        pairs = sorted(zip(group.orders, group.models, group.weights, strict=True), key=lambda pair: pair[0])
        several = len(pairs) > 1
        candidates: list[object] = []
        for _, model, weight in pairs:
            weighted = strategy == "weighted" and several and not ordered and weight != _WEIGHT_SCALE
            candidates.append({"model": model, "weight": weight} if weighted else model)
        for model in self._models_of(extra):
            weighted = strategy == "weighted" and several and not ordered
            if model not in group.models:
                candidates.append({"model": model, "weight": 0} if weighted else model)
        route: dict[str, object] = {"candidates": candidates}
        if several and not ordered:
            route["strategy"] = strategy
            if strategy != "weighted" and extra:
                self.report.notes.append(f"fallbacks of {name}: they take part in strategy {strategy}")
        if retries is not None:
            route["max_retries"] = retries
        for key, names in zip(("context_fallbacks", "content_policy_fallbacks"), own, strict=True):
            if names:
                route[key] = self._models_of(names)
        self.routes[name] = route

    def _models_of(self, groups: list[str]) -> list[str]:
        """The deployments of groups, in order, each once."""
        found: dict[str, None] = {}
        for name in groups:
            group = self.groups.get(name)
            if group is None:
                self.report.refuse("fallbacks", f"{name!r} is no model_name of model_list")
                continue
            found.update(dict.fromkeys(group.models))
        return list(found)

    def _strategy(self, router: Section) -> str:
        theirs = router.text("routing_strategy") or "simple-shuffle"
        if theirs not in _STRATEGIES:
            self.report.refuse(
                f"{router.path}.routing_strategy",
                f"{theirs} is not known; use {', '.join(_STRATEGIES)}. Use of rates is the ledger's",
            )
        return _STRATEGIES.get(theirs, "weighted")

    def _retries(self, router: Section, litellm: Section) -> int | None:
        first, second = router.number("num_retries"), litellm.number("num_retries")
        retries = first if first is not None else second
        if retries is None:
            return None
        if retries > _MAX_RETRIES:
            self.report.notes.append(f"num_retries: {retries:g} became {_MAX_RETRIES}, the most")
        return min(int(retries), _MAX_RETRIES)

    def _lists(self, section: Section, key: str) -> dict[str, list[str]]:
        """`[{"a": ["b", "c"]}, …]`."""
        found: dict[str, list[str]] = {}
        for path, entry in section.entries(key):
            if not isinstance(entry, Mapping):
                self.report.refuse(path, 'expected {"model": ["other", …]}')
                continue
            for name, others in entry.items():
                if str(name) not in self.groups:
                    self.report.refuse(path, f"{name!r} is no model_name of model_list")
                found[str(name)] = [str(other) for other in others] if isinstance(others, list) else [str(others)]
        return found

    def _names(self, section: Section, key: str) -> list[str]:
        return [str(entry) for _, entry in section.entries(key)]

    def _aliases(self, router: Section) -> None:
        aliases = Section(router.take("model_group_alias"), f"{router.path}.model_group_alias", self.report)
        for alias in aliases.names():
            value = aliases.take(alias)
            target = str(value.get("model", "")) if isinstance(value, Mapping) else str(value)
            if target in self.routes:
                self.routes[alias] = dict(self.routes[target])
            elif target in self.groups:
                self.routes[alias] = {"candidates": list(self.groups[target].models)}
            else:
                self.report.refuse(f"{aliases.path}.{alias}", f"{target!r} is no model_name of model_list")


def _put(target: dict[str, object], key: str, value: float | None) -> None:
    if value is not None and value > 0:
        target[key] = value


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def import_litellm(raw: Mapping[str, object]) -> Imported:
    """Maps a parsed configuration of LiteLLM. Never raises for what is in it: what cannot be mapped is refused."""
    report = Report()
    top = Section(raw, "", report)
    work = _Import(report)
    deployments = list(top.entries("model_list"))
    names = [str(entry.get("model_name", "")) for _, entry in deployments if isinstance(entry, Mapping)]
    if not deployments:
        report.refuse("model_list", "is missing or empty; there is nothing to import")
    for path, entry in deployments:
        name = str(entry.get("model_name", "")) if isinstance(entry, Mapping) else ""
        work.add_deployment(path.lstrip("."), entry, names.count(name))
    router = Section(top.take("router_settings"), "router_settings", report)
    litellm = Section(top.take("litellm_settings"), "litellm_settings", report)
    general = Section(top.take("general_settings"), "general_settings", report)
    work.make_routes(router, litellm)
    sections = _sections(work, router, litellm, general)
    router.close(advice.ROUTER, advice.ROUTER_OTHERWISE)
    litellm.close(advice.LITELLM, advice.LITELLM_OTHERWISE)
    general.close(advice.GENERAL, advice.GENERAL_OTHERWISE)
    top.close(advice.TOP, advice.TOP_OTHERWISE)
    return Imported(sections, tuple(report.refused), tuple(report.notes))


def _sections(work: _Import, router: Section, litellm: Section, general: Section) -> dict[str, object]:
    _set_defaults(work, router, litellm)
    # Always so here: fit is checked before a call, what a provider cannot take is left out, the cache is on.
    for settled in ("enable_pre_call_checks", "num_retries"):
        router.take(settled)
    for settled in ("drop_params", "cache", "request_timeout", "num_retries", "telemetry", "json_logs", "set_verbose"):
        litellm.take(settled)
    section: dict[str, object] = {"providers": work.providers, "models": work.models}
    if work.routes:
        section["routes"] = work.routes
    first = next(iter(work.groups), "")
    if first:
        section["default_route"] = first
        work.report.notes.append(f"default_route: {first}, the first of model_list; calls that name no model go there")
    if work.limits:
        section["limits"] = work.limits
    sections: dict[str, object] = {"router": section}
    if work.prices:
        sections["ledger"] = {"prices": work.prices}
    database = general.text("database_url")
    if database:
        sections["database"] = {"url": database}
    return sections


def _set_defaults(work: _Import, router: Section, litellm: Section) -> None:
    """What is set for all deployments there is set for each model here."""
    own, everybody = router.number("timeout"), litellm.number("request_timeout")
    defaults = {"timeout_s": own or everybody, "first_token_timeout_s": router.number("stream_timeout")}
    for model in work.models.values():
        for key, value in defaults.items():
            if key not in model:
                _put(model, key, value)
    _put(work.limits, "cooldown_s", router.number("cooldown_time"))
    fallbacks = router.number("max_fallbacks")
    _put(work.limits, "max_attempts", None if fallbacks is None else int(fallbacks) + 1)
