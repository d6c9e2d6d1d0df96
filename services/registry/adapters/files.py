"""The prompt directory on disk, read as strict YAML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from services.registry.core.document import Document
from services.registry.core.errors import InvalidFiles

_MAX_DEPTH = 64
_FOLDERS_DEEP = 2


def read_documents(directory: Path, *, max_file_bytes: int, max_files: int) -> list[Document]:
    """Every YAML file of a prompt directory, two levels deep. Blocks: run it off the event loop.

    Hidden entries and other files (samples, notes) are left alone; a folder without YAML is no prompt. Links are
    followed, because that is how Kubernetes mounts a configuration.

    Raises:
        InvalidFiles: the directory is not there, or holds too many files.
    """
    if not directory.is_dir():
        raise InvalidFiles(
            [f"{directory}: is not a directory; set registry.prompts_dir to one, or to '' for no prompt files"]
        )
    paths = sorted(_yaml_files(directory, _FOLDERS_DEEP))
    if len(paths) > max_files:
        raise InvalidFiles([f"{directory}: has {len(paths)} YAML files; registry.max_files allows {max_files}"])
    return [_read(path, path.relative_to(directory).as_posix(), max_file_bytes) for path in paths]


def parse_document(file: str, text: str) -> Document:
    """Parses one file; what YAML cannot mean here becomes the document's `problem`."""
    try:
        return Document(file, yaml.load(text, Loader=_StrictLoader))  # noqa: S506 - a SafeLoader, made stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return Document(file, problem=f"{error.problem}{place}")
    except yaml.reader.ReaderError as error:
        return Document(file, problem=f"has a character that YAML does not allow, at position {error.position}")


def _yaml_files(directory: Path, levels: int) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if levels > 1:
                yield from _yaml_files(path, levels - 1)
        elif path.suffix in {".yaml", ".yml"}:
            yield path


def _read(path: Path, file: str, max_bytes: int) -> Document:
    try:
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            return Document(file, problem=f"is larger than {max_bytes} bytes; registry.max_file_bytes sets the limit")
        return parse_document(file, content.decode("utf-8-sig"))
    except OSError as error:
        return Document(file, problem=f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return Document(file, problem=f"is not UTF-8 at byte {error.start}")


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without duplicate keys, aliases (which can expand without end) and deep nesting."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark: Any = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not supported; write the value out", problem_mark=mark)
        if self._depth >= _MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"is nested deeper than {_MAX_DEPTH}", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_object(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - PyYAML's signature
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            # What PyYAML raises for a date such as 2026-13-45, a number of 5,000 digits, or "!!bool maybe".
            what = "date that does not exist" if node.tag.endswith(":timestamp") else "value that does not fit its type"
            problem = f"has a {what}; put it in quotes or correct it"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node.value, str) and key_node.value in seen:
                problem = "has a key twice; remove one of them"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key_node.value if isinstance(key_node.value, str) else id(key_node))
        return super().construct_mapping(node, deep)
