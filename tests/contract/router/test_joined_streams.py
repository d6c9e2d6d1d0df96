"""Pieces of a stream that come shortly after one another are read as one: what that must not change, on real sockets.

The pauses are long here, so that tests can tell what was waited for. Every body runs on asyncio's loop and on uvloop,
the loop of production: they read, pause and break differently.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import uvloop

from services.router.adapters.dialects.anthropic_messages import AnthropicMessages
from services.router.adapters.dialects.base import Dialect
from services.router.adapters.dialects.openai_chat import OpenAiChat
from services.router.adapters.http import Endpoint, HttpLimits, HttpProvider, open_session
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Message, ModelCall
from services.router.core.failure import Failure, FailureKind, ProviderError
from services.router.core.ports import Chunk, ProviderRequest
from tests.contract.router.conftest import Received, Respond, Upstream

LONG_S = 0.25
PIECE_BYTES = 1 << 16
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
IN_BAND = b'data: {"error":{"type":"server_error","message":"boom"}}\n\n'
CUTS = {"cut-mid-answer", "connection-reset"}


def piece(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n".encode()


def block(text: str) -> bytes:
    row = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return f"event: content_block_delta\ndata: {json.dumps(row)}\n\n".encode()


@asynccontextmanager
async def provider(
    respond: Respond, limits: HttpLimits, dialect: Dialect | None = None
) -> AsyncIterator[tuple[HttpProvider, Upstream]]:
    upstream = Upstream(respond)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    endpoint = Endpoint(url, "key", "", "", {}, 2.0, 16, 5.0, "", allow_private=False, allow_loopback=True)
    spoken = dialect or OpenAiChat()
    try:
        async with open_session(endpoint, spoken) as session:
            yield HttpProvider(spoken, url, session, limits=limits, now=lambda: datetime.now(UTC)), upstream
    finally:
        server.close()
        for writer in list(upstream.writers):
            writer.transport.abort()


def request(idle_timeout_s: float = 30.0) -> ProviderRequest:
    spec = ModelSpec("m", "p", "model-1", idle_timeout_s=idle_timeout_s)
    return ProviderRequest(ModelCall("", (Message("user", "hello"),)), spec)


class Reader:
    """Reads a stream; `texts` and `at_s` hold each text and when it came."""

    def __init__(self, provider: HttpProvider, idle_timeout_s: float = 30.0) -> None:
        self.stream = provider.stream(request(idle_timeout_s))
        self.texts: list[str] = []
        self.at_s: list[float] = []
        self.failure: Failure | None = None
        self.last: Chunk | None = None

    async def next(self) -> bool:
        """Reads one chunk; False at the end."""
        try:
            self.last = await anext(self.stream)
        except StopAsyncIteration:
            return False
        except ProviderError as error:
            self.failure = error.failure
            return False
        if self.last.delta is not None:
            self.texts.append(self.last.delta.content)
            self.at_s.append(asyncio.get_running_loop().time())
        return True

    async def all(self) -> Reader:
        while await self.next():
            pass
        return self


async def end(received: Received) -> None:
    """What ends a stream, in one packet as providers send it."""
    ending = FINISH + DONE
    await received.send(f"{len(ending):x}\r\n".encode() + ending + b"\r\n0\r\n\r\n")


async def quick_pieces_are_joined_and_the_first_is_not_delayed() -> None:
    sent_at_s: list[float] = []

    async def respond(received: Received) -> None:
        await received.begin_stream()
        for number in range(10):
            sent_at_s.append(asyncio.get_running_loop().time())
            await received.chunk(piece(str(number)))
            await asyncio.sleep(0.01)
        await end(received)

    async with provider(respond, HttpLimits(stream_join_s=LONG_S)) as (model, upstream):
        seen = await Reader(model).all()
        assert (seen.failure, seen.texts) == (None, ["0", "123456789"])
        assert seen.at_s[0] - sent_at_s[0] < LONG_S / 2
        assert seen.last is not None
        assert seen.last.finished
        # The connection serves the next call, and is read as ever.
        assert (await Reader(model).all()).texts == ["0", "123456789"]
        assert upstream.connections == 1


async def nothing_is_joined_when_that_is_turned_off() -> None:
    async def respond(received: Received) -> None:
        await received.begin_stream()
        for number in range(5):
            await received.chunk(piece(str(number)))
            await asyncio.sleep(0.02)
        await end(received)

    async with provider(respond, HttpLimits(stream_join_s=0.0)) as (model, _):
        assert (await Reader(model).all()).texts == ["0", "1", "2", "3", "4"]


async def hidden_reasoning_does_not_delay_the_first_text() -> None:
    thought = b'data: {"choices":[{"index":0,"delta":{"reasoning":"hm"}}]}\n\n'
    sent_at_s: list[float] = []

    async def respond(received: Received) -> None:
        await received.begin_stream()
        for data in (thought, thought, thought, piece("a")):
            await asyncio.sleep(0.02)
            sent_at_s.append(asyncio.get_running_loop().time())
            await received.chunk(data)
        await end(received)

    async with provider(respond, HttpLimits(stream_join_s=LONG_S)) as (model, _):
        seen = await Reader(model).all()
        assert "".join(seen.texts) == "a"
        assert seen.at_s[0] - sent_at_s[-1] < LONG_S / 2


async def a_provider_slower_than_the_pause_is_not_delayed() -> None:
    sent_at_s: list[float] = []

    async def respond(received: Received) -> None:
        await received.begin_stream()
        for number, pause_s in enumerate((LONG_S * 1.2, LONG_S * 0.4, LONG_S * 1.2, LONG_S * 0.4)):
            sent_at_s.append(asyncio.get_running_loop().time())
            await received.chunk(piece(str(number)))
            await asyncio.sleep(pause_s)
        await end(received)

    async with provider(respond, HttpLimits(stream_join_s=LONG_S)) as (model, _):
        seen = await Reader(model).all()
        assert seen.texts == ["0", "1", "2", "3"]
        assert max(at - sent for at, sent in zip(seen.at_s, sent_at_s, strict=True)) < LONG_S / 2


async def what_came_with_the_end_does_not_wait() -> None:
    """After the finish reason nothing is joined: the end mark that comes a little later is there at once."""

    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(piece("a"))
        await asyncio.sleep(0.02)
        await received.chunk(piece("b") + FINISH)
        await asyncio.sleep(LONG_S * 1.2)
        await received.chunk(DONE)
        ended_at_s.append(asyncio.get_running_loop().time())
        await received.end_stream()

    ended_at_s: list[float] = []
    async with provider(respond, HttpLimits(stream_join_s=LONG_S)) as (model, _):
        assert "".join((await Reader(model).all()).texts) == "ab"
        assert asyncio.get_running_loop().time() - ended_at_s[0] < LONG_S / 2


async def a_connection_whose_last_bytes_come_late_is_kept() -> None:
    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(piece("a"))
        await received.chunk(FINISH + DONE)
        await asyncio.sleep(0.02)
        await received.end_stream()

    async with provider(respond, HttpLimits(stream_join_s=LONG_S)) as (model, upstream):
        for _ in range(2):
            assert "".join((await Reader(model).all()).texts) == "a"
        assert upstream.connections == 1


async def a_break_in_the_pause_comes_after_the_text(how: str, join_s: float) -> None:
    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(piece("first "))
        await begun.wait()
        for text in ("second ", "third"):
            await received.chunk(piece(text))
        if how == "reset":
            received.writer.transport.abort()
        else:
            received.writer.close()

    begun = asyncio.Event()
    async with provider(respond, HttpLimits(stream_join_s=join_s)) as (model, _):
        seen = Reader(model)
        await seen.next()
        begun.set()
        await seen.all()
        assert "".join(seen.texts) == "first second third"
        assert seen.failure is not None
        assert (seen.failure.kind, seen.failure.cause in CUTS) == (FailureKind.BROKEN, True)


async def a_break_while_nobody_reads_comes_after_the_text() -> None:
    """aiohttp raises a broken connection's exception before it hands out what it buffered: so nothing is buffered."""

    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(piece("first "))
        await begun.wait()
        await received.chunk(piece("second"))
        received.writer.transport.abort()

    begun = asyncio.Event()
    async with provider(respond, HttpLimits(stream_join_s=0.01)) as (model, _):
        seen = Reader(model)
        await seen.next()
        begun.set()
        await asyncio.sleep(0.1)
        await seen.all()
        assert "".join(seen.texts) == "first second"
        assert seen.failure is not None
        assert seen.failure.cause in CUTS


async def what_ends_a_read_comes_after_what_it_brought(
    wire: bytes, text: str, cause: str, dialect: Dialect | None
) -> None:
    first = piece("first ") if dialect is None else block("first ")

    async def respond(received: Received) -> None:
        await received.begin_stream()
        await received.chunk(first)
        await begun.wait()
        await received.chunk(wire)
        await received.gone()

    begun = asyncio.Event()
    limits = HttpLimits(stream_join_s=0.02, max_stream_bytes=len(first) + 2000, max_line_bytes=1000)
    async with provider(respond, limits, dialect) as (model, _):
        seen = Reader(model)
        await seen.next()
        begun.set()
        await seen.all()
        assert "".join(seen.texts) == text
        assert seen.failure is not None
        assert seen.failure.cause == cause


async def pauses_are_no_silence() -> None:
    """The idle limit is shorter than the pause, and pieces come more often than either."""

    async def respond(received: Received) -> None:
        await received.begin_stream()
        for number in range(40):
            await received.chunk(piece(f"{number};"))
            await asyncio.sleep(0.02)
        await end(received)

    # Long against what a busy machine adds to a wait, short against the pause.
    async with provider(respond, HttpLimits(stream_join_s=8 * LONG_S)) as (model, _):
        seen = Reader(model, idle_timeout_s=4 * LONG_S)
        while True:
            async with asyncio.timeout(4 * LONG_S):
                if not await seen.next():
                    break
        assert (seen.failure, "".join(seen.texts)) == (None, "".join(f"{number};" for number in range(40)))
        assert len(seen.texts) < 40


async def leaving_in_the_pause_closes_the_connection_at_once(how: str) -> None:
    async def respond(received: Received) -> None:
        await received.begin_stream()
        for _ in range(20):
            await received.chunk(piece("a"))
            await asyncio.sleep(0.01)
        await received.gone()

    async with provider(respond, HttpLimits(stream_join_s=LONG_S)) as (model, upstream):
        seen = Reader(model)
        await seen.next()
        task = asyncio.ensure_future(seen.next())
        await asyncio.sleep(0.05)
        left_at_s = asyncio.get_running_loop().time()
        if how == "cancel":
            task.cancel()
            await asyncio.wait([task])
        else:
            await task
            await seen.stream.aclose()
            left_at_s = asyncio.get_running_loop().time()
        await asyncio.wait_for(upstream.gone.wait(), 5)
        assert upstream.gone_at - left_at_s < 0.2


async def a_slow_reader_slows_the_provider(join_s: float) -> None:
    """What is not read stays with the provider, but for the buffers of two sockets; and nothing of it is lost."""
    sent = 0

    async def respond(received: Received) -> None:
        nonlocal sent
        await received.begin_stream()
        for _ in range(256):
            await received.chunk(piece("x" * PIECE_BYTES))
            sent += 1
        await end(received)

    async with provider(respond, HttpLimits(stream_join_s=join_s)) as (model, _):
        seen = Reader(model)
        await seen.next()
        await asyncio.sleep(0.3)
        assert sent * PIECE_BYTES < 12 << 20
        await seen.all()
        assert (seen.failure, sum(map(len, seen.texts))) == (None, 256 * PIECE_BYTES)


THIRD = piece("third")
CASES: dict[str, Callable[[], Awaitable[None]]] = {
    "joined": quick_pieces_are_joined_and_the_first_is_not_delayed,
    "off": nothing_is_joined_when_that_is_turned_off,
    "reasoning": hidden_reasoning_does_not_delay_the_first_text,
    "slow-provider": a_provider_slower_than_the_pause_is_not_delayed,
    "last-bytes": a_connection_whose_last_bytes_come_late_is_kept,
    "end": what_came_with_the_end_does_not_wait,
    "reset": lambda: a_break_in_the_pause_comes_after_the_text("reset", 0.05),
    "close": lambda: a_break_in_the_pause_comes_after_the_text("close", 0.05),
    "reset-long": lambda: a_break_in_the_pause_comes_after_the_text("reset", LONG_S),
    "close-long": lambda: a_break_in_the_pause_comes_after_the_text("close", LONG_S),
    "reset-unread": a_break_while_nobody_reads_comes_after_the_text,
    "in-band": lambda: what_ends_a_read_comes_after_what_it_brought(
        piece("second ") + THIRD + IN_BAND, "first second third", "in-band-server-error", None
    ),
    "malformed": lambda: what_ends_a_read_comes_after_what_it_brought(
        THIRD + b"data: {oops}\n\n" + piece("never"), "first third", "malformed-json", None
    ),
    "no-finish": lambda: what_ends_a_read_comes_after_what_it_brought(
        THIRD + DONE, "first third", "no-finish-reason", None
    ),
    "invalid-utf8": lambda: what_ends_a_read_comes_after_what_it_brought(
        THIRD + b"data: \xff\n\n", "first third", "invalid-utf8", None
    ),
    "too-large": lambda: what_ends_a_read_comes_after_what_it_brought(
        THIRD + b": " + b"x" * 900 + b"\n" + b": " + b"x" * 900 + b"\n" + b": " + b"x" * 900 + b"\n" + THIRD,
        "first third",
        "stream-too-large",
        None,
    ),
    "in-band-anthropic": lambda: what_ends_a_read_comes_after_what_it_brought(
        block("second ") + b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
        "first second ",
        "in-band-overloaded-error",
        AnthropicMessages(),
    ),
    "idle": pauses_are_no_silence,
    "cancel": lambda: leaving_in_the_pause_closes_the_connection_at_once("cancel"),
    "aclose": lambda: leaving_in_the_pause_closes_the_connection_at_once("aclose"),
    "slow-reader": lambda: a_slow_reader_slows_the_provider(0.02),
    "slow-reader-off": lambda: a_slow_reader_slows_the_provider(0.0),
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("case", CASES)
def test_joined_streams(case: str, loop: str) -> None:
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_awaited(CASES[case]()))


async def _awaited(case: Awaitable[None]) -> None:
    await asyncio.wait_for(case, 20)
