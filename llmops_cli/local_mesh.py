"""One process per service on this machine: what `make mesh` starts, and what the tests run against.

A file of processes says which targets live together and on which ports; peers follow from it. Each process is an
ordinary `llmops serve` with its ports and peers in the environment, so nothing here is special to one machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmops_cli.configuration import load_configuration, read_file
from llmops_cli.development import state_folder
from llmops_cli.launcher import DRAINING, prepare, to_stderr
from llmops_cli.targets import TARGETS
from meshkit.lifecycle import EXIT_FAILED, EXIT_OK, EXIT_SECOND_SIGNAL, StopSignals
from meshkit.settings import SettingsError, load

_READY_TIMEOUT_S = 60.0
_POLL_S = 0.05
# Above what a process takes to drain: edge.drain_timeout_s and server.grace_s are 40 s together.
_GRACE_S = 90.0
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """A process: its targets and its ports. `http_port` is for the process of the edge."""

    targets: tuple[str, ...]
    admin_port: int
    grpc_port: int = 0
    http_port: int = 0

    def validate(self) -> None:
        """Raises ValueError for a process that nobody could reach."""
        if not self.targets:
            raise ValueError("targets must not be empty")
        unknown = [t for t in self.targets if t not in TARGETS]
        if unknown:
            raise ValueError(f"there is no target {unknown[0]!r}; targets are {', '.join(TARGETS)}")
        if any(TARGETS[t].speaks_grpc for t in self.targets) and not self.grpc_port:
            raise ValueError("grpc_port is missing: other processes must reach these targets")


@dataclass(frozen=True, slots=True)
class ProcessFile:
    """The file of processes. A target in several processes has that many replicas."""

    processes: dict[str, ProcessEntry] = field(default_factory=dict)

    def validate(self) -> None:
        """Raises ValueError when a target runs nowhere."""
        placed = {target for entry in self.processes.values() for target in entry.targets}
        missing = [target for target in TARGETS if target not in placed]
        if missing:
            raise ValueError(f"target {missing[0]!r} is in no process; add it to one")


def environment_of(name: str, processes: Mapping[str, ProcessEntry]) -> dict[str, str]:
    """The settings of one process as environment variables."""
    own = processes[name]
    variables = {
        "LLMOPS__SERVER__ADMIN_PORT": str(own.admin_port),
        "LLMOPS__SERVER__GRPC_PORT": str(own.grpc_port),
        "LLMOPS__SERVER__DEBUG_PORT": "-1",
    }
    if own.http_port:
        variables["LLMOPS__EDGE__PORT"] = str(own.http_port)
    for target in TARGETS:
        ports = [entry.grpc_port for entry in processes.values() if target in entry.targets]
        if ports and target not in own.targets and TARGETS[target].speaks_grpc:
            variables[f"LLMOPS__PEERS__{target.upper()}__ADDRESS"] = address_of(ports)
    return variables


def address_of(ports: Sequence[int]) -> str:
    """The gRPC target of one process, or of several that share the calls."""
    addresses = ",".join(f"{HOST}:{port}" for port in ports)
    return addresses if len(ports) == 1 else f"ipv4:{addresses}"


def end_order(processes: Mapping[str, ProcessEntry]) -> list[list[str]]:
    """Who ends together, step by step: nobody before those that call it, so that what runs is finished and booked.

    Of processes that call each other, the orchestrator's go first: it is they that book.
    """
    remaining, steps = dict(processes), []
    while remaining:
        called = {target for entry in remaining.values() for target in _called_by(entry)}
        step = [name for name, entry in remaining.items() if not called & set(entry.targets)]
        step = step or [name for name, entry in remaining.items() if "orchestrator" in entry.targets] or list(remaining)
        steps.append(step)
        remaining = {name: entry for name, entry in remaining.items() if name not in step}
    return steps


def _called_by(entry: ProcessEntry) -> set[str]:
    """Targets that a process finds elsewhere. All ask identity whose a key is."""
    depended = {needed for target in entry.targets for needed in TARGETS[target].depends_on}
    return (depended | {"identity"}) - set(entry.targets)


class LocalMesh:
    """Child processes of this one, each until its standard input closes: by `stop()`, or because this process ended.

    Signals end none of them: who tells all processes at once would end the ledger while the front still writes answers.
    """

    def __init__(
        self, processes: Mapping[str, ProcessEntry], config: Path | None, environ: Mapping[str, str], log: Path | None
    ) -> None:
        self.processes = processes
        self._config = config
        self._environ = dict(environ)
        self._log = log
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Starts one process."""
        entry = self.processes[name]
        command = [sys.executable, "-m", "llmops_cli", "serve", "--until-stdin-closes"]
        command += ["--target", ",".join(entry.targets)]
        if self._config is not None:
            command += ["--config", str(self._config)]
        root = Path(__file__).resolve().parent.parent
        paths = os.pathsep.join(filter(None, (str(root), str(root / "gen"), self._environ.get("PYTHONPATH", ""))))
        environ = {**self._environ, **environment_of(name, self.processes), "PYTHONPATH": paths}
        if name in self.children:
            _let_go(self.children[name])
        output = None if self._log is None else (self._log / f"{name}.log").open("ab")
        try:
            self.children[name] = subprocess.Popen(
                command, env=environ, stderr=output, stdin=subprocess.PIPE, start_new_session=True
            )
        finally:
            if output is not None:
                output.close()

    def start_all(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Starts every process once those it calls are ready. Raises SettingsError when one ends instead.

        Who looks for others too early waits before it looks again, and refuses calls of a mesh that was called ready.
        `given_up` says that nobody wants it any more.
        """
        for step in reversed(end_order(self.processes)):
            for name in step:
                if not given_up():
                    self.start(name)
            for name in step:
                self.wait_ready(name, given_up)

    def wait_ready(self, name: str, given_up: Callable[[], bool] = lambda: False) -> None:
        """Waits for one process's readiness, until it is `given_up`."""
        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        url = f"http://{HOST}:{self.processes[name].admin_port}/readyz"
        while not given_up() and not _answers(url):
            code = self.children[name].poll()
            if code is not None:
                raise SettingsError(f"process {name} ended with code {code}; its output says why")
            if time.monotonic() > deadline_s:
                raise SettingsError(f"process {name} was not ready after {_READY_TIMEOUT_S:.0f} s; see {url}")
            time.sleep(_POLL_S)

    def kill(self, name: str) -> None:
        """Ends one process the hard way."""
        self.children[name].send_signal(signal.SIGKILL)
        self.children[name].wait()

    def stop(self, at_once: Callable[[], bool] = lambda: False) -> dict[str, int]:
        """Drains every process after those that call it, all together once `at_once`. Returns the exit codes."""
        for step in end_order({name: self.processes[name] for name in self.children}):
            for name in step:
                _let_go(self.children[name])
            deadline_s = time.monotonic() + _GRACE_S
            while ending := [self.children[name] for name in step if self.children[name].poll() is None]:
                if time.monotonic() > deadline_s:
                    for child in ending:
                        child.kill()
                elif at_once():
                    self._hurry()
                time.sleep(_POLL_S)
        return {name: child.wait() for name, child in self.children.items()}

    def _hurry(self) -> None:
        """For one that drains already, this is the second signal."""
        for child in self.children.values():
            _let_go(child)
            child.terminate()


def _let_go(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - a loopback address of ours
            return bool(response.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


def run_processes(file: Path, config: Path | None) -> int:
    """Runs a file of processes until a signal, or until one of them ends. Returns the exit code."""
    _, raw = read_file(file, {}, "--processes")
    entries = load(ProcessFile, raw, str(file), os.environ).processes
    configuration = load_configuration(config, os.environ)
    # Made here, once: processes that start together must not race for first secrets.
    _, key = prepare(configuration, state_folder(dict(os.environ)))
    if key is not None and key.created:
        to_stderr(f"development key, shown this once, kept in {key.file}: {key.key}")
    mesh = LocalMesh(entries, config, os.environ, None)
    signals = StopSignals()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: signals.note(received))
    try:
        mesh.start_all(lambda: signals.stopping)
        if not signals.stopping:
            for name, entry in entries.items():
                to_stderr(f"{name:13} {', '.join(entry.targets)}")
            to_stderr("the mesh is ready; Ctrl-C ends it")
        while not signals.stopping and all(child.poll() is None for child in mesh.children.values()):
            time.sleep(_POLL_S)
        ended = [name for name, child in mesh.children.items() if child.poll() is not None]
        if ended:
            to_stderr(f"llmops: process {ended[0]} ended by itself; stopping the others")
        to_stderr(DRAINING)
    finally:
        codes = mesh.stop(lambda: signals.at_once)
    if signals.at_once:
        return EXIT_SECOND_SIGNAL
    return EXIT_OK if signals.stopping and not any(codes.values()) else EXIT_FAILED
