"""Commands against a mesh with `server.tls`, with and without a certificate of the caller's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from llmops.guard.v1 import guard_pb2_grpc

from meshkit.interceptors.admission import AdmissionSettings
from meshkit.metrics import MetricsRegistry
from meshkit.transports.server import GrpcServer, ServerSettings, TlsSettings
from tests.contract.meshkit.test_tls import Files, issued
from tests.contract.meshkit.test_transports import handler_table
from tests.support.command_line import Ran, run
from tests.support.guard_double import GuardDouble

CHECK = ("call", "guard.CheckInput", '{"messages": [{"role": "CHAT_ROLE_USER", "content": "x"}]}')
# Each gets beyond the transport: what it asks for is not in this process, and it says so.
OTHERS = {
    ("identity", "org", "list"): "does not run identity",
    ("budget", "list"): "does not run the ledger",
    ("models", "health"): "does not run the router",
}


@dataclass(frozen=True)
class Mesh:
    """A server that a command may reach, and the files of who signs for it."""

    folder: Path
    port: int
    files: Files
    caller: Files
    stranger: Files

    async def __call__(self, *arguments: str, **environ: str) -> Ran:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("LLMOPS")}
        plain |= {"LLMOPS_KEY": "ada-secret\n", "LLMOPS_GRPC": f"localhost:{self.port}"}
        ran = await run(plain | environ, self.folder, *arguments)
        assert "Traceback" not in ran.err
        return ran


@asynccontextmanager
async def mesh(folder: Path, *, mutual: bool = False, tls: bool = True) -> AsyncIterator[Mesh]:
    ours, theirs = trustme.CA(), trustme.CA()
    files, caller = issued(folder, ours, "localhost"), issued(folder, ours, "ada")
    secured = TlsSettings(files.certificate, files.key, files.authority if mutual else "") if tls else TlsSettings()
    table = handler_table(MetricsRegistry(), AdmissionSettings())
    guard_pb2_grpc.add_GuardServiceServicer_to_server(GuardDouble(), table)
    server = GrpcServer(ServerSettings(grpc_port=0, grace_s=0.1, tls=secured), table)
    await server.start()
    yield Mesh(folder, server.port, files, caller, issued(folder, theirs, "eve"))
    await server.stop()


async def test_every_command_reaches_a_mesh_over_tls(tmp_path: Path) -> None:
    async with mesh(tmp_path) as llmops:
        trusting = {"LLMOPS_TLS_CA": llmops.files.authority}
        checked = await llmops(*CHECK, **trusting)
        assert checked.code == 0, checked.err
        for command, sentence in OTHERS.items():
            assert sentence in (await llmops(*command, **trusting)).err


async def test_a_command_without_tls_is_told_that_the_mesh_has_it(tmp_path: Path) -> None:
    async with mesh(tmp_path) as llmops:
        for command in (CHECK, *OTHERS):
            told = await llmops(*command)
            assert told.code == 1
            assert f"llmops: localhost:{llmops.port} answers with TLS; set LLMOPS_TLS_CA to " in told.err


async def test_a_mesh_that_asks_for_a_certificate_gets_the_callers(tmp_path: Path) -> None:
    async with mesh(tmp_path, mutual=True) as llmops:
        trusting = {"LLMOPS_TLS_CA": llmops.files.authority}
        own = {"LLMOPS_TLS_CERTIFICATE": llmops.caller.certificate, "LLMOPS_TLS_KEY": llmops.caller.key}
        assert (await llmops(*CHECK, **trusting, **own)).code == 0
        without = await llmops(*CHECK, **trusting)
        assert without.code == 1
        assert "LLMOPS_TLS_CERTIFICATE and LLMOPS_TLS_KEY are yours where it asks for one" in without.err


@pytest.mark.parametrize(
    ("tls", "who_signs", "cause"), [(True, "stranger", "CERTIFICATE_VERIFY_FAILED"), (False, "files", "WRONG_VERSION")]
)
async def test_why_a_connection_over_tls_failed_is_said(
    tmp_path: Path,
    tls: bool,  # noqa: FBT001 - a parameter of the test
    who_signs: str,
    cause: str,
) -> None:
    async with mesh(tmp_path, tls=tls) as llmops:
        told = await llmops(*CHECK, LLMOPS_TLS_CA=getattr(llmops, who_signs).authority)
        assert told.code == 1
        assert f"llmops: no connection with localhost:{llmops.port} over TLS: " in told.err
        assert cause in told.err


async def test_a_server_without_tls_and_an_address_without_a_server_are_what_they_were(tmp_path: Path) -> None:
    async with mesh(tmp_path, tls=False) as llmops:
        assert (await llmops(*CHECK)).code == 0
    assert "nothing answers at localhost:" in (await llmops(*CHECK)).err


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"LLMOPS_TLS_CA": "/nowhere"}, "LLMOPS_TLS_CA: /nowhere: No such file"),
        ({"LLMOPS_TLS_CERTIFICATE": __file__}, "LLMOPS_TLS_CERTIFICATE and LLMOPS_TLS_KEY go together"),
        ({"LLMOPS_TLS_CERTIFICATE": __file__, "LLMOPS_TLS_KEY": __file__}, "LLMOPS_TLS_CA is not"),
    ],
)
async def test_half_of_what_tls_needs_is_refused(tmp_path: Path, environ: dict[str, str], sentence: str) -> None:
    told = await Mesh(tmp_path, 1, *[Files("", "", "")] * 3)(*CHECK, **environ)
    assert told.code == 2
    assert sentence in told.err
