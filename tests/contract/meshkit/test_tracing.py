"""Sampled calls make spans that hang together, on both transports; unsampled ones make none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from meshkit.context import CallContext, TraceContext, running
from meshkit.tracing import Tracing, TracingSettings
from tests.contract.meshkit.test_transports import ADA, check, opened


@pytest.fixture
async def collector() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An OTLP collector that keeps what it gets."""
    received: list[bytes] = []

    async def traces(request: web.Request) -> web.Response:
        received.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", traces)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", received
    await runner.cleanup()


@pytest.mark.parametrize("transport", ["local", "grpc"])
async def test_a_sampled_call_is_a_span_of_its_callers_trace(
    transport: str, collector: tuple[str, list[bytes]]
) -> None:
    endpoint, received = collector
    tracing = Tracing(TracingSettings(otlp_endpoint=endpoint, sample_ratio=1), "test")
    deadline_s = asyncio.get_running_loop().time() + 30
    async with opened(transport, tracing=tracing) as bench:
        for sampled in (True, False):
            trace = TraceContext(("a" if sampled else "c") * 32, "b" * 16, sampled)
            with running(CallContext("r", ADA, "ada-secret", trace, deadline_s)):
                await bench.stub.CheckInput(check())
        seen = [call.trace for call in bench.guard.seen]
        await asyncio.to_thread(tracing.close)
    assert seen[0].trace_id == "a" * 32
    assert seen[0].span_id != "b" * 16
    exported = b"".join(received)
    assert bytes.fromhex("a" * 32) in exported
    assert bytes.fromhex("b" * 16) in exported
    assert b"/llmops.guard.v1.GuardService/CheckInput" in exported
    assert bytes.fromhex("c" * 32) not in exported


def test_nothing_is_sampled_without_an_endpoint() -> None:
    tracing = Tracing(TracingSettings(sample_ratio=1), "test")
    assert not any(tracing.root().sampled for _ in range(100))
