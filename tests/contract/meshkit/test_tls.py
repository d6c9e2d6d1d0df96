"""TLS and mTLS between processes: who has no certificate of the mesh's authority gets no answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from llmops.guard.v1 import guard_pb2_grpc

from meshkit.errors import CallError
from meshkit.interceptors.admission import AdmissionSettings
from meshkit.metrics import MetricsRegistry
from meshkit.transports.mux.channel import MuxChannel, open_mux_channel
from meshkit.transports.remote import PeerSettings, open_channel
from meshkit.transports.server import GrpcServer, ServerSettings, TlsSettings
from tests.contract.meshkit.test_transports import AUTHORISED, SERVICE, check, handler_table, until
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


@asynccontextmanager
async def serving(tmp_path: Path, name: str) -> AsyncIterator[tuple[int, Files, Files, Files]]:
    ours, foreign = trustme.CA(), trustme.CA()
    guard, client = issued(tmp_path, ours, name), issued(tmp_path, ours, "orchestrator.mesh")
    stranger = issued(tmp_path, foreign, "stranger.mesh")
    table = handler_table(MetricsRegistry(), AdmissionSettings())
    guard_pb2_grpc.add_GuardServiceServicer_to_server(GuardDouble(), table)
    tls = TlsSettings(guard.certificate, guard.key, guard.authority)
    running = GrpcServer(ServerSettings(grpc_port=0, grace_s=0.1, tls=tls), table)
    await running.start()
    yield running.port, guard, client, stranger
    await running.stop()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[int, Files, Files, Files]]:
    async with serving(tmp_path, "guard.mesh") as made:
        yield made


async def asked(peer: PeerSettings, *, by_stream: bool = False) -> Any:
    """Answers by a stream of calls prove that the stream itself came to stand, over TLS."""
    channel = open_mux_channel(SERVICE, peer) if by_stream else open_channel(SERVICE, peer)
    try:
        if isinstance(channel, MuxChannel):
            await until(lambda: channel.streams.up == 1)
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


@pytest.mark.parametrize("by_stream", [False, True])
async def test_a_client_with_a_certificate_of_the_authority_is_served(
    server: tuple[int, Files, Files, Files],
    by_stream: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    port, guard, client, _ = server
    assert (await asked(peer(port, guard, client), by_stream=by_stream)).language == "acme"


@pytest.mark.parametrize("by_stream", [False, True])
async def test_a_server_proves_the_name_that_it_was_looked_up_by(
    tmp_path: Path,
    by_stream: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    async with serving(tmp_path, "localhost") as (port, guard, client, _):
        named = replace(peer(port, guard, client), address=f"dns:///localhost:{port}", server_name="")
        assert (await asked(named, by_stream=by_stream)).language == "acme"


async def test_streams_of_calls_stand_with_nobody_else(server: tuple[int, Files, Files, Files]) -> None:
    port, guard, client, stranger = server
    refused = [peer(port, guard, None), peer(port, guard, stranger), peer(port, stranger, client)]
    channels = [open_mux_channel(SERVICE, settings) for settings in refused]
    for channel in channels:
        assert isinstance(channel, MuxChannel)
        with pytest.raises(CallError) as caught:
            await guard_pb2_grpc.GuardServiceStub(channel).CheckInput(check(), metadata=AUTHORISED, timeout=2)
        assert caught.value.status in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert channel.streams.up == 0
        await channel.close()


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
