from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.registry.core.errors import InvalidPrompt
from services.registry.core.prompt import Message, Parameters, ResponseFormat, Role, Variable
from tests.support.registry_world import LIMITS, a_prompt, checked


@pytest.mark.parametrize(
    ("changes", "violations"),
    [
        (
            {"messages": (), "variables": ()},
            {"messages": "has 0 entries; it must have 1 to 64"},
        ),
        (
            {"messages": (Message(Role.USER, "{{document}}"),) * 65},
            {"messages": "has 65 entries; it must have 1 to 64"},
        ),
        ({"author": "a\x00"}, {"author": "must not contain a NUL character"}),
        (
            {"messages": (Message(Role.USER, "\x00{{document}}"),)},
            {"messages[0].template": "must not contain a NUL character"},
        ),
        # Such a text cannot be sent: it would break every list and every watch that holds it.
        ({"author": "\ud800"}, {"author": "is not valid Unicode"}),
        (
            {"parameters": Parameters(stop=("end", "\ud800"), reasoning_effort="\udfff")},
            {"parameters.stop[1]": "is not valid Unicode", "parameters.reasoning_effort": "is not valid Unicode"},
        ),
        ({"parameters": Parameters(stop=("\x00",))}, {"parameters.stop[0]": "must not contain a NUL character"}),
        ({"output_json_schema": "[]"}, {"output_json_schema": "must be a JSON object"}),
        (
            {"parameters": Parameters(extra_json="1,")},
            {"parameters.extra_json": "is not JSON: Extra data at line 1, column 2"},
        ),
        (
            {"parameters": Parameters(response_format=ResponseFormat(json_schema="1"))},
            {"parameters.response_format.json_schema": "must be a JSON object"},
        ),
        (
            {"messages": (Message(Role.USER, "{{document}}{{x}}"),), "output_json_schema": "1"},
            {"messages[0].template": "uses x, which is not declared", "output_json_schema": "must be a JSON object"},
        ),
    ],
)
def test_everything_wrong_is_reported(changes: dict[str, Any], violations: dict[str, str]) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        checked(a_prompt(**changes))
    assert dict(caught.value.field_violations) == violations


def test_json_gets_one_spelling_and_keeps_the_order_of_its_fields() -> None:
    one = checked(a_prompt(output_json_schema='{ "type": "object",\n "properties": {"b": {}, "a": {}} }'))
    assert one.prompt.output_json_schema == '{"type":"object","properties":{"b":{},"a":{}}}'
    other = checked(a_prompt(output_json_schema='{"type":"object","properties":{"a":{},"b":{}}}'))
    assert one.digest != other.digest


def test_a_prompt_has_a_size() -> None:
    prompt = a_prompt("x" * 500 + "{{document}}")
    size = checked(prompt).size_bytes
    checked(prompt, replace(LIMITS, max_prompt_bytes=size))
    with pytest.raises(InvalidPrompt, match=f"of {size} bytes; the limit is {size - 1}"):
        checked(prompt, replace(LIMITS, max_prompt_bytes=size - 1))


def test_variables_are_limited_in_number() -> None:
    names = [f"v{n}" for n in range(129)]
    prompt = a_prompt("".join(f"{{{{{name}}}}}" for name in names), variables=tuple(Variable(name) for name in names))
    with pytest.raises(InvalidPrompt, match="variables has 129 entries"):
        checked(prompt)
