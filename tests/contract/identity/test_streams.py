"""Streams that have no end of their own end with the credential that opened them, over both transports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.common.v1 import chat_pb2
from llmops.guard.v1 import guard_pb2
from llmops.identity.v1 import identity_pb2 as pb
from llmops.registry.v1 import registry_pb2, registry_pb2_grpc

from meshkit.errors import CallError
from tests.support.identity_service import ACME, Server, bearer, process, until
from tests.support.registry_double import RegistryDouble

ENDED_WITHIN_S = 1.0


@asynccontextmanager
async def watched(url: str, transport: str) -> AsyncIterator[tuple[Server, Server, RegistryDouble, Any]]:
    """Identity, a process that asks it, the registry that this one serves, and a stub to it."""
    async with process(url=url) as identity, process(identity_port=identity.port) as leaf:
        channel = leaf.channel if transport == "grpc" else leaf.runtime.channel("guard")
        yield identity, leaf, leaf.registry, registry_pb2_grpc.RegistryServiceStub(channel)


async def opened(stub: Any, secret: str) -> Any:
    stream = stub.Watch(registry_pb2.WatchRequest(), metadata=bearer(secret))
    messages = aiter(stream)
    assert (await anext(messages)).revision == 1
    return messages


async def end_of(messages: Any) -> str:
    try:
        async with asyncio.timeout(10):
            await anext(messages)
    except CallError as error:
        return error.reason
    return "a message"


async def operator(identity: Server, request_id: str = "k", **fields: Any) -> pb.CreateKeyResponse:
    request = pb.CreateKeyRequest(request_id=request_id, roles=["ROLE_OPERATOR"], **fields)
    return await identity.identity.CreateKey(request, metadata=ACME)  # type: ignore[no-any-return]


@pytest.mark.parametrize("transport", ["grpc", "local"])
async def test_a_revoked_key_ends_its_watches_within_a_second(fresh_url: str, transport: str) -> None:
    async with watched(fresh_url, transport) as (identity, _, registry, stub):
        made, other = await operator(identity), await operator(identity, "other")
        ending = [await opened(stub, made.secret), await opened(stub, made.secret)]
        others = [await opened(stub, other.secret), await opened(stub, "acme-secret")]
        waiting = [asyncio.create_task(end_of(each)) for each in (*ending, *others)]
        assert registry.watchers == 4
        await identity.identity.RevokeKey(pb.RevokeKeyRequest(request_id="r", key_id=made.key.key_id), metadata=ACME)
        revoked_s = time.monotonic()
        assert await asyncio.gather(*waiting[:2]) == ["CREDENTIAL_INVALID"] * 2
        assert time.monotonic() - revoked_s < ENDED_WITHIN_S
        # The handlers were ended, and nobody else's.
        assert registry.watchers == 2
        assert not any(task.done() for task in waiting[2:])
        for task in waiting[2:]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("transport", ["grpc", "local"])
async def test_a_key_that_expires_ends_its_watches(fresh_url: str, transport: str) -> None:
    async with watched(fresh_url, transport) as (identity, _, registry, stub):
        ends = Timestamp()
        ends.FromDatetime(datetime.now(UTC) + timedelta(seconds=0.7))
        made = await operator(identity, expire_time=ends)
        messages = await opened(stub, made.secret)
        assert await end_of(messages) == "CREDENTIAL_INVALID"
        late_s = (datetime.now(UTC) - ends.ToDatetime(tzinfo=UTC)).total_seconds()
        assert 0 <= late_s < ENDED_WITHIN_S
        assert registry.watchers == 0


async def test_a_stream_of_work_is_finished_with_a_key_that_was_revoked_meanwhile(fresh_url: str) -> None:
    async with process(url=fresh_url) as identity, process(identity_port=identity.port) as leaf:
        made = await identity.identity.CreateKey(pb.CreateKeyRequest(request_id="k"), metadata=ACME)
        revoked = asyncio.Event()

        async def requests() -> AsyncIterator[guard_pb2.CheckOutputStreamRequest]:
            yield guard_pb2.CheckOutputStreamRequest(delta=chat_pb2.CompletionDelta(content="a"))
            await revoked.wait()
            yield guard_pb2.CheckOutputStreamRequest(finish=guard_pb2.StreamFinish())

        stream = leaf.guard.CheckOutputStream(requests(), metadata=bearer(made.secret), timeout=10)
        events = aiter(stream)
        assert (await anext(events)).release.content == "A"
        request = pb.RevokeKeyRequest(request_id="r", key_id=made.key.key_id)
        await identity.identity.RevokeKey(request, metadata=ACME)

        async def refused() -> bool:
            return await leaf.says(made.secret) == "UNAUTHENTICATED"

        await until(refused)
        revoked.set()
        assert [event.WhichOneof("event") async for event in events] == ["verdict"]
