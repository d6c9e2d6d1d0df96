"""Whether a condition on a candidate holds for a call: yes, no and why, or not known yet."""

from __future__ import annotations

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
    found = _objections(condition, facts, classes)
    if not found:
        return HOLDS
    return next((finding for finding in found if finding.holds is False), found[0])


def _objections(condition: Condition, facts: Facts, classes: tuple[str, ...]) -> list[Finding]:
    """Every part that does not hold, or of which that is not known."""
    origin, found = facts.origin, []
    if condition.organisations and origin.organisation not in condition.organisations:
        found.append(_other("organisation", condition.organisations))
    if condition.features and origin.feature not in condition.features:
        found.append(_other("feature", condition.features))
    if condition.data_classes and condition.data_classes.isdisjoint(classes):
        found.append(_other("data-class", condition.data_classes))
    if condition.tools is not None and condition.tools != facts.needs.tools:
        wanted = "with" if condition.tools else "without"
        found.append(Finding(False, f"only-{wanted}-tools", f"for calls {wanted} tools"))
    if (condition.min_input_tokens or condition.max_input_tokens) and (size := _size(condition, facts)) is not HOLDS:
        found.append(size)
    if condition.languages and condition.languages.isdisjoint(known := origin.languages()):
        found.append(_other("language", condition.languages) if known else _open("language", condition.languages))
    if condition.bands and (band := _band(condition.bands, facts)) is not HOLDS:
        found.append(band)
    return found


def _other(what: str, wanted: frozenset[str]) -> Finding:
    return Finding(False, f"other-{what}", f"for {what} {_listed(wanted)}")


def _open(what: str, wanted: frozenset[str]) -> Finding:
    return Finding(None, f"other-{what}", f"for {what} {_listed(wanted)}, which is not known")


def _band(wanted: frozenset[str], facts: Facts) -> Finding:
    """The text of the question is a part of the score, and nobody has it before the call.

    At the call itself a band that could not be judged is the complex one.
    """
    if not facts.final:
        return _open("band", wanted)
    return HOLDS if facts.band() in wanted else _other("band", wanted)


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
