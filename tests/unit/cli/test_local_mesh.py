from __future__ import annotations

import pytest

from llmops_cli.local_mesh import ProcessEntry, ProcessFile, end_order, environment_of
from llmops_cli.targets import TARGETS

ALL_BUT_GUARD = tuple(target for target in TARGETS if target != "guard")


def test_peers_follow_from_the_placement() -> None:
    processes = {
        "rest": ProcessEntry(ALL_BUT_GUARD, admin_port=1, grpc_port=2, http_port=3),
        "guard": ProcessEntry(("guard",), admin_port=4, grpc_port=5),
    }
    variables = environment_of("rest", processes)
    assert variables["LLMOPS__PEERS__GUARD__ADDRESS"] == "127.0.0.1:5"
    assert "LLMOPS__PEERS__LEDGER__ADDRESS" not in variables, "it runs here"


def test_replicas_share_an_address_with_every_port() -> None:
    processes = {
        "rest": ProcessEntry(ALL_BUT_GUARD, admin_port=1, grpc_port=2),
        "guard-1": ProcessEntry(("guard",), admin_port=3, grpc_port=4),
        "guard-2": ProcessEntry(("guard",), admin_port=5, grpc_port=6),
    }
    assert environment_of("rest", processes)["LLMOPS__PEERS__GUARD__ADDRESS"] == "ipv4:127.0.0.1:4,127.0.0.1:6"


def placed(**targets: tuple[str, ...]) -> dict[str, ProcessEntry]:
    return {name: ProcessEntry(of, admin_port=1, grpc_port=2) for name, of in targets.items()}


@pytest.mark.parametrize(
    ("processes", "steps"),
    [
        (
            placed(**{target: (target,) for target in TARGETS}),
            "edge orchestrator registry+guard+ledger+cache+router identity",
        ),
        (
            placed(back=("identity", "registry", "guard", "ledger", "cache"), front=("router", "orchestrator", "edge")),
            "front back",
        ),
        (
            placed(front=("router", "orchestrator", "edge"), back=("identity", "registry", "guard", "ledger", "cache")),
            "front back",
        ),
        (
            placed(a=("orchestrator", "registry"), b=("router", "ledger", "guard", "cache", "identity"), c=("edge",)),
            "c a b",
        ),
        (
            placed(
                rest=("identity", "registry", "guard", "cache", "router"),
                one=("orchestrator", "edge", "ledger"),
                two=("orchestrator", "edge", "ledger"),
            ),
            "one+two rest",
        ),
        # The edge's process keeps the ledger that the orchestrator needs.
        (placed(a=("edge", "ledger", "identity"), b=("orchestrator", "registry", "guard", "cache", "router")), "b a"),
        (placed(all=tuple(TARGETS)), "all"),
    ],
)
def test_nobody_ends_before_those_that_call_it(processes: dict[str, ProcessEntry], steps: str) -> None:
    assert end_order(processes) == [step.split("+") for step in steps.split()]


def test_a_target_that_runs_nowhere_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="'guard' is in no process"):
        ProcessFile({"rest": ProcessEntry(ALL_BUT_GUARD, admin_port=1, grpc_port=2)}).validate()
