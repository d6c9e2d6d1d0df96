"""Settings: frozen dataclasses filled from mesh.yaml and the environment, strictly.

Every mistake is reported with the path of the key and what to do; an unknown key suggests the nearest known one.
`${NAME}` in a string is replaced from the environment, and a `Secret` cannot be formatted. A scalar or structured key
can also be set by a variable: `LLMOPS__LEDGER__ENABLED=false` sets `ledger.enabled` (values are read as YAML).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

T = TypeVar("T")
ENV_PREFIX = "LLMOPS__"
HIDDEN = "***"
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class SettingsError(Exception):
    """The configuration is wrong. The message names the key and says what to do."""


class Secret:
    """A value that no log, error or dump shows. `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret({HIDDEN if self._value else ''})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> typing.NoReturn:
        raise TypeError("a Secret cannot be pickled")


def load(cls: type[T], raw: Mapping[str, object], where: str, environ: Mapping[str, str]) -> T:
    """Builds `cls` from a mapping of mesh.yaml. Raises SettingsError."""
    return _dataclass(cls, raw, where, environ)


def overlay(raw: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, object]:
    """Applies `LLMOPS__SECTION__KEY=value` variables to a parsed file. Raises SettingsError."""
    merged: dict[str, object] = dict(raw)
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX):
            continue
        path = [part.lower() for part in name.removeprefix(ENV_PREFIX).split("__")]
        node = merged
        for part in path[:-1]:
            child = node.get(part)
            if child is not None and not isinstance(child, Mapping):
                raise SettingsError(f"{name}: {part} is not a section of the configuration")
            node[part] = node = dict(child or {})
        try:
            node[path[-1]] = yaml.safe_load(environ[name])
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):
            # What PyYAML raises for a value that is not as its tag says, or without end, is no error of YAML.
            raise SettingsError(f"{name}: the value is not valid YAML") from None
    return merged


def dump(value: object) -> object:
    """The effective configuration as plain data, secrets hidden."""
    if isinstance(value, Secret):
        return HIDDEN if value else ""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: dump(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): dump(v) for k, v in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [dump(v) for v in value]
    return value


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """A hint for a mistyped name: ` (did you mean x?)`, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _dataclass(cls: type[T], raw: object, where: str, environ: Mapping[str, str]) -> T:
    if not isinstance(raw, Mapping):
        raise SettingsError(f"{where}: expected a mapping of keys, found {_kind(raw)}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in raw:
        if key not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise SettingsError(f"{where}.{key}: unknown key{nearest(str(key), fields)}; known keys: {known}")
    hints = get_type_hints(cls)
    values = {k: _convert(hints[k], v, f"{where}.{k}", environ) for k, v in raw.items()}
    missing = [
        n
        for n, f in fields.items()
        if n not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise SettingsError(f"{where}: missing {', '.join(missing)}")
    try:
        built = cls(**values)
        validate = getattr(built, "validate", None)
        if validate is not None:
            validate()
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    return built


def _convert(kind: Any, raw: object, where: str, environ: Mapping[str, str]) -> Any:
    origin = get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(kind, raw, where, environ)
    if origin is typing.Literal:
        return _choice(get_args(kind), raw, where)
    if origin in (tuple, list, frozenset):
        if not isinstance(raw, list):
            raise SettingsError(f"{where}: expected a list, found {_kind(raw)}")
        element = get_args(kind)[0]
        return origin(_convert(element, item, f"{where}[{i}]", environ) for i, item in enumerate(raw))
    if origin in (dict, Mapping):
        return _mapping(kind, raw, where, environ)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, {} if raw is None else raw, where, environ)  # type: ignore[arg-type]
    return _scalar(kind, raw, where, environ)


def _optional(kind: Any, raw: object, where: str, environ: Mapping[str, str]) -> Any:
    options = [a for a in get_args(kind) if a is not type(None)]
    if raw is None:
        return None
    if len(options) == 1:
        return _convert(options[0], raw, where, environ)
    for option in options:
        fits = isinstance(raw, Mapping) if dataclasses.is_dataclass(option) else isinstance(raw, option)
        if isinstance(option, type) and fits and not isinstance(raw, bool):
            return _convert(option, raw, where, environ)
    names = " or ".join(getattr(o, "__name__", str(o)) for o in options)
    raise SettingsError(f"{where}: expected {names}, found {_kind(raw)}")


def _choice(options: tuple[object, ...], raw: object, where: str) -> object:
    if raw not in options:
        words = ", ".join(map(str, options))
        raise SettingsError(f"{where}: {raw!r} is not one of {words}{nearest(str(raw), map(str, options))}")
    return raw


def _mapping(kind: Any, raw: object, where: str, environ: Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise SettingsError(f"{where}: expected a mapping, found {_kind(raw)}")
    element = get_args(kind)[1]
    return {str(k): _convert(element, v, f"{where}.{k}", environ) for k, v in raw.items()}


def _scalar(kind: Any, raw: object, where: str, environ: Mapping[str, str]) -> Any:
    if kind is Any or kind is object:
        return raw
    if kind in (str, Secret):
        # YAML reads 2027-03-31 as a date, which is written as it was; a time may have been written otherwise.
        if not isinstance(raw, str | int | float | dt.date) or isinstance(raw, bool | dt.datetime):
            raise SettingsError(f"{where}: expected text, found {_kind(raw)}")
        text = _expand(str(raw), where, environ)
        return text if kind is str else Secret(text)
    if kind is bool and isinstance(raw, bool):
        return raw
    if kind is int and isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return _finite(raw, where)
    names = {bool: "true or false", int: "a whole number", float: "a number"}
    raise SettingsError(f"{where}: expected {names.get(kind, kind)}, found {_kind(raw)}")


def _finite(raw: float, where: str) -> float:
    """Of NaN every comparison is false, so that no limit would notice it."""
    with suppress(OverflowError):
        if math.isfinite(raw):
            return float(raw)
    raise SettingsError(f"{where}: expected a finite number")


def _expand(text: str, where: str, environ: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise SettingsError(f"{where}: the environment has no {match[1]}; export it or write the value")
        return environ[match[1]]

    return _REFERENCE.sub(value, text)


def _kind(raw: object) -> str:
    if raw is None:
        return "nothing"
    if isinstance(raw, Mapping):
        return "a mapping"
    if isinstance(raw, list):
        return "a list"
    if isinstance(raw, dt.date):
        return "a time" if isinstance(raw, dt.datetime) else "a date"
    return f"{type(raw).__name__} {raw!r}" if isinstance(raw, bool | int | float) else "text"
