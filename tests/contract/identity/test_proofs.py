"""Proofs of the audit log, from both stores and over the wire, checked against the checkpoints that they are about."""

from __future__ import annotations

from typing import Any

import pytest
from llmops.identity.v1 import identity_pb2 as pb

from meshkit.errors import CallError
from services.identity.core.checkpoints import read_note
from services.identity.core.errors import InvalidRequest, PermissionDenied, StorageUnavailable
from services.identity.core.merkle import leaf_hash, proves_consistency, proves_inclusion
from services.identity.core.ports import Store
from services.identity.core.proofs import Proofs
from tests.support.identity_service import ACME, ADMIN, process
from tests.support.identity_world import ACME as ACTOR
from tests.support.identity_world import ADMIN as PLATFORM
from tests.support.identity_world import World

SIZE = 7


@pytest.mark.parametrize("page_size", [2, 1_000])
async def test_every_event_is_proven_in_every_log_that_holds_it(store: Store, page_size: int) -> None:
    world, roots = World(store), {}
    proofs = Proofs(store, world.rules, page_size)
    for n in range(SIZE):
        await world.organisation(f"o-{n}")
        checkpoint = await world.identity.checkpoint(PLATFORM)
        assert checkpoint is not None
        roots[n + 1] = read_note(checkpoint.note).root
    for size, root in roots.items():
        for sequence in range(1, size + 1):
            event, path = await proofs.inclusion(PLATFORM, sequence, size)
            assert f'"sequence":{sequence},' in event.text
            assert proves_inclusion(leaf_hash(event.text.encode()), sequence - 1, size, path, root)
            path = await proofs.consistency(PLATFORM, sequence, size)
            assert proves_consistency(sequence, size, roots[sequence], root, path)


async def test_what_is_not_there_cannot_be_proven(store: Store) -> None:
    world = World(store)
    with pytest.raises(InvalidRequest, match="number of events, 0"):
        await world.proofs.inclusion(PLATFORM, 1, 1)
    for n in range(3):
        await world.organisation(f"o-{n}")
    for sequence, size in ((0, 3), (4, 3), (1, 4), (1, 0), (3, 2)):
        with pytest.raises(InvalidRequest):
            await world.proofs.inclusion(PLATFORM, sequence, size)
        with pytest.raises(InvalidRequest):
            await world.proofs.consistency(PLATFORM, sequence, size)
    with pytest.raises(PermissionDenied):
        await world.proofs.inclusion(ACTOR, 1, 1)
    with pytest.raises(PermissionDenied):
        await world.proofs.consistency(ACTOR, 1, 1)


async def test_a_log_that_lost_events_hangs_nobody() -> None:
    world = World()
    for n in range(3):
        await world.organisation(f"o-{n}")
    del world.store._state.events[1:]  # type: ignore[attr-defined] # somebody at work in the database
    with pytest.raises(StorageUnavailable):
        await world.proofs.inclusion(PLATFORM, 1, 3)


async def test_proofs_over_the_wire(fresh_url: str) -> None:
    async with process(url=fresh_url) as server:
        stub: Any = server.identity
        for name in ("one", "two"):
            await stub.CreateTeam(pb.CreateTeamRequest(request_id=name, name=name), metadata=ACME)
        early = read_note((await stub.GetCheckpoint(pb.GetCheckpointRequest(), metadata=ADMIN)).checkpoint.note)
        await stub.CreateTeam(pb.CreateTeamRequest(request_id="three", name="three"), metadata=ACME)
        late = read_note((await stub.GetCheckpoint(pb.GetCheckpointRequest(), metadata=ADMIN)).checkpoint.note)
        asked = pb.GetInclusionProofRequest(sequence=2, leaf_count=late.leaf_count)
        proof = await stub.GetInclusionProof(asked, metadata=ADMIN)
        assert "team/one" in proof.event.event_json
        assert proves_inclusion(leaf_hash(proof.event.event_json.encode()), 1, 4, list(proof.path), late.root)
        growth = pb.GetConsistencyProofRequest(first_leaf_count=3, second_leaf_count=4)
        path = (await stub.GetConsistencyProof(growth, metadata=ADMIN)).path
        assert proves_consistency(3, 4, early.root, late.root, list(path))
        for call in (stub.GetInclusionProof(asked, metadata=ACME), stub.GetConsistencyProof(growth, metadata=ACME)):
            with pytest.raises(CallError) as refused:
                await call
            assert refused.value.reason == "PERMISSION_DENIED"
