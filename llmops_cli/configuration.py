"""mesh.yaml: found, parsed, overlaid with the environment, and handed out by section."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmops_cli.targets import TARGETS
from meshkit.runtime import ProcessSettings
from meshkit.settings import SettingsError, dump, load, nearest, overlay

DEFAULT_FILE = "mesh.yaml"
_MAX_BYTES = 4 * 1024 * 1024
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

    def effective(self) -> dict[str, object]:
        """As plain data, secrets hidden."""
        sections = {f.name: getattr(self.process, f.name) for f in dataclasses.fields(self.process)}
        return {name: dump(section) for name, section in (*sections.items(), *self.targets.items())}


def read_file(path: Path | None, environ: Mapping[str, str]) -> tuple[str, dict[str, object]]:
    """The file's name and content. Without a path: $LLMOPS_CONFIG, else ./mesh.yaml, else nothing."""
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
        raise SettingsError(f"{path}: {error.strerror}; give the file with --config") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not UTF-8 text") from None
    return str(path), parse(text, str(path))


class _StrictLoader(yaml.SafeLoader):
    """Refuses duplicate keys: YAML would keep the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """As SafeLoader, for unique keys."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise SettingsError(f"line {key_node.start_mark.line + 1}: the key {key!r} is there twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse(text: str, name: str) -> dict[str, object]:
    """YAML with sections at the top. Raises SettingsError."""
    try:
        parsed = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{name}:{where}: not valid YAML ({getattr(error, 'problem', 'syntax error')})") from None
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise SettingsError(f"{name}: expected sections such as `server:` at the top level")
    return parsed


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
            raise SettingsError(f"{source}: unknown section {name!r}{nearest(name, {*own, *TARGETS})}; known: {known}")
    process = _process_settings({k: v for k, v in merged.items() if k in own}, environ)
    targets = {
        name: _target_settings(target.settings_type(), merged.get(name) or {}, name, environ)
        for name, target in TARGETS.items()
    }
    return Configuration(source, process, targets)


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
