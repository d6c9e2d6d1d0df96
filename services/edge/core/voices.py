"""How a stream of each dialect sounds beside its answer: pings, the end, and a failure after its status is sent.

An in-band failure is the last thing that is sent, and nothing like an end follows it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

from services.edge.core import sse
from services.edge.core.error_table import anthropic_error_body, error_body, openai_error
from services.edge.core.errors import EdgeError


class Voice(Protocol):
    """What a relay sends by itself. `done` is empty where the last event is the end."""

    @property
    def ping(self) -> bytes:
        """A frame that says nothing."""
        ...

    @property
    def done(self) -> bytes:
        """The frame after the last event."""
        ...

    def failure(self, error: EdgeError, request_id: str, trace_id: str) -> bytes:
        """The frame of a failure."""
        ...


class ChatVoice:
    """OpenAI's chat completions: `data: {"error": …}`, and `[DONE]` only after a whole answer."""

    ping = sse.PING
    done = sse.DONE

    def failure(self, error: EdgeError, request_id: str, trace_id: str) -> bytes:
        """See Voice."""
        return sse.data(error_body(error, request_id, trace_id))


class MessagesVoice:
    """Anthropic's messages: typed events, also for pings and errors."""

    ping = sse.event("ping", b'{"type":"ping"}')
    done = b""

    def failure(self, error: EdgeError, request_id: str, trace_id: str) -> bytes:
        """See Voice."""
        return sse.event("error", anthropic_error_body(error, request_id, trace_id))


class ResponsesVoice:
    """OpenAI's responses: typed events that are counted. One per stream.

    `snapshot` is set by whoever writes the answer once it has begun: it returns the response so far, as JSON, with the
    given status and error.
    """

    ping = sse.PING
    done = b""

    def __init__(self) -> None:
        self._events = 0
        self.snapshot: Callable[[str, dict[str, object] | None], bytes] | None = None

    def event(self, kind: str, fields: bytes) -> bytes:
        """The next event; `fields` is the inside of a JSON object."""
        number, self._events = self._events, self._events + 1
        return sse.event(kind, b'{"type":"%b","sequence_number":%d,%b}' % (kind.encode(), number, fields))

    def failure(self, error: EdgeError, request_id: str, trace_id: str) -> bytes:
        """See Voice. A response that has begun fails as one; before that there is only the error."""
        shown, llmops = openai_error(error, request_id, trace_id)
        beside = b'"llmops":' + _encode(llmops)
        if self.snapshot is None:
            about = {"code": shown["code"], "message": shown["message"], "param": shown["param"]}
            return self.event("error", _encode(about)[1:-1] + b"," + beside)
        response = self.snapshot("failed", {"code": shown["code"], "message": shown["message"]})
        return self.event("response.failed", b'"response":' + response + b"," + beside)


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


CHAT_VOICE = ChatVoice()
MESSAGES_VOICE = MessagesVoice()
