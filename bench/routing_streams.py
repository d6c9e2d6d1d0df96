"""`python -m bench.routing_streams`: streams of 100 chunks through the router's service, and through aiohttp alone.

A provider in a process of its own writes the same bytes again and again: all chunks at once, in fives, or one by one.
This process holds the service, protobuf to protobuf, without a transport before it, and 16 callers that read their
streams to the end. "A core" is a second of this process's CPU. Ways are measured in turn: read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import aiohttp
import uvloop
from llmops.common.v1 import chat_pb2
from llmops.router.v1 import router_pb2 as pb

from bench.machine import describe
from bench.routing_faults import open_router
from bench.statistics import median
from llmops_cli.launcher import tune
from meshkit.testing import call_context
from services.router.adapters.call_answers import CallAnswers
from services.router.adapters.call_requests import CallRequests
from services.router.api import Budgets, RouterApi

CHUNKS: Final = 100
# How many chunks the provider hands to the kernel at a time.
TOGETHER: Final = (CHUNKS, 5, 1)
_ROUNDS, _STREAMS, _CALLERS = 5, 400, 16
Once = Callable[[], Awaitable[int]]


def _events() -> list[bytes]:
    """An answer as OpenAI streams it: 100 pieces of a word each; the end, the usage and the mark come together."""

    def event(**fields: Any) -> bytes:
        return b"data: " + json.dumps({"id": "chatcmpl-1", "model": "first", **fields}).encode() + b"\n\n"

    pieces = [{"content": f" word{number}"} for number in range(CHUNKS)]
    written = [event(choices=[{"index": 0, "delta": delta}]) for delta in pieces]
    end = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": CHUNKS})
    return [*written, end + usage + b"data: [DONE]\n\n"]


async def _provide(together: int) -> None:
    """A provider that spends nothing on its answers, so that it is never what is measured."""
    events = _events()
    parts = [b"".join(events[at : at + together]) for at in range(0, len(events), together)]
    bodies = [f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in asked.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(head)
            for body in bodies:
                writer.write(body)
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _measure(once: Once) -> float:
    """CPU microseconds of one stream."""
    left = iter(range(_STREAMS))

    async def caller() -> None:
        for _ in left:
            came = await once()
            if came < CHUNKS:
                raise RuntimeError(f"a stream had {came} chunks instead of {CHUNKS}")

    begun = time.process_time()
    await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    return (time.process_time() - begun) / _STREAMS * 1e6


@asynccontextmanager
async def _provider(together: int) -> AsyncIterator[str]:
    """Its base URL."""
    command = (sys.executable, "-m", "bench.routing_streams", "--provide", str(together))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}/v1"
    finally:
        process.kill()
        await process.wait()


async def _ways(together: int) -> tuple[float, float]:
    """CPU microseconds of a stream by aiohttp alone, and by the service: medians of rounds in turn."""
    message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="hello")
    request = pb.CompleteStreamRequest(call=pb.ModelCall(messages=[message]))
    async with _provider(together) as base_url, open_router(base_url) as router, aiohttp.ClientSession() as session:
        # Vectors and canaries are not asked for here.
        unused, budgets = cast("Any", None), Budgets(30.0, 30.0, 0.0)
        api = RouterApi(router, unused, budgets, unused, CallRequests(), CallAnswers())

        async def service() -> int:
            with call_context():
                pieces = [event.delta.content async for event in api.CompleteStream(request, None)]
            return "".join(pieces).count(" word")

        async def aiohttp_alone() -> int:
            async with session.post(f"{base_url}/chat/completions", json={"stream": True}) as answer:
                return sum([part.count(b" word") async for part in answer.content.iter_any()])

        rounds = [(await _measure(aiohttp_alone), await _measure(service)) for _ in range(_ROUNDS)]
    alone, through = zip(*rounds, strict=True)
    return median(alone), median(through)


async def _main() -> None:
    print(
        "| chunks handed over at a time | aiohttp alone, us | the service, us | ratio | streams per second and core |"
    )
    print("|---|---|---|---|---|")
    for together in TOGETHER:
        alone, service = await _ways(together)
        print(f"| {together} | {alone:.0f} | {service:.0f} | {service / alone:.1f} | {1e6 / service:.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m bench.routing_streams", description="Measures the router on streams."
    )
    parser.add_argument("--provide", type=int, choices=TOGETHER, help="be the provider; what the measurement starts")
    provide = parser.parse_args().provide
    if provide:
        asyncio.run(_provide(provide))
    else:
        tune()
        print(describe())
        uvloop.run(_main())
