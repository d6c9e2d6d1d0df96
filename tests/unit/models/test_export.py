from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meshkit.model_files import (
    ModelEntry,
    ModelFile,
    ModelNotInstalled,
    ModelRefused,
    installed,
    read_entry,
    read_file,
    released_manifest,
)
from models import package
from models.errors import ExportError
from models.export import MANIFEST, compare, install

ROOT = Path(__file__).resolve().parents[3]
FILES = {"encoder.onnx": b"graph", "tokenizer.json": b"{}"}


def entry_of(files: dict[str, bytes]) -> ModelEntry:
    named = [ModelFile(name, hashlib.sha256(content).hexdigest(), len(content)) for name, content in files.items()]
    return ModelEntry("tiny", "tiny", 64, 256, tuple(named))


def test_the_wheel_is_read_and_its_weights_are_found(write_wheel: Callable[..., Path]) -> None:
    read = package.read(write_wheel())
    assert read.config["model_type"] == "bert"
    assert read.weights["embeddings.word_embeddings.weight"].dtype == "float32"
    assert len(read.wheel_sha256) == 64


def test_a_wheel_without_weights_is_refused(write_wheel: Callable[..., Path]) -> None:
    with pytest.raises(ExportError, match=r"has no model\.safetensors"):
        package.read(write_wheel(model=None))


def test_what_the_manifest_does_not_name_is_not_installed() -> None:
    compare(FILES, entry_of(FILES))
    with pytest.raises(ExportError, match=r"another encoder\.onnx"):
        compare(FILES | {"encoder.onnx": b"graph of another version"}, entry_of(FILES))


def test_installed_files_are_complete_readable_and_leave_nothing_beside_them(tmp_path: Path) -> None:
    folder = install(tmp_path / "tiny", FILES)
    assert installed(tmp_path, entry_of(FILES))
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_a_broken_install_is_repaired(tmp_path: Path) -> None:
    install(tmp_path / "tiny", FILES | {"encoder.onnx": b"half a gr"})
    assert not installed(tmp_path, entry_of(FILES))
    install(tmp_path / "tiny", FILES)
    assert installed(tmp_path, entry_of(FILES))


@pytest.mark.parametrize("content", [b"grap", b"groph"], ids=["another size", "another hash"])
def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path, content: bytes) -> None:
    install(tmp_path / "tiny", FILES | {"encoder.onnx": content})
    with pytest.raises(ModelRefused, match="make models"):
        read_file(tmp_path, entry_of(FILES), "encoder.onnx")


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotInstalled, match="make models"):
        read_file(tmp_path, entry_of(FILES), "encoder.onnx")


def test_a_model_or_file_that_nobody_described_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="no file other"):
        read_file(tmp_path, entry_of(FILES), "other.onnx")
    with pytest.raises(ModelRefused, match="no readable entry"):
        read_entry(MANIFEST, "oracle")
    (tmp_path / "manifest.json").write_text("not json")
    with pytest.raises(ModelRefused, match="no readable entry"):
        read_entry(tmp_path / "manifest.json", "encoder")


def test_the_id_changes_with_any_file_and_not_with_their_order() -> None:
    entry = entry_of(FILES)
    assert entry.id == entry_of(dict(reversed(FILES.items()))).id
    assert entry.id != entry_of(FILES | {"tokenizer.json": b"[]"}).id
    assert len(entry.id.encode()) <= 128


def test_services_check_against_the_manifest_of_this_package() -> None:
    assert released_manifest() == MANIFEST


def test_the_manifest_and_the_lock_name_the_same_wheel() -> None:
    source = json.loads(MANIFEST.read_text())["models"]["encoder"]["source"]
    lock = package.LOCK.read_text()
    assert f"{source['package']}=={source['version']}" in lock
    assert source["wheel_sha256"] in lock
    assert (source["package"], source["version"]) == (package.PACKAGE, package.VERSION)


def test_recognising_an_installed_model_needs_none_of_the_export_s_libraries() -> None:
    program = (
        "import sys, models.export; print(sorted({'onnx', 'numpy', 'safetensors', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
