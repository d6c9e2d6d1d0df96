"""What a person types wrong gets one line and an exit code, never a stack trace."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
import yaml
from typer.testing import CliRunner

from llmops_cli.call import explain
from llmops_cli.chat import ChatRequest, chat
from llmops_cli.main import app
from meshkit.errors import Failure
from meshkit.settings import SettingsError
from meshkit.transports.status import encode


class Refused:
    """How a call over gRPC ends with this failure."""

    def __init__(self, failure: Failure) -> None:
        self._status, self._message, self._trailers = encode(failure)

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> Sequence[tuple[str, bytes | str]]:
        return self._trailers


HELLO = ChatRequest("hello", "", "", (), stream=False, as_json=False)


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        ("NOT_FOUND", "NOT_FOUND", "NOT_FOUND: there is no key k1\n"),
        ("NOT_FOUND", "MODEL_NOT_FOUND", "NOT_FOUND MODEL_NOT_FOUND: there is no key k1\n"),
    ],
)
def test_a_reason_that_is_the_status_is_told_once(
    capsys: pytest.CaptureFixture[str], status: str, reason: str, told: str
) -> None:
    assert explain(Refused(Failure(status, reason, "there is no key k1")), "127.0.0.1:1", "identity.RevokeKey") == 1
    assert capsys.readouterr().err == told


def test_an_address_without_a_scheme_is_explained() -> None:
    with pytest.raises(SettingsError, match="--url localhost:8080: write it like"):
        chat("localhost:8080", "key", HELLO)


def test_something_that_is_no_edge_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]

        def babble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"\\x00\\x00 not http\\r\\n\\r\\n")

        thread = threading.Thread(target=babble)
        thread.start()
        assert chat(f"http://127.0.0.1:{port}", "key", HELLO) == 1
        thread.join()
    assert "is no edge of a mesh" in capsys.readouterr().err


def test_a_variable_from_a_binary_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    request = ChatRequest("", "", "summarize", (f"document=@{tmp_path}/binary",), stream=False, as_json=False)
    with pytest.raises(SettingsError, match="not UTF-8"):
        request.body()


def test_one_json_object_and_a_stream_exclude_each_other() -> None:
    with pytest.raises(SettingsError, match="leave one of them out"):
        ChatRequest("hello", "", "", (), stream=True, as_json=True).body()


def test_serving_nothing_is_a_mistake() -> None:
    result = CliRunner().invoke(app, ["serve", "--target", ","])
    assert isinstance(result.exception, SettingsError)


def test_a_simulator_on_a_port_that_cannot_be_says_so() -> None:
    result = CliRunner().invoke(app, ["provider-sim", "--port", "99999"])
    assert isinstance(result.exception, SettingsError)
    assert "port must be 0-65535" in str(result.exception)


def test_a_script_that_is_no_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_bytes(b"\xff\xfe\x00")
    result = CliRunner().invoke(app, ["provider-sim", "--port", "0", "--script", str(tmp_path / "script.yaml")])
    assert isinstance(result.exception, SettingsError)


def test_a_simulator_without_its_script_or_port_says_so(tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["provider-sim", "--port", "0", "--script", str(tmp_path / "none.yaml")])
    assert isinstance(missing.exception, SettingsError)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = CliRunner().invoke(app, ["provider-sim", "--port", str(taken.getsockname()[1])])
    assert isinstance(busy.exception, SettingsError)


def test_a_key_can_be_tied_to_a_guard_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["keys", "create", "--offline", "--org", "acme", "--guard-policy", "strict"])
    entry = yaml.safe_load(result.stdout.split("\n", 1)[1])["auth"]["keys"][0]
    assert entry["guard_policy"] == "strict"
