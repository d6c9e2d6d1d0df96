"""The configuration files of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.config import PROCESSES, PROVIDER_SCRIPT, Layout, SystemPlan, plan
from llmops_cli.configuration import load_configuration
from llmops_cli.provider_sim import Script


def planned(tmp_path: Path, *, split: bool = False, models: bool = False) -> SystemPlan:
    layout = Layout("any", split=split, models=models)
    return plan(layout, tmp_path, "http://127.0.0.1:9/v1", "postgresql:///x", tmp_path / "models")


def test_one_process_runs_everything(tmp_path: Path) -> None:
    [process] = planned(tmp_path).processes
    assert process.argv[1:3] == ("up", "--config")
    assert process.environment["LLMOPS_DATABASE_URL"] == "postgresql:///x"
    config = yaml.safe_load(Path(process.argv[3]).read_text())
    assert config["models"]["directory"] == ""
    assert config["orchestrator"]["semantic_cache"] is False
    assert process.ready_url.endswith(f":{config['edge']['port']}/readyz")


def test_the_encoder_is_on_only_where_the_layout_says_so(tmp_path: Path) -> None:
    [process] = planned(tmp_path, models=True).processes
    config = yaml.safe_load(Path(process.argv[3]).read_text())
    assert config["models"]["directory"].endswith("models")
    assert config["orchestrator"]["semantic_cache"] is True


def test_split_processes_know_each_other_and_share_no_port(tmp_path: Path) -> None:
    system = planned(tmp_path, split=True)
    configs = {one.name: yaml.safe_load(Path(one.argv[3]).read_text()) for one in system.processes}
    assert tuple(configs) == tuple("-".join(targets) for targets in PROCESSES)
    ports = [config["server"][name] for config in configs.values() for name in ("grpc_port", "admin_port")]
    assert len({*ports, system.edge_port}) == 2 * len(PROCESSES) + 1
    home = {target: configs["-".join(targets)] for targets in PROCESSES for target in targets}
    for targets in PROCESSES:
        peers = configs["-".join(targets)]["peers"]
        assert set(peers) == set(home) - set(targets) - {"edge"}
        for peer, entry in peers.items():
            assert entry["address"] == f"127.0.0.1:{home[peer]['server']['grpc_port']}"


def test_the_simulator_accepts_the_script_of_the_benchmark() -> None:
    assert len(Script.from_mapping(PROVIDER_SCRIPT).rules) == 2


@pytest.mark.parametrize("split", [False, True])
def test_the_product_accepts_the_configuration(tmp_path: Path, *, split: bool) -> None:
    for process in planned(tmp_path, split=split).processes:
        load_configuration(Path(process.argv[3]), {})
