"""How long to wait after a refusal for lack of quota, as every kind of caller learns it."""

from __future__ import annotations

import json
import time

import grpc.aio
import pytest
from llmops.guard.v1 import guard_pb2_grpc

from meshkit.errors import CallError
from meshkit.interceptors.admission import AdmissionSettings
from meshkit.metrics import MetricsRegistry
from meshkit.transports.server import GrpcServer, ServerSettings
from tests.contract.meshkit.test_transports import AUTHORISED, Bench, bench, check, handler_table  # noqa: F401
from tests.support.guard_double import GuardDouble


async def test_callers_inside_the_mesh_see_the_time(bench: Bench) -> None:  # noqa: F811
    for policy, retry_after_s in (("limited0.25", 0.25), ("limited", None)):
        with pytest.raises(CallError) as caught:
            await bench.stub.CheckInput(check(policy), metadata=AUTHORISED)
        assert (caught.value.reason, caught.value.retry_after_s) == ("RATE_LIMITED", retry_after_s)
        assert caught.value.quota_violations == [("key:1", "60 requests per minute")]


@pytest.mark.parametrize(("policy", "tries", "waited_s"), [("limited", 1, 0.0), ("limited0.3", 2, 0.3)])
async def test_gRPCs_own_client_waits_that_long_or_does_not_repeat(policy: str, tries: int, waited_s: float) -> None:
    table = handler_table(MetricsRegistry(), AdmissionSettings())
    guard = GuardDouble()
    guard_pb2_grpc.add_GuardServiceServicer_to_server(guard, table)
    server = GrpcServer(ServerSettings(grpc_port=0, grace_s=0.1), table)
    await server.start()
    policy_of_client = {
        "maxAttempts": 2,
        "initialBackoff": "0.001s",
        "maxBackoff": "0.001s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy_of_client}]})
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.service_config", config)])
    began_s = time.monotonic()
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await guard_pb2_grpc.GuardServiceStub(channel).CheckInput(check(policy), metadata=AUTHORISED, timeout=5)
    finally:
        await channel.close()
        await server.stop()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(guard.seen) == tries
    assert time.monotonic() - began_s >= waited_s
