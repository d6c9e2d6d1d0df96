"""Runs the detectors over one text, its normal form and its decoded layers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.guard.core.findings import Group, Match
from services.guard.core.injection import find_injection
from services.guard.core.json_text import unescape
from services.guard.core.layers import decoded_layers
from services.guard.core.masking import resolve_overlaps
from services.guard.core.normalise import NormalisedText, normalise
from services.guard.core.pii import KINDS, find_pii
from services.guard.core.policy import LayerRules
from services.guard.core.ports import CompiledPattern
from services.guard.core.secrets import find_secrets
from services.guard.core.shape import Shape

# From a span of the text at hand to one of the original.
Span = Callable[[int, int], tuple[int, int]]

_GROUP_RANK = {group: index for index, group in enumerate(Group)}
_KIND_RANK = {kind: index for index, kind in enumerate(KINDS)}
_REPLACEABLE = frozenset((Group.SECRET, Group.PII, Group.CUSTOM))


@dataclass(frozen=True, slots=True)
class CustomDetector:
    """A compiled custom pattern and what it is called."""

    name: str
    kind: str
    pattern: CompiledPattern


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """Which detectors run."""

    secrets: bool = True
    pii_kinds: frozenset[str] = frozenset(KINDS)
    injection: bool = False
    custom: tuple[CustomDetector, ...] = ()
    layers: LayerRules = field(default_factory=LayerRules)


@dataclass(slots=True)
class LayerBudget:
    """How many decoded regions a request may still have; shared by all its texts."""

    left: int
    exceeded: bool = False


@dataclass(slots=True, repr=False)
class ScanResult:
    """Matches in original code points and text order; those that a token can replace do not overlap."""

    matches: list[Match]
    normalisations: frozenset[str] = frozenset()
    invisible_count: int = 0
    normalised: str = ""
    failures: Mapping[str, Exception] = field(default_factory=dict)


def scan(text: str, plan: ScanPlan, budget: LayerBudget, *, json: bool = False, start: int = 0) -> ScanResult:
    """Scans a text. `json`: it is JSON source, escapes are read as what they mean.

    `start` is where the text begins that counts; what stands before is context that detectors may look back at.
    """
    source = unescape(text) if json and "\\" in text else None
    inner = text if source is None else source.text
    view = _PLAIN if inner.isascii() else normalise(inner)
    normalised = inner if view is _PLAIN else view.text
    found = _Found(plan, budget, start)
    found.collect(normalised, _to_original(source, view), "", 0)
    if not found.matches:
        return ScanResult([], view.changes, view.invisible_count, normalised, found.failures)
    matches = (match for match in found.matches if match.start >= start)
    return ScanResult(_settled(matches), view.changes, view.invisible_count, normalised, found.failures)


def is_blank(text: str, plan: ScanPlan) -> bool:
    """Whether a scan of the text would find and change nothing, as far as that can be told without one.

    Every built-in detector but that of injection needs a digit, a long run or one of the marks below.
    """
    if plan.custom or plan.injection or not text.isascii() or "@" in text or "%" in text or "PRIVATE KEY" in text:
        return False
    shape = Shape(text)
    return not shape.has_digit and not shape.has_long_run


# What normalising does to ASCII: nothing.
_PLAIN = NormalisedText("")


def _to_original(source: NormalisedText | None, view: NormalisedText) -> Span:
    if source is None:
        return view.original_span
    outer = source
    return lambda first, end: outer.original_span(*view.original_span(first, end))


class _Found:
    """Matches of one text and, one level deeper each time, of what is encoded in it."""

    __slots__ = ("budget", "failures", "matches", "plan", "start")

    def __init__(self, plan: ScanPlan, budget: LayerBudget, start: int) -> None:
        self.plan = plan
        self.budget = budget
        self.start = start
        self.matches: list[Match] = []
        self.failures: dict[str, Exception] = {}

    def collect(self, text: str, span: Span, layer: str, depth: int) -> None:
        shape, plan = Shape(text), self.plan
        take = self._taker(span, layer)
        if plan.secrets:
            take("secrets", find_secrets, shape)
        if plan.pii_kinds:
            take("pii", find_pii, shape, plan.pii_kinds)
        if plan.injection:
            take("injection", find_injection, shape)
        for custom in plan.custom:
            begin = self._begin(text, span) if depth == 0 else 0
            take("custom-" + custom.name, _find_custom, text, begin, custom)
        for region in decoded_layers(shape, plan.layers.max_region_chars):
            if depth >= plan.layers.max_depth or self.budget.left <= 0:
                self.budget.exceeded = True
                return
            self.budget.left -= 1
            outer = span(region.start, region.end)
            inner = normalise(region.text).text
            self.collect(inner, _always(outer), region.name, depth + 1)

    def _taker(self, span: Span, layer: str) -> Callable[..., None]:
        """Runs a detector and keeps its matches, in the original's offsets."""

        def take(name: str, find: Callable[..., Iterable[Match]], *arguments: object) -> None:
            try:
                for match in find(*arguments):
                    start, end = span(match.start, match.end)
                    self.matches.append(Match(match.group, match.detector, match.kind, start, end, layer))
            except Exception as error:  # noqa: BLE001 - the policy's on_error decides; scan() hands the error on
                self.failures[name] = error

        return take

    def _begin(self, text: str, span: Span) -> int:
        return bisect_left(range(len(text)), self.start, key=lambda at: span(at, at + 1)[0])


def _always(region: tuple[int, int]) -> Span:
    return lambda _start, _end: region


def _find_custom(text: str, begin: int, custom: CustomDetector) -> Iterator[Match]:
    for start, end in custom.pattern.spans(text, begin):
        yield Match(Group.CUSTOM, "custom-" + custom.name, custom.kind, start, end)


def _settled(matches: Iterable[Match]) -> list[Match]:
    """Replaceable matches merged; of others, each detector's place once, in its strongest group."""
    replaceable: list[Match] = []
    others: dict[tuple[str, int, int], Match] = {}
    for match in sorted(matches, key=_rank):
        if match.group in _REPLACEABLE:
            replaceable.append(match)
        else:
            others.setdefault((match.detector, match.start, match.end), match)
    settled = resolve_overlaps(replaceable, _rank) + list(others.values())
    return sorted(settled, key=lambda match: match.start)


def _rank(match: Match) -> int:
    return _GROUP_RANK[match.group] * len(KINDS) + _KIND_RANK.get(match.kind, 0)
