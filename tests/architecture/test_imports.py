"""The import contracts of `.importlinter`: kept by the code, and able to fail."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.checkout import ROOT
from tests.architecture.rooms import services_in

CONFIG = ROOT / ".importlinter"
CONTRACTS = {
    "layers": "The command above the services",
    "services": "Services never import each other",
    "rooms": "Inside a service",
    "core": "The core of a service knows no outside",
    "stubs": "Stubs and servicers are touched",
}
# The rest of the house: what a core may import beyond the standard library.
CORE_MAY_IMPORT = {"numpy"}


def lint(root: Path) -> tuple[int, str]:
    """Runs the linter on the packages below `root` with the contracts of this repository."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "gen")]), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def broken(output: str) -> set[str]:
    """The contracts that the linter's summary calls broken."""
    summary = output.split("Contracts:", maxsplit=1)[0]
    return {
        key for key, name in CONTRACTS.items() if re.search(rf"{re.escape(name)}(?:(?!KEPT|BROKEN).)*BROKEN", summary)
    }


def test_the_contracts_are_kept() -> None:
    code, output = lint(ROOT)
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken" in output, output
    assert code == 0


def names(section: str, option: str) -> list[str]:
    config = configparser.ConfigParser()
    config.read(CONFIG)
    return config[f"importlinter:contract:{section}"][option].split()


def test_every_service_is_under_the_contract_of_rooms() -> None:
    assert names("rooms", "containers") == [f"services.{path.name}" for path in services_in(ROOT / "services")]


def test_every_stub_is_protected() -> None:
    stubs = sorted((ROOT / "gen/llmops").rglob("*_pb2_grpc.py"))
    assert names("stubs", "protected_modules") == [
        ".".join(path.relative_to(ROOT / "gen").with_suffix("").parts) for path in stubs
    ]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The packages that the contracts name, empty and without a fault."""
    modules = ["llmops_cli.up", "meshkit.actions", "meshkit.authentication", "meshkit.kit", "models.export"]
    modules += [f"{service}.{room}" for service in names("rooms", "containers") for room in ROOMS]
    modules += names("stubs", "protected_modules")
    for module in modules:
        parts = module.split(".")
        base = tmp_path / "gen" if parts[0] == "llmops" else tmp_path
        path = base.joinpath(*parts).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        folder = path.parent
        while folder != base:
            (folder / "__init__.py").touch()
            folder = folder.parent
    (tmp_path / ".importlinter").write_text(CONFIG.read_text())
    return tmp_path


ROOMS = ("main", "api", "settings", "core.ports", "adapters.memory")


def test_an_empty_house_passes(house: Path) -> None:
    assert lint(house)[0] == 0


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("meshkit/kit.py", "import services.guard.main", {"layers"}),
        ("services/guard/main.py", "import llmops_cli.up", {"layers"}),
        ("services/guard/adapters/memory.py", "import models.export", {"layers"}),
        ("gen/llmops/__init__.py", "import meshkit.kit", {"layers"}),
        ("services/guard/adapters/memory.py", "import services.cache.core.ports", {"services"}),
        ("services/guard/api.py", "import services.guard.adapters.memory", {"rooms"}),
        ("services/guard/adapters/memory.py", "import services.guard.api", {"rooms"}),
        ("services/guard/core/ports.py", "import services.guard.settings", {"rooms"}),
        ("services/guard/api.py", "import services.guard.main", {"rooms"}),
        ("services/guard/telemetry.py", "", {"rooms"}),
        ("services/guard/core/ports.py", "def f():\n    import grpc.aio", {"core"}),
        ("services/guard/core/ports.py", "from google.protobuf import message", {"core"}),
        ("services/guard/core/ports.py", "import meshkit.kit", {"core"}),
        ("services/guard/core/ports.py", "import sqlalchemy, asyncpg, onnxruntime, faiss, opentelemetry", {"core"}),
        ("services/guard/adapters/memory.py", "import llmops.guard.v1.guard_pb2_grpc", {"stubs"}),
        ("meshkit/kit.py", "from llmops.ledger.v1 import ledger_pb2_grpc", {"stubs"}),
    ],
)
def test_a_planted_import_breaks_its_contract(house: Path, file: str, line: str, expected: set[str]) -> None:
    (house / file).write_text(f"{line}\n")
    code, output = lint(house)
    assert code != 0
    assert broken(output) == expected, output


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("services/guard/api.py", "import services.guard.core.ports, llmops.guard.v1.guard_pb2_grpc"),
        ("services/orchestrator/adapters/memory.py", "import llmops.guard.v1.guard_pb2_grpc"),
        ("services/guard/main.py", "import services.guard.api, services.guard.adapters.memory, meshkit.kit"),
        ("llmops_cli/up.py", "import services.guard.main, models.export"),
    ],
)
def test_what_the_plan_allows_passes(house: Path, file: str, line: str) -> None:
    (house / file).write_text(f"{line}\n")
    assert lint(house)[0] == 0


def foreign_imports(path: Path, service: str) -> Iterator[str]:
    """What a core module imports beyond the standard library, numpy and its own core."""
    for node in ast.walk(ast.parse(path.read_text())):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""] if not node.level else []
        for module in modules:
            first = module.split(".")[0]
            own = module == f"services.{service}.core" or module.startswith(f"services.{service}.core.")
            if not own and first not in sys.stdlib_module_names | CORE_MAY_IMPORT:
                yield module


@pytest.mark.parametrize("service", services_in(ROOT / "services"), ids=lambda path: path.name)
def test_a_core_imports_only_the_standard_library_and_numpy(service: Path) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in (service / "core").rglob("*.py")
        for module in foreign_imports(path, service.name)
    }
    assert found == set()


def test_foreign_imports_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "core.py"
    path.write_text(
        "import re, numpy\nfrom services.guard.core import ports\n"
        "def f():\n    import msgspec\n    from services.cache.core import keys\n"
    )
    assert list(foreign_imports(path, "guard")) == ["msgspec", "services.cache.core"]
