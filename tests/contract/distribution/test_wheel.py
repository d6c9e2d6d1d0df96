"""The wheel works without the checkout: everything that is not Python is inside, and the command finds it there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NEEDED = (
    "llmops/guard/v1/guard_pb2.py",
    "buf/validate/validate_pb2.py",
    "llmops_cli/prompts/registry.yaml",
    "llmops_cli/prompts/samples/contract.txt",
    "models/encoder.lock",
    "models/manifest.json",
    "models/complexity/weights.npz",
    "services/registry/migrations/versions/0001_create_registry.py",
    "services/ledger/migrations/versions/0001_books.py",
    "services/cache/migrations/versions/0001_entries.py",
    "services/identity/migrations/versions/0001_create_identity.py",
    "services/orchestrator/migrations/versions/0001_answers.py",
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tracked files and unpacked."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in tracked.decode().split("\0"):
        if name and not name.startswith(("tests/", "docs/", "bench/")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=50)
    [wheel] = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def run(unpacked: Path, folder: Path, *arguments: str) -> str:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(unpacked)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environ, check=True, capture_output=True, text=True, timeout=50
    ).stdout


@pytest.mark.parametrize("name", NEEDED)
def test_what_runs_is_inside(unpacked: Path, name: str) -> None:
    assert (unpacked / name).is_file()


def test_nothing_of_the_workshop_is_inside(unpacked: Path) -> None:
    assert not {"tests", "bench", "protos", "gen"} & {path.name for path in unpacked.iterdir()}


def test_the_command_runs_from_it_outside_a_checkout(unpacked: Path, tmp_path: Path) -> None:
    where = run(
        unpacked,
        tmp_path,
        "-c",
        "import llmops_cli.demonstration as d, services.guard.main as g, llmops; "
        "print(d.shipped_prompts(), g.__file__, llmops.__file__, sep='\\n')",
    )
    assert all(line.startswith(str(unpacked)) for line in where.split())
    assert "valid" in run(unpacked, tmp_path, "-m", "llmops_cli", "config", "check")
    assert "orchestrator" in run(unpacked, tmp_path, "-m", "llmops_cli", "targets")
