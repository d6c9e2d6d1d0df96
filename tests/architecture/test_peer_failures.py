"""docs/peer-failures.md is true: its tests exist, name the threads, and the threads are named by its tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.architecture.checkout import ROOT

_ROW = re.compile(r"^\| (\d+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$")
_TEST = re.compile(r"`(tests/[^`]+)::(test_\w+)`")
_THREAD = re.compile(r"#(\d+)")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    number: int
    threads: tuple[str, ...]
    tests: tuple[tuple[str, str], ...]


def rows(text: str) -> list[Row]:
    """The lines of the table. Fails for a line that is none."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    found = [_ROW.match(line) for line in lines]
    return [
        Row(int(match[1]), tuple(_THREAD.findall(match[2])), tuple(_TEST.findall(match[3])))
        for match, line in zip(found, lines, strict=True)
        if match or pytest.fail(f"this is no row of the table: {line}")
    ]


def objections(row: Row) -> Iterator[str]:
    """What is wrong with a row."""
    sources = {}
    for path, name in row.tests:
        source = source_of(path, name)
        if source is None:
            yield f"row {row.number}: {path}::{name} does not exist"
        else:
            sources[name] = source
    if not row.tests or not row.threads:
        yield f"row {row.number}: it names no test or no thread"
    for thread in row.threads:
        if not any(named(thread, source) for source in sources.values()):
            yield f"row {row.number}: none of its tests names #{thread}"
    for name, source in sources.items():
        if not any(named(thread, source) for thread in row.threads):
            yield f"row {row.number}: {name} names none of its threads"


def named(thread: str, source: str) -> bool:
    """Whether a test's source has the thread's number, as #123 or as _123_ in its name."""
    return re.search(rf"[#_]{thread}(?!\d)", source) is not None


def source_of(path: str, name: str) -> str | None:
    """The source of a test; None when there is none."""
    file = ROOT / path
    if not file.is_file():
        return None
    text = file.read_text()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return ast.get_source_segment(text, node)
    return None


def test_every_row_has_tests_that_name_its_threads() -> None:
    found = rows((ROOT / "docs/peer-failures.md").read_text())
    assert len({row.number for row in found}) == len(found) >= 36
    assert [objection for row in found for objection in objections(row)] == []


def test_the_check_bites() -> None:
    here = "tests/architecture/test_peer_failures.py"
    one, other = "test_the_check_bites", "test_no_service_queues_behind_an_advisory_lock"
    assert list(objections(Row(1, ("746",), ((here, other),)))) == []
    assert list(objections(Row(1, ("746", "747"), ((here, other),)))) == ["row 1: none of its tests names #747"]
    assert list(objections(Row(1, ("776",), ((here, "test_nothing"),)))) == [
        f"row 1: {here}::test_nothing does not exist",
        "row 1: none of its tests names #776",
    ]
    assert list(objections(Row(1, ("776",), ((here, other), ("tests/none.py", one))))) == [
        f"row 1: tests/none.py::{one} does not exist"
    ]
    assert list(
        objections(Row(1, ("776",), ((here, other), (here, "test_every_row_has_tests_that_name_its_threads"))))
    ) == ["row 1: test_every_row_has_tests_that_name_its_threads names none of its threads"]
    assert list(objections(Row(1, (), ()))) == ["row 1: it names no test or no thread"]


def test_no_service_queues_behind_an_advisory_lock() -> None:
    """GaloyMoney/cala#746, #776: everybody queued behind one constant. Only migrations may, once per start.

    The ledger's journal is written under a shared one, which waits for the sealer's single look, for a change of a
    limit's time zone, and for nobody else.
    """
    files = [*(ROOT / "services").rglob("*.py"), *(ROOT / "meshkit").rglob("*.py"), *(ROOT / "services").rglob("*.sql")]
    assert len(files) > 100
    takers = {str(file.relative_to(ROOT)) for file in files if re.search("pg_(try_)?advisory", file.read_text())}
    seals = "services/ledger/migrations/versions/0004_sealed_journal.py"
    joins = "services/ledger/migrations/versions/0005_writers_join_early.py"
    tries = "services/ledger/adapters/statements.py"
    assert takers == {"meshkit/postgres.py", seals, joins, tries}
    assert re.findall(r"pg_\w*advisory\w*\(\d+", (ROOT / tries).read_text()) == ["pg_try_advisory_xact_lock(7312"]
    assert set(re.findall(r"pg_(?:try_)?advisory\w*\(\d+", (ROOT / joins).read_text())) == {
        "pg_advisory_xact_lock_shared(7311"
    }
    exclusive = re.findall(r"pg_(?:try_)?advisory\w*\(7311", (ROOT / seals).read_text())
    assert sorted(exclusive) == ["pg_advisory_xact_lock(7311", "pg_advisory_xact_lock_shared(7311"]
    text = (ROOT / "meshkit/postgres.py").read_text()
    migrate = source_of("meshkit/postgres.py", "migrate")
    assert migrate is not None
    assert migrate.count("pg_advisory") == text.count("pg_advisory") == 2
