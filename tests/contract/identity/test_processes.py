"""Keys across processes: gRPC servers that ask identity who calls, over real sockets and PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.guard.v1 import guard_pb2
from llmops.identity.v1 import identity_pb2 as pb

from meshkit.authentication import IdentityCacheSettings
from meshkit.errors import CallError
from meshkit.identity import Principal
from meshkit.runtime import Runtime
from services.identity.settings import IdentitySettings
from tests.support.identity_service import ACME, ADMIN, MESH_KEY, SETTINGS, bearer, process, until

REVOKED_WITHIN_S = 1.0


async def a_key(stub: Any, request_id: str = "k", **fields: Any) -> pb.CreateKeyResponse:
    return await stub.CreateKey(pb.CreateKeyRequest(request_id=request_id, **fields), metadata=ACME)  # type: ignore[no-any-return]


def remembered(runtime: Runtime, secret: str) -> bool:
    """Whether a process answers a credential without asking."""
    assert runtime._identity is not None
    answer = runtime._identity.authenticate(secret)
    if isinstance(answer, Principal):
        return True
    answer.close()  # type: ignore[attr-defined]
    return False


async def test_a_revocation_through_one_replica_is_seen_by_every_process_within_a_second(
    fresh_url: str, record_property: Any
) -> None:
    default = replace(SETTINGS, poll_interval_s=IdentitySettings().poll_interval_s)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(process(url=fresh_url, settings=default))
        other = await stack.enter_async_context(process(url=fresh_url, settings=default))
        leaves = [await stack.enter_async_context(process(identity_port=one.port)) for _ in range(2)]
        servers = [one, other, *leaves]
        made = await a_key(one.identity)
        for server in servers:
            assert await server.says(made.secret) == "OK"
        for leaf in leaves:
            assert remembered(leaf.runtime, made.secret)
        request = pb.RevokeKeyRequest(request_id="r", key_id=made.key.key_id)
        # Through the replica that the leaves do not watch.
        await other.identity.RevokeKey(request, metadata=ACME)

        async def refused() -> bool:
            return {await server.says(made.secret) for server in servers} == {"UNAUTHENTICATED"}

        took_s = await until(refused)
        record_property("revocation_seen_s", took_s)
        assert took_s < REVOKED_WITHIN_S


async def test_a_disabled_user_and_an_ended_overlap_are_seen_too(fresh_url: str) -> None:
    async with process(url=fresh_url) as identity, process(identity_port=identity.port) as leaf:
        stub = identity.identity
        await stub.CreateUser(pb.CreateUserRequest(request_id="u", name="ada"), metadata=ACME)
        made = await a_key(stub, user="ada")
        assert await leaf.says(made.secret) == "OK"

        async def says(secret: str, word: str) -> bool:
            return await leaf.says(secret) == word

        await stub.UpdateUser(pb.UpdateUserRequest(request_id="d", name="ada", disabled=True), metadata=ACME)
        assert await until(lambda: says(made.secret, "UNAUTHENTICATED")) < REVOKED_WITHIN_S
        await stub.UpdateUser(pb.UpdateUserRequest(request_id="e", name="ada", disabled=False), metadata=ACME)
        assert await until(lambda: says(made.secret, "OK")) < REVOKED_WITHIN_S
        rotated = await stub.RotateKey(
            pb.RotateKeyRequest(request_id="r", key_id=made.key.key_id, overlap=Duration(nanos=300_000_000)),
            metadata=ACME,
        )
        assert await leaf.says(rotated.secret) == "OK"
        assert await leaf.says(made.secret) == "OK"
        assert await until(lambda: says(made.secret, "UNAUTHENTICATED")) < REVOKED_WITHIN_S
        assert await leaf.says(rotated.secret) == "OK"


async def test_a_key_that_ends_by_itself_ends_in_every_process(fresh_url: str) -> None:
    async with process(url=fresh_url) as identity, process(identity_port=identity.port) as leaf:
        ends = Timestamp()
        ends.FromDatetime(datetime.now(UTC) + timedelta(seconds=0.5))
        made = await a_key(identity.identity, expire_time=ends)
        assert await leaf.says(made.secret) == "OK"

        async def ended() -> bool:
            return await leaf.says(made.secret) == "UNAUTHENTICATED"

        await until(ended)
        assert datetime.now(UTC) >= ends.ToDatetime(tzinfo=UTC)


async def test_without_identity_known_keys_work_for_a_while_then_nothing_is_let_through(fresh_url: str) -> None:
    cache = IdentityCacheSettings(max_silence_s=0.5, timeout_s=0.5)
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        identity = await first.enter_async_context(process(url=fresh_url))
        leaf = await stack.enter_async_context(process(identity_port=identity.port, cache=cache))
        made, never_used = await a_key(identity.identity), await a_key(identity.identity, "other")
        assert await leaf.says(made.secret) == "OK"
        await first.aclose()
        assert await leaf.says(made.secret) == "OK"
        assert await leaf.says(never_used.secret) == "UNAVAILABLE"
        assert await leaf.says("acme-secret") == "OK"

        async def closed() -> bool:
            return await leaf.says(made.secret) == "UNAVAILABLE"

        await until(closed)
        # Keys of mesh.yaml need nobody.
        assert await leaf.says("acme-secret") == "OK"
        await stack.enter_async_context(process(url=fresh_url, port=identity.port))

        async def works() -> bool:
            return await leaf.says(made.secret) == "OK"

        await until(works, within_s=10)
        assert await leaf.says(never_used.secret) == "OK"


async def test_a_revocation_while_the_watch_is_broken_is_seen_when_it_is_back(fresh_url: str) -> None:
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        identity = await first.enter_async_context(process(url=fresh_url))
        other = await stack.enter_async_context(process(url=fresh_url))
        leaf = await stack.enter_async_context(process(identity_port=identity.port))
        made = await a_key(other.identity)
        assert await leaf.says(made.secret) == "OK"
        await first.aclose()
        await other.identity.RevokeKey(pb.RevokeKeyRequest(request_id="r", key_id=made.key.key_id), metadata=ACME)
        assert remembered(leaf.runtime, made.secret)
        await stack.enter_async_context(process(url=fresh_url, port=identity.port))

        async def refused() -> bool:
            return await leaf.says(made.secret) == "UNAUTHENTICATED"

        await until(refused, within_s=10)


async def test_a_stream_waits_for_its_key_as_a_call_does(fresh_url: str) -> None:
    async with process(url=fresh_url) as identity, process(identity_port=identity.port) as leaf:
        made = await a_key(identity.identity)

        async def requests() -> Any:
            yield guard_pb2.CheckOutputStreamRequest(finish=guard_pb2.StreamFinish())

        stream = leaf.guard.CheckOutputStream(requests(), metadata=bearer(made.secret), timeout=5)
        assert [response.WhichOneof("event") async for response in stream] == ["verdict"]
        # A role that the RPC does not serve is refused after the same wait.
        auditor = await identity.identity.CreateKey(
            pb.CreateKeyRequest(request_id="a", roles=["ROLE_AUDITOR"]), metadata=ADMIN
        )
        assert await leaf.says(auditor.secret) == "PERMISSION_DENIED"


async def test_without_a_database_no_key_is_trusted_for_long(fresh_url: str, postgres_url: str) -> None:
    cache = IdentityCacheSettings(max_silence_s=0.5, timeout_s=0.5)
    name = fresh_url.partition("?")[0].rsplit("/", 1)[1]
    database = await asyncpg.connect(postgres_url)
    settings = replace(SETTINGS, beat_interval_s=0.05, storage_timeout_s=0.5)
    async with (
        process(url=fresh_url, settings=settings) as identity,
        process(identity_port=identity.port, cache=cache) as leaf,
    ):
        made = await a_key(identity.identity)
        assert await leaf.says(made.secret) == "OK"
        # Beats keep what is remembered fresh for longer than silence would.
        await asyncio.sleep(0.7)
        assert remembered(leaf.runtime, made.secret)
        await database.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)

        async def says(word: str) -> bool:
            return await leaf.says(made.secret) == word

        await until(lambda: says("UNAVAILABLE"))
        await database.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await until(lambda: says("OK"), within_s=15)
    await database.close()


async def test_tables_that_somebody_locked_close(fresh_url: str) -> None:
    async with process(url=fresh_url) as identity:
        made = await a_key(identity.identity)
        blocking = await asyncpg.connect(fresh_url)
        async with process(identity_port=identity.port, cache=IdentityCacheSettings(timeout_s=0.5)) as leaf:
            async with blocking.transaction():
                await blocking.execute("LOCK TABLE identity.key_secrets")
                assert await leaf.says(made.secret) == "UNAVAILABLE"
            assert await leaf.says(made.secret) == "OK"
        await blocking.close()


async def test_no_key_is_in_a_log_a_metric_or_an_error(
    fresh_url: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    # Row 22 of the failures of peers, BerriAI/litellm#36758 and #13705: keys in spans and logs.
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    async with process(url=fresh_url) as identity, process(identity_port=identity.port) as leaf:
        first = capsys.readouterr().err.split()[-1]
        made = await a_key(identity.identity)
        rotated = await identity.identity.RotateKey(
            pb.RotateKeyRequest(request_id="r", key_id=made.key.key_id), metadata=ACME
        )
        wrong = f"{made.secret[:-1]}!"
        for secret in (made.secret, rotated.secret, wrong):
            await leaf.says(secret)
        with pytest.raises(CallError) as refused:
            await identity.identity.RevokeKey(
                pb.RevokeKeyRequest(request_id="x", key_id=made.secret), metadata=bearer(wrong)
            )
        told += [str(refused.value), str(refused.value.metadata)]
        told += [server.runtime.metrics.exposition().decode() for server in (identity, leaf)]
    told += [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    told.append(capsys.readouterr().err)
    assert len(caplog.records) > 5
    for secret in (first, made.secret, rotated.secret, wrong, MESH_KEY):
        assert not any(secret in text or secret[-30:] in text for text in told)


@dataclass
class Slow:
    """A clock that is wrong by a fixed time."""

    offset_s: float

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.offset_s)

    def time_ns(self) -> int:
        return int(self.now().timestamp() * 1e9)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@pytest.mark.parametrize("offset_s", [-3600, 3600])
async def test_a_clock_that_is_an_hour_wrong_opens_no_ended_key(fresh_url: str, offset_s: float) -> None:
    # F20: a process whose clock is slow believes its own, but identity's word comes first.
    async with process(url=fresh_url) as identity:
        ends = Timestamp()
        ends.FromDatetime(datetime.now(UTC) + timedelta(seconds=0.2))
        made = await a_key(identity.identity, expire_time=ends)
        await asyncio.sleep(0.25)
        async with process(identity_port=identity.port, clock=Slow(offset_s)) as leaf:
            assert await leaf.says(made.secret) == "UNAUTHENTICATED"
