"""A pepper is rotated while replicas are restarted one after the other, as the README says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from llmops.identity.v1 import identity_pb2 as pb

from meshkit.settings import Secret
from tests.support.identity_service import ACME, MESH, SETTINGS, Server, process

BOTH = {**SETTINGS.peppers, "next": Secret("the-next-pepper-of-all-tests")}
OLD = SETTINGS
NAMED = replace(SETTINGS, peppers=BOTH)
MOVED = replace(SETTINGS, peppers=BOTH, current_pepper="next")
ALONE = replace(SETTINGS, peppers={"next": BOTH["next"]}, current_pepper="next")


async def made(server: Server, name: str) -> str:
    return (await server.identity.CreateKey(pb.CreateKeyRequest(request_id=name), metadata=ACME)).secret  # type: ignore[no-any-return]


async def knows(server: Server, secret: str) -> bool:
    """What the replica itself says, whatever processes remember."""
    answer = await server.identity.Authenticate(pb.AuthenticateRequest(credential=secret), metadata=MESH)
    return bool(answer.HasField("principal"))


async def test_no_step_refuses_a_key_while_replicas_are_of_two_steps(fresh_url: str) -> None:
    keys: list[str] = []
    for step, (before, after) in enumerate(pairwise((OLD, NAMED, MOVED))):
        async with process(url=fresh_url, settings=before) as one, process(url=fresh_url, settings=after) as other:
            keys += [await made(one, f"{step} one"), await made(other, f"{step} other")]
            for replica in (other, one, other, one):
                assert [await knows(replica, key) for key in keys] == [True] * len(keys)
    async with process(url=fresh_url, settings=MOVED) as last:
        assert [await knows(last, key) for key in keys] == [True] * len(keys)
    async with process(url=fresh_url, settings=ALONE) as alone:
        assert [await knows(alone, key) for key in keys] == [True] * len(keys)


async def test_both_steps_at_once_take_a_key_from_the_replica_that_has_neither(fresh_url: str) -> None:
    async with process(url=fresh_url, settings=OLD) as one, process(url=fresh_url, settings=MOVED) as other:
        key = await made(one, "k")
        assert [await knows(replica, key) for replica in (one, other, one)] == [True, True, False]
