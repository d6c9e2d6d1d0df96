from __future__ import annotations

import re
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.templates import (
    CompiledPrompt,
    InvalidTemplate,
    InvalidVariables,
    Variable,
    VariableType,
    compile_prompt,
    parse,
)

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


def compiled(text: str, *variables: Variable) -> CompiledPrompt:
    return compile_prompt([text], variables)


def render(text: str, **values: str) -> str:
    return compiled(text, *(Variable(name) for name in values)).render(values)[0]


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{a}}", "A"),
        ("{{ a }}", "A"),
        ("{{                a                }}", "A"),
        ("x{{a}}y{{a}}z", "xAyAz"),
        ('{"k": {"n": "{{a}}"}}', '{"k": {"n": "A"}}'),
        ("{ {{a}} }", "{ A }"),
        ("{{a}}}", "A}"),
        ("{{{{a}}{{a}}", "{{a}}A"),
        ("{{{{{{a}}", "{{A"),
        ("{{{{{{{{{{a}}", "{{{{A"),
        ("}}}} {{a}}", "}}}} A"),
        ("{{a}}\n{ }", "A\n{ }"),
    ],
)
def test_holes_are_filled_and_everything_else_is_literal(text: str, rendered: str) -> None:
    assert render(text, a="A") == rendered


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{{", "line 1, column 1"),
        ("ok\n  {{ a b }}", "line 2, column 3"),
        ("{{{a}}}", "line 1, column 1"),
        ("{{a.b}}", "line 1, column 1"),
        ("{{#if a}}", "line 1, column 1"),
        ("{{1a}}", "line 1, column 1"),
        ("{{}}", "line 1, column 1"),
        ("{{a\n}}", "line 1, column 1"),
        ("{{" + " " * 17 + "a}}", "line 1, column 1"),
        ("{{" + "a" * 65 + "}}", "line 1, column 1"),
        ("{{é}}", "line 1, column 1"),
    ],
)
def test_a_brace_pair_that_opens_no_hole_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        parse(text)
    assert [field for field, _ in caught.value.field_violations] == ["template"]
    assert caught.value.field_violations[0][1].startswith(place)


def test_three_braces_are_one_mistake() -> None:
    with pytest.raises(InvalidTemplate) as caught:
        parse("{{{ a")
    assert len(caught.value.field_violations) == 1


def test_every_stray_brace_pair_is_reported_up_to_sixteen() -> None:
    with pytest.raises(InvalidTemplate) as caught:
        parse("{{ \n" * 40)
    assert len(caught.value.field_violations) == 16


@given(st.text(alphabet="{} ab\n", max_size=60))
def test_parsing_agrees_with_a_naive_reading(text: str) -> None:
    """The oracle rewrites from the left with the three rules as they are documented."""
    expected: str | None = ""
    rest = text
    while rest and expected is not None:
        if rest.startswith("{{{{"):
            expected, rest = expected + "{{", rest[4:]
        elif match := re.match(r"\{\{ *(\w+) *\}\}", rest):
            expected, rest = expected + f"<{match[1]}>", rest[match.end() :]
        elif rest.startswith("{{"):
            expected = None
        else:
            expected, rest = expected + rest[0], rest[1:]
    if expected is None:
        with pytest.raises(InvalidTemplate):
            parse(text)
    else:
        template = parse(text)
        assert template.fill({name: f"<{name}>" for name in template.holes}) == expected


@given(st.text(max_size=200))
def test_any_text_can_be_written_as_a_template(text: str) -> None:
    """By doubling every pair of opening braces."""
    escaped = text.replace("{{", "{{{{")
    assert parse(escaped).fill({}) == text


@given(st.text(max_size=50), st.text(max_size=50))
def test_values_are_never_scanned_for_holes(value: str, other: str) -> None:
    hostile = "{{b}}{{{{a}}}}{{ a }}" + value
    prompt = compiled("{{a}}|{{b}}|{{a}}", Variable("a"), Variable("b"))
    assert prompt.render({"a": hostile, "b": other}) == [f"{hostile}|{other}|{hostile}"]


def test_a_value_that_looks_like_a_secret_hole_stays_text() -> None:
    prompt = compiled("{{secret}} {{user}}", Variable("secret"), Variable("user"))
    assert prompt.render({"secret": "s3", "user": "{{secret}}"}) == ["s3 {{secret}}"]


def test_missing_unknown_and_mistyped_variables_are_reported_at_once() -> None:
    prompt = compiled(
        "{{document}}{{count}}{{strict}}{{share}}",
        Variable("document"),
        Variable("count", VariableType.INTEGER),
        Variable("strict", VariableType.BOOLEAN),
        Variable("share", VariableType.NUMBER, max_chars=3),
    )
    with pytest.raises(InvalidVariables) as caught:
        prompt.render({"documnet": "x", "count": "five", "strict": "True", "share": "0.25"})
    assert caught.value.field_violations == [
        ("variables.documnet", "is not a variable of this prompt; did you mean document?"),
        ("variables.document", "is missing"),
        ("variables.count", "must be a whole number such as 42"),
        ("variables.strict", "must be true or false"),
        ("variables.share", "has 4 characters; the limit is 3"),
    ]
    assert (caught.value.status, caught.value.reason) == ("INVALID_ARGUMENT", "PROMPT_VARIABLES")


def test_errors_repeat_neither_values_nor_names_that_are_no_names() -> None:
    prompt = compiled("{{n}}", Variable("n", VariableType.INTEGER))
    with pytest.raises(InvalidVariables) as caught:
        prompt.render({"n": "my secret", "another secret": "x"})
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.field_violations)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            VariableType.INTEGER,
            ["0", "-0", "42", "-7", "9" * 400],
            ["", "+1", "01", "1.0", "1e3", " 1", "1\n", "١", "0x1"],
        ),
        (
            VariableType.NUMBER,
            ["0", "-1.5", "1e3", "2.5E-10", "7"],
            ["", ".5", "1.", "NaN", "Infinity", "1e", "1,5", "1.5\n"],
        ),
        (VariableType.BOOLEAN, ["true", "false"], ["", "True", "yes", "1", "true "]),
        (VariableType.STRING, ["", "x", "{{x}}", "é\x00"], ["\ud800"]),
    ],
)
def test_values_are_read_by_the_grammar_of_json(kind: VariableType, good: list[str], bad: list[str]) -> None:
    prompt = compiled("{{v}}", Variable("v", kind))
    for value in good:
        assert prompt.render({"v": value}) == [value]
    for value in bad:
        with pytest.raises(InvalidVariables):
            prompt.render({"v": value})


def test_defaults_fill_what_is_not_given_and_an_empty_value_is_given() -> None:
    prompt = compiled("{{a}}", Variable("a", required=False, default="busy"))
    assert prompt.render({}) == ["busy"]
    assert prompt.render({"a": ""}) == [""]


def test_declarations_and_holes_must_agree() -> None:
    with pytest.raises(InvalidTemplate) as caught:
        compile_prompt(
            ["{{document}}", "{{audience}}{{typ"],
            [Variable("documents"), Variable("1"), Variable("documents")],
        )
    assert [field for field, _ in caught.value.field_violations] == [
        "messages[1].template",
        "variables[1].name",
        "variables[2].name",
    ]
    with pytest.raises(InvalidTemplate) as caught:
        compile_prompt(["{{document}}", "{{audience}}"], [Variable("documents"), Variable("audience")])
    assert caught.value.field_violations == [
        ("variables[0]", "fills no hole; use documents or remove it"),
        ("messages[0].template", "uses document, which is not declared; did you mean documents?"),
    ]
    assert (caught.value.status, caught.value.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        (Variable("a", required=False), "must be set, or the variable marked as required"),
        (Variable("a", default="x"), "would never be used: the variable is required"),
        (Variable("a", VariableType.INTEGER, required=False, default="x"), "must be a whole number such as 42"),
        (Variable("a", required=False, default="xyz", max_chars=2), "has 3 characters; the limit is 2"),
    ],
)
def test_defaults_must_make_sense(variable: Variable, problem: str) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        compiled("{{a}}", variable)
    assert caught.value.field_violations == [("variables[0].default_value", problem)]


def test_sizes_are_bounded() -> None:
    with pytest.raises(InvalidTemplate, match="has 262145 bytes; the limit is 262144"):
        compiled("x" * 262_145)
    with pytest.raises(InvalidTemplate, match="must not be empty"):
        compiled("")
    with pytest.raises(InvalidTemplate, match="not valid Unicode"):
        compiled("\ud800")
    with pytest.raises(InvalidVariables, match="has 1000001 characters; the limit is 1000000"):
        compiled("{{a}}", Variable("a")).render({"a": "x" * 1_000_001})


def test_the_result_is_bounded_in_bytes_before_it_is_built() -> None:
    prompt = compile_prompt(["é{{a}}", "{{a}}{{b}}"], [Variable("a"), Variable("b")])
    assert prompt.render({"a": "ü", "b": "x"}, max_result_bytes=7) == ["éü", "üx"]
    with pytest.raises(InvalidVariables, match="of 8 bytes; the limit is 7"):
        prompt.render({"a": "ü", "b": "xx"}, max_result_bytes=7)
    bomb = compiled("{{a}}" * 50_000, Variable("a"))
    with pytest.raises(InvalidVariables, match="of 50000000000 bytes"):
        bomb.render({"a": "x" * 1_000_000})


@given(st.dictionaries(NAMES, st.text(alphabet="{}ab ", max_size=10), min_size=1, max_size=5))
def test_rendering_equals_joining(values: dict[str, str]) -> None:
    text = " ".join(f"{{{{{name}}}}}" for name in values)
    assert render(text, **values) == " ".join(values.values())


HOSTILE = ["{{", "{{{{", "{{{", "{{ ", "{", "}}", "{{a", "{{a}}", "{{ " + " " * 16, "{{" + "a" * 64 + " ", "\n{{"]


@pytest.mark.parametrize("unit", HOSTILE)
def test_parsing_takes_steps_in_proportion_to_the_length(unit: str) -> None:
    """Lines that run are counted, not seconds; the regular expression looks at 100 characters at most."""
    once, twice = (_lines_run(unit * count) for count in (500, 1_000))
    assert once < 500 * 12 + 400
    assert twice < 2 * once + 400


def _lines_run(text: str) -> int:
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_globals.get("__name__") != "meshkit.templates":
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parse(text)
    except InvalidTemplate:
        pass
    finally:
        sys.settrace(before)
    return count
