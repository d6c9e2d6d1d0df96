from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.guard.core.findings import Group, MaskedValue, Match
from services.guard.core.masking import MAX_VALUE_BYTES, MAX_VALUES, TokenMap, mask, resolve_overlaps, restore

VALUES = st.text(min_size=1, max_size=40).filter(lambda value: "<" not in value)


def at(start: int, end: int, kind: str = "EMAIL", group: Group = Group.PII) -> Match:
    return Match(group, "d", kind, start, end)


def test_equal_values_share_a_token_and_taken_tokens_are_stepped_over() -> None:
    tokens = TokenMap(taken={"<EMAIL_1>", "<EMAIL_3>"})
    given_out = [tokens.token_for("EMAIL", value, restorable=True) for value in ("a", "b", "a", "c")]
    assert given_out == ["<EMAIL_2>", "<EMAIL_4>", "<EMAIL_2>", "<EMAIL_5>"]
    assert tokens.token_for("PHONE", "a", restorable=True) == "<PHONE_1>"
    assert [entry.token for entry in tokens.entries] == ["<EMAIL_2>", "<EMAIL_4>", "<EMAIL_5>", "<PHONE_1>"]


def test_what_cannot_be_restored_is_masked_all_the_same() -> None:
    tokens = TokenMap()
    assert tokens.token_for("JWT", "secret", restorable=False) == "<JWT_1>"
    assert not tokens.overflowed
    tokens.token_for("EMAIL", "x" * (MAX_VALUE_BYTES + 1), restorable=True)
    assert tokens.entries == ()
    assert tokens.overflowed
    full = TokenMap()
    for number in range(MAX_VALUES + 1):
        full.token_for("EMAIL", str(number), restorable=True)
    assert len(full.entries) == MAX_VALUES
    assert full.overflowed


@given(st.lists(st.tuples(st.text("ab <>_1EMAIL", max_size=8), VALUES), max_size=8), st.text(max_size=8))
def test_masking_and_restoring_is_the_identity(parts: list[tuple[str, str]], tail: str) -> None:
    text, matches = "", []
    for before, value in parts:
        text += before
        matches.append(at(len(text), len(text) + len(value)))
        text += value
    text += tail
    tokens = TokenMap(taken={f"<EMAIL_{n}>" for n in range(20) if f"<EMAIL_{n}>" in text})
    masked = mask(text, matches, lambda match, value: tokens.token_for(match.kind, value, restorable=True))
    assert restore(masked, {entry.token: entry.value for entry in tokens.entries}) == text


@given(
    values=st.dictionaries(st.from_regex(r"<[A-Z]{1,4}_[0-9]>", fullmatch=True), st.text(), max_size=4),
    escaped=st.booleans(),
)
def test_arguments_stay_json_and_mean_the_value(values: dict[str, str], *, escaped: bool) -> None:
    source = json.dumps({"to": list(values)})
    if escaped:
        source = source.replace("<", "\\u003c").replace(">", "\\u003E")
    assert json.loads(restore(source, values, json=True)) == {"to": list(values.values())}


def test_a_masked_number_becomes_a_string() -> None:
    source = '{"a":"\\"4111111111111111","b":4111111111111111}'
    matches = [at(8, 24, "CARD"), at(30, 46, "CARD")]
    masked = mask(source, matches, lambda match, _: f"<{match.kind}_1>", json=True)
    assert json.loads(masked) == {"a": '"<CARD_1>', "b": "<CARD_1>"}


def test_unknown_tokens_stay() -> None:
    assert restore("<EMAIL_9> <b> <EMAIL_1>", {"<EMAIL_1>": "x"}) == "<EMAIL_9> <b> x"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from(["CARD", "PHONE"])), max_size=10))
def test_overlaps_are_merged_without_losing_a_character(spans: list[tuple[int, int, str]]) -> None:
    matches = [at(start, start + size, kind) for start, size, kind in spans]
    merged = resolve_overlaps(matches, lambda match: 0 if match.kind == "CARD" else 1)
    assert all(left.end <= right.start for left, right in pairwise(merged))
    covered = {place for match in merged for place in range(match.start, match.end)}
    assert covered == {place for match in matches for place in range(match.start, match.end)}
    for match in merged:
        inside = [one for one in matches if match.start <= one.start < match.end]
        assert (match.kind == "CARD") == any(one.kind == "CARD" for one in inside)


def test_a_value_does_not_show_itself() -> None:
    assert "ann@corp.test" not in repr(MaskedValue("<EMAIL_1>", "ann@corp.test", "EMAIL"))
