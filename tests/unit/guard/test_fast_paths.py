"""Short cuts of the guard give what the long way gives."""

from __future__ import annotations

import asyncio
import re
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.guard.adapters.memory import (
    InlineExecutor,
    MemoryEncoder,
    MemoryObserver,
    MemoryPatternEngine,
    MemorySchemaCompiler,
)
from services.guard.core.active_policy import PolicyBook
from services.guard.core.anchors import AnchorIndex
from services.guard.core.conversation import Message, Trust
from services.guard.core.guard import Guard, GuardLimits
from services.guard.core.injection_rules import RULES, InjectionRule
from services.guard.core.phones import _EXTENSION_CHARS, _FRENCH, _FRENCH_AHEAD_CHARS, _LONG, _NANP, _PLUS
from services.guard.core.pii import _CARD, _LOOK_AHEAD_CHARS, _SSN, _SSN_BARE, find_pii
from services.guard.core.policy import DEFAULT, LayerRules
from services.guard.core.scan import LayerBudget, ScanPlan, is_blank, scan
from services.guard.core.secrets import find_secrets
from services.guard.core.shape import Shape

PHRASES = sorted({anchor for rule in RULES for anchor in rule.anchors})
WORDS = sorted({word for rule in RULES for word in (*rule.anchors, *rule.also, *rule.leads)})
# Phrases, what stands between them, and characters beyond ASCII and Latin-1.
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(WORDS),
        st.sampled_from([" ", "  ", " the ", "previous ", "rules", "your ", "\n", ".", "x", "é", "日", "ignorepre"]),
    ),
    max_size=40,
).map("".join)
NUMBERS = st.lists(
    st.sampled_from(
        [
            "06 12 34 56 78",
            "415-555-2671",
            "4111 1111 1111 1111",
            "4111",
            "555",
            "2671",
            "04",
            "1",
            "0",
            "123-45-6789",
            "(415)",
            "x12",
            "+",
            " ",
            "-",
            ".",
            "/",
            "a",
            "日",
            "tel ",
        ]
    ),
    max_size=30,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_every_phrase_is_found_where_it_stands(text: str) -> None:
    expected = sorted((phrase, at) for phrase in PHRASES for at in range(len(text)) if text.startswith(phrase, at))

    assert sorted(AnchorIndex(PHRASES).occurrences(text)) == expected


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.anchors[0])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_a_pattern_matches_meets_the_rules_conditions(rule: InjectionRule, data: st.DataObject) -> None:
    match = data.draw(st.from_regex(rule.pattern, fullmatch=True))
    text = data.draw(TEXTS) + " " + match + " " + data.draw(TEXTS)

    for first, end in ((0, len(text)), (3, max(3, len(text) - 5))):
        assert _span(rule.search(text, first, end)) == _span(rule.pattern.search(text, first, end))


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.leads], ids=lambda rule: rule.anchors[0])
def test_every_beginning_of_a_match_is_among_the_leads(rule: InjectionRule) -> None:
    beginnings = _beginnings(list(import_module("re._parser").parse(rule.pattern.pattern)))

    assert [text for text in beginnings if not text.startswith(rule.leads)] == []


def _beginnings(items: list[Any]) -> set[str]:
    """The literal texts that a parsed pattern's matches can begin with, up to the first character that may vary."""
    if not items:
        return {""}
    (op, argument), rest = items[0], items[1:]
    name = str(op)
    if name == "LITERAL":
        return {chr(argument) + text for text in _beginnings(rest)}
    if name == "BRANCH":
        return {text for branch in argument[1] for text in _beginnings([*branch, *rest])}
    if name == "SUBPATTERN":
        return _beginnings([*argument[3], *rest])
    if name == "MAX_REPEAT":
        least, _, repeated = argument
        once = _beginnings([*repeated, *(rest if least == 1 else ())])
        return once if least else once | _beginnings(rest)
    return _beginnings(rest) if name == "AT" else {""}


def _span(match: re.Match[str] | None) -> tuple[int, int] | None:
    return None if match is None else match.span()


@pytest.mark.parametrize(
    ("pattern", "before", "behind"),
    [
        (_CARD, 0, _LOOK_AHEAD_CHARS),
        (_SSN, 0, _LOOK_AHEAD_CHARS),
        (_SSN_BARE, 0, _LOOK_AHEAD_CHARS),
        (_NANP, 1, _EXTENSION_CHARS),
        (_FRENCH, 0, _FRENCH_AHEAD_CHARS),
    ],
    ids=["card", "ssn", "ssn-bare", "nanp", "french"],
)
@settings(max_examples=400, deadline=None)
@given(text=NUMBERS)
def test_numbers_are_found_without_reading_the_rest(
    pattern: re.Pattern[str], before: int, behind: int, text: str
) -> None:
    found = [match.span() for match in Shape(text).numbers(pattern, before, behind)]

    assert found == [match.span() for match in pattern.finditer(text)]


@settings(max_examples=300, deadline=None)
@given(NUMBERS)
def test_numbers_of_seven_digits_are_where_long_numbers_are(text: str) -> None:
    shape = Shape(text)
    found = [match.span() for pattern, before in ((_LONG, 0), (_PLUS, 1)) for match in shape.numbers(pattern, before)]
    everywhere = [match for pattern in (_LONG, _PLUS) for match in pattern.finditer(text)]

    assert set(found) <= {match.span() for match in everywhere}
    assert {match.span() for match in everywhere if sum(map(str.isdigit, match.group())) >= 7} <= set(found)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="ab1 @%.:/-+=AKéx", max_size=60), st.sampled_from(["", "PRIVATE KEY", "a" * 24, "%41%42"]))
def test_a_blank_text_is_one_in_which_nothing_is_found(text: str, more: str) -> None:
    plan = ScanPlan(layers=LayerRules(max_regions=8))
    budget = LayerBudget(8)
    result = scan(text + more, plan, budget)
    if is_blank(text + more, plan):
        assert not result.matches
        assert not result.normalisations
        assert not budget.exceeded
        assert budget.left == 8


@given(st.text(alphabet=st.characters(exclude_characters="0123456789@"), max_size=80))
def test_nothing_is_looked_for_without_a_digit_or_an_at_sign(text: str) -> None:
    shape = Shape(text)

    assert shape.has_digit == any("0" <= char <= "9" for char in text)
    assert not list(find_pii(shape, ScanPlan().pii_kinds))
    assert all(match.end > match.start for match in find_secrets(shape))
    assert len(shape.data) == len(shape.folded) == len(shape.runs) == len(text)


class Counting(MemoryEncoder):
    """A MemoryEncoder that notes what it was asked to count."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[str] = []

    def count_tokens(self, text: str) -> int:
        self.counted.append(text)
        return super().count_tokens(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["user", "system"]), st.text("ab \n@", max_size=20)), min_size=1, max_size=4))
def test_what_was_encoded_is_not_counted_again(conversation: list[tuple[str, str]]) -> None:
    messages = [Message(Trust.TRUSTED, (text,), (), role == "user") for role, text in conversation]
    questions = [text for role, text in conversation if role == "user"]
    encoder = Counting()
    guard = Guard(
        PolicyBook({"default": DEFAULT}, MemoryPatternEngine()),
        MemorySchemaCompiler(),
        InlineExecutor(),
        MemoryObserver(),
        GuardLimits(),
        encoder,
    )
    checked = asyncio.run(guard.check_input("", messages, (), embed=True))
    others = [text for _, text in conversation]
    if questions and questions[-1]:
        others.pop(max(place for place, (role, _) in enumerate(conversation) if role == "user"))

    assert checked.estimated_input_tokens == sum(len(text.split()) for _, text in conversation)
    assert encoder.counted == (["\n".join(others)] if others else [])
