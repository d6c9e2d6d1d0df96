"""The plan of a service's folder: which rooms it has, and what may stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

SERVICES = frozenset(
    "cache edge evaluator guard identity ledger orchestrator registry router traces".split(),  # noqa: SIM905 - one line
)
REQUIRED = frozenset({"__init__.py", "main.py", "settings.py", "api.py", "core", "adapters", "README.md"})
REQUIRED_BELOW = ("core/__init__.py", "core/errors.py", "core/ports.py", "adapters/__init__.py", "adapters/memory.py")
ALLOWED = REQUIRED | {"migrations"}
# The web console is the edge's alone; what a provider and a route may be told fills files of their own.
ALLOWED_IN = {
    "edge": ALLOWED | {"console"},
    "router": ALLOWED | {"provider_settings.py", "route_settings.py", "canary_settings.py"},
}
# Names that say nothing about what is inside.
_EMPTY_NAMES = re.compile(r"^(utils?|helpers?|commons?|misc|shared|base_?manager|.*_?managers?|.*_(utils?|helpers?))$")
_NOT_OURS = {"__pycache__", "py.typed"}


def services_in(folder: Path) -> list[Path]:
    """The services that exist."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in _NOT_OURS)


def objections(service: Path, rpcs: Sequence[str]) -> Iterator[str]:
    """What is missing in a service's folder, or too much. `rpcs` are its methods as grpcurl writes them."""
    name = service.name
    if name not in SERVICES:
        yield f"services/{name} is in no plan; docs/architecture.md lists the services"
    present = {path.name for path in service.iterdir()} - _NOT_OURS
    for missing in sorted(REQUIRED - present):
        yield f"services/{name} has no {missing}"
    for unplanned in sorted(present - ALLOWED_IN.get(name, ALLOWED)):
        yield f"services/{name}/{unplanned} is in no plan"
    for inner in REQUIRED_BELOW:
        if inner.split("/", maxsplit=1)[0] in present and not (service / inner).is_file():
            yield f"services/{name} has no {inner}"
    if ("migrations" in present) != (service / "adapters/sql.py").is_file():
        yield f"services/{name} needs both migrations/ and adapters/sql.py where it owns tables, else neither"
    yield from (f"services/{name}: {objection}" for objection in _undocumented(service, rpcs))


def _undocumented(service: Path, rpcs: Sequence[str]) -> Iterator[str]:
    readme = service / "README.md"
    commands = re.sub(r"\\\n", " ", readme.read_text()) if readme.is_file() else ""
    lines = [line for line in commands.splitlines() if "grpcurl" in line]
    for rpc in rpcs:
        if not any(re.search(rf"{re.escape(rpc)}\b", line) for line in lines):
            yield f"README.md has no grpcurl line for {rpc}"


def empty_names(files: Sequence[Path]) -> Iterator[str]:
    """Modules and packages whose name does not say what they hold."""
    for path in files:
        for part in (*path.parts[:-1], path.stem):
            if _EMPTY_NAMES.match(part):
                yield f"{path}: the name {part} does not say what is inside"
