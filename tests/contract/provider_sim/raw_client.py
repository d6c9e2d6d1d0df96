"""A client that shows every byte of a response and how the connection ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson

from llmops_cli.provider_sim import ProviderSim


@dataclass(frozen=True)
class Reply:
    """A raw HTTP/1.1 response as far as it came; `error` is how the connection ended if not by a clean close."""

    status: int
    headers: dict[str, str]
    raw_body: bytes
    error: type[OSError] | None

    @property
    def body(self) -> bytes:
        """The body with chunked framing removed."""
        if self.headers.get("transfer-encoding") != "chunked":
            return self.raw_body
        rest, parts = self.raw_body, []
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            parts.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        return b"".join(parts)

    @property
    def complete(self) -> bool:
        """Whether the framing says that nothing is missing."""
        if self.headers.get("transfer-encoding") == "chunked":
            return self.raw_body.endswith(b"0\r\n\r\n")
        return len(self.raw_body) == int(self.headers.get("content-length", "-1"))

    def json(self) -> dict:
        return orjson.loads(self.body)

    def data(self) -> list[bytes]:
        """The payloads of the data lines of an event stream."""
        lines = self.body.replace(b"\r\n", b"\n").split(b"\n")
        return [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]

    def deltas(self) -> list[str]:
        """The text deltas of an OpenAI stream."""
        events = [orjson.loads(line) for line in self.data() if line.startswith(b"{")]
        contents = [event["choices"][0]["delta"].get("content") for event in events if event.get("choices")]
        return [content for content in contents if content]


def chat(model: str = "m", **fields: object) -> bytes:
    return orjson.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **fields})


def wire(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    named = {"Host": "sim", "Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in named.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def exchange(sim: ProviderSim, data: bytes) -> Reply:
    """Send bytes and read until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    received, error = b"", None
    try:
        writer.write(data)
        while piece := await reader.read(1 << 20):
            received += piece
    except OSError as caught:
        error = type(caught)
    finally:
        writer.close()
    return parse(received, error)


def parse(received: bytes, error: type[OSError] | None = None) -> Reply:
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Reply(int(lines[0].split()[1]) if lines[0] else 0, headers, body, error)


async def post(sim: ProviderSim, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> Reply:
    return await exchange(sim, wire("POST", path, body, **headers))
