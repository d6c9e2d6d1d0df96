"""A process as operators see it: health, reflection, channelz, metrics, readiness, effective configuration, ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from llmops.guard.v1 import guard_pb2_grpc

from meshkit.kit import Kit
from meshkit.lifecycle import RunningProcess, Target, running_process
from meshkit.runtime import AuthSettings, ProcessSettings, Runtime
from meshkit.settings import Secret
from meshkit.transports.server import ServerSettings
from tests.support.guard_double import GuardDouble

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "llmops.guard.v1.GuardService"
events: list[str] = []


@dataclass(frozen=True)
class DoubleSettings:
    ready: bool = True


@asynccontextmanager
async def build(settings: DoubleSettings, kit: Kit) -> AsyncIterator[None]:
    events.clear()
    kit.serve(guard_pb2_grpc.add_GuardServiceServicer_to_server, GuardDouble())
    began = asyncio.Event()

    async def forever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            events.append("background stopped")

    async def note_drain() -> None:
        events.append("drain")

    async def note_close() -> None:
        events.append("closed")

    async def check() -> None:
        if not settings.ready:
            raise ConnectionError("secret address")

    kit.background("forever", forever)
    kit.on_drain(note_drain)
    kit.on_close(note_close)
    kit.ready_check("store", check)
    await began.wait()
    yield
    events.append("build left")


TARGET = Target("guard", f"{__name__}:DoubleSettings", f"{__name__}:build")


@asynccontextmanager
async def started(settings: ServerSettings, *, ready: bool = True) -> AsyncIterator[RunningProcess]:
    process = ProcessSettings(
        server=settings, auth=AuthSettings(pepper=Secret("p" * 20), mesh_key=Secret("mesh-secret"))
    )
    runtime = Runtime("test", process, frozenset({"guard"}), None)
    settings_of = {"guard": DoubleSettings(ready)}
    async with running_process(runtime, [TARGET], settings_of, lambda: {"auth": "hidden"}) as running:
        yield running


FREE = ServerSettings(grpc_port=0, admin_port=0, debug_port=0, grace_s=0.2)


def channel(running: RunningProcess, name: str = "grpc") -> grpc.aio.Channel:
    host, port = running.addresses[name]
    return grpc.aio.insecure_channel(f"{host}:{port}")


async def fetched(running: RunningProcess, path: str) -> tuple[int, str]:
    host, port = running.addresses["admin"]
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}{path}") as response:
        return response.status, await response.text()


async def test_health_says_serving_for_every_service_and_the_whole() -> None:
    async with started(FREE) as running, channel(running) as open_channel:
        stub = health_pb2_grpc.HealthStub(open_channel)
        for service in ("", SERVICE):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING


async def test_a_drain_is_told_before_the_server_goes() -> None:
    async with started(replace(FREE, drain_delay_s=0.3)) as running:
        open_channel = channel(running)
        watch = health_pb2_grpc.HealthStub(open_channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        told = asyncio.ensure_future(watch.read())
    assert (await told).status == NOT_SERVING
    watch.cancel()
    await open_channel.close()


async def test_reflection_lists_what_is_served_and_can_be_off() -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with started(FREE) as running, channel(running) as open_channel:
        stream = reflection_pb2_grpc.ServerReflectionStub(open_channel).ServerReflectionInfo(iter([request]))
        names = {s.name for s in (await stream.read()).list_services_response.service}
        assert {SERVICE, "grpc.health.v1.Health"} <= names
        stream.cancel()
    async with started(replace(FREE, reflection=False)) as running, channel(running) as open_channel:
        stream = reflection_pb2_grpc.ServerReflectionStub(open_channel).ServerReflectionInfo(iter([request]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_channelz_answers_on_its_own_loopback_port_and_can_be_off() -> None:
    async with started(FREE) as running, channel(running, "channelz") as open_channel:
        servers = await channelz_pb2_grpc.ChannelzStub(open_channel).GetServers(channelz_pb2.GetServersRequest())
        assert len(servers.server) >= 1
    async with started(replace(FREE, debug_port=-1)) as running:
        assert "channelz" not in running.addresses


async def test_the_admin_port() -> None:
    async with started(FREE) as running:
        assert await fetched(running, "/healthz") == (200, "ok\n")
        assert (await fetched(running, "/readyz"))[0] == 200
        status, text = await fetched(running, "/metrics")
        assert status == 200
        assert "llmops_loop_lag_seconds" in text
        assert "mesh-secret" not in (await fetched(running, "/debug/config"))[1]


async def test_a_failing_check_makes_it_not_ready_and_names_only_its_kind() -> None:
    async with started(FREE, ready=False) as running:
        status, text = await fetched(running, "/readyz")
    assert status == 503
    assert '"guard.store":"ConnectionError"' in text
    assert "secret" not in text


async def test_the_end_comes_in_order() -> None:
    async with started(FREE):
        pass
    assert events == ["drain", "background stopped", "build left", "closed"]


@pytest.mark.parametrize("port", ["grpc_port", "admin_port", "debug_port"])
async def test_a_taken_port_is_a_sentence(port: str) -> None:
    async with started(FREE) as running:
        taken = running.addresses[{"grpc_port": "grpc", "admin_port": "admin", "debug_port": "channelz"}[port]][1]
        with pytest.raises(OSError, match=f"{taken} cannot be bound; is another process there.*server.{port}"):
            async with started(replace(FREE, **{port: taken})):
                pass
    assert "closed" in events


async def test_an_address_of_another_machine_is_a_sentence() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:0 cannot be bound: .*; server.host is an address of this machine"):
        async with started(replace(FREE, host="192.0.2.1")):
            pass


async def test_a_crashing_loop_is_begun_again(tmp_path: Path) -> None:
    async with started(FREE) as running:
        kit = Kit(running.runtime, "test")
        runs = 0
        again = asyncio.Event()

        async def crash() -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                raise ValueError("first time")
            again.set()
            await asyncio.Event().wait()

        kit.background("crash", crash)
        await asyncio.wait_for(again.wait(), 5)
        with suppress(asyncio.CancelledError):
            await kit.stop_background()
        assert runs == 2
