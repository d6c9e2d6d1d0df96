"""Model files and the manifest that names them. A file whose hash is not in the manifest is never loaded.

The hash is taken of the bytes that are then used, on every start: 60 MB take 35 ms on a CPU with SHA instructions,
so no stamp file has to be trusted.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path


class ModelError(Exception):
    """A model cannot be used. ModelNotInstalled: it is not there. ModelRefused: it is there, and it is not the one."""


class ModelNotInstalled(ModelError):
    """A file of the model is missing; the message says how to install it."""


class ModelRefused(ModelError):
    """The manifest does not know the model, or a file differs from what the manifest says."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file as it must be; `size_bytes` is compared before the hash is taken."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the manifest. `folder` is relative to the folder of all models."""

    name: str
    folder: str
    dimensions: int
    max_tokens: int
    files: tuple[ModelFile, ...]

    @property
    def id(self) -> str:
        """Name and a digest over all its files: vectors of different ids must never be compared."""
        lines = "".join(f"{file.sha256}  {file.name}\n" for file in sorted(self.files, key=lambda file: file.name))
        return f"{self.name}@sha256:{hashlib.sha256(lines.encode()).hexdigest()[:16]}"

    def file(self, name: str) -> ModelFile:
        """The file of that name. Raises ModelRefused when the manifest has none."""
        for file in self.files:
            if file.name == name:
                return file
        raise ModelRefused(f"the manifest names no file {name} for the model {self.name}")


def released_manifest() -> Path:
    """The manifest that came with this code, in a checkout and in an installed wheel alike."""
    spec = importlib.util.find_spec("models")
    if spec is None or spec.origin is None:
        raise ModelRefused("this installation carries no manifest of models; install the whole of llmops-mesh")
    return Path(spec.origin).with_name("manifest.json")


def read_entry(manifest: Path, model: str) -> ModelEntry:
    """Reads one model's entry of `manifest.json`. Raises ModelRefused when there is none."""
    try:
        found = json.loads(manifest.read_bytes())["models"][model]
        return ModelEntry(
            name=found["name"],
            folder=found["folder"],
            dimensions=found["dimensions"],
            max_tokens=found["max_tokens"],
            files=tuple(ModelFile(file["name"], file["sha256"], file["size_bytes"]) for file in found["files"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelRefused(f"{manifest} has no readable entry for the model {model}: {error!r}") from error


def read_file(models: Path, entry: ModelEntry, name: str) -> bytes:
    """The bytes of a model's file below `models`, after they were compared with the manifest."""
    expected = entry.file(name)
    path = models / entry.folder / expected.name
    try:
        if path.stat().st_size != expected.size_bytes:
            raise ModelRefused(f"{path} has another size than the manifest says; run `make models` again")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelNotInstalled(f"{path} is not there; run `make models`") from None
    if hashlib.sha256(content).hexdigest() != expected.sha256:
        raise ModelRefused(f"{path} is not the file that the manifest names; delete it and run `make models` again")
    return content


def installed(models: Path, entry: ModelEntry) -> bool:
    """Whether every file is there and is the right one. Raises nothing."""
    try:
        for file in entry.files:
            read_file(models, entry, file.name)
    except (ModelError, OSError):
        return False
    return True
