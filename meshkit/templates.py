"""Logic-less prompt templates: text with ``{{name}}`` holes, strict about what fills them.

Grammar. ``{{`` opens a hole that must read ``{{name}}``; up to 16 spaces may stand on either side of the name. ``{{{{``
is an escape and gives the text ``{{``. Everything else is literal, single braces and ``}}`` included, so that JSON
examples can be pasted as they are: ``{"a": {"b": 1}}`` needs no escape. ``{{{{name}}`` therefore shows a model the text
``{{name}}``. Three braces in a row are refused: they could be read in two ways.

Nothing is evaluated, and a value is never scanned for holes: a user who sends ``{{secret}}`` is quoted, not obeyed.

A template is parsed once, in time linear in its length, and rendered many times. The registry renders with it, and so
does every holder of a registry snapshot; the module knows neither.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_TEMPLATE_BYTES = 262_144
"""The most UTF-8 bytes of one template."""
MAX_RESULT_BYTES = 4_194_304
"""The most UTF-8 bytes of all rendered messages together."""
DEFAULT_MAX_CHARS = 1_000_000
"""The most code points of a value whose variable names no limit of its own."""

_MAX_REPORTED_HOLES = 16
_MAX_SUGGESTIONS = 8
_OPEN = "{{"
_ESCAPE = "{{{{"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# Possessive and bounded: an attempt looks at no more than 100 characters, whatever follows.
_HOLE = re.compile(r"\{\{ {0,16}+([A-Za-z_][A-Za-z0-9_]{0,63}+) {0,16}+\}\}")
# The number grammar of JSON (RFC 8259, section 6).
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*+)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")

Violation = tuple[str, str]
"""Field path and what is wrong with it, as in google.rpc.BadRequest."""


class TemplateError(Exception):
    """Something about a template or its values is wrong. ``field_violations`` lists all of it; never a value.

    TemplateError
      InvalidTemplate    the template or its declarations: whoever publishes must change them
      InvalidVariables   the values: whoever renders must change them
    """

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"

    def __init__(self, summary: str, field_violations: Sequence[Violation]) -> None:
        """Keeps every violation and puts each into the message."""
        super().__init__(f"{summary}: " + "; ".join(f"{field} {problem}" for field, problem in field_violations))
        self.field_violations = list(field_violations)


class InvalidTemplate(TemplateError):
    """A template does not parse, or its holes and its declared variables do not agree."""


class InvalidVariables(TemplateError):
    """Values are missing, unknown, of the wrong type or too large."""

    reason = "PROMPT_VARIABLES"


class VariableType(StrEnum):
    """How a value, always given as text, must read."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


_EXPECTED = {
    VariableType.INTEGER: "must be a whole number such as 42",
    VariableType.NUMBER: "must be a number such as 0.5",
    VariableType.BOOLEAN: "must be true or false",
}


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared variable. ``default`` is used when a value is not given and must be set unless ``required``."""

    name: str
    type: VariableType = VariableType.STRING
    required: bool = True
    default: str = ""
    max_chars: int = 0
    """The most code points of a value; 0 means DEFAULT_MAX_CHARS."""


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: ``literals`` and ``holes`` alternate, beginning and ending with a literal."""

    literals: tuple[str, ...]
    holes: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with every hole replaced; ``values`` must cover them."""
        pieces = [self.literals[0]]
        for hole, literal in zip(self.holes, self.literals[1:], strict=True):
            pieces.append(values[hole])
            pieces.append(literal)
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class CompiledPrompt:
    """Parsed templates with their variables; immutable, safe to share between threads."""

    templates: tuple[Template, ...]
    variables: Mapping[str, Variable]
    literal_bytes: int
    uses: Mapping[str, int]
    """How many holes each variable fills."""

    def render(self, values: Mapping[str, str], *, max_result_bytes: int = MAX_RESULT_BYTES) -> list[str]:
        """One text per template, in order.

        Raises:
            InvalidVariables: with every missing, unknown, mistyped and oversized variable at once.
        """
        violations = _unknown(values, self.variables)
        filled: dict[str, str] = {}
        for name, variable in self.variables.items():
            value = values.get(name)
            if value is not None:
                problem = check_value(variable, value)
                if problem:
                    violations.append((f"variables.{name}", problem))
                filled[name] = value
            elif variable.required:
                violations.append((f"variables.{name}", "is missing"))
            else:
                filled[name] = variable.default
        if violations:
            raise InvalidVariables("the variables do not fit the prompt", violations)
        self._refuse_oversize(filled, max_result_bytes)
        return [template.fill(filled) for template in self.templates]

    def _refuse_oversize(self, filled: Mapping[str, str], limit: int) -> None:
        # Computed before anything is joined: one large value behind many holes must not be built first.
        size = self.literal_bytes + sum(_utf8_bytes(filled[name]) * count for name, count in self.uses.items())
        if size > limit:
            problem = f"give a rendered prompt of {size} bytes; the limit is {limit}"
            raise InvalidVariables("the rendered prompt is too large", [("variables", problem)])


def parse(text: str, field: str = "template") -> Template:
    """Parses one template in one pass.

    Raises:
        InvalidTemplate: with the line and column of each ``{{`` that opens no hole, the first 16 of them.
    """
    literals: list[str] = []
    holes: list[str] = []
    stray: list[int] = []
    literal: list[str] = []
    position = 0
    while (start := text.find(_OPEN, position)) != -1:
        literal.append(text[position:start])
        position = start + len(_OPEN)
        if text.startswith(_ESCAPE, start):
            literal.append(_OPEN)
            position = start + len(_ESCAPE)
        elif match := _HOLE.match(text, start):
            literals.append("".join(literal))
            holes.append(match[1])
            literal = []
            position = match.end()
        elif len(stray) < _MAX_REPORTED_HOLES:
            stray.append(start)
    if stray:
        advice = "'{{' opens a hole and must read {{name}}; for literal braces write '{{{{'"
        raise InvalidTemplate(
            "the template does not parse", [(field, f"{_place(text, start)}: {advice}") for start in stray]
        )
    literals.append("".join(literal) + text[position:])
    return Template(tuple(literals), tuple(holes))


def compile_prompt(
    templates: Sequence[str], variables: Sequence[Variable], *, max_template_bytes: int = MAX_TEMPLATE_BYTES
) -> CompiledPrompt:
    """Parses the templates of a prompt and checks them against its variables.

    Raises:
        InvalidTemplate: everything that is wrong, at once: syntax, undeclared holes, unused or duplicate variables,
            defaults that are missing or do not fit their type. Fields read ``messages[0].template`` and
            ``variables[0]``, by position.
    """
    violations: list[Violation] = []
    parsed: list[Template] = []
    for index, text in enumerate(templates):
        field = f"messages[{index}].template"
        problem = _size_problem(text, max_template_bytes)
        if problem:
            violations.append((field, problem))
            continue
        try:
            parsed.append(parse(text, field))
        except InvalidTemplate as error:
            violations.extend(error.field_violations)
    violations.extend(_check_declarations(variables))
    uses = Counter(hole for template in parsed for hole in template.holes)
    if len(parsed) == len(templates):  # otherwise the holes are not all known
        violations.extend(_check_agreement(parsed, variables, uses))
    if violations:
        raise InvalidTemplate("the prompt is not valid", violations)
    literal_bytes = sum(_utf8_bytes(literal) for template in parsed for literal in template.literals)
    return CompiledPrompt(tuple(parsed), {variable.name: variable for variable in variables}, literal_bytes, uses)


def check_value(variable: Variable, value: str) -> str | None:
    """What is wrong with a value given as text, or None. Types are read strictly, by JSON's grammar."""
    limit = variable.max_chars or DEFAULT_MAX_CHARS
    if len(value) > limit:
        return f"has {len(value)} characters; the limit is {limit}"
    if variable.type is VariableType.STRING:
        return None if _is_unicode(value) else "is not valid Unicode"
    if variable.type is VariableType.INTEGER:
        fits = _INTEGER.fullmatch(value) is not None
    elif variable.type is VariableType.NUMBER:
        fits = _NUMBER.fullmatch(value) is not None
    else:
        fits = value in {"true", "false"}
    return None if fits else _EXPECTED[variable.type]


def _check_declarations(variables: Sequence[Variable]) -> list[Violation]:
    violations: list[Violation] = []
    seen: set[str] = set()
    for index, variable in enumerate(variables):
        field = f"variables[{index}]"
        if not _NAME.fullmatch(variable.name):
            violations.append((f"{field}.name", "must be letters, digits and underscores, at most 64"))
        elif variable.name in seen:
            violations.append((f"{field}.name", f"declares {variable.name} a second time"))
        seen.add(variable.name)
        if variable.required:
            if variable.default:
                violations.append((f"{field}.default_value", "would never be used: the variable is required"))
        elif not variable.default:
            violations.append((f"{field}.default_value", "must be set, or the variable marked as required"))
        elif problem := check_value(variable, variable.default):
            violations.append((f"{field}.default_value", problem))
    return violations


def _check_agreement(
    templates: Sequence[Template], variables: Sequence[Variable], uses: Mapping[str, int]
) -> list[Violation]:
    declared = {variable.name for variable in variables}
    violations = [
        (f"variables[{index}]", f"fills no hole; use {variable.name} or remove it")
        for index, variable in enumerate(variables)
        if variable.name not in uses
    ]
    suggestions = 0
    for index, template in enumerate(templates):
        for hole in sorted(set(template.holes) - declared)[:_MAX_REPORTED_HOLES]:
            hint = _nearest(hole, declared) if suggestions < _MAX_SUGGESTIONS else ""
            suggestions += 1
            violations.append((f"messages[{index}].template", f"uses {hole}, which is not declared{hint}"))
    return violations


def _unknown(values: Mapping[str, str], variables: Mapping[str, Variable]) -> list[Violation]:
    violations: list[Violation] = []
    for name in values:
        if name in variables:
            continue
        if not _NAME.fullmatch(name):  # not repeated to the log or the caller: it could be anything, of any length
            violations.append(("variables", "has a name that is not letters, digits and underscores"))
            continue
        hint = _nearest(name, variables) if len(violations) < _MAX_SUGGESTIONS else ""
        violations.append((f"variables.{name}", f"is not a variable of this prompt{hint}"))
    return violations


def _nearest(name: str, known: Collection[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _size_problem(text: str, limit: int) -> str | None:
    if not text:
        return "must not be empty"
    if not _is_unicode(text):
        return "is not valid Unicode"
    size = _utf8_bytes(text)
    return f"has {size} bytes; the limit is {limit}" if size > limit else None


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry and UTF-8 cannot
        return False
    return True


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _place(text: str, position: int) -> str:
    line_start = text.rfind("\n", 0, position) + 1
    return f"line {text.count(chr(10), 0, position) + 1}, column {position - line_start + 1}"
