"""What cannot start says so in one sentence, whatever the mistake."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from llmops.guard.v1 import guard_pb2

from llmops_cli.call import call, requests_of
from llmops_cli.configuration import load_configuration
from llmops_cli.launcher import prepare, running_targets
from meshkit.lifecycle import EXIT_CONFIGURATION
from meshkit.settings import SettingsError
from tests.support.command_line import Ran, run

pytestmark = pytest.mark.timeout(60)
PORTS = "server: {grpc_port: 0, admin_port: 0, debug_port: -1}\n"


async def llmops(
    folder: Path, text: str, *words: str, given: bytes = b"", environ: Mapping[str, str] | None = None
) -> Ran:
    (folder / "mesh.yaml").write_text(PORTS + text)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LLMOPS")}
    environ = inherited | {"LLMOPS_HOME": str(folder / "home")} | dict(environ or {})
    return await run(environ, folder, *words, given=given)


def mistake(ran: Ran) -> str:
    """Its last line, when there is nothing to read beside it."""
    assert ran.code == EXIT_CONFIGURATION, ran.err
    assert "Traceback" not in ran.err
    lines = [line for line in ran.err.splitlines() if "shown this once" not in line]
    assert len(lines) == 1, ran.err
    return lines[0]


async def test_a_service_that_runs_nowhere(tmp_path: Path) -> None:
    text = 'peers: {router: {address: "127.0.0.1:1"}}\nedge: {port: 0}\n'
    told = mistake(await llmops(tmp_path, text, "serve", "--target", "edge"))
    assert told.startswith("llmops: orchestrator does not run in this process and mesh.yaml names no peer for it")


async def test_a_check_says_what_a_start_would(tmp_path: Path) -> None:
    text = "registry: {prompts_dir: nowhere}\n"
    checked = mistake(await llmops(tmp_path, text, "config", "check"))
    assert checked == "llmops: registry.prompts_dir: there is no folder nowhere on this machine"


async def test_a_call_to_a_process_without_the_service(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text(PORTS)
    configuration, key = prepare(load_configuration(tmp_path / "mesh.yaml", {}), tmp_path)
    assert key is not None
    async with running_targets(configuration, frozenset({"router"}), tmp_path, report=lambda _: None) as running:
        host, port = running.addresses["grpc"]
        for rpc in ("guard.CheckInput", "GuardService/CheckInput", "llmops.guard.v1.GuardService/CheckInput"):
            with pytest.raises(SettingsError) as caught:
                await asyncio.to_thread(call, f"{host}:{port}", rpc, "{}", key.key)
            assert str(caught.value) == (
                "guard does not run behind this address; in a mesh of processes each service has its own: "
                "name guard's with --address"
            )
        with pytest.raises(SettingsError, match="there is no RPC 'gaurd.CheckInput' here; known: "):
            await asyncio.to_thread(call, f"{host}:{port}", "gaurd.CheckInput", "{}", key.key)


# A byte that begins no character, as Python hands it on to a command and back to the next one.
NOT_UTF8 = "\udcff"


@pytest.mark.parametrize(
    "words",
    [
        ("chat", f"say {NOT_UTF8}"),
        ("budget", "why-blocked", NOT_UTF8),
        ("keys", "create", "--offline", "--org", NOT_UTF8),
        ("config", "check", "--config", f"{NOT_UTF8}.yaml"),
    ],
    ids=lambda words: words[0],
)
async def test_an_argument_that_is_not_utf8(tmp_path: Path, words: tuple[str, ...]) -> None:
    told = mistake(await llmops(tmp_path, "", *words, environ={"LLMOPS_KEY": "llm_key"}))
    place = next(place for place, word in enumerate(words, 1) if NOT_UTF8 in word)
    assert told == f"llmops: argument {place} is not UTF-8 text; write it as UTF-8, and rename a file whose name is not"


async def test_an_address_in_the_environment_that_is_not_utf8(tmp_path: Path) -> None:
    told = mistake(await llmops(tmp_path, "", "call", "ledger.GetUsage", environ={"LLMOPS_GRPC": NOT_UTF8}))
    assert told == "llmops: 'LLMOPS_GRPC' in the environment is not UTF-8 text; set it again, as UTF-8"


@pytest.mark.parametrize("words", [("chat", "-"), ("call", "ledger.GetUsage", "-")], ids=lambda words: words[0])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
async def test_standard_input_that_is_not_utf8(tmp_path: Path, words: tuple[str, ...], locale: str) -> None:
    environ = {"LLMOPS_KEY": "llm_key", "LC_ALL": locale}
    told = mistake(await llmops(tmp_path, "", *words, given=b'{"request_id": "\xff"}', environ=environ))
    assert told == "llmops: standard input is not UTF-8 text"


def test_half_a_character_in_a_request() -> None:
    method = guard_pb2.DESCRIPTOR.services_by_name["GuardService"].methods_by_name["CheckInput"]
    for body in (r'{"\ud800": 1}', r'{"messages": [{"content": "\ud800"}]}', "[" * 100_000):
        with pytest.raises(SettingsError, match="the request is not a llmops.guard.v1.CheckInputRequest: "):
            requests_of(method, body)
