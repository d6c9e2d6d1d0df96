"""The wire formats: what a dialect must offer, and the Server-Sent Events framing that most share."""

from __future__ import annotations

from typing import Final, Protocol

from llmops_cli.provider_sim.answer import Answer
from llmops_cli.provider_sim.request import ChatRequest


class Dialect(Protocol):
    """Turns requests into ChatRequest and answers into bytes; knows nothing of timing, faults or sockets."""

    name: str
    id_prefix: str
    key_header: str
    stream_type: str
    # Whether a stream is binary frames; otherwise it is Server-Sent Events.
    binary: bool

    def read(self, body: bytes, path: str) -> ChatRequest:
        """Parse a request to a path, query left out; RequestError when the provider would refuse it."""
        ...

    def unary(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool) -> bytes:
        """The whole answer as one JSON document."""
        ...

    def opening(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """The events before the first content event."""
        ...

    def content(self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer) -> list[bytes]:
        """The content events, one per piece of the answer."""
        ...

    def closing(
        self, answer_id: str, created_s: int, request: ChatRequest, answer: Answer, *, usage: bool, done: bool
    ) -> list[bytes]:
        """The events after the last content event; without the end mark when `done` is False."""
        ...

    def error(self, status: int, message: str, request_id: str) -> bytes:
        """The body of an error response."""
        ...

    def error_event(self, message: str) -> bytes:
        """An error inside a stream that began with 200."""
        ...


EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
JSON: Final = "application/json"
COMMENT: Final = b": the simulated provider is still working\n\n"


def sse_data(payload: bytes) -> bytes:
    """A Server-Sent Event with data only (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"data: %b\n\n" % payload


def sse_event(name: str, payload: bytes) -> bytes:
    """A Server-Sent Event with a type."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), payload)
