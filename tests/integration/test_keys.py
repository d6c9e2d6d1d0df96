"""Keys that identity made, through the whole mesh: what they open, what they do not, and that they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from typing import Any

import asyncpg
import grpc.aio
import pytest
from llmops.cache.v1 import cache_pb2, cache_pb2_grpc
from llmops.identity.v1 import identity_pb2 as pb
from llmops.identity.v1 import identity_pb2_grpc
from llmops.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from llmops.orchestrator.v1 import orchestrator_pb2
from llmops.registry.v1 import registry_pb2, registry_pb2_grpc
from llmops.router.v1 import router_pb2, router_pb2_grpc

from tests.support.accounts import settled
from tests.support.callers import TIMEOUT_S, MeshCallers, failure_of, user
from tests.support.mesh_settings import ACME, MESH_KEY, Caller

pytestmark = [pytest.mark.timeout(120)]
DENIED = "PERMISSION_DENIED"


async def made_key(callers: MeshCallers, **fields: Any) -> tuple[str, Caller]:
    """A key of acme, made with acme's key of mesh.yaml: its id, and its caller."""
    stub: Any = identity_pb2_grpc.IdentityServiceStub(callers.channel("identity"))
    request = pb.CreateKeyRequest(request_id=uuid.uuid4().hex, **fields)
    made = await stub.CreateKey(request, metadata=callers.metadata(ACME), timeout=TIMEOUT_S)
    return made.key.key_id, Caller("acme", made.secret)


def asking(model: str, reference: str = "") -> orchestrator_pb2.Conversation:
    conversation = orchestrator_pb2.Conversation(model=model)
    conversation.cache.bypass = True
    if reference:
        conversation.prompt.reference = reference
        conversation.prompt.variables["name"] = "Ada"
    else:
        conversation.messages.extend(user("hello"))
    return conversation


@pytest.mark.usefixtures("accounts")
async def test_a_key_with_scopes_opens_what_they_name_and_nothing_else(callers: MeshCallers) -> None:
    scopes = pb.KeyScopes(models=["alpha/words", "alpha/echo"], environments=["production"])
    _, caller = await made_key(callers, scopes=scopes)
    for model in ("", "default", "alpha/echo"):
        assert (await callers.complete(asking(model), caller)).error is None, model
    # A route with a candidate that is none of its models, a model that is not named, and one that does not exist.
    refusals = {}
    for model in ("after-429", "beta/words", "there-is-none"):
        for outcome in (
            await callers.complete(asking(model), caller),
            await callers.complete_stream(asking(model), caller),
            await callers.chat(model, "hello", caller),
        ):
            assert outcome.reason == DENIED
            assert outcome.error is not None
            refusals[outcome.error.message.replace(model, "…")] = model
    assert len(refusals) == 1, "what is there and what is not are refused alike"
    for reference in ("greeting", "greeting@production"):
        assert (await callers.complete(asking("alpha/echo", reference), caller)).error is None
    for reference in ("greeting@staging", "greeting/v1.0", "greeting@nowhere"):
        assert (await callers.complete(asking("alpha/echo", reference), caller)).reason == DENIED


async def test_environments_hold_where_the_registry_is_called_without_the_orchestrator(callers: MeshCallers) -> None:
    _, caller = await made_key(callers, roles=["ROLE_CALLER"], scopes=pb.KeyScopes(environments=["production"]))
    stub: Any = registry_pb2_grpc.RegistryServiceStub(callers.channel("registry"))
    metadata = callers.metadata(caller)
    for reference in ("greeting", "greeting@production"):
        got = await stub.GetPrompt(registry_pb2.GetPromptRequest(reference=reference), metadata=metadata)
        resolved = await stub.Resolve(registry_pb2.ResolveRequest(reference=reference), metadata=metadata)
        assert got.prompt == resolved.prompt
    for reference in ("greeting@staging", "greeting/v1", "greeting/v1.0", got.prompt.digest, "there-is-none@nowhere"):
        for attempt in (
            stub.GetPrompt(registry_pb2.GetPromptRequest(reference=reference), metadata=metadata),
            stub.Resolve(registry_pb2.ResolveRequest(reference=reference), metadata=metadata),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await attempt
            assert failure_of(refused.value).reason == DENIED


@pytest.mark.usefixtures("accounts")
async def test_a_scope_holds_where_the_router_is_called_without_the_orchestrator(callers: MeshCallers) -> None:
    # Row 23 of the failures of peers, maximhq/bifrost: a way around the gateway that passed no check.
    _, caller = await made_key(callers, scopes=pb.KeyScopes(routes=["default"]))
    stub: Any = router_pb2_grpc.RouterServiceStub(callers.channel("router"))
    listed = await stub.ListModels(router_pb2.ListModelsRequest(), metadata=callers.metadata(caller))
    assert [model.name for model in listed.models] == ["default"]
    call = router_pb2.ModelCall(model="alpha/echo", messages=user("hello"))
    plain, of_mesh = callers.metadata(caller), callers.metadata(caller, x_llmops_mesh=MESH_KEY)
    for attempt, says in (
        (stub.Plan(router_pb2.PlanRequest(model="alpha/echo"), metadata=plain), "scope"),
        (stub.Complete(router_pb2.CompleteRequest(call=call), metadata=plain), "processes of the mesh"),
        (stub.Complete(router_pb2.CompleteRequest(call=call), metadata=of_mesh), "scope"),
        (stub.CompleteStream(router_pb2.CompleteStreamRequest(call=call), metadata=of_mesh).read(), "scope"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await attempt
        assert failure_of(refused.value).reason == DENIED
        assert (says == "scope") == ("processes of the mesh" not in failure_of(refused.value).message)


async def test_a_revoked_key_ends_everywhere_within_a_second(callers: MeshCallers) -> None:
    key_id, caller = await made_key(callers)
    assert (await callers.complete(asking("default"), caller)).error is None
    assert (await callers.chat("default", "hello", caller)).error is None
    stub: Any = identity_pb2_grpc.IdentityServiceStub(callers.channel("identity"))
    request = pb.RevokeKeyRequest(request_id=uuid.uuid4().hex, key_id=key_id)
    await stub.RevokeKey(request, metadata=callers.metadata(ACME), timeout=TIMEOUT_S)
    revoked_s = time.monotonic()
    while True:
        outcomes = [await callers.complete(asking("default"), caller), await callers.chat("default", "hello", caller)]
        if [outcome.reason for outcome in outcomes] == ["CREDENTIAL_INVALID"] * 2:
            break
        assert time.monotonic() - revoked_s < 1
        await asyncio.sleep(0.01)


async def test_admin_actions_of_every_service_stand_in_the_audit_log(callers: MeshCallers) -> None:
    request_id, metadata = uuid.uuid4().hex, callers.metadata(ACME)
    ledger: Any = ledger_pb2_grpc.LedgerServiceStub(callers.channel("ledger"))
    registry: Any = registry_pb2_grpc.RegistryServiceStub(callers.channel("registry"))
    cache: Any = cache_pb2_grpc.CacheServiceStub(callers.channel("cache"))
    limit = ledger_pb2.Limit(
        scope="LIMIT_SCOPE_FEATURE",
        subject="audited",
        period="LIMIT_PERIOD_DAY",
        cap_nano_usd=7,
        mode="LIMIT_MODE_SHADOW",
    )
    await ledger.SetLimit(ledger_pb2.SetLimitRequest(request_id=request_id, limit=limit), metadata=metadata)
    await cache.Invalidate(cache_pb2.InvalidateRequest(request_id=request_id, entry_id="none"), metadata=metadata)
    # Refused by the service itself: the log says what was asked, not what became of it.
    template = registry_pb2.TemplateMessage(role="CHAT_ROLE_USER", template="Hello {{undeclared}}")
    prompt = registry_pb2.PromptVersion(name="audited", messages=[template])
    with pytest.raises(grpc.aio.AioRpcError):
        await registry.PublishPrompt(
            registry_pb2.PublishPromptRequest(request_id=request_id, prompt=prompt), metadata=metadata
        )
    connection = await asyncpg.connect(callers.deployment.database_url)
    rows = await connection.fetch("SELECT event FROM identity.audit_events ORDER BY sequence")
    await connection.close()
    events = [event for event in (json.loads(row["event"]) for row in rows) if event["request_id"] == request_id]
    assert {event["action"].rsplit("/")[-1]: event["after"]["fields"] for event in events} == {
        "SetLimit": {
            "limit.scope": "LIMIT_SCOPE_FEATURE",
            "limit.subject": "audited",
            "limit.period": "LIMIT_PERIOD_DAY",
            "limit.unit": "LIMIT_UNIT_UNSPECIFIED",
            "limit.mode": "LIMIT_MODE_SHADOW",
            "limit.cap_nano_usd": "7",
            "limit.max_count": "0",
        },
        "Invalidate": {"entry_id": "none"},
        "PublishPrompt": {"prompt.name": "audited"},
    }
    assert {event["actor"]["key_id"] for event in events} == {"acme-key"}
    assert "undeclared" not in str(rows)


async def test_a_call_whose_key_is_revoked_meanwhile_is_booked_all_the_same(callers: MeshCallers) -> None:
    key_id, caller = await made_key(callers)
    before = await settled(callers)
    conversation = asking("alpha/unhurried")
    request = orchestrator_pb2.CompleteStreamRequest(request_id=uuid.uuid4().hex, conversation=conversation)
    stream = callers.orchestrator.CompleteStream(request, metadata=callers.metadata(caller), timeout=TIMEOUT_S)
    assert (await stream.read()).WhichOneof("event") == "started"
    stub: Any = identity_pb2_grpc.IdentityServiceStub(callers.channel("identity"))
    revocation = pb.RevokeKeyRequest(request_id=uuid.uuid4().hex, key_id=key_id)
    await stub.RevokeKey(revocation, metadata=callers.metadata(ACME), timeout=TIMEOUT_S)
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await stream.read() is not grpc.aio.EOF:
            pass
    # Nothing stays held, and the provider's words are paid for.
    assert await settled(callers) > before
