"""Routes, their conditions and ladders, and the vendor register: parts of the section `router` of mesh.yaml."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from services.router.core.catalogue import Condition, HedgeRule, ModelSpec, RouteSpec, ShadowRule
from services.router.core.facts import spelled
from services.router.core.vendors import Requirement, Terms

Strategy = Literal["ordered", "weighted", "cheapest", "fastest", "least-busy", "complexity"]
Band = Literal["simple", "complex"]
Affinity = Literal["none", "conversation", "user"]
# More would only multiply a provider's trouble.
MAX_RETRIES = 5
MAX_CANDIDATES = 64
_MAX_APOLOGY_CHARS = 2000
_MAX_HEDGE_RATE = 0.5


@dataclass(frozen=True, slots=True)
class When:
    """A condition on a candidate: every part that is named must hold. An empty part says nothing."""

    organisations: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    data_classes: tuple[str, ...] = ()
    bands: tuple[Band, ...] = ()
    min_input_tokens: int = 0
    max_input_tokens: int = 0
    tools: bool | None = None

    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        if min(self.min_input_tokens, self.max_input_tokens) < 0:
            return "needs token counts of zero (no bound) or more"
        if 0 < self.max_input_tokens < self.min_input_tokens:
            return "has max_input_tokens below min_input_tokens, so it never holds"
        return ""

    def condition(self) -> Condition:
        """As the core knows it."""
        return Condition(
            frozenset(self.organisations),
            frozenset(self.features),
            frozenset(map(spelled, self.languages)),
            frozenset(self.data_classes),
            frozenset(self.bands),
            self.min_input_tokens,
            self.max_input_tokens,
            self.tools,
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of a route. `weight` is for strategy `weighted`; one of 0 is for fallback only, in all strategies."""

    model: str
    weight: int = 1
    when: When = field(default_factory=When)


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second request beside one that is slow.

    It is sent once the first has taken longer than `percentile` of this model's recent calls, or `after_s` while there
    are fewer than 50 of them. `max_rate` is the share of calls that may be hedged.
    """

    percentile: float = 0.95
    after_s: float = 2.0
    max_rate: float = 0.05

    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        if not 0.5 <= self.percentile < 1:  # noqa: PLR2004 - half of all calls
            return "needs a percentile from 0.5 to below 1"
        if self.after_s <= 0:
            return "needs after_s above zero"
        if not 0 < self.max_rate <= _MAX_HEDGE_RATE:
            return f"needs max_rate above 0, {_MAX_HEDGE_RATE} at most"
        return ""


@dataclass(frozen=True, slots=True)
class Shadow:
    """Copies of calls for another model, out of the callers' sight. They cost money: budget the feature `shadow`."""

    model: str
    sample: float = 0.01


@dataclass(frozen=True, slots=True)
class Cascade:
    """The first candidate is tried first; below `min_confidence` of the guard the others are asked. Not on streams."""

    min_confidence: float = 0.7


@dataclass(frozen=True, slots=True)
class ComplexityPoint:
    """Where strategy `complexity` divides simple from complex.

    `quality` promises so much of the dear model's gain over the cheap one, by the shipped curve; `threshold`, when
    above 0, is used instead: the probability that the cheap model suffices from which a request counts as simple.
    """

    quality: float = 0.95
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Route:
    """Models, and the order in which they are tried; each gets `max_retries` further tries.

    The three fallback lists are for their own causes, tried before the rest of the candidates: a conversation too long
    for the window, an answer refused for its content, a provider that limits us. `apology` is the last step of the
    ladder, after an earlier answer past its time (`allow_stale`).
    """

    candidates: tuple[str | Candidate, ...] = ()
    strategy: Strategy = "ordered"
    affinity: Affinity = "none"
    max_retries: int = 1
    context_fallbacks: tuple[str, ...] = ()
    content_policy_fallbacks: tuple[str, ...] = ()
    rate_limit_fallbacks: tuple[str, ...] = ()
    hedge: Hedge | None = None
    shadow: Shadow | None = None
    cascade: Cascade | None = None
    complexity: ComplexityPoint = field(default_factory=ComplexityPoint)
    continue_on_another: bool = False
    allow_stale: bool = False
    apology: str = ""

    def choices(self) -> tuple[Candidate, ...]:
        """The candidates in the long form."""
        return tuple(Candidate(entry) if isinstance(entry, str) else entry for entry in self.candidates)

    def fallbacks(self) -> tuple[str, ...]:
        """Every model that is named for a cause, each once."""
        named = (*self.context_fallbacks, *self.content_policy_fallbacks, *self.rate_limit_fallbacks)
        return tuple(dict.fromkeys(named))

    def everyone(self) -> tuple[str, ...]:
        """Every model that may be called, the shadow too, each once."""
        named = [choice.model for choice in self.choices()]
        return tuple(dict.fromkeys((*named, *self.fallbacks(), *([self.shadow.model] if self.shadow else ()))))

    def compares(self) -> bool:
        """Whether prices are compared."""
        return self.strategy == "cheapest"

    def problem(self) -> str:
        """What is wrong with this route by itself; empty when nothing is."""
        choices = self.choices()
        names = [choice.model for choice in choices]
        conditions = [choice.when.problem() for choice in choices]
        checks: Iterable[tuple[bool, str]] = (
            (not names or len(set(names)) != len(names), "must name at least one model in candidates, each only once"),
            (len(names) + len(self.fallbacks()) > MAX_CANDIDATES, f"may name {MAX_CANDIDATES} models at most"),
            (not 0 <= self.max_retries <= MAX_RETRIES, f"needs max_retries from 0 to {MAX_RETRIES}"),
            (min((c.weight for c in choices), default=0) < 0, "needs weights of zero or more"),
            (not any(c.weight for c in choices), "has no candidate with a weight above zero: 0 is for fallback only"),
            (self.hedge is not None and bool(self.hedge.problem()), f"hedge {self.hedge and self.hedge.problem()}"),
            (self.shadow is not None and not 0 < self.shadow.sample <= 1, "shadow needs a sample above 0, 1 at most"),
            (
                self.cascade is not None and not 0 < self.cascade.min_confidence < 1,
                "cascade needs min_confidence between 0 and 1",
            ),
            (self.cascade is not None and len(names) < 2, "cascade needs a second candidate to go on to"),  # noqa: PLR2004
            (not 0 < self.complexity.quality <= 1, "complexity needs a quality above 0, 1 at most"),
            (not 0 <= self.complexity.threshold < 1, "complexity needs a threshold from 0 (by quality) to below 1"),
            (len(self.apology) > _MAX_APOLOGY_CHARS, f"needs an apology of {_MAX_APOLOGY_CHARS} characters at most"),
        )
        found = next((sentence for wrong, sentence in checks if wrong), "")
        return found or next((f"candidates when {problem}" for problem in conditions if problem), "")

    def spec(self, name: str, specs: Mapping[str, ModelSpec]) -> RouteSpec:
        """As the core knows it; `specs` has every model that is named."""
        choices, hedge, shadow = self.choices(), self.hedge, self.shadow
        return RouteSpec(
            name,
            tuple(specs[choice.model] for choice in choices),
            self.max_retries,
            strategy=self.strategy,
            affinity=self.affinity,
            weights={choice.model: choice.weight for choice in choices},
            conditions={choice.model: choice.when.condition() for choice in choices if choice.when != When()},
            context_fallbacks=tuple(specs[model] for model in self.context_fallbacks),
            content_policy_fallbacks=tuple(specs[model] for model in self.content_policy_fallbacks),
            rate_limit_fallbacks=tuple(specs[model] for model in self.rate_limit_fallbacks),
            hedge=None if hedge is None else HedgeRule(hedge.percentile, hedge.after_s, hedge.max_rate),
            shadow=None if shadow is None else ShadowRule(specs[shadow.model], shadow.sample),
            cascade_min_confidence=None if self.cascade is None else self.cascade.min_confidence,
            complexity_quality=self.complexity.quality,
            complexity_threshold=self.complexity.threshold,
            continue_on_another=self.continue_on_another,
            allow_stale=self.allow_stale,
            apology=self.apology,
        )


@dataclass(frozen=True, slots=True)
class Vendor:
    """What is agreed with a provider: an entry of the vendor register.

    `regions` are where data is processed; `retention_days` how long it is kept there, -1 when nobody knows; `trains`
    whether it is used for training; `expires` the last day on which the agreement holds (`2027-03-31`), empty for none.
    """

    dpa: bool = False
    regions: tuple[str, ...] = ()
    retention_days: int = -1
    trains: bool = True
    expires: str = ""

    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        if self.retention_days < -1:
            return "needs retention_days of 0 or more, or -1 for not known"
        if self.expires:
            try:
                dt.date.fromisoformat(self.expires)
            except ValueError:
                return f"has expires {self.expires!r}; write a day such as 2027-03-31"
        return ""

    def terms(self) -> Terms:
        """As the core knows it."""
        expires = dt.date.fromisoformat(self.expires) if self.expires else None
        return Terms(self.dpa, frozenset(self.regions), self.retention_days, self.trains, expires)


@dataclass(frozen=True, slots=True)
class DataClass:
    """What a class of data asks of whoever sees it. `organisations`: for these it is the class when none is named.

    `max_retention_days` -1 asks nothing; `regions` empty asks nothing, else every region of the provider is in it.
    """

    dpa: bool = False
    regions: tuple[str, ...] = ()
    max_retention_days: int = -1
    no_training: bool = False
    organisations: tuple[str, ...] = ()

    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        return "needs max_retention_days of 0 or more, or -1 for no bound" if self.max_retention_days < -1 else ""

    def requirement(self, name: str) -> Requirement:
        """As the core knows it."""
        return Requirement(name, self.dpa, frozenset(self.regions), self.max_retention_days, self.no_training)
