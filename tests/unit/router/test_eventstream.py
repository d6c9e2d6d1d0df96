import itertools
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_cli.provider_sim.event_frames import event_frame, exception_frame, frame
from services.router.core.eventstream import EventStreamParser
from services.router.core.sse import ServerSentEvent

# Published with AWS's SDKs: an empty message, a payload without headers, and one header with a number.
EMPTY = bytes.fromhex("000000100000000005c248eb7d98c8ff")
PAYLOAD = bytes.fromhex("0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936")
NUMBER = bytes.fromhex("0000002d0000001041c424b80a6576656e742d747970650400 00a00c7b27666f6f273a27626172277d36f480a0")
FOO = b"{'foo':'bar'}"

WIRE = event_frame("messageStart", b'{"role":"assistant"}') + NUMBER + exception_frame("throttlingException", b"{}")
EVENTS = [
    ServerSentEvent("messageStart", b'{"role":"assistant"}'),
    ServerSentEvent("", FOO),
    ServerSentEvent("exception throttlingException", b"{}"),
]


def parse(pieces: list[bytes], max_bytes: int = 10_000) -> tuple[list[ServerSentEvent], str]:
    parser, events = EventStreamParser(max_bytes), []
    for piece in pieces:
        found, failure = parser.feed(piece)
        events += found
        if failure:
            return events, failure
    return events, ""


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize(
    ("message", "payload"), [(EMPTY, b""), (PAYLOAD, b"{'foo':'bar'}"), (NUMBER, b"{'foo':'bar'}")]
)
def test_the_published_vectors(message: bytes, payload: bytes) -> None:
    assert parse([message]) == ([ServerSentEvent("", payload)], "")


def test_events_exceptions_and_errors_by_name() -> None:
    error = frame({":message-type": "error", ":error-code": "internal", ":error-message": "x"}, b"")
    assert parse([WIRE + error]) == ([*EVENTS, ServerSentEvent("error internal", b"")], "")


def test_one_byte_packets_give_the_same_events() -> None:
    assert parse([bytes([byte]) for byte in WIRE]) == (EVENTS, "")


@given(st.lists(st.integers(min_value=0, max_value=len(WIRE)), max_size=12))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    assert parse(split(WIRE, cuts)) == (EVENTS, "")


@given(st.integers(min_value=0, max_value=len(WIRE) * 8 - 1))
def test_no_flipped_bit_passes(bit: int) -> None:
    damaged = bytearray(WIRE)
    damaged[bit // 8] ^= 1 << bit % 8
    events, failure = parse([bytes(damaged)])
    assert failure in {"bad-prelude-checksum", "bad-message-checksum"}
    assert events == EVENTS[: len(events)], "what came whole before the damage is handed out"


@given(st.binary(max_size=300), st.lists(st.integers(min_value=0, max_value=300), max_size=6))
def test_no_bytes_break_the_parser(data: bytes, cuts: list[int]) -> None:
    assert parse(split(data, cuts)) == parse([data])


PIECES = st.sampled_from([EMPTY, PAYLOAD, WIRE, WIRE[:-1], WIRE[:9], b"\x00", b"\x00\x00\x00\x10", b"data: x\n\n"])


@given(st.lists(PIECES, max_size=8).map(b"".join), st.lists(st.integers(min_value=0, max_value=900), max_size=8))
def test_no_split_of_nearly_right_bytes_changes_events_or_failure(data: bytes, cuts: list[int]) -> None:
    assert parse(split(data, cuts), 120) == parse([data], 120)


def with_prelude(total: int, headers: int, rest: bytes) -> bytes:
    lengths = struct.pack(">II", total, headers)
    start = lengths + struct.pack(">I", zlib.crc32(lengths)) + rest
    return start + struct.pack(">I", zlib.crc32(start))


@pytest.mark.parametrize(
    ("wire", "failure"),
    [
        (with_prelude(1 << 31, 0, b""), "event-too-large"),
        (event_frame("e", b"x" * 10_000), "event-too-large"),
        (with_prelude(16, 1, b""), "bad-event-headers"),
        (with_prelude(4, 0, b""), "bad-event-headers"),
        (with_prelude(17, 1, b"\x05"), "bad-event-headers"),
        (with_prelude(19, 3, b"\x01a\x63"), "bad-event-headers"),
        (with_prelude(21, 5, b"\x01a\x07\x00\x09"), "bad-event-headers"),
        (with_prelude(22, 6, b"\x01a\x07\x00\x01\xff"), "bad-event-headers"),
        (b"HTTP/1.1 502 Bad Gateway", "bad-prelude-checksum"),
    ],
)
def test_limits_and_damage_are_typed_failures(wire: bytes, failure: str) -> None:
    assert parse([EMPTY, wire]) == ([ServerSentEvent("", b"")], failure)


def test_a_length_is_not_believed_before_its_checksum() -> None:
    """A damaged length would make us wait for 4 GiB."""
    assert parse([struct.pack(">III", 0xFFFF_FFFF, 0, 0)]) == ([], "bad-prelude-checksum")


def test_a_large_message_in_small_pieces_costs_its_size_and_not_its_square() -> None:
    wire = event_frame("e", b"x" * (1 << 20))
    parser, started = EventStreamParser(2 << 20), time.process_time()
    for start in range(0, len(wire), 16):
        events, failure = parser.feed(wire[start : start + 16])
        assert not failure
    assert len(events) == 1
    assert time.process_time() - started < 2.0, "copying what is kept for each piece takes a minute"
