"""The service as a client sees it: its own wiring, generated stubs, both transports, PostgreSQL and FAISS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from llmops.cache.v1 import cache_pb2 as pb
from llmops.cache.v1 import cache_pb2_grpc
from llmops.common.v1 import chat_pb2

from meshkit.errors import CallError
from meshkit.postgres import Database
from services.cache.main import build
from services.cache.settings import CacheSettings, MemorySettings
from tests.contract.cache.conftest import TABLES
from tests.support.one_service import CALLER, FOR_CALLER, OPERATOR, running_service
from tests.unit.cache.builders import cache_key, embedding, store_request

SETTINGS = CacheSettings(memory=MemorySettings(invalidation_poll_s=0.05))
RESET = "How do I reset my password?"
RESET_TOO = "How can I reset my password?"

Start = Callable[..., AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def running(url: str, transport: str, settings: CacheSettings) -> AsyncIterator[Any]:
    """A stub to a process that runs the cache alone."""
    async with running_service("cache", build, settings, transport, url) as (channel, _):
        yield cache_pb2_grpc.CacheServiceStub(channel)


@pytest.fixture(params=["local", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def start(cache_service_database: Database, postgres_url: str, transport: str) -> Start:
    await cache_service_database.pool.execute(f"TRUNCATE {TABLES}")
    return lambda settings=SETTINGS: running(postgres_url, transport, settings)


async def becomes(look: Callable[[], Awaitable[pb.LookupResponse]], status: pb.CacheStatus) -> pb.LookupResponse:
    """Looks until the status is there; the test's timeout is the limit."""
    while (found := await look()).status != status:
        await asyncio.sleep(0.01)
    return found


async def test_every_call_works_from_end_to_end(start: Start) -> None:
    async with start() as stub:
        key = cache_key()
        assert (await stub.Lookup(pb.LookupRequest(key=key), metadata=CALLER)).status == pb.CACHE_STATUS_MISS
        kept = await stub.Store(store_request(key), metadata=CALLER)
        found = await stub.Lookup(pb.LookupRequest(key=key), metadata=CALLER)
        assert (found.status, found.entry.entry_id) == (pb.CACHE_STATUS_EXACT, kept.entry_id)
        await stub.ReportBadHit(pb.ReportBadHitRequest(request_id="b", entry_id=kept.entry_id), metadata=CALLER)
        assert (await stub.Lookup(pb.LookupRequest(key=key), metadata=CALLER)).status == pb.CACHE_STATUS_MISS
        await stub.Store(store_request(key), metadata=CALLER)
        dropped = await stub.Invalidate(pb.InvalidateRequest(request_id="i", everything=True), metadata=OPERATOR)
        assert dropped.entry_count == 1
        stats = await stub.GetStats(pb.GetStatsRequest(), metadata=CALLER)
        assert (stats.entry_count, stats.lookup_count, stats.exact_hit_count, stats.bad_hit_count) == (0, 3, 1, 1)


async def test_who_shows_the_meshs_key_and_who_does_not_never_meet(start: Start) -> None:
    async with start() as stub:
        key = cache_key()
        forged = await stub.Store(store_request(key, "forged"), metadata=CALLER)
        judged = await stub.Store(store_request(key, "judged"), metadata=FOR_CALLER)
        look = pb.LookupRequest(key=key)
        assert (await stub.Lookup(look, metadata=CALLER)).entry.entry_id == forged.entry_id
        assert (await stub.Lookup(look, metadata=FOR_CALLER)).entry.entry_id == judged.entry_id
        dropped = await stub.Invalidate(pb.InvalidateRequest(request_id="i", key=key), metadata=OPERATOR)
        assert dropped.entry_count == 2
        for metadata in (CALLER, FOR_CALLER):
            assert (await stub.Lookup(look, metadata=metadata)).status == pb.CACHE_STATUS_MISS


async def test_a_paraphrase_is_found_on_faiss_by_a_process_that_started_later(start: Start) -> None:
    async with start() as first:
        await first.Store(
            store_request(cache_key(RESET), embedding=embedding(), language="en", request_id="s"), metadata=CALLER
        )
    request = pb.LookupRequest(key=cache_key(RESET_TOO), embedding=embedding(0.1), language="en")
    async with start() as later:
        found = await becomes(lambda: later.Lookup(request, metadata=CALLER), pb.CACHE_STATUS_SEMANTIC)
    assert found.similarity == pytest.approx(0.995, abs=1e-3)


async def test_an_invalidation_reaches_another_process_by_itself(start: Start) -> None:
    async with start() as here, start() as there:
        key = cache_key()
        await here.Store(store_request(key), metadata=CALLER)
        look = pb.LookupRequest(key=key)
        await becomes(lambda: there.Lookup(look, metadata=CALLER), pb.CACHE_STATUS_EXACT)
        await here.Invalidate(pb.InvalidateRequest(request_id="i", everything=True), metadata=OPERATOR)
        await becomes(lambda: there.Lookup(look, metadata=CALLER), pb.CACHE_STATUS_MISS)


@pytest.mark.parametrize(
    ("call", "request_message", "metadata", "status", "reason"),
    [
        ("Invalidate", pb.InvalidateRequest(request_id="i", everything=True), CALLER, "PERMISSION_DENIED", ""),
        ("Invalidate", pb.InvalidateRequest(request_id="i"), OPERATOR, "INVALID_ARGUMENT", "INVALID_FIELD"),
        ("ReportBadHit", pb.ReportBadHitRequest(request_id="b", entry_id="?"), CALLER, "NOT_FOUND", "NOT_FOUND"),
        (
            "Lookup",
            pb.LookupRequest(key=cache_key(scope=pb.CACHE_SCOPE_TEAM)),
            CALLER,
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
        ),
        (
            "Store",
            store_request(cache_key(), completion=chat_pb2.Completion(content="cut", finish_reason=5)),
            CALLER,
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
        ),
    ],
)
async def test_refusals_have_a_status_and_a_reason(
    start: Start, call: str, request_message: Any, metadata: Any, status: str, reason: str
) -> None:
    async with start() as stub:
        with pytest.raises(CallError) as caught:
            await getattr(stub, call)(request_message, metadata=metadata)
    assert caught.value.status == status
    assert caught.value.reason == (reason or status)


async def test_a_request_id_with_another_payload_is_already_there(start: Start) -> None:
    async with start() as stub:
        await stub.Store(store_request(cache_key(), "one", request_id="same"), metadata=CALLER)
        with pytest.raises(CallError) as caught:
            await stub.Store(store_request(cache_key(), "two", request_id="same"), metadata=CALLER)
    assert (caught.value.status, caught.value.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_a_cache_that_is_off_opens_no_database(transport: str) -> None:
    unreachable = "postgresql://nobody@127.0.0.1:1/none"
    async with running(unreachable, transport, CacheSettings(enabled=False)) as stub:
        with pytest.raises(CallError) as caught:
            await stub.Lookup(pb.LookupRequest(key=cache_key()), metadata=CALLER)
    assert (caught.value.status, caught.value.reason) == ("UNIMPLEMENTED", "UNSUPPORTED")
