"""What every version must satisfy, whether it came in a request or in a file."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from services.registry.core.encoding import digest_of, to_json
from services.registry.core.errors import InvalidPrompt
from services.registry.core.json_text import compact, parse_object
from services.registry.core.ports import Templates
from services.registry.core.prompt import Parameters, Prompt

Violation = tuple[str, str]

MAX_MESSAGES = 64
MAX_VARIABLES = 128
_NUL = "must not contain a NUL character"


@dataclass(frozen=True, slots=True)
class Limits:
    """How large the registry may grow; see settings.py for the defaults."""

    max_prompt_bytes: int
    max_prompts: int
    max_versions_per_prompt: int
    max_total_bytes: int


@dataclass(frozen=True, slots=True)
class CheckedPrompt:
    """A valid prompt with its JSON in one spelling, its identity and its size."""

    prompt: Prompt
    digest: str
    size_bytes: int


def check(prompt: Prompt, templates: Templates, limits: Limits) -> CheckedPrompt:
    """Checks a prompt as a whole. CPU work of milliseconds per 100 KiB: run it off the event loop.

    Raises:
        InvalidPrompt: with everything that is wrong; fields are relative to the prompt.
    """
    violations = [
        *_count("messages", len(prompt.messages), 1, MAX_MESSAGES),
        *_count("variables", len(prompt.variables), 0, MAX_VARIABLES),
        *_bad_characters(prompt),
        *templates.check(prompt),
    ]
    parameters, found = _check_parameters(prompt.parameters)
    violations.extend(found)
    schema, found = _json_object("output_json_schema", prompt.output_json_schema)
    violations.extend(found)
    if violations:
        raise InvalidPrompt(violations)
    settled = replace(prompt, output_json_schema=schema, parameters=parameters)
    size = len(to_json(settled))
    if size > limits.max_prompt_bytes:
        raise InvalidPrompt([("messages", f"make a prompt of {size} bytes; the limit is {limits.max_prompt_bytes}")])
    return CheckedPrompt(settled, digest_of(settled), size)


def _check_parameters(parameters: Parameters) -> tuple[Parameters, list[Violation]]:
    extra, violations = _json_object("parameters.extra_json", parameters.extra_json)
    answer = parameters.response_format
    if answer is not None:
        schema, found = _json_object("parameters.response_format.json_schema", answer.json_schema)
        violations.extend(found)
        answer = replace(answer, json_schema=schema)
    return replace(parameters, extra_json=extra, response_format=answer), violations


def _json_object(field: str, text: str) -> tuple[str, list[Violation]]:
    if not text:
        return "", []
    try:
        return compact(parse_object(text)), []
    except ValueError as error:
        return "", [(field, str(error))]


def _count(field: str, count: int, least: int, most: int) -> list[Violation]:
    return [] if least <= count <= most else [(field, f"has {count} entries; it must have {least} to {most}")]


def _bad_characters(prompt: Prompt) -> list[Violation]:
    """NUL, which PostgreSQL does not keep in text, and lone surrogates, which no message can carry.

    Templates and defaults are checked for Unicode with their holes and types.
    """
    texts = [(field.name, getattr(prompt, field.name)) for field in fields(prompt)]
    texts.extend((f"variables[{i}].description", each.description) for i, each in enumerate(prompt.variables))
    parameters = prompt.parameters
    texts.extend((f"parameters.{field.name}", getattr(parameters, field.name)) for field in fields(parameters))
    texts.extend((f"parameters.stop[{i}]", text) for i, text in enumerate(parameters.stop))
    if parameters.response_format is not None:
        texts.append(("parameters.response_format.schema_name", parameters.response_format.schema_name))
    if parameters.tool_choice is not None:
        texts.append(("parameters.tool_choice.tool_name", parameters.tool_choice.tool_name))
    found = [(field, problem) for field, text in texts if isinstance(text, str) and (problem := _problem_of(text))]
    templates = [(f"messages[{i}].template", each.template) for i, each in enumerate(prompt.messages)]
    templates.extend((f"variables[{i}].default_value", each.default) for i, each in enumerate(prompt.variables))
    return found + [(field, _NUL) for field, text in templates if "\x00" in text]


def _problem_of(text: str) -> str:
    if "\x00" in text:
        return _NUL
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return ""
