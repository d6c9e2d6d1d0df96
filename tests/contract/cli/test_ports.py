"""A port that is taken ends the start with one sentence, whichever port it is and whatever runs by then."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from meshkit.lifecycle import EXIT_PORT

pytestmark = pytest.mark.timeout(60)
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", ["GRPC_PORT", "ADMIN_PORT", "DEBUG_PORT"])
def test_a_port_that_is_taken(tmp_path: Path, name: str) -> None:
    ports = {"GRPC_PORT": "0", "ADMIN_PORT": "0", "DEBUG_PORT": "-1"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports[name] = str(taken.getsockname()[1])
        environ = {
            **os.environ,
            **{f"LLMOPS__SERVER__{port}": value for port, value in ports.items()},
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen"))),
            "LLMOPS_HOME": str(tmp_path),
            "LLMOPS_CONFIG": os.devnull,
        }
        command = [sys.executable, "-m", "llmops_cli", "serve", "--target", "router"]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == EXIT_PORT
    assert ports[name] in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
