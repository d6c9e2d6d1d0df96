from __future__ import annotations

import pytest

from llmops_cli.local_mesh import ProcessEntry, ProcessFile, environment_of
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


def test_a_target_that_runs_nowhere_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="'guard' is in no process"):
        ProcessFile({"rest": ProcessEntry(ALL_BUT_GUARD, admin_port=1, grpc_port=2)}).validate()
