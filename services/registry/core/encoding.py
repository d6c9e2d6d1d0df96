"""Prompts and arms as JSON text, and the digest that is a version's identity."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

from services.registry.core.json_text import canonical
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


def to_json(prompt: Prompt) -> str:
    """The whole content as canonical JSON.

    Fields at their default are left out, so that a field added to this program later does not change what older
    versions hash to.
    """
    return canonical(_sparse(prompt))


def digest_of(prompt: Prompt) -> str:
    """The identity of a content: "sha256:…" over what the model sees and how the mesh behaves.

    Counts: name, messages, variables with types, defaults and limits, output schema, model, parameters, guard policy.
    Does not count: author, date, description, the descriptions of variables, the order in which variables are declared.
    """
    variables = sorted(
        (replace(variable, description="") for variable in prompt.variables), key=lambda variable: variable.name
    )
    counted = replace(prompt, author="", description="", author_date="", variables=tuple(variables))
    return "sha256:" + hashlib.sha256(to_json(counted).encode()).hexdigest()


def from_json(text: str) -> Prompt:
    """The inverse of `to_json`."""
    raw: dict[str, Any] = json.loads(text)
    parameters = dict(raw.get("parameters", {}))
    if "stop" in parameters:
        parameters["stop"] = tuple(parameters["stop"])
    if "response_format" in parameters:
        parameters["response_format"] = ResponseFormat(**parameters["response_format"])
    if "tool_choice" in parameters:
        parameters["tool_choice"] = ToolChoice(**parameters["tool_choice"])
    raw["parameters"] = Parameters(**parameters)
    raw["messages"] = tuple(Message(Role(m["role"]), m["template"]) for m in raw["messages"])
    raw["variables"] = tuple(
        Variable(**{**v, "type": VariableType(v.get("type", VariableType.STRING))}) for v in raw.get("variables", ())
    )
    return Prompt(**raw)


def arms_to_json(arms: tuple[Arm, ...]) -> str:
    """Arms as JSON text, in order."""
    return json.dumps([[arm.name, str(arm.version), arm.weight_basis_points] for arm in arms])


def arms_from_json(text: str) -> tuple[Arm, ...]:
    """The inverse of `arms_to_json`."""
    arms = []
    for name, version_text, weight in json.loads(text):
        version = Version.parse(version_text)
        assert version is not None, "arms are written by arms_to_json"
        arms.append(Arm(name, version, weight))
    return tuple(arms)


def _sparse(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _sparse(getattr(value, field.name))
            for field in fields(value)
            if not _is_default(field, getattr(value, field.name))
        }
    if isinstance(value, tuple):
        return [_sparse(item) for item in value]
    return value


def _is_default(field: dataclasses.Field[Any], value: object) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return bool(value == field.default)
