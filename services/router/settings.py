"""Providers, models, routes and limits of the router: the section `router` of mesh.yaml."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from meshkit.settings import Secret
from services.router.canary_settings import Canaries
from services.router.core.catalogue import Catalogue, RouteSpec
from services.router.core.prices import ModelPrice
from services.router.core.vendors import Terms, VendorRegister
from services.router.provider_settings import EMBEDDING_DIALECTS, VENDORS, ModelConfig, Provider
from services.router.route_settings import DataClass, Route, Vendor

DEFAULT_MODEL = "local/extractive"
DEFAULT_ROUTE = "default"
DEFAULT_EMBEDDINGS = "local/minilm"
# Each try may be billed, and a request may make two calls (a cascade, a continuation): the ledger takes 256 lines.
MAX_ATTEMPTS = 100
# More is seen by whoever reads along.
_MAX_STREAM_JOIN_S = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on waiting and on what providers may send. Sizes count decompressed bytes.

    `retry_share` of a route's calls may be tried again on the same model. The breaker of a model opens when
    `breaker_failure_share` of at least `breaker_min_calls` calls within `breaker_window_s` failed.
    """

    max_attempts: int = 8
    backoff_base_s: float = 0.2
    backoff_max_s: float = 2.0
    max_retry_wait_s: float = 5.0
    cooldown_s: float = 5.0
    max_cooldown_s: float = 300.0
    retry_share: float = 0.2
    breaker_failure_share: float = 0.5
    breaker_min_calls: int = 5
    breaker_window_s: float = 30.0
    breaker_wait_s: float = 5.0
    breaker_max_wait_s: float = 120.0
    breaker_patient_s: float = 10.0
    default_timeout_s: float = 120.0
    default_stream_timeout_s: float = 600.0
    deadline_margin_s: float = 0.05
    max_response_bytes: int = 16 << 20
    max_error_bytes: int = 64 << 10
    max_stream_bytes: int = 64 << 20
    max_line_bytes: int = 1 << 20
    max_event_bytes: int = 4 << 20


@dataclass(frozen=True, slots=True)
class Extractive:
    """Bounds on the built-in model's work: encoding one sentence costs 2 to 6 ms of one core."""

    max_sentences: int = 4000
    max_encoded_sentences: int = 96
    threads: int = 1
    max_queue: int = 64
    encoder_count_max_chars: int = 40_000


def _default_providers() -> dict[str, Provider]:
    return {"local": Provider(dialect="local")}


def _default_models() -> dict[str, ModelConfig]:
    return {
        DEFAULT_MODEL: ModelConfig(
            provider="local",
            model="extractive",
            context_tokens=1_000_000,
            max_output_tokens=4096,
            supports_tools=False,
            supports_images=False,
            supports_structured_output=False,
            timeout_s=20.0,
            first_token_timeout_s=20.0,
            idle_timeout_s=20.0,
        ),
        DEFAULT_EMBEDDINGS: ModelConfig(provider="local", model="minilm", kind="embeddings", timeout_s=20.0),
    }


def _default_routes() -> dict[str, Route]:
    return {DEFAULT_ROUTE: Route(candidates=(DEFAULT_MODEL,))}


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Everything that the router can be told. Without a file it answers with the built-in extractive model.

    `default_embeddings` is the route or model for embeddings that a call without a name gets; no key in the environment
    changes it, because vectors that are stored must stay comparable.

    `stream_join_s`: once a streamed answer has begun, a provider is read at most this often, and what came meanwhile
    travels as one piece; 0 passes every piece on by itself. `vendors` is the register of what is agreed with each
    provider: one without an entry has agreed to nothing. `default_data_class` counts for every call, beside the
    class that a label names and the organisation's own.
    """

    providers: dict[str, Provider] = field(default_factory=_default_providers)
    models: dict[str, ModelConfig] = field(default_factory=_default_models)
    routes: dict[str, Route] = field(default_factory=_default_routes)
    vendors: dict[str, Vendor] = field(default_factory=dict)
    data_classes: dict[str, DataClass] = field(default_factory=dict)
    default_data_class: str = ""
    default_route: str = DEFAULT_ROUTE
    default_embeddings: str = DEFAULT_EMBEDDINGS
    stream_join_s: float = 0.02
    limits: Limits = field(default_factory=Limits)
    extractive: Extractive = field(default_factory=Extractive)
    canaries: Canaries = field(default_factory=Canaries)

    def with_environment(self, environ: Mapping[str, str]) -> RouterSettings:
        """These settings with the vendors whose keys are in the environment; see the function."""
        return with_environment(self, environ)

    def validate(self) -> None:
        """Raises ValueError with a sentence that names the setting and what to do."""
        for name, provider in self.providers.items():
            if problem := provider.problem():
                raise ValueError(f"router.providers.{name} {problem}.")
        for name, model in self.models.items():
            if problem := model.problem():
                raise ValueError(f"router.models.{name} {problem}.")
            _require_known(model.provider, self.providers, f"router.models.{name}.provider", "router.providers")
        for name, route in self.routes.items():
            self._validate_route(name, route)
        self._validate_vendors()
        self._validate_kinds()
        self._validate_canaries()
        if not 0 <= self.stream_join_s <= _MAX_STREAM_JOIN_S:
            raise ValueError(f"router.stream_join_s must be between 0 (off) and {_MAX_STREAM_JOIN_S}.")
        self._validate_bounds()

    def _validate_bounds(self) -> None:
        for group, values in (("limits", self.limits), ("extractive", self.extractive)):
            for entry in dataclasses.fields(values):
                if getattr(values, entry.name) <= 0:
                    raise ValueError(f"router.{group}.{entry.name} must be above zero.")
        if self.limits.max_attempts > MAX_ATTEMPTS:
            raise ValueError(f"router.limits.max_attempts must be {MAX_ATTEMPTS} at most: each try may be billed.")
        for share in ("retry_share", "breaker_failure_share"):
            if getattr(self.limits, share) > 1:
                raise ValueError(f"router.limits.{share} is a share: it must be 1 at most.")

    def _validate_route(self, name: str, route: Route) -> None:
        where = f"router.routes.{name}"
        if name in self.models:
            raise ValueError(f"{where} has the name of a model; rename one of the two.")
        if problem := route.problem():
            raise ValueError(f"{where} {problem}.")
        for choice in route.choices():
            _require_known(choice.model, self.models, f"{where}.candidates", "router.models")
            for data_class in choice.when.data_classes:
                _require_known(data_class, self.data_classes, f"{where}.candidates when", "router.data_classes")
        for model in (*route.fallbacks(), *([route.shadow.model] if route.shadow else [])):
            _require_known(model, self.models, where, "router.models")

    def _validate_vendors(self) -> None:
        for name, vendor in self.vendors.items():
            _require_known(name, self.providers, "router.vendors", "router.providers")
            if problem := vendor.problem():
                raise ValueError(f"router.vendors.{name} {problem}.")
        owners: dict[str, str] = {}
        for name, data_class in self.data_classes.items():
            if problem := data_class.problem():
                raise ValueError(f"router.data_classes.{name} {problem}.")
            for organisation in data_class.organisations:
                if owners.setdefault(organisation, name) != name:
                    raise ValueError(f"router.data_classes names organisation {organisation!r} twice; keep one.")
        if self.default_data_class:
            _require_known(
                self.default_data_class, self.data_classes, "router.default_data_class", "router.data_classes"
            )

    def _validate_canaries(self) -> None:
        if problem := self.canaries.problem():
            raise ValueError(f"router.canaries {problem}.")
        for model in self.canaries.models:
            _require_known(model, self.models, "router.canaries.models", "router.models")
            if self.models[model].kind != "chat":
                raise ValueError(f"router.canaries.models names {model}, a model for embeddings; name models for chat.")

    def _validate_kinds(self) -> None:
        for name, model in self.models.items():
            dialect = self.providers[model.provider].dialect
            if model.kind == "embeddings" and dialect not in EMBEDDING_DIALECTS:
                known = ", ".join(EMBEDDING_DIALECTS)
                raise ValueError(f"router.models.{name} wants embeddings of dialect {dialect}; use one of {known}.")
        for name, route in self.routes.items():
            models = [self.models[model] for model in route.everyone()]
            if len({model.kind for model in models}) > 1:
                raise ValueError(f"router.routes.{name} mixes models for chat and for embeddings; make two of it.")
            spaces = {model.vector_space or model.model for model in models if model.kind == "embeddings"}
            if len(spaces) > 1:
                raise ValueError(
                    f"router.routes.{name} mixes the vectors of {', '.join(sorted(spaces))}, which cannot be compared; "
                    "keep one model, or give the same vector_space to names of the same model."
                )
        self._validate_defaults()

    def _validate_defaults(self) -> None:
        _require_known(self.default_route, [*self.routes, *self.models], "router.default_route", "router.routes")
        if self._kind(self.default_route) != "chat":
            raise ValueError("router.default_route names a model for embeddings; use router.default_embeddings.")
        if self.default_embeddings not in {"", DEFAULT_EMBEDDINGS}:
            known = [*self.routes, *self.models]
            _require_known(self.default_embeddings, known, "router.default_embeddings", "router.routes")
        if self._known_embeddings() and self._kind(self.default_embeddings) != "embeddings":
            raise ValueError("router.default_embeddings names a model for chat; name one of kind embeddings, or none.")

    def _kind(self, name: str) -> str:
        model = self.routes[name].choices()[0].model if name in self.routes else name
        return self.models[model].kind

    def _known_embeddings(self) -> str:
        """The default for embeddings, empty where a file has models of its own and no built-in one among them."""
        return self.default_embeddings if self.default_embeddings in {*self.routes, *self.models} else ""

    def catalogue(self) -> Catalogue:
        """Routes and models as the core knows them; every model is also a route of one candidate."""
        specs = {name: model.spec(name, self.providers[model.provider]) for name, model in self.models.items()}
        routes = {name: RouteSpec(name, (spec,), 1, is_model=True) for name, spec in specs.items()}
        for name, route in self.routes.items():
            routes[name] = route.spec(name, specs)
        return Catalogue(routes, self.default_route, self._known_embeddings())

    def vendor_register(self, now: Callable[[], dt.datetime]) -> VendorRegister:
        """Terms and classes as the core knows them. The built-in model is nobody's unless the file says otherwise."""
        built_in = (name for name, provider in self.providers.items() if provider.dialect == "local")
        terms = {name: Terms(in_process=True) for name in built_in}
        return VendorRegister(
            terms | {name: vendor.terms() for name, vendor in self.vendors.items()},
            {name: entry.requirement(name) for name, entry in self.data_classes.items()},
            {owner: name for name, entry in self.data_classes.items() for owner in entry.organisations},
            self.default_data_class,
            now,
        )

    def declared_prices(self) -> dict[str, ModelPrice]:
        """By model name; the built-in model costs nothing."""
        local = {name for name, model in self.models.items() if self.providers[model.provider].dialect == "local"}
        declared = {name: model.price.price() for name, model in self.models.items() if model.price is not None}
        return {name: ModelPrice(0, 0) for name in local} | declared


def _require_known(name: str, known: Iterable[str], where: str, section: str) -> None:
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(names)) or 'none'}."
    raise ValueError(f"{where} names {name!r}, which is not under {section}; {hint}")


def with_environment(settings: RouterSettings, environ: Mapping[str, str]) -> RouterSettings:
    """Adds the vendors whose keys are in the environment, unless the file configures a provider of that name.

    Their models become names that callers may use; the first of each vendor goes in front of the default route's
    candidates, OpenAI's before Anthropic's before Google's. A default route that is a single model is left as it is.
    """
    providers, models, routes = dict(settings.providers), dict(settings.models), dict(settings.routes)
    in_front: list[str] = []
    for variable, name, provider, offered in VENDORS:
        key = environ.get(variable, "").strip()
        if not key or name in providers:
            continue
        providers[name] = dataclasses.replace(provider, api_key=Secret(key))
        models = offered | models
        in_front.append(next(iter(offered)))
    default = routes.get(settings.default_route)
    if default is not None:
        named = {choice.model for choice in default.choices()}
        added = tuple(model for model in in_front if model not in named)
        routes[settings.default_route] = dataclasses.replace(default, candidates=added + default.candidates)
    return dataclasses.replace(settings, providers=providers, models=models, routes=routes)
