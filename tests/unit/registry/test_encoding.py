from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.core.encoding import arms_from_json, arms_to_json, digest_of, from_json, to_json
from services.registry.core.json_text import parse_object
from services.registry.core.prompt import (
    Arm,
    Message,
    Parameters,
    Prompt,
    ResponseFormat,
    Role,
    ToolChoice,
    Variable,
    VariableType,
    Version,
)

TEXT = st.text(max_size=8)
FLOATS = st.none() | st.floats(0, 2)
PROMPTS = st.builds(
    Prompt,
    name=TEXT,
    messages=st.lists(st.builds(Message, st.sampled_from(Role), TEXT), max_size=3).map(tuple),
    variables=st.lists(
        st.builds(Variable, TEXT, st.sampled_from(VariableType), st.booleans(), TEXT, st.integers(0, 9), TEXT),
        max_size=3,
    ).map(tuple),
    output_json_schema=TEXT,
    model=TEXT,
    parameters=st.builds(
        Parameters,
        FLOATS,
        FLOATS,
        st.none() | st.integers(1, 9),
        st.lists(TEXT, max_size=2).map(tuple),
        st.none() | st.integers(0, 2),
        FLOATS,
        FLOATS,
        st.none() | st.builds(ResponseFormat, TEXT, TEXT, TEXT, st.none() | st.booleans()),
        st.none() | st.builds(ToolChoice, TEXT, TEXT),
        st.none() | st.booleans(),
        TEXT,
        TEXT,
    ),
    guard_policy=TEXT,
    author=TEXT,
    description=TEXT,
    author_date=TEXT,
)
BASE = Prompt("p", (Message(Role.USER, "{{a}}{{b}}"),), (Variable("a"), Variable("b", description="x")))


@given(PROMPTS)
def test_a_prompt_reads_back_from_its_json(prompt: Prompt) -> None:
    assert from_json(to_json(prompt)) == prompt


@given(PROMPTS, PROMPTS)
def test_different_content_has_different_json(one: Prompt, other: Prompt) -> None:
    assert (to_json(one) == to_json(other)) == (one == other)


@given(st.lists(st.builds(Arm, TEXT, st.builds(Version, st.integers(0, 9), st.integers(0, 9)), st.integers(0, 9))))
def test_arms_read_back(arms: list[Arm]) -> None:
    assert arms_from_json(arms_to_json(tuple(arms))) == tuple(arms)


def test_the_digest_of_a_known_prompt_never_changes() -> None:
    """A change here would give every published prompt another identity."""
    assert digest_of(BASE) == "sha256:2379871c14721b287d0e9ad432cf139e6e3f344c3fc0ac840283414f6ca92fbd"


@pytest.mark.parametrize(
    "same",
    [
        replace(BASE, author="x", description="y", author_date="2026-01-01"),
        replace(BASE, variables=(Variable("a", description="z"), Variable("b"))),
        replace(BASE, variables=(Variable("b"), Variable("a"))),
    ],
)
def test_what_does_not_count_for_the_digest(same: Prompt) -> None:
    assert digest_of(same) == digest_of(BASE)


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, name="q"),
        replace(BASE, messages=(Message(Role.SYSTEM, "{{a}}{{b}}"),)),
        replace(BASE, messages=(Message(Role.USER, "{{a}} {{b}}"),)),
        replace(BASE, variables=(Variable("a", max_chars=1), Variable("b"))),
        replace(BASE, output_json_schema="{}"),
        replace(BASE, model="m"),
        replace(BASE, guard_policy="strict"),
        replace(BASE, parameters=Parameters(temperature=0.0)),
        replace(BASE, parameters=Parameters(seed=0)),
        replace(BASE, parameters=Parameters(parallel_tool_calls=False)),
    ],
)
def test_what_counts_for_the_digest(other: Prompt) -> None:
    assert digest_of(other) != digest_of(BASE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"a":1,"a":2}', "duplicate key"),
        ('{"a":NaN}', "NaN or Infinity"),
        ('{"a":' * 65 + "1" + "}" * 65, "deeper than 64"),
        ('{"a":' + "[" * 50_000 + "]" * 50_000 + "}", "deeper than 64"),
        ("{'a':1}", "is not JSON: .* at line 1, column 2"),
    ],
)
def test_json_is_read_strictly(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_object(text)


def test_json_of_the_greatest_depth_is_read() -> None:
    assert parse_object('{"a":' * 63 + "{}" + "}" * 63)
