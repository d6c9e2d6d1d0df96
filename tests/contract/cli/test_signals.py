"""Real processes and real signals: whatever the moment, no database is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshkit.lifecycle import EXIT_OK, EXIT_SECOND_SIGNAL

pytestmark = pytest.mark.timeout(60)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose private PostgreSQL is about to be up and whose target is not."""
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen"))),
        "LLMOPS_HOME": str(tmp_path),
        "LLMOPS_CONFIG": os.devnull,
        "LLMOPS_DATABASE_URL": "",
        "LLMOPS__SERVER__GRPC_PORT": "0",
        "LLMOPS__SERVER__ADMIN_PORT": "0",
        "LLMOPS__SERVER__DEBUG_PORT": "-1",
    }
    command = [sys.executable, "-m", "llmops_cli", "serve", "--target", "ledger"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, start_new_session=True) as process:
        wait_until(lambda: postmaster(tmp_path).exists() or process.poll() is not None)
        yield process
        process.kill()


def postmaster(home: Path) -> Path:
    """Its file is there as long as the server runs."""
    return home / "pg" / "postmaster.pid"


def wait_until(condition: object, timeout_s: float = 30.0) -> None:
    assert callable(condition)
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_signal_during_the_start_ends_the_start(starting: subprocess.Popen[bytes], tmp_path: Path) -> None:
    starting.send_signal(signal.SIGINT)
    _, told = starting.communicate(timeout=30)
    assert (starting.returncode, postmaster(tmp_path).exists()) == (EXIT_OK, False)
    assert b"ready after" not in told
    assert b"Traceback" not in told


def test_a_second_signal_leaves_no_database_behind(starting: subprocess.Popen[bytes], tmp_path: Path) -> None:
    starting.send_signal(signal.SIGINT)
    time.sleep(0.02)  # two signals of one number at once would arrive as one
    starting.send_signal(signal.SIGINT)
    starting.communicate(timeout=30)
    assert starting.returncode in {EXIT_SECOND_SIGNAL, EXIT_OK}
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True, text=True).stdout.splitlines()
    left = [line for line in running if str(tmp_path) in line]
    assert (left, postmaster(tmp_path).exists()) == ([], False)
