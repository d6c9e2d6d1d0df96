"""The models and routes that callers may name, resolved once from the configuration."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.router.core.errors import InvalidRequest, ModelNotFound

CHAT = "chat"
_CALLS = {CHAT: "Complete", "embeddings": "Embed"}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One configured model. Token counts of 0 mean not known; `endpoint` tells apart providers of the same name.

    `kind` is "chat" or "embeddings"; vectors of different `vector_space` must not be compared.
    Models with the same `quota` are limited together; empty stands for the provider's model. `bills_cancelled` is what
    the provider charges for a call that is cancelled: "full", "delivered" or "nothing". `drain_on_cancel` asks whoever
    holds money for a call to read it to its end when its caller has left.
    """

    name: str
    provider: str
    model: str
    endpoint: str = ""
    context_tokens: int = 0
    max_output_tokens: int = 0
    supports_tools: bool = True
    supports_images: bool = True
    supports_structured_output: bool = True
    timeout_s: float = 60.0
    first_token_timeout_s: float = 30.0
    idle_timeout_s: float = 30.0
    omit_parameters: frozenset[str] = frozenset()
    tool_reasoning_effort: str = ""
    has_credential: bool = True
    kind: str = "chat"
    vector_space: str = ""
    quota: str = ""
    bills_cancelled: str = "full"
    drain_on_cancel: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """When a candidate may be chosen: every part that is not empty must hold. Token counts of 0 are no bound."""

    organisations: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    data_classes: frozenset[str] = frozenset()
    bands: frozenset[str] = frozenset()
    min_input_tokens: int = 0
    max_input_tokens: int = 0
    tools: bool | None = None

    def facts(self) -> list[object]:
        """All parts in a fixed order, for a digest."""
        named = (self.organisations, self.features, self.languages, self.data_classes, self.bands)
        return [*(sorted(names) for names in named), self.min_input_tokens, self.max_input_tokens, self.tools]


ALWAYS = Condition()


@dataclass(frozen=True, slots=True)
class HedgeRule:
    """When a second request may be sent beside a slow one; see `route_settings.Hedge`."""

    percentile: float
    after_s: float
    max_rate: float


@dataclass(frozen=True, slots=True)
class ShadowRule:
    """Which model gets copies of which share of the calls."""

    spec: ModelSpec
    sample: float


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """Candidates as the file orders them, and how to choose. `is_model` marks the implicit route of a single model.

    `weights` and `conditions` are by model name; a name that is absent has weight 1 and no condition. The three
    fallback lists are tried before the other candidates, each after its own cause.
    """

    name: str
    candidates: tuple[ModelSpec, ...]
    max_retries: int
    is_model: bool = False
    strategy: str = "ordered"
    affinity: str = "none"
    weights: Mapping[str, int] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    context_fallbacks: tuple[ModelSpec, ...] = ()
    content_policy_fallbacks: tuple[ModelSpec, ...] = ()
    rate_limit_fallbacks: tuple[ModelSpec, ...] = ()
    hedge: HedgeRule | None = None
    shadow: ShadowRule | None = None
    cascade_min_confidence: float | None = None
    complexity_quality: float = 0.95
    complexity_threshold: float = 0.0
    continue_on_another: bool = False
    allow_stale: bool = False
    apology: str = ""

    def everyone(self) -> tuple[ModelSpec, ...]:
        """All who may answer: the candidates, then those that are named for a cause only. Each once, no shadow."""
        named = (*self.candidates, *self.context_fallbacks, *self.content_policy_fallbacks, *self.rate_limit_fallbacks)
        return tuple({spec.name: spec for spec in named}.values())

    @property
    def kind(self) -> str:
        """What its models do: "chat" or "embeddings", the same for all."""
        return self.candidates[0].kind if self.candidates else CHAT

    def among(self, names: tuple[str, ...]) -> RouteSpec:
        """This route with no other models than these; all of them when `names` is empty."""
        if not names or all(spec.name in names for spec in self.everyone()):
            return self

        def kept(specs: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
            return tuple(spec for spec in specs if spec.name in names)

        return replace(
            self,
            candidates=kept(self.candidates),
            context_fallbacks=kept(self.context_fallbacks),
            content_policy_fallbacks=kept(self.content_policy_fallbacks),
            rate_limit_fallbacks=kept(self.rate_limit_fallbacks),
        )

    def judges_complexity(self) -> bool:
        """Whether anything here depends on the band of a call."""
        return self.strategy == "complexity" or any(condition.bands for condition in self.conditions.values())

    def policy(self, agreements: str = "") -> str:
        """`<route>#<digest>`: what decides who answers; part of cache keys. 16 hex digits of SHA-256.

        `agreements` is what the vendor register says of these models for the data of a call. What a route leaves at its
        default is left out, so that a new kind of setting empties nobody's cache.
        """
        facts: list[object] = [
            (spec.name, spec.provider, spec.endpoint, spec.model, spec.max_output_tokens, sorted(spec.omit_parameters))
            for spec in self.candidates
        ]
        facts += [(key, value) for key, value in self._choosing().items() if value]
        if agreements:
            facts.append(("agreements", agreements))
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return f"{self.name}#{digest}"

    def _choosing(self) -> dict[str, object]:
        """How one of the candidates is chosen, without what is at its default."""
        point = (self.complexity_quality, self.complexity_threshold)
        named = (self.context_fallbacks, self.content_policy_fallbacks, self.rate_limit_fallbacks)
        return {
            "strategy": "" if self.strategy == "ordered" else self.strategy,
            "affinity": "" if self.affinity == "none" else self.affinity,
            "weights": sorted((name, weight) for name, weight in self.weights.items() if weight != 1),
            "conditions": sorted((name, c.facts()) for name, c in self.conditions.items() if c != ALWAYS),
            "fallbacks": [(n, s.name, s.provider, s.endpoint, s.model) for n, specs in enumerate(named) for s in specs],
            "hedged": self.hedge is not None,
            "cascade": self.cascade_min_confidence,
            "complexity": point if self.judges_complexity() else None,
            "continued": self.continue_on_another,
        }


class Catalogue:
    """Every name that a caller may use."""

    def __init__(self, routes: Mapping[str, RouteSpec], default_route: str, default_embeddings: str = "") -> None:
        self._routes = dict(sorted(routes.items()))
        self._policies = {name: route.policy() for name, route in self._routes.items()}
        self._defaults = {CHAT: self._routes[default_route]}
        if default_embeddings:
            self._defaults["embeddings"] = self._routes[default_embeddings]

    def resolve(self, name: str, kind: str = "") -> RouteSpec:
        """The route of that name; the default route of the kind for the empty name. Without a kind, any is right.

        Raises ModelNotFound with a suggestion, and InvalidRequest for a name of another kind.
        """
        route = self._routes.get(name) if name else self._defaults.get(kind or CHAT)
        if route is not None and kind and route.kind != kind:
            raise InvalidRequest("model", f"names a model for {_CALLS[route.kind]}; this call is {_CALLS[kind]}")
        if route is not None:
            return route
        if not name:
            raise ModelNotFound("No model for embeddings is configured; set router.default_embeddings.")
        near = difflib.get_close_matches(name, self._routes, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else " ListModels names those that are configured."
        raise ModelNotFound(f"No route or model has this name.{hint}", metadata={"model": name})

    def policy_of(self, route: RouteSpec) -> str:
        """The route's policy, computed once."""
        return self._policies[route.name]

    def models(self) -> tuple[ModelSpec, ...]:
        """Every model that a route names, shadows included, ordered by name."""
        named = {spec.name: spec for route in self._routes.values() for spec in route.everyone()}
        shadows = [route.shadow.spec for route in self._routes.values() if route.shadow is not None]
        return tuple(spec for _, spec in sorted((named | {spec.name: spec for spec in shadows}).items()))

    def unchanged(self, before: Catalogue) -> frozenset[str]:
        """Names of models that are the same ones as before: what was learnt about them still holds."""
        return frozenset(name for name, _ in self.identities().items() & before.identities().items())

    def routes(self) -> tuple[RouteSpec, ...]:
        """All routes and models, ordered by name."""
        return tuple(self._routes.values())

    def identities(self) -> dict[str, tuple[str, str]]:
        """Where each model is, and what it is called there: (endpoint, model) by name."""
        specs = [spec for route in self._routes.values() if route.is_model for spec in route.candidates]
        return {spec.name: (spec.endpoint, spec.model) for spec in specs}
