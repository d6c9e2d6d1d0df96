from __future__ import annotations

from pathlib import Path

import pytest

from services.registry.adapters.files import read_documents
from services.registry.core.document import Document
from services.registry.core.errors import InvalidFiles


def read(directory: Path, max_file_bytes: int = 1_000, max_files: int = 10) -> list[Document]:
    return read_documents(directory, max_file_bytes=max_file_bytes, max_files=max_files)


def write(directory: Path, **files: bytes | str) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_yaml_files_two_levels_deep_are_read_in_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "registry.yaml": "a: 1",
            "b/v1.0.yaml": "\ufeffa: é",
            "b/v1.1.yml": "a: 2",
            "b/notes.md": "x",
            "b/deeper/v1.0.yaml": "a: 3",
            "samples/contract.txt": "x",
            ".git/v1.0.yaml": "x",
            "b/.v1.0.yaml.swp": "x",
        },
    )
    assert read(tmp_path) == [
        Document("b/v1.0.yaml", {"a": "é"}),
        Document("b/v1.1.yml", {"a": 2}),
        Document("registry.yaml", {"a": 1}),
    ]


def test_links_are_followed_as_kubernetes_makes_them(tmp_path: Path) -> None:
    write(tmp_path, **{"..data_1/registry.yaml": "a: 1"})
    (tmp_path / "registry.yaml").symlink_to(tmp_path / "..data_1" / "registry.yaml")
    assert read(tmp_path) == [Document("registry.yaml", {"a": 1})]


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    write(tmp_path, **{"a.yaml": "x" * 1_001, "b.yaml": b"a: \xff", "c.yaml": "a: b: c"})
    (tmp_path / "d.yaml").symlink_to(tmp_path / "absent")
    assert [(each.file, each.problem) for each in read(tmp_path)] == [
        ("a.yaml", "is larger than 1000 bytes; registry.max_file_bytes sets the limit"),
        ("b.yaml", "is not UTF-8 at byte 3"),
        ("c.yaml", "mapping values are not allowed here at line 1, column 5"),
        ("d.yaml", "cannot be read: No such file or directory"),
    ]


def test_a_directory_has_a_limit_and_must_be_there(tmp_path: Path) -> None:
    write(tmp_path, **{f"{n}.yaml": "" for n in range(3)})
    assert len(read(tmp_path, max_files=3)) == 3
    with pytest.raises(InvalidFiles, match="has 3 YAML files; registry.max_files allows 2"):
        read(tmp_path, max_files=2)
    with pytest.raises(InvalidFiles, match="is not a directory; set registry.prompts_dir"):
        read(tmp_path / "absent")
