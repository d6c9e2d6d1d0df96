"""The port for vectors: the in-memory twin and the mesh adapter on both transports through the same cases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshkit.kit import Kit
from services.edge.adapters.memory import MemoryEmbeddings
from services.edge.adapters.mesh import Codec, MeshEmbeddings
from services.edge.core.errors import CallFailed, InvalidRequest
from services.edge.core.origin import CallTerms, Origin
from services.edge.core.ports import Embeddings
from tests.contract.edge.harness import KEY, ScriptedOrchestrator, ScriptedRouter, mesh

TERMS = CallTerms(Origin("req-1", ""), KEY, "", 30.0)


@asynccontextmanager
async def opened(kind: str, offload_bytes: int = 1 << 20) -> AsyncIterator[tuple[Embeddings, Any]]:
    if kind == "memory":
        memory = MemoryEmbeddings()
        yield memory, memory
        return
    orchestrator = ScriptedOrchestrator()
    async with mesh(kind, (orchestrator, ScriptedRouter())) as runtime:
        kit = Kit(runtime, "edge")
        codec = Codec(kit.executor("codec", threads=1, max_queue=4), offload_bytes)
        yield MeshEmbeddings(kit.channel("orchestrator"), codec), orchestrator
        await kit.close()


kinds = pytest.mark.parametrize("kind", ["memory", "local", "remote"])


@kinds
async def test_vectors_come_in_the_order_of_their_texts(kind: str) -> None:
    async with opened(kind) as (embeddings, _):
        request = await embeddings.read(b'{"model":"m","input":["one","three"]}')
        answer = await embeddings.embed(request, TERMS)
    assert answer.facts.cost_nano_usd == 8000
    body = json.loads(answer.body)
    assert [item["embedding"] for item in body["data"]] == [[3.0, 1.0], [5.0, 1.0]]
    assert body["llmops"]["request_id"] == "req-1"


@kinds
async def test_what_is_no_request_and_what_fails(kind: str) -> None:
    async with opened(kind) as (embeddings, behind):
        with pytest.raises(InvalidRequest):
            await embeddings.read(b"{}")
        behind.failure = CallFailed("RESOURCE_EXHAUSTED", "RATE_LIMITED", "slower", retry_after_s=2)
        with pytest.raises(CallFailed) as failed:
            await embeddings.embed(await embeddings.read(b'{"input":"x"}'), TERMS)
    assert (failed.value.reason, failed.value.retry_after_s) == ("RATE_LIMITED", 2)


async def test_large_bodies_and_many_vectors_are_worked_on_off_the_loop() -> None:
    async with opened("local", offload_bytes=64) as (embeddings, _):
        request = await embeddings.read(json.dumps({"input": ["word"] * 100}).encode())
        answer = await embeddings.embed(request, TERMS)
        assert len(json.loads(answer.body)["data"]) == 100
        with pytest.raises(InvalidRequest):
            await embeddings.read(b"[" * 100)
