"""docs/failure-contract.yaml is about edges that exist, about all of them, and names tests that exist."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from llmops_cli.targets import TARGETS
from tests.architecture.checkout import ROOT

CONTRACT: dict[str, Any] = yaml.safe_load((ROOT / "docs/failure-contract.yaml").read_text(encoding="utf-8"))
ENTRIES: list[dict[str, Any]] = CONTRACT["dependencies"]
STATES = ("down", "slow", "wrong")
POLICIES = frozenset({"open", "closed", "degraded"})
# Beyond the table of targets: who calls the mesh, whom it calls, what the chain asks in every process, and who uses a
# database where there is one.
OUTSIDE = frozenset(
    {
        ("client", "edge"),
        ("router", "provider"),
        ("authorisation", "identity"),
        ("audit", "identity"),
        ("orchestrator", "postgresql"),
    }
)


def edges() -> frozenset[tuple[str, str]]:
    peers = {(target.name, peer) for target in TARGETS.values() for peer in target.depends_on}
    stores = {(target.name, "postgresql") for target in TARGETS.values() if target.needs_database}
    return frozenset(peers | stores | OUTSIDE)


def edge_of(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["caller"], entry["dependency"]


def statements(entry: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield from (entry[state] for state in STATES)
    yield from entry.get("also", ())


def test_every_edge_is_covered_once_and_no_other() -> None:
    covered = [edge_of(entry) for entry in ENTRIES]
    assert len(set(covered)) == len(covered)
    assert set(covered) == edges()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: "-".join(edge_of(entry)))
def test_every_statement_has_a_policy_an_outcome_and_a_test_that_exists(entry: dict[str, Any]) -> None:
    assert set(entry) <= {"caller", "dependency", *STATES, "also"}
    for statement in statements(entry):
        assert statement["policy"] in POLICIES
        assert statement["sees"]
        file, _, name = statement["proof"].partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in tests, f"{file} has no test {name}"
        assert name.startswith("test_")
