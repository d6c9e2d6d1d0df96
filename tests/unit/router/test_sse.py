import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core.sse import ServerSentEvent, SseParser

WIRE = (
    b": hello\r\n\r\n"
    b"data: one\n\n"
    b'event: message_start\r\ndata: {"a":1}\r\n\r\n'
    b"data: first\rdata: second\r\r"
    b"data:no space\n"
    b"data\n\n"
    b"id: 7\nretry: 10\ndata: \xc3\xa9\n\n"
    b"event: lost\n\n"
    b"data: [DONE]\n\n"
    b"data: never finished"
)
EVENTS = [
    ServerSentEvent("", b"one"),
    ServerSentEvent("message_start", b'{"a":1}'),
    ServerSentEvent("", b"first\nsecond"),
    ServerSentEvent("", b"no space\n"),
    ServerSentEvent("", "é".encode()),
    ServerSentEvent("", b"[DONE]"),
]


def parse(pieces: list[bytes], *, max_line: int = 1000, max_event: int = 1000) -> tuple[list[ServerSentEvent], str]:
    parser = SseParser(max_line, max_event)
    events: list[ServerSentEvent] = []
    for piece in pieces:
        found, failure = parser.feed(piece)
        events += found
        if failure:
            return events, failure
    return events, ""


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def test_the_rules_of_the_standard() -> None:
    assert parse([WIRE]) == (EVENTS, "")


def test_one_byte_packets_give_the_same_events() -> None:
    assert parse([bytes([byte]) for byte in WIRE]) == (EVENTS, "")


@given(st.lists(st.integers(min_value=0, max_value=len(WIRE)), max_size=12))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    assert parse(split(WIRE, cuts)) == (EVENTS, "")


PIECES = st.sampled_from(
    [
        b"data",
        b":",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"event:",
        b"x",
        b"\xff",
        b"\xc3\xa9",
        b"\xef\xbb\xbf",
        b"data: abc\n\n",
    ]
)


@given(st.lists(PIECES, max_size=40).map(b"".join), st.lists(st.integers(min_value=0, max_value=200), max_size=8))
def test_no_split_of_any_bytes_changes_events_or_failure(data: bytes, cuts: list[int]) -> None:
    limits = {"max_line": 12, "max_event": 10}
    assert parse(split(data, cuts), **limits) == parse([data], **limits)


@pytest.mark.parametrize(
    ("wire", "failure"),
    [
        (b"data: \xff\xfe\n\n", "invalid-utf8"),
        (b"data: " + b"x" * 1000 + b"\n\n", "line-too-long"),
        (b"data: " + b"x" * 1000, "line-too-long"),
        (b"data: xxxxxxxxx\n" * 200, "event-too-large"),
        (b"data\n" * 1001, "event-too-large"),
    ],
)
def test_limits_and_encoding_are_typed_failures(wire: bytes, failure: str) -> None:
    assert parse([b"data: before\n\n", wire]) == ([ServerSentEvent("", b"before")], failure)


def test_a_leading_byte_order_mark_is_dropped_and_a_later_one_is_not() -> None:
    assert parse([b"\xef\xbb", b"\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"]) == ([ServerSentEvent("", b"a")], "")


def test_a_long_line_in_small_pieces_costs_what_it_is_long() -> None:
    """Each piece was joined with all before it: a provider that sends a megabyte in crumbs took three seconds."""

    def cost_s(pieces: int) -> float:
        parser = SseParser(1 << 22, 1 << 22)
        parser.feed(b"data: begin\n\ndata: ")
        begun_s = time.process_time()
        for _ in range(pieces):
            parser.feed(b"x" * 64)
        events, _ = parser.feed(b"\n\n")
        spent_s = time.process_time() - begun_s
        assert [len(event.data) for event in events] == [64 * pieces]
        return spent_s

    few, many = (min(cost_s(pieces) for _ in range(3)) for pieces in (1_000, 16_000))
    assert many < 64 * few, "sixteen times the pieces: sixteen times the work, not the square of it"


def test_an_empty_read_changes_nothing() -> None:
    assert parse([b"", b"data: a", b"", b"b\n", b"", b"\n"]) == ([ServerSentEvent("", b"ab")], "")
