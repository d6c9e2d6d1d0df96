"""Real processes and real signals: whatever the moment, no database is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshkit.lifecycle import EXIT_OK, EXIT_SECOND_SIGNAL

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).resolve().parents[3]
_ATTEMPTS = 4


@contextmanager
def starting(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose private PostgreSQL is about to be up and whose target is not."""
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen"))),
        "LLMOPS_HOME": str(home),
        "LLMOPS_CONFIG": os.devnull,
        "LLMOPS_DATABASE_URL": "",
        "LLMOPS__SERVER__GRPC_PORT": "0",
        "LLMOPS__SERVER__ADMIN_PORT": "0",
        "LLMOPS__SERVER__DEBUG_PORT": "-1",
    }
    command = [sys.executable, "-m", "llmops_cli", "serve", "--target", "ledger"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            wait_until(lambda: postmaster(home).exists() or process.poll() is not None)
            yield process
        finally:
            process.kill()


def postmaster(home: Path) -> Path:
    """Its file is there as long as the server runs."""
    return home / "pg" / "postmaster.pid"


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_signal_during_the_start_ends_the_start(tmp_path: Path) -> None:
    for attempt in range(_ATTEMPTS):
        home = tmp_path / str(attempt)
        with starting(home) as process:
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        assert (process.returncode, postmaster(home).exists()) == (EXIT_OK, False)
        assert b"Traceback" not in told
        if b"ready after" not in told:
            return
        # On a busy machine the start may be over before the signal is sent.
    raise AssertionError("the start goes on to its end, whatever the signal")


def test_a_second_signal_leaves_no_database_behind(tmp_path: Path) -> None:
    with starting(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)  # two signals of one number at once would arrive as one
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode in {EXIT_SECOND_SIGNAL, EXIT_OK}
    assert not postmaster(tmp_path).exists()
    # The server takes its file away a moment before it is gone.
    wait_until(lambda: not processes_of(tmp_path), timeout_s=10)


def processes_of(home: Path) -> list[str]:
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True, text=True).stdout.splitlines()
    return [line for line in running if str(home) in line]
