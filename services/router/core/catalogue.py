"""The models and routes that callers may name, resolved once from the configuration."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.router.core.errors import ModelNotFound


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One configured model. Token counts of 0 mean not known; `endpoint` tells apart providers of the same name."""

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


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """Candidates in the order in which they are tried. `is_model` marks the implicit route of a single model."""

    name: str
    candidates: tuple[ModelSpec, ...]
    max_retries: int
    is_model: bool = False

    def among(self, names: tuple[str, ...]) -> RouteSpec:
        """This route with no other candidates than these; all of them when `names` is empty."""
        kept = tuple(spec for spec in self.candidates if spec.name in names) if names else self.candidates
        return self if len(kept) == len(self.candidates) else replace(self, candidates=kept)

    def policy(self) -> str:
        """`<route>#<digest>`: what decides who answers; part of cache keys. 16 hex digits of SHA-256."""
        facts = [
            (spec.name, spec.provider, spec.endpoint, spec.model, spec.max_output_tokens, sorted(spec.omit_parameters))
            for spec in self.candidates
        ]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return f"{self.name}#{digest}"


class Catalogue:
    """Every name that a caller may use."""

    def __init__(self, routes: Mapping[str, RouteSpec], default_route: str) -> None:
        self._routes = dict(sorted(routes.items()))
        self._policies = {name: route.policy() for name, route in self._routes.items()}
        self._default = self._routes[default_route]

    def resolve(self, name: str) -> RouteSpec:
        """The route of that name; the default route for the empty name. Raises ModelNotFound with a suggestion."""
        if not name:
            return self._default
        route = self._routes.get(name)
        if route is not None:
            return route
        near = difflib.get_close_matches(name, self._routes, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else " ListModels names those that are configured."
        raise ModelNotFound(f"No route or model has this name.{hint}", metadata={"model": name})

    def policy_of(self, route: RouteSpec) -> str:
        """The route's policy, computed once."""
        return self._policies[route.name]

    def routes(self) -> tuple[RouteSpec, ...]:
        """All routes and models, ordered by name."""
        return tuple(self._routes.values())
