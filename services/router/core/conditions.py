"""Whether a condition on a candidate holds for a call: yes, no and why, or not known yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.router.core.catalogue import Condition
from services.router.core.facts import Facts

# Before the call, its tokens were counted by somebody else and before masking: by the router's own estimate they may be
# so many times more or fewer, and short texts so many more or fewer besides.
SIZE_MARGIN = 2
SIZE_MARGIN_TOKENS = 64


def least_tokens(facts: Facts) -> int:
    """How few input tokens the call may turn out to have by the router's own estimate; 0 when nobody counted."""
    tokens = facts.needs.input_tokens
    return tokens if facts.final else max(tokens - SIZE_MARGIN_TOKENS, 0) // SIZE_MARGIN


def most_tokens(facts: Facts) -> int:
    """How many input tokens the call may turn out to have; of no meaning when nobody counted."""
    tokens = facts.needs.input_tokens
    return tokens if facts.final else tokens * SIZE_MARGIN + SIZE_MARGIN_TOKENS


@dataclass(frozen=True, slots=True)
class Finding:
    """`holds` None: not known. `reason` is kebab-case, empty when it holds; `detail` a clause with what was asked."""

    holds: bool | None
    reason: str = ""
    detail: str = ""


HOLDS = Finding(True)


def check(condition: Condition, facts: Facts, classes: tuple[str, ...]) -> Finding:
    """The first part that does not hold; else the first that is not known. `classes` are the data's, as resolved."""
    unknown: Finding | None = None
    for finding in _parts(condition, facts, classes):
        if finding.holds is False:
            return finding
        if finding.holds is None and unknown is None:
            unknown = finding
    return unknown or HOLDS


def _parts(condition: Condition, facts: Facts, classes: tuple[str, ...]) -> Iterable[Finding]:
    origin = facts.origin
    if condition.organisations:
        yield _member(condition.organisations, (origin.organisation,), "organisation")
    if condition.features:
        yield _member(condition.features, (origin.feature,), "feature")
    if condition.data_classes:
        yield _member(condition.data_classes, classes, "data-class")
    if condition.tools is not None and condition.tools != facts.needs.tools:
        wanted = "with" if condition.tools else "without"
        yield Finding(False, f"only-{wanted}-tools", f"for calls {wanted} tools")
    if condition.min_input_tokens or condition.max_input_tokens:
        yield _size(condition, facts)
    if condition.languages:
        known = origin.languages()
        yield _member(condition.languages, known, "language") if known else _open("language", condition.languages)
    if condition.bands:
        # The text of the question is a part of the score, and nobody has it before the call.
        judged = facts.final and facts.complexity is not None
        yield _member(condition.bands, (facts.band(),), "band") if judged else _band_not_judged(condition, facts)


def _member(wanted: frozenset[str], found: Iterable[str], what: str) -> Finding:
    if not wanted.isdisjoint(found):
        return HOLDS
    return Finding(False, f"other-{what}", f"for {what} {_listed(wanted)}")


def _open(what: str, wanted: frozenset[str]) -> Finding:
    return Finding(None, f"other-{what}", f"for {what} {_listed(wanted)}, which is not known")


def _band_not_judged(condition: Condition, facts: Facts) -> Finding:
    """At the call itself a band that could not be judged is the complex one."""
    if facts.final:
        return _member(condition.bands, (facts.band(),), "band")
    return _open("band", condition.bands)


def _size(condition: Condition, facts: Facts) -> Finding:
    tokens, low, high = facts.needs.input_tokens, condition.min_input_tokens, condition.max_input_tokens
    least, most = least_tokens(facts), most_tokens(facts)
    if tokens and least >= low and (not high or most <= high):
        return HOLDS
    bounds = f"{low} input tokens or more" if not high else f"{low} to {high} input tokens"
    if not tokens:
        return Finding(None, "other-size", f"for {bounds}, which are not known")
    impossible = most < low or 0 < high < least
    return Finding(False if impossible else None, "other-size", f"for {bounds}; these are about {tokens}")


def _listed(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))
