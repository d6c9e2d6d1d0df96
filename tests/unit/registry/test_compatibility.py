from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from meshkit import templates
from services.registry.adapters.templates import MeshTemplates
from services.registry.core.compatibility import breaking_changes, smallest_version
from services.registry.core.prompt import (
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
from services.registry.core.schema_compatibility import schema_breaks

DOCUMENT = Variable("document")
AUDIENCE = Variable("audience", required=False, default="a manager")
COUNT = Variable("count", VariableType.INTEGER)
FREE = Prompt("p", (Message(Role.USER, "x"),), (DOCUMENT, AUDIENCE, COUNT))
OPEN_SCHEMA = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}'
CLOSED_SCHEMA = '{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}'


def with_variables(*variables: Variable) -> Prompt:
    return replace(FREE, variables=variables)


def with_parameters(**parameters: Any) -> Prompt:
    return replace(FREE, parameters=Parameters(**parameters))


@pytest.mark.parametrize(
    ("new", "reasons"),
    [
        (FREE, []),
        (replace(FREE, messages=(Message(Role.SYSTEM, "y"),)), []),
        (replace(FREE, model="other", guard_policy="strict", author="b"), []),
        (with_parameters(temperature=1.0, max_output_tokens=5, stop=("x",)), []),
        (with_variables(DOCUMENT, AUDIENCE, COUNT, Variable("tone", required=False, default="calm")), []),
        (with_variables(DOCUMENT, replace(AUDIENCE, default="a child"), COUNT), []),
        (with_variables(COUNT, AUDIENCE, DOCUMENT), []),
        (with_variables(replace(DOCUMENT, required=False, default="none"), AUDIENCE, COUNT), []),
        (with_variables(DOCUMENT, AUDIENCE, replace(COUNT, type=VariableType.NUMBER)), []),
        (with_variables(DOCUMENT, AUDIENCE, replace(COUNT, type=VariableType.STRING)), []),
        (with_variables(replace(DOCUMENT, max_chars=1_000_000), AUDIENCE, COUNT), []),
        (with_variables(DOCUMENT, AUDIENCE), ["variable count was removed"]),
        (
            with_variables(DOCUMENT, AUDIENCE, COUNT, Variable("tone")),
            ["variable tone was added without a default"],
        ),
        (
            with_variables(DOCUMENT, Variable("audience"), COUNT),
            ["variable audience became required"],
        ),
        (
            with_variables(replace(DOCUMENT, type=VariableType.INTEGER), AUDIENCE, COUNT),
            ["variable document changed its type from string to integer"],
        ),
        (
            with_variables(replace(DOCUMENT, max_chars=999_999), AUDIENCE, COUNT),
            ["variable document takes shorter values"],
        ),
        (replace(FREE, output_json_schema=OPEN_SCHEMA), ["output: free text became JSON"]),
        (with_parameters(response_format=ResponseFormat("json_object")), ["the response format changed"]),
        (with_parameters(response_format=ResponseFormat("text")), []),
        (with_parameters(tool_choice=ToolChoice("required")), ["the tool choice changed"]),
    ],
)
def test_what_breaks_callers(new: Prompt, reasons: list[str]) -> None:
    assert breaking_changes(FREE, new) == reasons


def test_giving_up_a_schema_breaks() -> None:
    old = replace(FREE, output_json_schema=OPEN_SCHEMA)
    assert breaking_changes(old, FREE) == ["output: JSON became free text"]


@given(st.builds(Version, st.integers(0, 999_999), st.integers(0, 999_999)), st.booleans())
def test_the_smallest_version_is_higher_and_there_is_none_between(newest: Version, breaks: bool) -> None:  # noqa: FBT001
    smallest = smallest_version(newest, breaks)
    if smallest is None:
        assert newest.major == 999_999
        return
    assert smallest > newest
    assert smallest.minor == 0 or not breaks
    if not breaks and newest.minor < 999_999:
        assert smallest == Version(newest.major, newest.minor + 1)
    else:
        assert smallest == Version(newest.major + 1, 0)


VARIABLES = st.lists(
    st.builds(
        lambda name, kind, required, chars: Variable(
            name, kind, required, "" if required else {"boolean": "true"}.get(kind, "1"), chars
        ),
        st.sampled_from("abc"),
        st.sampled_from(VariableType),
        st.booleans(),
        st.sampled_from([0, 4, 5]),
    ),
    max_size=3,
    unique_by=lambda variable: variable.name,
)
VALUES = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "1.5", "true", "text", "12345"]))


def accepts(variables: list[Variable], values: dict[str, str]) -> bool:
    text = "".join(f"{{{{{variable.name}}}}}" for variable in variables) or "x"
    try:
        MeshTemplates().render(Prompt("p", (Message(Role.USER, text),), tuple(variables)), values)
    except templates.InvalidVariables:
        return False
    return True


@given(VARIABLES, VARIABLES, VALUES)
def test_a_minor_version_takes_every_request_that_the_old_one_took(
    old: list[Variable], new: list[Variable], values: dict[str, str]
) -> None:
    assume(accepts(old, values))
    if not breaking_changes(with_variables(*old), with_variables(*new)):
        assert accepts(new, values)


@pytest.mark.parametrize(
    ("old", "new", "breaks"),
    [
        (OPEN_SCHEMA, OPEN_SCHEMA, []),
        (OPEN_SCHEMA, '{"title":"t",' + OPEN_SCHEMA[1:], []),
        (
            OPEN_SCHEMA,
            '{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"required":["a","b"]}',
            [],
        ),
        (OPEN_SCHEMA, '{"type":"object","properties":{"a":{"enum":["x"],"type":"string"}},"required":["a"]}', []),
        (OPEN_SCHEMA, CLOSED_SCHEMA, ["output.a: it is no longer always there"]),
        (
            CLOSED_SCHEMA,
            '{"type":"object","properties":{"a":{"type":"string"},"b":{}},"additionalProperties":false}',
            ["output.b: it was added to an object that allowed no other fields"],
        ),
        (CLOSED_SCHEMA, '{"type":"object","additionalProperties":false}', []),
        (OPEN_SCHEMA, '{"type":"object","required":["a"]}', ["output.a: it was removed"]),
        (
            OPEN_SCHEMA,
            '{"type":"object","properties":{"a":{"type":["string","null"]}},"required":["a"]}',
            ["output.a: its type was widened"],
        ),
        (
            CLOSED_SCHEMA,
            '{"type":"object","properties":{"a":{"type":"string"}}}',
            ["output: it may have fields that it could not have before"],
        ),
        ('{"type":"array","items":{"type":"number"}}', '{"type":"array","items":{"type":"integer"}}', []),
        (
            '{"type":"array","items":{"type":"integer"}}',
            '{"type":"array"}',
            ["output[]: the schema changed"],
        ),
        ('{"enum":["a","b"]}', '{"enum":["b"]}', []),
        ('{"enum":[1]}', '{"const":true}', ["output: it may have values that it could not have before"]),
        ('{"minimum":1,"maxLength":5}', '{"minimum":2,"maxLength":4}', []),
        ('{"enum":["a","b"]}', '{"enum":["b","c"]}', ["output: it may have values that it could not have before"]),
        (
            CLOSED_SCHEMA,
            '{"type":"object","properties":{"a":{"type":"string"}},"patternProperties":{"b":{}},"additionalProperties":false}',
            ["output: the schema changed around a keyword that is not compared part by part"],
        ),
        (
            '{"additionalProperties":{"type":"string"}}',
            '{"properties":{"b":{"type":"null"}},"additionalProperties":{"type":"string"}}',
            ["output.b: its type was widened"],
        ),
        ('{"minimum":1}', '{"minimum":0}', ["output: minimum was loosened"]),
        ('{"maxItems":3}', "{}", ["output: maxItems was loosened"]),
        ('{"pattern":"a"}', '{"pattern":"b"}', ["output: pattern changed"]),
        (
            '{"enum":[{"title":1}]}',
            '{"enum":[{"title":2}]}',
            ["output: it may have values that it could not have before"],
        ),
        (
            '{"properties":{"title":{"type":"string"}}}',
            '{"properties":{"title":{"type":"integer"}}}',
            ["output.title: its type was widened"],
        ),
        (
            '{"$ref":"#/$defs/x","$defs":{"x":{"type":"string"}}}',
            '{"$ref":"#/$defs/x","$defs":{"x":{"type":"null"}}}',
            ["output: shared definitions changed"],
        ),
        (
            '{"contains":{"type":"string"}}',
            '{"contains":{"type":"string"},"minContains":0}',
            ["output: the schema changed around a keyword that is not compared part by part"],
        ),
    ],
)
def test_which_output_schemas_break_readers(old: str, new: str, breaks: list[str]) -> None:
    assert schema_breaks(old, new) == breaks


TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 2, 1.5, "", "x", "yy"])
INSTANCES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
            "enum": st.lists(SCALARS, min_size=1, max_size=3),
            "const": SCALARS,
            "minimum": st.integers(0, 2),
            "maximum": st.integers(0, 2),
            "maxLength": st.integers(0, 2),
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
            "items": inner,
            "minItems": st.integers(0, 2),
            "not": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=1),
            "title": st.just("t"),
        },
    )


SCHEMAS = schemas(schemas(st.fixed_dictionaries({}, optional={"type": TYPES, "enum": st.lists(SCALARS, min_size=1)})))


@st.composite
def edits(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that differs from another in a few keywords, here or one level down."""
    other = draw(SCHEMAS)
    edited = dict(schema)
    for keyword in sorted(schema.keys() | other.keys()):
        choice = draw(st.sampled_from(["keep", "keep", "keep", "take", "drop"]))
        if choice == "take" and keyword in other:
            edited[keyword] = other[keyword]
        elif choice == "drop":
            edited.pop(keyword, None)
    return edited


@settings(max_examples=150)
@given(st.data(), SCHEMAS)
def test_no_reported_break_means_that_old_readers_take_every_new_answer(
    data: st.DataObject, old: dict[str, Any]
) -> None:
    """Checked against a JSON Schema validator."""
    new = data.draw(edits(old))
    if schema_breaks(json.dumps(old), json.dumps(new)):
        return
    before, now = jsonschema_rs.validator_for(old), jsonschema_rs.validator_for(new)
    for instance in data.draw(st.lists(INSTANCES, max_size=8)):
        if now.is_valid(instance):
            assert before.is_valid(instance), (old, new, instance)
