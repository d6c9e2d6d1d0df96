"""Every `llmops …` that a text of the repository tells people to run, and what the command's own parser says to it."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from llmops_cli.main import app
from tests.architecture.checkout import ROOT, python_files

# What stands for something of the reader's.
_PLACE = "PLACE"
_IN_BACKTICKS = re.compile(r"`(?:[A-Z_]+=\S+ )*llmops(?: ([^`]*))?`")
_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINE_OF_A_BLOCK = re.compile(r"^\s*(?:\$ )?(?:[\w/.]*/)?llmops ([^#\n]*)", re.MULTILINE)
_TEXTS = (
    "*.md",
    "docs/**/*.md",
    "docs/*.yaml",
    "mesh.yaml",
    "deploy/**/*.md",
    "deploy/**/*.yaml",
    "prompts/**/*.yaml",
    "services/*/README.md",
    "llmops_cli/**/*.md",
    "models/*.md",
    "protos/*.md",
)


class Named(NamedTuple):
    """A command as somebody wrote it."""

    where: str
    words: str


def in_text(where: str, text: str) -> Iterator[Named]:
    """Those in backticks, and at the beginning of lines in code blocks."""
    for block in _FENCE.findall(text):
        yield from (Named(where, words.strip()) for words in _LINE_OF_A_BLOCK.findall(block))
    for words in _IN_BACKTICKS.findall(_FENCE.sub("", text)):
        yield Named(where, " ".join(words.split()))


def everywhere() -> Iterator[Named]:
    """In the documents, and in what programs say: their literals, docstrings among them."""
    for path in sorted({path for pattern in _TEXTS for path in ROOT.glob(pattern)}):
        yield from in_text(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    for path in python_files():
        if path.parts[0] in {"llmops_cli", "meshkit", "models", "services"}:
            for text in _literals(ROOT / path):
                yield from in_text(str(path), text)


def _literals(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in joined for part in ast.walk(node)}
    for text in joined:
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else _PLACE for part in text.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def objection(words: str) -> str | None:
    """What the parser refuses, or nothing. A group alone may be named, and arguments may be left out."""
    for chosen in _alternatives(shlex.split(words)):
        refused = _objection(chosen)
        # An option may be named without its value.
        if refused and _objection([*chosen, _PLACE]):
            return refused
    return None


def _alternatives(words: list[str]) -> Iterator[list[str]]:
    """`budget list|set` is two commands."""
    several = next((place for place, word in enumerate(words) if "|" in word), None)
    if several is None:
        yield words
        return
    for one in words[several].split("|"):
        yield from _alternatives([*words[:several], one, *words[several + 1 :]])


def _objection(words: list[str]) -> str | None:
    command: Any = typer.main.get_command(app)
    context = command.make_context("llmops", [], resilient_parsing=True)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            return f"there is no {name!r} among {', '.join(sorted(command.commands))}"
        command = command.commands[name]
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    context.resilient_parsing = False  # else it takes what it does not know
    try:
        _, left, _ = command.make_parser(context).parse_args(list(words))
    except Exception as refused:
        # Its classes are private to the parser's vendored copy.
        if not hasattr(refused, "format_message"):
            raise
        return str(refused.format_message())
    return f"{left} is one too many" if left else None
