"""mesh.yaml: found, parsed, overlaid with the environment, and handed out by section."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmops_cli.targets import TARGETS
from meshkit.runtime import ProcessSettings
from meshkit.settings import ENV_PREFIX, SettingsError, dump, load, nearest, overlay

DEFAULT_FILE = "mesh.yaml"
_MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 64
_MERGE = "tag:yaml.org,2002:merge"
# Short names for what every deployment sets by environment.
_VARIABLES = {
    "LLMOPS_DATABASE_URL": ("database", "url"),
    "LLMOPS_KEY_PEPPER": ("auth", "pepper"),
    "LLMOPS_MESH_KEY": ("auth", "mesh_key"),
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """The effective configuration: the process's own sections, and one section per target."""

    source: str
    process: ProcessSettings
    targets: Mapping[str, Any]
    # The file has no sections: right for a first start, and rarely what somebody meant by a change.
    empty: bool = False

    def effective(self) -> dict[str, object]:
        """As plain data, secrets hidden."""
        sections = {f.name: getattr(self.process, f.name) for f in dataclasses.fields(self.process)}
        return {name: dump(section) for name, section in (*sections.items(), *self.targets.items())}


def read_file(path: Path | None, environ: Mapping[str, str], option: str = "--config") -> tuple[str, dict[str, object]]:
    """The file's name and content. Without a path: $LLMOPS_CONFIG, else ./mesh.yaml, else nothing.

    Raises SettingsError; `option` names such files.
    """
    if path is None and environ.get("LLMOPS_CONFIG"):
        path = Path(environ["LLMOPS_CONFIG"])
    if path is None:
        if not Path(DEFAULT_FILE).is_file():
            return "built-in defaults", {}
        path = Path(DEFAULT_FILE)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SettingsError(f"{path}: larger than {_MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; give the file with {option}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text") from None
    return str(path), parse(text, str(path))


def _mistake(mark: yaml.Mark, problem: str) -> SettingsError:
    return SettingsError(f"line {mark.line + 1}, column {mark.column + 1}: {problem}")


class _StrictLoader(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML would keep the last one without a word, and what no configuration needs."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        # The anchors of the nodes around the one that is read.
        self._around: list[str | None] = []
        self._without_twins: set[yaml.MappingNode] = set()

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As SafeLoader, to a depth, and nothing within itself."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent) and event.anchor in self._around:
            raise _mistake(event.start_mark, f"*{event.anchor} stands within what it repeats")
        if len(self._around) >= _MAX_DEPTH:
            raise _mistake(event.start_mark, f"nested deeper than {_MAX_DEPTH}")
        self._around.append(event.anchor)
        try:
            return super().compose_node(parent, index)
        finally:
            self._around.pop()

    def construct_object(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - PyYAML's signature
        """As SafeLoader, for values that are what they look like."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            # What PyYAML raises for a date such as 2026-13-45, a number of 5,000 digits, or "!!bool maybe".
            kind = node.tag.rpartition(":")[2]
            raise _mistake(node.start_mark, f"this is no {kind}; put quotes around what is text") from None

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """As SafeLoader, for unique names. Afterwards a mapping also holds what it merged, and overrides."""
        if node not in self._without_twins:
            self._without_twins.add(node)
            self._require_names(node)
        super().flatten_mapping(node)

    def _require_names(self, node: yaml.MappingNode) -> None:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                problem = "a mapping or list is no name of a key; `{{ … }}` of a template must be filled in first"
                raise _mistake(key_node.start_mark, problem)
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node)
            if key in seen:
                raise _mistake(key_node.start_mark, f"the key {key!r} is there twice")
            seen.add(key)


def parse(text: str, name: str) -> dict[str, object]:
    """YAML with sections at the top. Raises SettingsError."""
    try:
        parsed = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{name}: {_explained(error)}") from None
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise SettingsError(f"{name}: expected sections such as `server:` at the top level")
    for section in parsed:
        if not isinstance(section, str):
            raise SettingsError(f"{name}: {section} is no name of a section; put quotes around what is text")
    return parsed


def _explained(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return str(_mistake(error.problem_mark, f"not valid YAML ({error.problem})"))
    return f"not valid YAML ({getattr(error, 'reason', 'syntax error')})"


def load_configuration(path: Path | None, environ: Mapping[str, str]) -> Configuration:
    """Reads and validates every section. Raises SettingsError with the first mistake."""
    source, raw = read_file(path, environ)
    return build_configuration(source, raw, environ)


def build_configuration(source: str, raw: Mapping[str, object], environ: Mapping[str, str]) -> Configuration:
    """Validates sections that were read or made. Raises SettingsError."""
    merged = overlay(raw, environ)
    for variable, (section, key) in _VARIABLES.items():
        if environ.get(variable):
            part = merged.get(section)
            merged[section] = {**(part if isinstance(part, Mapping) else {}), key: environ[variable]}
    own = {f.name for f in dataclasses.fields(ProcessSettings)}
    for name in merged:
        if name not in own and name not in TARGETS:
            known = ", ".join(sorted({*own, *TARGETS}))
            where = source if name in raw else f"{ENV_PREFIX}{name.upper()} in the environment"
            raise SettingsError(f"{where}: unknown section {name!r}{nearest(name, {*own, *TARGETS})}; known: {known}")
    process = _process_settings({k: v for k, v in merged.items() if k in own}, environ)
    _require_services(process.peers)
    targets = {
        name: _target_settings(target.settings_type(), merged.get(name) or {}, name, environ)
        for name, target in TARGETS.items()
    }
    return Configuration(source, process, targets, empty=not raw)


def _require_services(peers: Iterable[str]) -> None:
    services = [target.name for target in TARGETS.values() if target.speaks_grpc]
    for name in peers:
        if name not in services:
            known = ", ".join(services)
            raise SettingsError(f"peers: there is no service {name!r}{nearest(name, services)}; services are {known}")


def require_files(configuration: Configuration) -> None:
    """Raises SettingsError for a file or folder that a setting names and that is not here.

    A start meets those of its own targets only: other processes may have other files.
    """
    sections = {f.name: getattr(configuration.process, f.name) for f in dataclasses.fields(configuration.process)}
    for where, named in _named_files({**sections, **configuration.targets}, ""):
        kind = "folder" if where.endswith("_dir") else "file"
        if not (Path(named).is_dir() if kind == "folder" else Path(named).is_file()):
            raise SettingsError(f"{where}: there is no {kind} {named} on this machine")


def _named_files(value: object, where: str) -> Iterator[tuple[str, str]]:
    """Settings of files and folders are named so: `…_file`, `…_dir`. Empty ones name none."""
    if isinstance(value, str):
        if value and where.endswith(("_file", "_dir")):
            yield where, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _named_files(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _named_files(entry, f"{where}.{name}" if where else name)
    elif isinstance(value, tuple | list):
        for index, entry in enumerate(value):
            yield from _named_files(entry, f"{where}[{index}]")


def _process_settings(raw: Mapping[str, object], environ: Mapping[str, str]) -> ProcessSettings:
    try:
        return load(ProcessSettings, {k: v for k, v in raw.items() if v is not None}, "", environ)
    except SettingsError as error:
        raise SettingsError(str(error).removeprefix(".")) from None


def _target_settings(cls: type, raw: object, name: str, environ: Mapping[str, str]) -> Any:
    if not isinstance(raw, Mapping):
        raise SettingsError(f"{name}: expected a mapping of keys")
    settings: Any = load(cls, raw, name, environ)
    complete = getattr(settings, "with_environment", None)
    return settings if complete is None else complete(environ)
