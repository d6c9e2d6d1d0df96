"""Entries of LiteLLM's `model_list`: what each becomes under `router.models` and `ledger.prices`."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from llmops_cli.litellm_import import advice
from llmops_cli.litellm_import.providers import Unserved, target_of
from llmops_cli.litellm_import.reading import Report, Section
from services.ledger.settings import PriceSettings
from services.router.provider_settings import EMBEDDING_DIALECTS

_PER_MILLION = Decimal(1_000_000)
_MODES = ("chat", "responses", "embedding")
_EMBEDDINGS = "embed"
# What simple-shuffle divides by, in the order in which it looks.
RATES = ("weight", "rpm", "tpm")


@dataclass(slots=True)
class Deployment:
    """One entry. `model` is its section under `router.models`; `rates` is what LiteLLM would divide calls by."""

    path: str
    model: dict[str, object]
    rates: dict[str, float]
    order: float | None
    name: str = ""

    @property
    def kind(self) -> str:
        """As `router.models.*.kind`."""
        return str(self.model.get("kind", "chat"))

    @property
    def space(self) -> str:
        """Vectors of different spaces must not be compared; empty for chat."""
        return str(self.model.get("vector_space") or self.model["model"]) if self.kind == "embeddings" else ""


@dataclass(slots=True)
class Group:
    """The deployments of one `model_name`; there is at least one, and all are of one kind and vector space."""

    deployments: list[Deployment] = field(default_factory=list)

    @property
    def fit(self) -> tuple[str, str]:
        """What a deployment must have to stand in for another."""
        return self.deployments[0].kind, self.deployments[0].space

    @property
    def models(self) -> list[str]:
        """Their names under `router.models`."""
        return [deployment.name for deployment in self.deployments]


class Inventory:
    """What `model_list` holds."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.providers: dict[str, dict[str, object]] = {}
        self.prices: dict[str, dict[str, object]] = {}
        self.groups: dict[str, Group] = {}

    def add(self, path: str, raw: object) -> None:
        """One entry; one that cannot be served is refused as a whole."""
        try:
            group, deployment = self._read(path, raw)
        except Unserved as error:
            self.report.refuse(path, f"is left out: {error.key}: {error}")
            return
        known = self.groups.get(group)
        if known is not None and known.fit != (deployment.kind, deployment.space):
            self.report.refuse(path, f"is left out: {group} is of another kind, or its vectors cannot be compared")
            return
        self.groups.setdefault(group, Group()).deployments.append(deployment)

    def _read(self, path: str, raw: object) -> tuple[str, Deployment]:
        entry = Section(raw, path, self.report)
        group = entry.text("model_name")
        if not group or "*" in group:
            raise Unserved("model_name", "is missing, or a pattern; give each model an entry of its own")
        params = Section(entry.take("litellm_params"), f"{path}.litellm_params", self.report)
        info = Section(entry.take("model_info"), f"{path}.model_info", self.report)
        mode = info.text("mode")
        if mode and mode not in _MODES:
            raise Unserved("mode", f"{mode} is not served; chat and embedding are")
        target = target_of(params, mode)
        if not mode and self._makes_vectors(target.model, params, info):
            mode = "embedding"
        dialect = str(target.provider["dialect"])
        if mode == "responses":
            self.report.note(f"{info.path}.mode", f"responses are OpenAI's; this one is asked in dialect {dialect}")
        if mode == "embedding" and dialect not in EMBEDDING_DIALECTS:
            raise Unserved("mode", f"dialect {dialect} has no embeddings")
        provider = self._provider_name(target.prefix, target.provider)
        model: dict[str, object] = {"provider": provider, "model": target.model}
        if mode == "embedding":
            model["kind"] = "embeddings"
        self._add_facts(model, params, info)
        self._add_price(f"{provider}/{target.model}", params, info, embeds=mode == "embedding")
        rates = {name: rate for name in RATES if (rate := params.number(name)) is not None}
        deployment = Deployment(path, model, rates, params.number("order"))
        entry.close({}, advice.MODEL_OTHERWISE)
        params.close(advice.MODEL, advice.MODEL_OTHERWISE)
        info.close({}, advice.MODEL_OTHERWISE)
        return group, deployment

    def _makes_vectors(self, model: str, params: Section, info: Section) -> bool:
        """By name: LiteLLM needs no mode, it goes by what is asked of it; here a model is for one of them."""
        names = (model, info.peek("base_model"), params.peek("base_model"))
        found = any(_EMBEDDINGS in str(name).lower() for name in names)
        if found:
            self.report.note(f"{params.path}.model", "taken for embeddings by its name; model_info.mode says otherwise")
        return found

    def _provider_name(self, prefix: str, entry: dict[str, object]) -> str:
        """The name of an equal provider, or a new one."""
        number, name = 1, prefix
        while name in self.providers and self.providers[name] != entry:
            number += 1
            name = f"{prefix}-{number}"
        self.providers[name] = entry
        return name

    def _add_price(self, name: str, params: Section, info: Section, *, embeds: bool) -> None:
        """USD per token there, USD per million tokens here."""
        found: dict[str, object] = {}
        paths: list[str] = []
        for theirs, ours in (("input_cost_per_token", "input"), ("output_cost_per_token", "output")):
            own, general = params.text(theirs), info.text(theirs)
            if own and general:
                self.report.note(f"{info.path}.{theirs}", "left out, litellm_params has it")
            if text := own or general:
                paths.append(f"{(params if own else info).path}.{theirs}")
                found[f"{ours}_usd_per_million"] = self._per_million(text, paths[-1])
        if not found:
            return
        if embeds:
            found.setdefault("output_usd_per_million", "0")
        if set(found.values()) == {"0"}:
            found = {"free": True}
        try:
            PriceSettings(**found).validate()  # type: ignore[arg-type]
            problem = "" if self.prices.setdefault(name, found) == found else f"{name} has another price already"
        except ValueError as error:
            problem = str(error)
        for path in paths:
            if problem:
                self.report.refuse(path, problem)
            else:
                self.report.note(path, f"the price of {name}, under `ledger.prices`")

    def _per_million(self, text: str, path: str) -> str:
        try:
            amount = Decimal(text) * _PER_MILLION
        except InvalidOperation:
            amount = Decimal("nan")
        if not amount.is_finite() or amount < 0:
            self.report.refuse(path, "expected an amount in USD of 0 or more")
            return ""
        return f"{amount.normalize():f}" if amount else "0"

    def _add_facts(self, model: dict[str, object], params: Section, info: Section) -> None:
        put(model, "timeout_s", params.positive("timeout"))
        put(model, "first_token_timeout_s", params.positive("stream_timeout"))
        put(model, "context_tokens", _whole(info.number("max_input_tokens")))
        output, older = info.number("max_output_tokens"), info.number("max_tokens")
        if output is not None and older is not None:
            self.report.note(f"{info.path}.max_tokens", "left out, max_output_tokens is there")
        put(model, "max_output_tokens", _whole(older if output is None else output))
        for theirs, ours in (
            ("supports_function_calling", "supports_tools"),
            ("supports_vision", "supports_images"),
            ("supports_response_schema", "supports_structured_output"),
        ):
            if (value := info.flag(theirs)) is not None:
                model[ours] = value
        self._add_base_model(model, params, info)
        dropped = [str(name) for _, name in params.entries("additional_drop_params")]
        if dropped:
            model["omit_parameters"] = dropped
        params.settle("drop_params", "what a model cannot take is left out anyway; see `omit_parameters`")
        info.settle("id", "left out, a model is known by its name")

    def _add_base_model(self, model: dict[str, object], params: Section, info: Section) -> None:
        """What stands behind a deployment's own name: two of them make vectors that can be compared."""
        base = info.text("base_model")
        other = params.text("base_model")
        if base and other:
            self.report.note(f"{params.path}.base_model", "left out, model_info has it")
        if not (base or other):
            return
        if model.get("kind") == "embeddings":
            model["vector_space"] = (base or other).rpartition("/")[2]
        else:
            section = info if base else params
            self.report.note(f"{section.path}.base_model", "left out: give `ledger.prices` and `context_tokens`")


def put(target: dict[str, object], key: str, value: float | None) -> None:
    """Sets what is known."""
    if value is not None:
        target[key] = value


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
