"""TLS and mTLS between processes: who has no certificate of the mesh's authority gets no answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from llmops.guard.v1 import guard_pb2_grpc

from meshkit.errors import CallError
from meshkit.interceptors.admission import AdmissionSettings
from meshkit.metrics import MetricsRegistry
from meshkit.transports.remote import PeerSettings, open_channel
from meshkit.transports.server import GrpcServer, ServerSettings, TlsSettings
from tests.contract.meshkit.test_transports import AUTHORISED, SERVICE, check, handler_table
from tests.support.guard_double import GuardDouble


@dataclass(frozen=True)
class Files:
    authority: str
    certificate: str
    key: str


def issued(folder: Path, authority: trustme.CA, name: str) -> Files:
    pair = authority.issue_cert(name)
    files = Files(*(str(folder / f"{name}.{part}") for part in ("ca", "pem", "key")))
    authority.cert_pem.write_to_path(files.authority)
    Path(files.certificate).write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    pair.private_key_pem.write_to_path(files.key)
    return files


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[int, Files, Files, Files]]:
    ours, foreign = trustme.CA(), trustme.CA()
    guard, client = issued(tmp_path, ours, "guard.mesh"), issued(tmp_path, ours, "orchestrator.mesh")
    stranger = issued(tmp_path, foreign, "stranger.mesh")
    table = handler_table(MetricsRegistry(), AdmissionSettings())
    guard_pb2_grpc.add_GuardServiceServicer_to_server(GuardDouble(), table)
    tls = TlsSettings(guard.certificate, guard.key, guard.authority)
    running = GrpcServer(ServerSettings(grpc_port=0, grace_s=0.1, tls=tls), table)
    await running.start()
    yield running.port, guard, client, stranger
    await running.stop()


async def asked(peer: PeerSettings) -> Any:
    channel = open_channel(SERVICE, peer)
    try:
        return await guard_pb2_grpc.GuardServiceStub(channel).CheckInput(check(), metadata=AUTHORISED, timeout=5)
    finally:
        await channel.close()


def peer(port: int, trusted: Files, own: Files | None, *, tls: bool = True) -> PeerSettings:
    if not tls:
        return PeerSettings(address=f"127.0.0.1:{port}")
    return PeerSettings(
        address=f"127.0.0.1:{port}",
        tls=True,
        ca_file=trusted.authority,
        client_cert_file=own.certificate if own else "",
        client_key_file=own.key if own else "",
        server_name="guard.mesh",
    )


async def test_a_client_with_a_certificate_of_the_authority_is_served(
    server: tuple[int, Files, Files, Files],
) -> None:
    port, guard, client, _ = server
    assert (await asked(peer(port, guard, client))).language == "acme"


async def test_everyone_else_is_not(server: tuple[int, Files, Files, Files]) -> None:
    port, guard, client, stranger = server
    refused = [
        peer(port, guard, None),
        peer(port, guard, stranger),
        peer(port, stranger, client),
        peer(port, guard, None, tls=False),
    ]
    for failed in await asyncio.gather(*(asked(settings) for settings in refused), return_exceptions=True):
        assert isinstance(failed, CallError)
        assert failed.status in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
