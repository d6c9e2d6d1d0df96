"""The client finds the end of an answer however its bytes are cut, and counts events exactly."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.http_client import ClientConnection


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


class Seen:
    def __init__(self) -> None:
        self.answers: list[tuple[int, int, str, bool]] = []
        self.losses = 0

    def answered(self, connection: ClientConnection, now_s: float) -> None:
        assert 0 < connection.first_event_s <= now_s
        self.answers.append((connection.status, connection.events, connection.cache, connection.done))

    def lost(self, connection: ClientConnection) -> None:
        self.losses += 1


def connected(*, streams: bool) -> tuple[ClientConnection, Seen, Transport]:
    seen, transport = Seen(), Transport()
    connection = ClientConnection(seen, streams=streams)
    connection.connection_made(transport)  # type: ignore[arg-type]
    return connection, seen, transport


def feed(connection: ClientConnection, data: bytes, cuts: list[int]) -> None:
    bounds = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    for low, high in itertools.pairwise(bounds):
        connection.data_received(data[low:high])


JSON = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Cache: exact\r\nContent-Length: 12\r\n\r\n"
    + b'{"data: ": 1}'[:12]
)
END = b"e\r\ndata: [DONE]\n\n\r\n"
EVENTS = b"".join(b"%x\r\ndata: {%d}\n\n\r\n" % (len(b"data: {%d}\n\n" % i), i) for i in range(9))
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-cache: miss\r\n\r\n" + EVENTS + END + b"0\r\n\r\n"
CHUNKED_JSON = b"HTTP/1.1 429 Too Many\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"

cuts = st.lists(st.integers(0, 10_000), max_size=30)


@settings(deadline=None)
@given(cuts=cuts)
def test_a_stream_ends_once_with_all_its_events(cuts: list[int]) -> None:
    connection, seen, _ = connected(streams=True)
    for _ in range(2):
        connection.send(b"request", 0.0)
        feed(connection, STREAM, cuts)
        assert not connection.busy
    assert seen.answers == [(200, 10, "miss", True)] * 2


@settings(deadline=None)
@given(cuts=cuts, data=st.sampled_from([(JSON, (200, 0, "exact", False)), (CHUNKED_JSON, (429, 0, "", False))]))
def test_a_document_ends_with_its_length_or_its_last_chunk(
    cuts: list[int], data: tuple[bytes, tuple[int, int, str, bool]]
) -> None:
    connection, seen, _ = connected(streams=False)
    connection.send(b"request", 0.0)
    feed(connection, data[0], cuts)
    assert seen.answers == [data[1]]


@pytest.mark.parametrize("data", [JSON, STREAM, CHUNKED_JSON])
def test_an_answer_without_its_last_byte_is_not_complete(data: bytes) -> None:
    connection, seen, _ = connected(streams=True)
    connection.send(b"request", 0.0)
    connection.data_received(data[:-1])
    assert (seen.answers, connection.busy) == ([], True)
    connection.data_received(data[-1:])
    assert len(seen.answers) == 1


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    connection, seen, transport = connected(streams=False)
    connection.data_received(JSON)
    assert (seen.answers, transport.aborted) == ([], True)


def test_a_lost_connection_is_told_and_cannot_send() -> None:
    connection, seen, _ = connected(streams=False)
    connection.connection_lost(None)
    assert (seen.losses, connection.open) == (1, False)
