"""Sampled calls make spans that hang together, on every transport; unsampled ones make none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc.aio
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from llmops.guard.v1 import guard_pb2_grpc

from meshkit import lifecycle
from meshkit.context import CallContext, TraceContext, running
from meshkit.errors import CallError
from meshkit.interceptors.admission import AdmissionSettings
from meshkit.metrics import MetricsRegistry
from meshkit.runtime import ProcessSettings, Runtime
from meshkit.tracing import Tracing, TracingSettings
from meshkit.transports.mux.channel import MuxChannel, open_mux_channel
from meshkit.transports.remote import PeerSettings, open_channel
from meshkit.transports.server import GrpcServer, ServerSettings
from tests.contract.meshkit.test_transports import ADA, AUTHORISED, SERVICE, check, deltas, handler_table, opened, until
from tests.support.guard_double import GuardDouble


@pytest.fixture
async def collector() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An OTLP collector that keeps what it gets."""
    received: list[bytes] = []

    async def traces(request: web.Request) -> web.Response:
        received.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", traces)
    app.router.add_post("/v1/metrics", traces)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", received
    await runner.cleanup()


@pytest.mark.parametrize("transport", ["local", "grpc", "mux"])
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


@pytest.mark.parametrize("transport", ["local", "grpc", "mux"])
async def test_no_key_and_no_content_is_in_a_span(transport: str, collector: tuple[str, list[bytes]]) -> None:
    """BerriAI/litellm#13705, #36758: keys and prompts were attributes of spans, most of all where calls failed."""
    endpoint, received = collector
    tracing = Tracing(TracingSettings(otlp_endpoint=endpoint, sample_ratio=1), "test")
    deadline_s = asyncio.get_running_loop().time() + 30
    trace = TraceContext("a" * 32, "b" * 16, sampled=True)
    keys = (("idempotency-key", "canary-idempotency"),)
    async with opened(transport, tracing=tracing) as bench:
        with running(CallContext("r", ADA, "ada-secret", trace, deadline_s)):
            await bench.stub.CheckInput(check("canary-content"), metadata=keys)
            with pytest.raises(CallError):
                await bench.stub.CheckInput(check("unknown"), metadata=keys)
        # In one process the principal is handed over, between processes the credential is refused.
        refused = contextlib.nullcontext() if transport == "local" else pytest.raises(CallError)
        with running(CallContext("r", ADA, "canary-credential", trace, deadline_s)), refused:
            await bench.stub.CheckInput(check("canary-content"))
        await asyncio.to_thread(tracing.close)
    exported = b"".join(received)
    assert exported.count(b"/llmops.guard.v1.GuardService/CheckInput") >= 2
    for told in (b"ada-secret", b"canary", b"Bearer"):
        assert told not in exported


async def test_the_public_server_uses_the_contrib_interceptor_without_hurting_streams_health_or_errors(
    collector: tuple[str, list[bytes]],
) -> None:
    endpoint, received = collector
    settings = ProcessSettings(tracing=TracingSettings(otlp_endpoint=endpoint, sample_ratio=1))
    runtime = Runtime("test", settings, frozenset({"orchestrator"}), None)
    interceptors = lifecycle._contrib_tracing(runtime)
    assert len(interceptors) == 1
    table = handler_table(MetricsRegistry(), AdmissionSettings())
    guard_pb2_grpc.add_GuardServiceServicer_to_server(GuardDouble(), table)
    server = GrpcServer(ServerSettings(grpc_port=0, grace_s=0.1), table, interceptors)
    await server.start()
    await server.set_serving(serving=True)
    channel = open_channel(SERVICE, PeerSettings(address=f"127.0.0.1:{server.port}"))
    stub = guard_pb2_grpc.GuardServiceStub(channel)
    assert (await stub.CheckInput(check(), metadata=AUTHORISED)).language == "acme"
    assert len([r async for r in stub.CheckOutputStream(deltas("a"), metadata=AUTHORISED)]) == 2
    with pytest.raises(CallError) as caught:
        await stub.CheckInput(check("unknown"), metadata=AUTHORISED)
    assert caught.value.metadata == {"policy": "nope"}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as plain:
        watch = health_pb2_grpc.HealthStub(plain).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
    shared = open_mux_channel(SERVICE, PeerSettings(address=f"127.0.0.1:{server.port}"))
    assert isinstance(shared, MuxChannel)
    await until(lambda: shared.streams.up == 1)
    assert (await guard_pb2_grpc.GuardServiceStub(shared).CheckInput(check(), metadata=AUTHORISED)).language == "acme"
    await shared.close()
    await channel.close()
    await server.stop()
    await runtime.close()
    exported = b"".join(received)
    assert exported.count(b"rpc.system") >= 3
    assert b"grpc.health" not in exported
    assert b"llmops.mesh" not in exported


async def test_inner_and_untraced_processes_do_without_it(collector: tuple[str, list[bytes]]) -> None:
    traced = ProcessSettings(tracing=TracingSettings(otlp_endpoint=collector[0], sample_ratio=1))
    for settings, targets in ((traced, {"guard"}), (ProcessSettings(), {"orchestrator"})):
        runtime = Runtime("test", settings, frozenset(targets), None)
        assert lifecycle._contrib_tracing(runtime) == ()
        await runtime.close()


async def test_call_counts_are_pushed_as_metrics(collector: tuple[str, list[bytes]]) -> None:
    endpoint, received = collector
    settings = ProcessSettings(tracing=TracingSettings(otlp_endpoint=endpoint, sample_ratio=0))
    runtime = Runtime("counted", settings, frozenset({"guard"}), None)
    guard_pb2_grpc.add_GuardServiceServicer_to_server(GuardDouble(), runtime.table)
    with pytest.raises(CallError):
        await guard_pb2_grpc.GuardServiceStub(runtime.channel("guard")).CheckInput(check())
    await runtime.close()
    pushed = b"".join(received)
    for part in (b"counted", b"llmops.rpc.handled", b"llmops.rpc.in_flight", b"/CheckInput", b"UNAUTHENTICATED"):
        assert part in pushed


def test_nothing_is_sampled_without_an_endpoint() -> None:
    tracing = Tracing(TracingSettings(sample_ratio=1), "test")
    assert not any(tracing.root().sampled for _ in range(100))
