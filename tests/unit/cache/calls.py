"""Calls of the cache's handlers on twins, for the tests of the api."""

from __future__ import annotations

from llmops.cache.v1 import cache_pb2 as pb

from meshkit.identity import Principal
from meshkit.testing import call_context
from tests.unit.cache.builders import Replica, cache_key, embedding, store_request

ADA = Principal("acme", "search", "ada", "key-1", frozenset({"caller", "operator"}))
EVE = Principal("globex", "search", "ada", "key-1", frozenset({"caller", "operator"}))
RESET = "How do I reset my password?"
RESET_TOO = "How can I reset my password?"


async def keep(
    replica: Replica, key: pb.CacheKey, caller: Principal = ADA, *, within_mesh: bool = False, **fields: object
) -> pb.StoreResponse:
    with call_context(caller, within_mesh=within_mesh):
        return await replica.api.Store(store_request(key, **fields), None)


async def look(
    replica: Replica, key: pb.CacheKey, caller: Principal = ADA, *, within_mesh: bool = False, **fields: object
) -> pb.LookupResponse:
    with call_context(caller, within_mesh=within_mesh):
        return await replica.api.Lookup(pb.LookupRequest(key=key, **fields), None)  # type: ignore[arg-type]


async def keep_by_meaning(
    replica: Replica, key: pb.CacheKey, *, within_mesh: bool = False, **fields: object
) -> pb.StoreResponse:
    """Stores, and has the partition loaded."""
    kept = await keep(replica, key, within_mesh=within_mesh, **{"embedding": embedding(), "language": "en", **fields})
    await replica.mirror.sync()
    await look(replica, cache_key("-"), within_mesh=within_mesh, embedding=embedding(), language="en")
    assert replica.semantic is not None
    if replica.semantic._wanted:
        await replica.load()
    return kept
