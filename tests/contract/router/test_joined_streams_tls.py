"""The ends of a stream over TLS, where a transport that is paused goes on reading and drops what it read."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
import uvloop

from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.http import Endpoint, HttpLimits, HttpProvider, open_session
from tests.contract.router.conftest import Received, Upstream, read_request
from tests.contract.router.test_joined_streams import DONE, FINISH, Reader, piece

_TEXTS = ["one ", "two ", "three "]


class Abrupt(Upstream):
    """Ends the connection inside the reader's pause: politely, without TLS's good-bye, or with a reset."""

    def __init__(self, how: str, *, whole: bool) -> None:
        super().__init__(self._respond)
        self.how, self.whole = how, whole
        self.raw: list[socket.socket] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await read_request(reader, writer)
        assert received is not None
        await self._respond(received)
        if self.how == "reset":
            own = writer.transport.get_extra_info("socket").fileno()
            with socket.socket(fileno=socket.dup(own)) as twin:
                twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.how == "close":
            writer.close()
        else:
            writer.transport.abort()

    async def _respond(self, received: Received) -> None:
        await received.begin_stream()
        for text in _TEXTS:
            await received.chunk(piece(text))
            await asyncio.sleep(0.005)
        if self.whole:
            ending = FINISH + DONE
            await received.send(f"{len(ending):x}\r\n".encode() + ending + b"\r\n0\r\n\r\n")
            await asyncio.sleep(0.005)


async def read(tmp_path: Path, how: str, *, whole: bool) -> Reader:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    server = await asyncio.start_server(Abrupt(how, whole=whole).serve, "127.0.0.1", 0, ssl=tls)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    ca_file = str(tmp_path / "ca.pem")
    endpoint = Endpoint(url, "key", "", "", {}, 2.0, 16, 5.0, ca_file, allow_private=False, allow_loopback=True)
    try:
        async with open_session(endpoint, OpenAiChat()) as session:
            limits = HttpLimits(stream_join_s=0.2)
            model = HttpProvider(OpenAiChat(), url, session, limits=limits, now=lambda: datetime.now(UTC))
            return await Reader(model).all()
    finally:
        server.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("how", ["close", "abort", "reset"])
@pytest.mark.parametrize("end", ["whole", "cut"])
def test_text_that_came_before_the_end_is_delivered(tmp_path: Path, end: str, how: str, loop: str) -> None:
    whole = end == "whole"
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        seen = runner.run(asyncio.wait_for(read(tmp_path, how, whole=whole), 20))
    assert "".join(seen.texts) == "".join(_TEXTS)
    assert len(seen.texts) < len(_TEXTS)
    assert seen.last is not None
    assert seen.last.finished is whole
    assert (seen.failure is None) is whole
