"""Reads `<name>/v<major>.<minor>.yaml`: one immutable version of a prompt. README.md describes every key."""

from __future__ import annotations

import math
import re
from datetime import date, datetime
from typing import cast

from services.registry.core.document import FileProblem, Section, nearest
from services.registry.core.json_text import compact
from services.registry.core.prompt import (
    Message,
    Parameters,
    Prompt,
    ResponseFormat,
    Role,
    ToolChoice,
    Variable,
    VariableType,
)
from services.registry.core.validation import MAX_MESSAGES, MAX_VARIABLES

# The limits of registry.proto and chat.proto, which a file does not pass through.
_MAX_TEMPLATE = 262_144
_MAX_TOKENS = 10_000_000
_FORMATS = ("text", "json_object")
_MODES = ("auto", "none", "required")


def read_prompt(value: object, name: str) -> Prompt:
    """The prompt in a parsed file.

    Args:
        value: what the YAML says.
        name: the folder's name, which is the prompt's.

    Raises:
        FileProblem: the first mistake, with its key.
    """
    file = Section(value)
    for key, source in (("name", "folder"), ("version", "file name")):
        if file.has(key):
            raise FileProblem(f"{key} is not a key of this file: the {source} says it; remove the line")
    prompt = Prompt(
        name=name,
        description=file.text("description", max_chars=16_384),
        author=file.text("author", max_chars=256),
        author_date=_date(file),
        model=file.text("model", max_chars=256),
        messages=_messages(file),
        variables=_variables(file.section("variables")),
        output_json_schema=_json_object(file, "output_schema"),
        guard_policy=file.text("guard_policy", max_chars=128),
        parameters=_parameters(file),
    )
    file.done()
    return prompt


def file_key(field: str, prompt: Prompt, *, one_template: bool) -> str:
    """The file's key for a field of the contract: "messages[0].template" is "template" or "template[0].content"."""
    if match := re.match(r"messages\[(\d+)\]", field):
        return "template" if one_template else f"template[{match[1]}].content"
    if match := re.match(r"variables\[(\d+)\](\.\w+)?", field):
        key = (match[2] or "").replace(".default_value", ".default")
        return f"variables.{prompt.variables[int(match[1])].name}{key}"
    return {"messages": "template", "output_json_schema": "output_schema"}.get(field, field)


def _date(file: Section) -> str:
    value = file.take("date")
    if value is None:
        return ""
    if isinstance(value, date | datetime):  # YAML reads an unquoted 2026-11-23 as a date
        return value.isoformat()[:32]
    try:
        return date.fromisoformat(value).isoformat() if isinstance(value, str) else _refuse_date()
    except ValueError:
        return _refuse_date()


def _refuse_date() -> str:
    raise FileProblem("date must read 2026-11-23")


def _messages(file: Section) -> tuple[Message, ...]:
    value = file.take("template")
    if isinstance(value, str):
        return (Message(Role.USER, _template(value, "template")),)
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        raise FileProblem(f"template must be text, or a list of 1 to {MAX_MESSAGES} entries with role and content")
    messages = []
    for index, item in enumerate(value):
        entry = Section(item, f"template[{index}]")
        role = _one_of(entry, "role", tuple(Role))
        content = entry.take("content")
        entry.done()
        if not role:
            raise FileProblem(f"{entry.where('role')} is missing; it can be {', '.join(Role)}")
        messages.append(Message(Role(role), _template(content, entry.where("content"))))
    return tuple(messages)


def _template(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise FileProblem(f"{where} must be text that is not empty")
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > _MAX_TEMPLATE:
        raise FileProblem(f"{where} has {size} bytes; the limit is {_MAX_TEMPLATE}")
    return value


def _variables(section: Section | None) -> tuple[Variable, ...]:
    if section is None:
        return ()
    variables = [_variable(name, entry) for name, entry in section.sections()]
    if len(variables) > MAX_VARIABLES:
        raise FileProblem(f"variables has {len(variables)} entries; the limit is {MAX_VARIABLES}")
    return tuple(variables)


def _variable(name: str, entry: Section) -> Variable:
    kind = VariableType(_one_of(entry, "type", tuple(VariableType)) or "string")
    default = _default(entry, kind)
    required = entry.boolean("required")
    variable = Variable(
        name=name,
        type=kind,
        required=not default if required is None else required,
        default=default,
        max_chars=entry.integer("max_chars", least=1, most=4_194_304) or 0,
        description=entry.text("description", max_chars=4_096),
    )
    entry.done()
    return variable


def _default(entry: Section, kind: VariableType) -> str:
    """A default as text; the YAML value must have the variable's own type."""
    value = entry.take("default")
    if value is None:
        return ""
    legal = {
        VariableType.STRING: isinstance(value, str) and value != "",
        VariableType.BOOLEAN: isinstance(value, bool),
        VariableType.INTEGER: isinstance(value, int) and not isinstance(value, bool),
        VariableType.NUMBER: isinstance(value, int | float) and not isinstance(value, bool),
    }
    if not legal[kind]:
        hint = "in quotes and not empty" if kind is VariableType.STRING else "without quotes"
        raise FileProblem(f"{entry.where('default')} must be of type {kind}, {hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise FileProblem(f"{entry.where('default')} must be a finite number")
    return value if isinstance(value, str) else compact(value)


def _parameters(file: Section) -> Parameters:
    temperature = file.number("temperature", least=0, most=2)
    max_output_tokens = file.integer("max_tokens", least=1, most=_MAX_TOKENS)
    more = file.section("parameters") or Section({}, "parameters")
    for key, home in (
        ("temperature", "temperature"),
        ("max_tokens", "max_tokens"),
        ("max_output_tokens", "max_tokens"),
    ):
        if more.has(key):
            raise FileProblem(f"{more.where(key)} belongs at the top of the file, as {home}")
    answer = _one_of(more, "response_format", _FORMATS)
    parameters = Parameters(
        temperature=temperature,
        max_output_tokens=max_output_tokens,
        top_p=more.number("top_p", least=0, most=1),
        stop=more.texts("stop", most=16, max_chars=1_024),
        seed=more.integer("seed", least=-(2**63), most=2**63 - 1),
        presence_penalty=more.number("presence_penalty", least=-2, most=2),
        frequency_penalty=more.number("frequency_penalty", least=-2, most=2),
        response_format=ResponseFormat(type=answer) if answer else None,
        tool_choice=_tool_choice(more),
        parallel_tool_calls=more.boolean("parallel_tool_calls"),
        reasoning_effort=more.text("reasoning_effort", max_chars=32),
        extra_json=_json_object(more, "extra"),
    )
    more.done()
    return parameters


def _tool_choice(section: Section) -> ToolChoice | None:
    if not section.has("tool_choice"):
        section.take("tool_choice")
        return None
    value = section.take("tool_choice")
    if isinstance(value, str) and value in _MODES:
        return ToolChoice(mode=value)
    if isinstance(value, dict):
        named = Section(value, section.where("tool_choice"))
        tool = named.text("tool", max_chars=256)
        named.done()
        if tool:
            return ToolChoice(tool_name=tool)
    raise FileProblem(f"{section.where('tool_choice')} must be {', '.join(_MODES)}, or a mapping with the key tool")


def _one_of(section: Section, key: str, choices: tuple[str, ...]) -> str:
    value = section.take(key)
    if value is None:
        return ""
    if not isinstance(value, str) or value not in choices:
        hint = nearest(value if isinstance(value, str) else "", choices)
        raise FileProblem(f"{section.where(key)} has a value that is not known{hint}")
    return value


def _json_object(section: Section, key: str) -> str:
    """A YAML mapping as JSON text, in the order of the file."""
    value = section.take(key)
    if value is None:
        return ""
    if not isinstance(value, dict):
        raise FileProblem(f"{section.where(key)} must be a mapping")
    _refuse_other_than_json(cast("dict[object, object]", value), section.where(key))
    try:
        return compact(value)
    except (TypeError, ValueError):
        raise FileProblem(f"{section.where(key)} has a value that JSON does not know; put dates in quotes") from None


def _refuse_other_than_json(value: object, where: str) -> None:
    # json.dumps would turn the keys 1 and true into text without a word.
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise FileProblem(f"{where} has a key that is not text; put it in quotes")
            _refuse_other_than_json(item, where)
    elif isinstance(value, list):
        for item in value:
            _refuse_other_than_json(item, where)
