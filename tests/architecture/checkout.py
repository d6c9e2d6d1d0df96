"""Where things lie in the checkout under test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTORS = ROOT / "gen/llmops/descriptors.binpb"
BASELINE = ROOT / "protos/baseline.binpb"
_CODE = ("bench", "llmops_cli", "meshkit", "models", "protos", "services", "tests")


def python_files() -> Iterator[Path]:
    """Every hand-written Python file, relative to the root. Migrations are written once and never edited."""
    for folder in _CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "versions" not in path.parts and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT)


def descriptor_set(path: Path = DESCRIPTORS) -> descriptor_pb2.FileDescriptorSet:
    """A fresh copy of a descriptor set."""
    # Options are read through the modules that define them, so these have to be known before parsing.
    from buf.validate import validate_pb2  # noqa: F401, PLC0415
    from llmops.common.v1 import options_pb2  # noqa: F401, PLC0415

    return descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())


def own_services() -> Iterator[tuple[str, descriptor_pb2.FileDescriptorProto]]:
    """Services of the contract: name of the room, and the file that describes it."""
    for file in descriptor_set().file:
        if file.name.startswith("llmops/") and file.service:
            yield file.package.split(".")[1], file
