"""Admin actions of other services in the audit log: recorded before they are done, once, or not done at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from llmops.cache.v1 import cache_pb2
from llmops.identity.v1 import identity_pb2 as pb

from meshkit.errors import CallError
from meshkit.identity import new_key
from services.identity.core.actions import Action
from services.identity.core.checkpoints import Checkpoint
from services.identity.core.errors import InvalidRequest, RequestIdReused
from services.identity.core.ports import Store
from services.identity.core.verification import export_lines, verify
from tests.support.identity_service import ACME, ADMIN, MESH, Server, process
from tests.support.identity_world import ACME as ACTOR
from tests.support.identity_world import ADMIN as PLATFORM
from tests.support.identity_world import GLOBEX, START, World

METHOD = "llmops.ledger.v1.LedgerService/SetLimit"
ACTION = Action(ACTOR, METHOD, "r-1", "ab" * 32, {"limit.cap_nano_usd": "5"})
INVALIDATE = "llmops.cache.v1.CacheService/Invalidate"


async def test_an_action_is_an_event_like_any_other_and_moves_nobodys_cache(store: Store) -> None:
    world = World(store)
    await world.organisation("acme")
    revision = await store.revision()
    assert await world.actions.record(ACTION) == 2
    assert await store.revision() == revision
    await world.organisation("globex")
    [event] = [json.loads(e.text) for e in await store.events("acme", 1, 10)]
    assert event.pop("previous")
    assert event == {
        "action": METHOD,
        "actor": {"key_id": "acme-operator", "organisation": "acme", "user": "ada"},
        "after": {"fields": {"limit.cap_nano_usd": "5"}, "request_sha256": "ab" * 32},
        "before": {},
        "organisation": "acme",
        "request_id": "r-1",
        "sequence": 2,
        "target": "request/r-1",
        "time": START.isoformat(),
    }
    newest = await world.identity.checkpoint(PLATFORM)
    assert newest is not None
    parts: list[tuple[str, bytes] | Checkpoint] = [(e.text, e.leaf_hash) for e in await store.events("", 0, 10)]
    lines = "".join(f"{line}\n" for line in export_lines([*parts, newest]))
    assert verify(lines.encode()).problem is None
    changed = lines.replace('"limit.cap_nano_usd":"5"', '"limit.cap_nano_usd":"6"')
    assert verify(changed.encode()).problem is not None


async def test_a_repetition_adds_nothing_and_another_action_is_another(store: Store) -> None:
    world = World(store)
    assert [await world.actions.record(ACTION) for _ in range(3)] == [1, 1, 1]
    assert await world.replica().actions.record(ACTION) == 1
    with pytest.raises(RequestIdReused):
        await world.actions.record(ACTION._replace(request_sha256="cd" * 32))
    with pytest.raises(RequestIdReused):
        await world.actions.record(ACTION._replace(fields={}))
    others = [
        ACTION._replace(request_id="r-2"),
        ACTION._replace(method="llmops.ledger.v1.LedgerService/Adjust"),
        # Whoever else sends the same has asked as well, and whose request it is does not hide who asked.
        ACTION._replace(actor=ACTOR.__class__("acme", "bob", "bobs-key", frozenset())),
        ACTION._replace(actor=GLOBEX),
    ]
    assert [await world.actions.record(other) for other in others] == [2, 3, 4, 5]
    # A request of identity itself under the same id is not confused with it.
    await world.administration.create_team(ACTOR, "r-1", "", "search", "")
    assert (await store.head()).count == 6


async def test_what_is_asked_again_later_is_another_event(store: Store) -> None:
    # The cache forgets a request after a day, the router with its end: it would be done again and stand nowhere.
    world = World(store)
    assert await world.actions.record(ACTION) == 1
    for later, sequence in ((timedelta(seconds=59), 1), (timedelta(seconds=1), 2), (timedelta(seconds=59), 2)):
        world.clock.time += later
        assert await world.actions.record(ACTION) == sequence
    world.clock.time += timedelta(hours=25)
    with pytest.raises(RequestIdReused):
        await world.actions.record(ACTION._replace(fields={}))
    assert await world.actions.record(ACTION) == 3
    # Another replica's clock may be behind by seconds; one that was set back by an hour would hide an hour.
    for back, sequence in ((timedelta(seconds=59), 3), (timedelta(hours=1), 4), (timedelta(seconds=1), 4)):
        world.clock.time -= back
        assert await world.actions.record(ACTION) == sequence
    assert [event.sequence for event in await store.events("", 0, 9)] == [1, 2, 3, 4]


async def test_nobody_claims_the_id_of_anothers_action(store: Store) -> None:
    """A request id of identity's own is the caller's choice, and so is a part of what an action is known as."""
    world = World(store)
    await world.organisation("acme")
    key_id = ACTION.actor.key_id
    for known_as in (f"{METHOD} {key_id} r-1", json.dumps([METHOD, key_id, "r-1"], separators=(",", ":"))):
        await world.administration.create_team(ACTOR, known_as, "", f"team-{len(known_as)}", "")
    # Organisations that mesh.yaml alone knows may have any name that has no spaces.
    slashed = ACTOR.__class__("action/acme", "eve", "eve-key", frozenset({"operator"}))
    await world.administration.create_team(slashed, known_as, "", "team", "")
    assert await world.actions.record(ACTION) == 5
    # Where a key's id ends and the request's begins: ids of foreign tokens have blanks.
    blank = ACTION._replace(actor=ACTOR.__class__("acme", "bob", f"{key_id} r-1", frozenset()), request_id="x")
    assert await world.actions.record(ACTION._replace(request_id="r-1 x")) == 6
    assert await world.actions.record(blank._replace(request_sha256="cd" * 32)) == 7


async def test_checkpoints_follow_actions_too(store: Store) -> None:
    world = World(store)
    for n in range(world.rules.checkpoint_events):
        await world.actions.record(ACTION._replace(request_id=f"r-{n}"))
    assert [c.leaf_count for c in await store.checkpoints(0, 10)] == [world.rules.checkpoint_events]
    assert f"{METHOD} {world.rules.checkpoint_events}" in world.observer.events


async def test_a_secret_in_a_wrong_field_is_not_kept(store: Store) -> None:
    world = World(store)
    for key in (f"llmops-{'0' * 16}-{'a' * 43}", new_key()):
        for wrong in (ACTION._replace(request_id=key), ACTION._replace(fields={"limit.subject": key})):
            with pytest.raises(InvalidRequest, match="holds an API key"):
                await world.actions.record(wrong)
    with pytest.raises(InvalidRequest, match="NUL"):
        await world.actions.record(ACTION._replace(request_id="r\x00"))
    assert (await store.head()).count == 0


@asynccontextmanager
async def places(url: str, *, apart: bool) -> AsyncIterator[tuple[Server, Server]]:
    """Where identity is, and where the admin action is done: one process, or two."""
    async with process(url=url) as identity:
        if not apart:
            yield identity, identity
            return
        async with process(identity_port=identity.port) as leaf:
            yield identity, leaf


async def recorded(identity: Server) -> list[dict[str, Any]]:
    answer = await identity.identity.ListAuditEvents(pb.ListAuditEventsRequest(), metadata=ADMIN)
    return [event for event in (json.loads(e.event_json) for e in answer.events) if "/" in event["action"]]


async def invalidate(server: Server, request_id: str, metadata: Any = ACME, **selector: Any) -> str:
    request = cache_pb2.InvalidateRequest(request_id=request_id, **(selector or {"writer_key_id": "leaked"}))
    try:
        await server.cache.Invalidate(request, metadata=metadata, timeout=10)
    except CallError as error:
        return error.reason
    return "OK"


@pytest.mark.parametrize("apart", [False, True], ids=["one-process", "processes"])
async def test_an_admin_action_of_any_service_is_in_the_log_before_it_is_done(fresh_url: str, apart: bool) -> None:  # noqa: FBT001
    async with places(fresh_url, apart=apart) as (identity, server):
        assert await invalidate(server, "r-1") == "OK"
        [event] = await recorded(identity)
        request = cache_pb2.InvalidateRequest(request_id="r-1", writer_key_id="leaked")
        assert event["action"] == INVALIDATE
        assert event["actor"] == {"organisation": "acme", "user": "root", "key_id": "acme-key"}
        assert (event["organisation"], event["request_id"]) == ("acme", "r-1")
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        assert event["after"] == {"fields": {"writer_key_id": "leaked"}, "request_sha256": digest}
        # A repetition is done as often as its service does it, and stands in the log once.
        assert await invalidate(server, "r-1") == "OK"
        assert await invalidate(server, "r-1", everything=True) == "REQUEST_ID_REUSED"
        assert server.admin.done == ["r-1", "r-1"]
        # Nothing that was refused before, and nothing that is no admin action.
        assert await invalidate(server, "r-2", writer_key_id="x" * 129) == "INVALID_FIELD"
        assert await invalidate(server, "r-3", metadata=None) == "CREDENTIAL_INVALID"
        auditor = await identity.identity.CreateKey(
            pb.CreateKeyRequest(request_id="a", roles=["ROLE_AUDITOR"]), metadata=ADMIN
        )
        assert await invalidate(server, "r-4", (("authorization", f"Bearer {auditor.secret}"),)) == "PERMISSION_DENIED"
        await server.cache.GetStats(cache_pb2.GetStatsRequest(), metadata=ACME)
        await server.cache.ReportBadHit(
            cache_pb2.ReportBadHitRequest(request_id="r-5", entry_id="e", reason="wrong"), metadata=ACME
        )
        assert len(await recorded(identity)) == 1
        # The mesh itself is an actor like any other.
        assert await invalidate(server, "r-6", MESH, everything=True) == "OK"
        last = (await recorded(identity))[-1]
        assert last["actor"] == {"organisation": "", "user": "", "key_id": "mesh"}
        assert last["after"]["fields"] == {"everything": "true"}


async def test_what_cannot_be_recorded_is_not_done(fresh_url: str) -> None:
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        identity = await first.enter_async_context(process(url=fresh_url))
        leaf = await stack.enter_async_context(process(identity_port=identity.port))
        assert await invalidate(leaf, "r-1") == "OK"
        await first.aclose()
        request = cache_pb2.InvalidateRequest(request_id="r-2", everything=True)
        with pytest.raises(CallError, match="audit log first.*nothing was done") as refused:
            await leaf.cache.Invalidate(request, metadata=ACME, timeout=10)
        assert (refused.value.status, refused.value.reason) == ("UNAVAILABLE", "SERVICE_UNAVAILABLE")
        assert leaf.admin.done == ["r-1"]
        # What changes nothing goes on.
        await leaf.cache.GetStats(cache_pb2.GetStatsRequest(), metadata=ACME)
        identity = await stack.enter_async_context(process(url=fresh_url, port=identity.port))
        async with asyncio.timeout(10):
            while await invalidate(leaf, "r-2", everything=True) != "OK":
                await asyncio.sleep(0.02)
        assert [event["request_id"] for event in await recorded(identity)] == ["r-1", "r-2"]


async def test_a_log_that_refuses_this_process_closes_too(fresh_url: str) -> None:
    async with process(url=fresh_url) as identity:
        stranger = process(identity_port=identity.port, mesh_key="llmops-mesh-key-of-another-mesh")
        async with stranger as leaf:
            assert await invalidate(leaf, "r-1") == "SERVICE_UNAVAILABLE"
            assert leaf.admin.done == []
        assert await recorded(identity) == []


async def test_a_log_that_hangs_closes(fresh_url: str) -> None:
    async with places(fresh_url, apart=True) as (identity, leaf):
        blocking = await asyncpg.connect(fresh_url)
        async with blocking.transaction():
            await blocking.execute("SELECT * FROM identity.identity_state FOR UPDATE")
            started_s = time.monotonic()
            assert await invalidate(leaf, "r-1") == "SERVICE_UNAVAILABLE"
            assert 1.5 < time.monotonic() - started_s < 5
            assert leaf.admin.done == []
        await blocking.close()
        assert await invalidate(leaf, "r-1") == "OK"
        assert len(await recorded(identity)) == 1


async def test_only_the_mesh_writes_into_the_log(fresh_url: str) -> None:
    async with process(url=fresh_url) as identity:
        request = pb.RecordActionRequest(
            request_id="r", organisation="globex", key_id="k", method=METHOD, request_sha256=bytes(32)
        )
        with pytest.raises(CallError) as refused:
            await identity.identity.RecordAction(request, metadata=ADMIN)
        assert refused.value.reason == "PERMISSION_DENIED"
        assert await recorded(identity) == []
        assert (await identity.identity.RecordAction(request, metadata=MESH)).sequence == 2


async def test_a_mesh_without_identity_has_no_audit_log_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "meshkit.actions")
    async with process() as alone:
        assert await invalidate(alone, "r-1") == "OK"
        assert alone.admin.done == ["r-1"]
    [line] = caplog.records
    assert "in no audit log" in line.message
    fields: dict[str, str] = line.fields  # type: ignore[attr-defined]
    assert (fields["method"], fields["key_id"], fields["request_id"]) == (INVALIDATE, "acme-key", "r-1")
