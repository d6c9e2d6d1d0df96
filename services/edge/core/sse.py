"""Server-sent events: frames of one data line each, as the clients of OpenAI and Anthropic read them."""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    # nginx buffers answers otherwise, and chunks arrive in bursts.
    "x-accel-buffering": "no",
}


def event(name: str, content: bytes) -> bytes:
    """A frame with a name."""
    return b"event: " + name.encode() + b"\ndata: " + content + b"\n\n"


def data(content: bytes) -> bytes:
    """A frame around JSON, which never holds a bare line feed."""
    return b"data: " + content + b"\n\n"
