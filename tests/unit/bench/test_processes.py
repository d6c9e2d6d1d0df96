"""Processes are started on their cores, waited for and ended. The simulator stands in for the product."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.config import ProcessPlan, SystemPlan, free_port
from bench.processes import StartError, provider, running


def simulator(name: str, port: int) -> ProcessPlan:
    argv = (sys.executable, "-m", "llmops_cli.provider_sim", "--port", str(port))
    return ProcessPlan(name, argv, {}, f"http://127.0.0.1:{port}/v1/models")


def test_a_system_is_ready_pinned_and_gone_afterwards(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    own = os.sched_getaffinity(0)
    plan = SystemPlan((simulator("one", free_port()), simulator("two", free_port())), edge_port=1)
    with running(plan, tmp_path, (core,)) as system:
        assert len(system.pids) == 2
        assert system.ready_after_s > 0
        assert {frozenset(os.sched_getaffinity(pid)) for pid in system.pids} == {frozenset({core})}
    assert os.sched_getaffinity(0) == own
    assert [process.popen.returncode for process in system.processes] == [0, 0]


def test_a_process_that_ends_before_it_is_ready_shows_its_log(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "import sys; sys.exit('the port is taken')")
    plan = SystemPlan((ProcessPlan("broken", argv, {}, "http://127.0.0.1:1/readyz"),), edge_port=1)
    wrong = pytest.raises(StartError, match=r"broken ended with status 1:\nthe port is taken")
    with wrong, running(plan, tmp_path, tuple(os.sched_getaffinity(0))):
        pass


def test_a_failing_neighbour_ends_the_whole_system(tmp_path: Path) -> None:
    good = simulator("good", free_port())
    broken = ProcessPlan("broken", (sys.executable, "-c", "raise SystemExit(3)"), {}, "http://127.0.0.1:1/")
    plan = SystemPlan((good, broken), edge_port=1)
    wrong = pytest.raises(StartError, match="broken ended with status 3")
    with wrong, running(plan, tmp_path, tuple(os.sched_getaffinity(0))):
        pass
    assert "listening" in (tmp_path / "good.log").read_text()


def test_the_provider_serves_the_models_of_the_benchmark(tmp_path: Path) -> None:
    with provider(tmp_path, free_port(), tuple(os.sched_getaffinity(0))) as process:
        process.check()
    assert process.popen.returncode == 0
