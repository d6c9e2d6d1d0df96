"""The smallest legal version after a change. README.md has the rules as a table.

A change breaks when a request that was legal may now be refused, or when an answer may have a form that its readers
were not promised. A breaking change takes the next major version, everything else the next minor one.
"""

from __future__ import annotations

from services.registry.core.prompt import MAX_COMPONENT, Prompt, ResponseFormat, Variable, VariableType, Version
from services.registry.core.schema_compatibility import schema_breaks

FIRST_VERSION = Version(1, 0)
DEFAULT_MAX_CHARS = 1_000_000


def smallest_version(newest: Version, breaks: bool) -> Version | None:  # noqa: FBT001 - the decision's one input
    """The smallest legal version after `newest`; None when the numbers are used up."""
    if not breaks and newest.minor < MAX_COMPONENT:
        return Version(newest.major, newest.minor + 1)
    return Version(newest.major + 1, 0) if newest.major < MAX_COMPONENT else None


def breaking_changes(old: Prompt, new: Prompt) -> list[str]:
    """What breaks callers of `old` when they get `new`; empty when nothing does."""
    return _variable_breaks(old, new) + _output_breaks(old, new)


def _variable_breaks(old: Prompt, new: Prompt) -> list[str]:
    before = {variable.name: variable for variable in old.variables}
    now = {variable.name: variable for variable in new.variables}
    found = [f"variable {name} was removed" for name in before if name not in now]
    for name, variable in now.items():
        if name in before:
            found.extend(_narrowed(before[name], variable))
        elif variable.required:
            found.append(f"variable {name} was added without a default")
    return found


def _narrowed(old: Variable, new: Variable) -> list[str]:
    found = []
    if not _accepts(new.type, old.type):
        found.append(f"variable {new.name} changed its type from {old.type} to {new.type}")
    if new.required and not old.required:
        found.append(f"variable {new.name} became required")
    if (new.max_chars or DEFAULT_MAX_CHARS) < (old.max_chars or DEFAULT_MAX_CHARS):
        found.append(f"variable {new.name} takes shorter values")
    return found


def _accepts(new: VariableType, old: VariableType) -> bool:
    """Whether every legal text of the old type is legal in the new one: text takes all, numbers take integers."""
    return new in (old, VariableType.STRING) or (new is VariableType.NUMBER and old is VariableType.INTEGER)


def _output_breaks(old: Prompt, new: Prompt) -> list[str]:
    found = _schema_change("output", old.output_json_schema, new.output_json_schema)
    before = old.parameters.response_format or ResponseFormat()
    now = new.parameters.response_format or ResponseFormat()
    if (before.type or "text") != (now.type or "text"):
        found.append("the response format changed")
    found.extend(_schema_change("response format", before.json_schema, now.json_schema))
    if old.parameters.tool_choice != new.parameters.tool_choice:
        found.append("the tool choice changed")
    return found


def _schema_change(what: str, old: str, new: str) -> list[str]:
    if old == new:
        return []
    if not old:
        return [f"{what}: free text became JSON"]
    if not new:
        return [f"{what}: JSON became free text"]
    return schema_breaks(old, new)
