from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture import sizes
from tests.architecture.checkout import ROOT, python_files

EXEMPTIONS = sizes.read_exemptions(Path(__file__).with_name("size_exemptions.toml"))


@pytest.fixture(scope="module")
def measured() -> list[sizes.Measured]:
    return [one for path in python_files() for one in sizes.measure(ROOT / path, path.as_posix())]


def test_files_and_functions_stay_within_their_budgets(measured: list[sizes.Measured]) -> None:
    assert [found for one in measured for found in sizes.objections(one, EXEMPTIONS)] == []


def test_no_exemption_is_left_over(measured: list[sizes.Measured]) -> None:
    assert list(sizes.stale(measured, EXEMPTIONS)) == []
    for one in measured:
        if one.lines > one.budget:
            print(f"exempt: {one.name}, {one.lines} lines: {EXEMPTIONS.get(one.name)}")  # noqa: T201 - for the reader of -s


def body(lines: int) -> str:
    return "\n".join(["    pass"] * lines)


def objections(path: Path, source: str, exemptions: sizes.Exemptions | None = None) -> list[str]:
    path.write_text(source)
    return [found for one in sizes.measure(path, "m.py") for found in sizes.objections(one, exemptions or {})]


def test_the_longest_file_and_function_that_fit(tmp_path: Path) -> None:
    assert objections(tmp_path / "m.py", f"def f():\n{body(39)}\n" + "x = 1\n" * 360) == []


def test_a_function_over_its_budget_is_named_with_its_class(tmp_path: Path) -> None:
    source = f"class A:\n    async def f(self):\n{body(40).replace('    ', '        ')}\n"
    assert objections(tmp_path / "m.py", source) == ["m.py::A.f has 41 lines, its budget is 40; split it by idea"]
    assert objections(tmp_path / "m.py", source, {"m.py::A.f": "a table"}) == []
    assert objections(tmp_path / "m.py", source, {"m.py::A.f": ""}) != []


def test_a_function_inside_a_function_is_found(tmp_path: Path) -> None:
    source = f"def outer():\n    if True:\n        def inner():\n{body(45).replace('    ', '            ')}\n"
    assert {found.split()[0] for found in objections(tmp_path / "m.py", source)} == {"m.py::outer", "m.py::outer.inner"}


@pytest.mark.parametrize(("lines", "excusable"), [(401, True), (600, True), (601, False)])
def test_a_long_file_needs_a_reason_and_a_very_long_one_has_none(tmp_path: Path, lines: int, excusable: bool) -> None:  # noqa: FBT001
    source = "x = 1\n" * lines
    assert len(objections(tmp_path / "m.py", source)) == 1
    assert (objections(tmp_path / "m.py", source, {"m.py": "data"}) == []) is excusable


def test_a_function_of_more_than_seventy_lines_has_no_excuse(tmp_path: Path) -> None:
    assert len(objections(tmp_path / "m.py", f"def f():\n{body(70)}\n", {"m.py::f": "a table"})) == 1


def test_an_exemption_that_nothing_needs_is_named() -> None:
    fits = sizes.Measured("m.py", 400, 400, 600)
    assert list(sizes.stale([fits], {"m.py": "data", "gone.py": "data"})) != []
    assert list(sizes.stale([sizes.Measured("m.py", 401, 400, 600)], {"m.py": "data"})) == []
