"""Prompt injection and jailbreaks, in two strengths.

A *pattern* names the act itself, with its object: "ignore all previous instructions", "reveal your system prompt",
forged chat markup. A *hint* is a phrase that attacks use and honest text uses as well, such as "pretend you are" or
"developer mode". Over-defence is what users complain of most, so the two have separate actions. Words alone
("injection", "jailbreak", "ignore") are never enough. Measured precision and recall are in the service's README.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.guard.core.anchors import AnchorIndex
from services.guard.core.findings import Match
from services.guard.core.injection_rules import RULES, InjectionRule
from services.guard.core.shape import Shape

# No pattern reaches further than this before or behind its anchor.
_BEFORE_CHARS, _AFTER_CHARS = 240, 320


def _by_anchor() -> dict[str, list[tuple[int, InjectionRule]]]:
    rules: dict[str, list[tuple[int, InjectionRule]]] = {}
    for number, rule in enumerate(RULES):
        for anchor in rule.anchors:
            rules.setdefault(anchor, []).append((number, rule))
    return rules


_RULES_OF = _by_anchor()
_ANCHORS = AnchorIndex(_RULES_OF)


def find_injection(shape: Shape) -> Iterable[Match]:
    """The first match of each rule; one is enough to act on."""
    anchored = _ANCHORS.occurrences(shape.lower)
    return _matches(shape.lower, anchored) if anchored else ()


def _matches(lower: str, anchored: Iterable[tuple[str, int]]) -> Iterator[Match]:
    read_to = [0] * len(RULES)
    for anchor, position in anchored:
        for number, rule in _RULES_OF[anchor]:
            if position < read_to[number]:
                continue
            found = rule.search(lower, max(0, position - _BEFORE_CHARS), position + _AFTER_CHARS)
            if found is None:
                # The next anchor is read from the middle of this window on: a text is read at most a few times.
                read_to[number] = position + _AFTER_CHARS // 2
            else:
                read_to[number] = len(lower)
                yield Match(rule.group, rule.detector, "", found.start(), found.end())
