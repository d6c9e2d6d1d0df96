from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture import rooms
from tests.architecture.checkout import ROOT, own_services, python_files

RPCS = {
    room: [f"{file.package}.{service.name}/{method.name}" for service in file.service for method in service.method]
    for room, file in own_services()
}


@pytest.mark.parametrize("service", rooms.services_in(ROOT / "services"), ids=lambda path: path.name)
def test_a_service_has_exactly_its_rooms(service: Path) -> None:
    assert list(rooms.objections(service, RPCS.get(service.name, []))) == []


def test_names_say_what_is_inside() -> None:
    assert list(rooms.empty_names(list(python_files()))) == []


def complete_service(folder: Path, name: str = "guard") -> Path:
    service = folder / name
    for file in ("__init__.py", "main.py", "settings.py", "api.py", *rooms.REQUIRED_BELOW):
        (service / file).parent.mkdir(parents=True, exist_ok=True)
        (service / file).write_text("")
    (service / "README.md").write_text("grpcurl -plaintext \\\n  localhost:50051 llmops.guard.v1.GuardService/Check\n")
    return service


CHECK = "llmops.guard.v1.GuardService/Check"


def test_a_complete_service_passes(tmp_path: Path) -> None:
    assert list(rooms.objections(complete_service(tmp_path), [CHECK])) == []


@pytest.mark.parametrize("missing", sorted((rooms.REQUIRED - {"core", "adapters"}) | set(rooms.REQUIRED_BELOW)))
def test_a_missing_room_is_named(tmp_path: Path, missing: str) -> None:
    service = complete_service(tmp_path)
    (service / missing).unlink()
    assert f"services/guard has no {missing}" in list(rooms.objections(service, []))


@pytest.mark.parametrize("unplanned", ["metrics.py", "console", "docs"])
def test_an_unplanned_room_is_named(tmp_path: Path, unplanned: str) -> None:
    service = complete_service(tmp_path)
    (service / unplanned).mkdir()
    assert list(rooms.objections(service, [CHECK])) == [f"services/guard/{unplanned} is in no plan"]


def test_only_the_edge_has_a_console(tmp_path: Path) -> None:
    edge = complete_service(tmp_path, "edge")
    (edge / "console").mkdir()
    assert list(rooms.objections(edge, [])) == []


def test_a_service_that_nobody_planned_is_named(tmp_path: Path) -> None:
    assert any(
        "services/billing is in no plan" in found
        for found in rooms.objections(complete_service(tmp_path, "billing"), [])
    )


@pytest.mark.parametrize("only", ["migrations", "adapters/sql.py"])
def test_tables_and_migrations_come_together(tmp_path: Path, only: str) -> None:
    service = complete_service(tmp_path)
    (service / only).mkdir() if only == "migrations" else (service / only).write_text("")
    assert any("both migrations/ and adapters/sql.py" in found for found in rooms.objections(service, [CHECK]))


def test_an_rpc_without_a_grpcurl_line_is_named(tmp_path: Path) -> None:
    # CheckInput is not documented by a line for Check, nor the other way round.
    service = complete_service(tmp_path)
    found = list(rooms.objections(service, [CHECK, f"{CHECK}Input", "llmops.guard.v1.GuardService/Che"]))
    assert [line.rsplit("/", 1)[-1] for line in found] == ["CheckInput", "Che"]


@pytest.mark.parametrize(
    "path", ["meshkit/utils.py", "services/guard/core/helpers.py", "meshkit/common/x.py", "a/task_manager.py"]
)
def test_a_name_that_says_nothing_is_named(path: str) -> None:
    assert list(rooms.empty_names([Path(path)]))
    assert not list(rooms.empty_names([Path("meshkit/group_commit.py"), Path("llmops_cli/manage.py")]))
