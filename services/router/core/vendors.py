"""The vendor register: which provider may see which class of data, and on which day. Pure, and asked at every step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.router.core.catalogue import ModelSpec
from services.router.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Terms:
    """What is agreed with a provider; the defaults are nothing at all.

    `retention_days` -1 means that nobody knows. `expires` is the last day, UTC, on which it holds. `in_process` marks
    the built-in model: what it reads leaves the router for nobody.
    """

    dpa: bool = False
    regions: frozenset[str] = frozenset()
    retention_days: int = -1
    trains: bool = True
    expires: dt.date | None = None
    in_process: bool = False


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a class of data asks of a provider. Empty `regions` and `max_retention_days` -1 ask nothing."""

    data_class: str
    dpa: bool = False
    regions: frozenset[str] = frozenset()
    max_retention_days: int = -1
    no_training: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a provider may not see this data: kebab-case, and one sentence."""

    reason: str
    detail: str


_NOTHING_AGREED = Terms()
_ANY_DAY = dt.date.min


def refusal(terms: Terms, requirement: Requirement, provider: str, day: dt.date) -> Refusal | None:
    """What of the requirement is not agreed on that day; None when all is. Terms that ended are no terms."""
    if terms.in_process:
        return None
    found = _missing(terms, requirement, provider)
    if found is None and terms.expires is not None and day > terms.expires:
        found = _missing(_NOTHING_AGREED, requirement, provider)
        if found is not None:
            return Refusal("vendor-expired", f"What is agreed with {provider!r} ended on {terms.expires.isoformat()}.")
    return found


def _missing(terms: Terms, requirement: Requirement, provider: str) -> Refusal | None:
    if requirement.dpa and not terms.dpa:
        return Refusal(
            "vendor-without-dpa", f"{_named(requirement)} needs a data processing agreement; {provider!r} has none."
        )
    if requirement.regions and (not terms.regions or not terms.regions <= requirement.regions):
        there = ", ".join(sorted(terms.regions)) or "places that nobody named"
        wanted = ", ".join(sorted(requirement.regions))
        return Refusal("vendor-region", f"{_named(requirement)} stays in {wanted}; {provider!r} works in {there}.")
    bound = requirement.max_retention_days
    if bound >= 0 and not 0 <= terms.retention_days <= bound:
        kept = f"{terms.retention_days} days" if terms.retention_days >= 0 else "nobody knows how long"
        return Refusal(
            "vendor-retention", f"{_named(requirement)} is kept {bound} days at most; {provider!r} keeps it {kept}."
        )
    if requirement.no_training and terms.trains:
        return Refusal(
            "vendor-trains", f"{_named(requirement)} is not for training; {provider!r} trains on what it gets."
        )
    return None


def _named(requirement: Requirement) -> str:
    return f"Data class {requirement.data_class!r}"


class Gate:
    """The requirements of one call; `classes` are what its data is, for conditions, the label's first.

    The requirements are those of the classes and of the default class, which counts whatever is named. A plan carries
    the gate, and it is asked again before every step: an entry that ends in the middle of a call ends there. What has
    no end is judged once.
    """

    __slots__ = ("_lasting", "_now", "_requirements", "_terms", "classes")

    def __init__(
        self,
        classes: tuple[str, ...],
        requirements: tuple[Requirement, ...],
        terms: Mapping[str, Terms],
        now: Callable[[], dt.datetime],
    ) -> None:
        self.classes = classes
        self._requirements = requirements
        self._terms = terms
        self._now = now
        self._lasting: dict[str, Refusal | None] = {}

    def refusal(self, spec: ModelSpec) -> Refusal | None:
        """Why this model may not be called now; None when it may."""
        return self._refusal(spec, self._now)

    def allowed(self, spec: ModelSpec, now: dt.datetime) -> str:
        """The same for a given time, before a try: kebab-case, empty when the model may be asked."""
        found = self._refusal(spec, lambda: now)
        return "" if found is None else found.reason

    def _refusal(self, spec: ModelSpec, now: Callable[[], dt.datetime]) -> Refusal | None:
        provider = spec.provider
        if not self._requirements:
            return None
        if provider in self._lasting:
            return self._lasting[provider]
        terms = self._terms.get(provider, _NOTHING_AGREED)
        if terms.expires is not None:
            return self._first_refusal(terms, provider, now().astimezone(dt.UTC).date())
        found = self._lasting[provider] = self._first_refusal(terms, provider, _ANY_DAY)
        return found

    def _first_refusal(self, terms: Terms, provider: str, day: dt.date) -> Refusal | None:
        found = (refusal(terms, requirement, provider, day) for requirement in self._requirements)
        return next((refused for refused in found if refused is not None), None)

    def agreements(self, specs: tuple[ModelSpec, ...]) -> str:
        """All that decides for these models, as text to digest; empty when nothing is required."""
        if not self._requirements:
            return ""
        asked = [
            (r.data_class, r.dpa, sorted(r.regions), r.max_retention_days, r.no_training) for r in self._requirements
        ]
        found = [(spec.provider, self._terms.get(spec.provider, _NOTHING_AGREED)) for spec in specs]
        agreed = [
            (p, t.dpa, sorted(t.regions), t.retention_days, t.trains, str(t.expires), t.in_process) for p, t in found
        ]
        return repr((self.classes, asked, agreed))


@dataclass(frozen=True, slots=True)
class VendorRegister:
    """Terms by provider, requirements by data class, and the class whose requirements every call has."""

    terms: Mapping[str, Terms] = field(default_factory=dict)
    classes: Mapping[str, Requirement] = field(default_factory=dict)
    by_organisation: Mapping[str, str] = field(default_factory=dict)
    default_class: str = ""
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    # One for each pair of configured classes, never more.
    _gates: dict[tuple[str, str], Gate] = field(default_factory=dict, init=False, repr=False, compare=False)

    def gate(self, organisation: str, data_class: str, field_path: str = "call.labels.data_class") -> Gate:
        """The gate of a call with this label, empty for none. Raises InvalidRequest for a class that is not configured.

        The organisation's own class and the default always count; what the label asks comes on top and never widens.
        """
        if data_class and data_class not in self.classes:
            known = ", ".join(sorted(self.classes)) or "none: an operator adds them under `router.data_classes`"
            raise InvalidRequest(field_path, f"must be a configured class of data; known are {known}")
        own = self.by_organisation.get(organisation, "")
        gate = self._gates.get((data_class, own))
        if gate is None:
            gate = self._gates[data_class, own] = self._gate(data_class, own)
        return gate

    def _gate(self, data_class: str, own: str) -> Gate:
        classes = tuple(dict.fromkeys(name for name in (data_class, own) if name))
        required = dict.fromkeys((*classes, self.default_class) if self.default_class else classes)
        asked = tuple(self.classes[name] for name in required)
        return Gate(classes or tuple(required), asked, self.terms, self.now)
