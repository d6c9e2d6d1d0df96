"""What a person types wrong gets one line and an exit code, never a stack trace."""

from __future__ import annotations

import json
import socket
import threading
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import yaml
from typer.testing import CliRunner

from llmops_cli.budgets import Door
from llmops_cli.call import explain
from llmops_cli.chat import ChatRequest, chat
from llmops_cli.main import app
from llmops_cli.model_health import show_health
from meshkit.errors import Failure
from meshkit.settings import SettingsError
from meshkit.transports.status import encode
from services.router.core.attempts import Attempt, attempts_json
from services.router.core.failure import Outcome


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


ROOT = Path(__file__).parents[3]
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


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of who gives one answer to whatever is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=speak)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"\\x00\\x00 not http\\r\\n\\r\\n", "is no edge of a mesh"),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\n404: Not Found",
            "llmops: HTTP 404, and no explanation; --url names the edge of a mesh\n",
        ),
        (
            b'HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\n{"error": "what"}',
            "llmops: HTTP 404, and no explanation; --url names the edge of a mesh\n",
        ),
    ],
    ids=["no-http", "no-json", "no-error-of-ours"],
)
def test_something_that_is_no_edge_is_explained(capsys: pytest.CaptureFixture[str], answer: bytes, told: str) -> None:
    with answering(answer) as url:
        assert chat(url, "key", HELLO) == 1
    assert told in capsys.readouterr().err


TRIES = attempts_json(
    [
        Attempt("gpt", "openai", "gpt-4o", Outcome.NOT_CONNECTED, cause="connection-refused"),
        Attempt("claude", "anthropic", "claude", Outcome.REFUSED, http_status=401),
    ]
)
TOLD = "  gpt (openai): not connected, connection-refused\n  claude (anthropic): refused, HTTP 401\n"


def test_who_was_asked_in_vain_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {"attempts_json": TRIES}
    body = json.dumps({"error": {"code": "upstream_unavailable", "message": "x"}, "llmops": {"metadata": metadata}})
    head = f"HTTP/1.1 502 Bad Gateway\r\nContent-Length: {len(body)}\r\n\r\n"
    with answering((head + body).encode()) as url:
        assert chat(url, "key", HELLO) == 1
    assert capsys.readouterr().err == f"llmops: upstream_unavailable: x\n{TOLD}"
    failure = Failure("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "x", metadata)
    assert explain(Refused(failure), "127.0.0.1:1", "router.Complete") == 1
    assert capsys.readouterr().err == f"UNAVAILABLE UPSTREAM_UNAVAILABLE: x\n{TOLD}"


def test_a_violation_that_is_the_message_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    violations = (("name", "is missing"), ("org", "is missing"))
    explain(Refused(Failure("INVALID_ARGUMENT", "INVALID_FIELD", "name: is missing", {}, violations[:1])), "x", "x")
    assert capsys.readouterr().err == "INVALID_ARGUMENT INVALID_FIELD: name: is missing\n"
    message = "name: is missing; org: is missing"
    explain(Refused(Failure("INVALID_ARGUMENT", "INVALID_FIELD", message, {}, violations)), "x", "x")
    assert capsys.readouterr().err.splitlines()[1:] == ["  name: is missing", "  org: is missing"]


def test_a_process_without_the_router_says_so() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        with pytest.raises(SettingsError, match=f"^{address} does not run the router; --address names the process"):
            show_health(Door(address, "llmops-key"))
    finally:
        server.stop(None).wait()


def test_a_file_of_processes_that_is_not_there_names_its_option(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["up", "--processes", str(tmp_path / "none.yaml")])
    assert isinstance(result.exception, SettingsError)
    assert str(result.exception).endswith("none.yaml: No such file or directory; give the file with --processes")


def test_a_variable_from_a_binary_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    request = ChatRequest("", "", "summarize", (f"document=@{tmp_path}/binary",), stream=False, as_json=False)
    with pytest.raises(SettingsError, match="not UTF-8"):
        request.body()


def test_one_json_object_and_a_stream_exclude_each_other() -> None:
    with pytest.raises(SettingsError, match="leave one of them out"):
        ChatRequest("hello", "", "", (), stream=True, as_json=True).body()


def test_the_version_is_the_one_of_the_project() -> None:
    told = CliRunner().invoke(app, ["--version"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (told.exit_code, told.output.split()[:2]) == (0, ["llmops", project["version"]])


@pytest.mark.parametrize("words", [[], ["chat"], ["keys", "create"]], ids=" ".join)
def test_help_has_a_short_name(words: list[str]) -> None:
    helped = CliRunner().invoke(app, [*words, "-h"])
    assert (helped.exit_code, "Show this message" in helped.output) == (0, True)
    assert helped.output == CliRunner().invoke(app, [*words, "--help"]).output


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
