"""Size budgets: a file that does not fit a few screens, or a function that does not fit one, holds two ideas."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE_LINES, FILE_LINES_AT_MOST = 400, 600
FUNCTION_LINES, FUNCTION_LINES_AT_MOST = 40, 70
Exemptions = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Measured:
    """A file (`path`) or a function (`path::Class.name`) and its length in lines."""

    name: str
    lines: int
    budget: int
    at_most: int


def measure(path: Path, name: str) -> Iterator[Measured]:
    """The file and each of its functions, the nested ones also as part of the outer; `name` stands for the path."""
    source = path.read_text(encoding="utf-8")
    yield Measured(name, len(source.splitlines()), FILE_LINES, FILE_LINES_AT_MOST)
    for qualified, function in functions(ast.parse(source)):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        yield Measured(f"{name}::{qualified}", lines, FUNCTION_LINES, FUNCTION_LINES_AT_MOST)


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its qualified name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{child.name}", child
        inner = (
            f"{prefix}{child.name}."
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            else prefix
        )
        yield from functions(child, inner)


def read_exemptions(path: Path) -> Exemptions:
    """The reasoned exemptions: name to reason."""
    found: dict[str, str] = tomllib.loads(path.read_text()).get("exemptions", {})
    return found


def objections(measured: Measured, exemptions: Exemptions) -> Iterator[str]:
    """Whether it is over its budget without a reason, or over what no reason excuses."""
    if measured.lines > measured.at_most:
        yield f"{measured.name} has {measured.lines} lines; no reason allows more than {measured.at_most}"
    elif measured.lines > measured.budget and not exemptions.get(measured.name):
        yield f"{measured.name} has {measured.lines} lines, its budget is {measured.budget}; split it by idea"


def stale(measured: list[Measured], exemptions: Exemptions) -> Iterator[str]:
    """Exemptions that nothing needs any more."""
    over = {one.name for one in measured if one.lines > one.budget}
    for name in exemptions:
        if name not in over:
            yield f"{name} is within its budget; remove its exemption"
