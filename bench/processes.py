"""Starts what a run needs, each on its own cores, and ends it again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from bench.config import PROVIDER_SCRIPT, SystemPlan

_READY_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.005
_STOP_TIMEOUT_S: Final = 15.0
_LOG_LINES: Final = 20


class StartError(Exception):
    """A process did not become ready; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The system under test has one core to itself; everything else shares the others."""

    system: tuple[int, ...]
    others: tuple[int, ...]

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The first usable core for the system; StartError on a machine with one core."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise StartError("a benchmark needs two cores: one for the system, one for the load and the provider")
        return cls(system=(usable[0],), others=tuple(usable[1:]))


@dataclass(slots=True)
class Process:
    """A child process and its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """StartError when it ended."""
        code = self.popen.poll()
        if code is not None:
            raise StartError(f"{self.name} ended with status {code}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is not enough."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@dataclass(slots=True)
class System:
    """The system under test while it runs."""

    processes: list[Process] = field(default_factory=list)
    edge_port: int = 0
    ready_after_s: float = 0.0

    @property
    def pids(self) -> tuple[int, ...]:
        """Its processes; children are found when usage is read."""
        return tuple(process.popen.pid for process in self.processes)


def start(name: str, argv: Sequence[str], log: Path, cores: tuple[int, ...], environment: dict[str, str]) -> Process:
    """Start a child on these cores; it inherits them, so that none of its threads ever runs elsewhere."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        with log.open("wb") as stream:
            popen = subprocess.Popen(argv, stdout=stream, stderr=stream, env=os.environ | environment)
    finally:
        os.sched_setaffinity(0, own)
    return Process(name, popen, log)


@contextlib.contextmanager
def running(plan: SystemPlan, folder: Path, cores: tuple[int, ...]) -> Iterator[System]:
    """The system, ready; `ready_after_s` counts from the first start to the last process that says so."""
    system = System(edge_port=plan.edge_port)
    started_s = time.monotonic()
    try:
        for one in plan.processes:
            system.processes.append(start(one.name, one.argv, folder / f"{one.name}.log", cores, one.environment))
        for one, process in zip(plan.processes, system.processes, strict=True):
            wait_ready(process, one.ready_url)
        system.ready_after_s = time.monotonic() - started_s
        yield system
    finally:
        for process in reversed(system.processes):
            process.stop()


@contextlib.contextmanager
def provider(folder: Path, port: int, cores: tuple[int, ...]) -> Iterator[Process]:
    """The provider simulator, ready."""
    script = folder / "provider.yaml"
    script.write_text(yaml.safe_dump(PROVIDER_SCRIPT), encoding="utf-8")
    argv = [sys.executable, "-m", "llmops_cli.provider_sim", "--port", str(port), "--script", str(script)]
    process = start("provider-sim", argv, folder / "provider.log", cores, {})
    try:
        wait_ready(process, f"http://127.0.0.1:{port}/v1/models")
        yield process
    finally:
        process.stop()


def wait_ready(process: Process, url: str) -> None:
    """Return once `url` answers 200; StartError when the process ends or takes too long."""
    until = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < until:
        process.check()
        try:
            with urllib.request.urlopen(url, timeout=1.0) as answer:
                if answer.status == 200:
                    return
        except OSError:  # not listening yet, or not ready (urllib raises on 503)
            time.sleep(_POLL_S)
    raise StartError(f"{process.name} was not ready after {_READY_TIMEOUT_S:.0f} s:\n{process.tail()}")
