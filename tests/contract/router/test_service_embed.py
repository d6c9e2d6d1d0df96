"""Embed as a client sees it: generated stubs, both transports, a real upstream."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from llmops.common.v1 import chat_pb2
from llmops.router.v1 import router_pb2 as pb

from meshkit.errors import CallError
from services.router.provider_settings import ModelConfig, Provider
from services.router.settings import RouterSettings
from tests.support.router_service import CALLER, STRANGER

if TYPE_CHECKING:
    from tests.contract.router.conftest import StartUpstream


def with_embedder(url: str) -> RouterSettings:
    models = {
        "big": ModelConfig(provider="vendor", model="big-1"),
        "embed": ModelConfig(provider="vendor", model="embed-1", kind="embeddings"),
    }
    vendor = {"vendor": Provider(base_url=url)}
    return RouterSettings(vendor, models, {}, default_route="big", default_embeddings="embed")


async def test_vectors_arrive_packed_and_in_order(start: Any, start_upstream: StartUpstream) -> None:
    rows = [{"index": 1, "embedding": [3.0, 4.5]}, {"index": 0, "embedding": [1.0, 2.0]}]
    answer = {"data": rows, "model": "embed-1-v2", "usage": {"prompt_tokens": 7}}
    upstream = await start_upstream(lambda received: received.answer(json.dumps(answer).encode()))
    stub = await start(with_embedder(upstream.url))
    request = pb.EmbedRequest(request_id="r-1", texts=["one", "two"], dimensions=2)
    found = await stub.Embed(request, metadata=CALLER)
    assert struct.unpack("<4f", found.values_f32_le) == (1.0, 2.0, 3.0, 4.5)
    assert (found.dimensions, found.vector_space, found.served_model) == (2, "embed-1", "embed-1-v2")
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.estimated) == (7, 0, False)
    assert [a.model_name for a in found.attempts] == ["embed"]
    assert upstream.requests[0].json() == {
        "model": "embed-1",
        "input": ["one", "two"],
        "encoding_format": "base64",
        "dimensions": 2,
    }


async def test_vectors_are_for_the_meshs_own_services(start: Any, start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(lambda received: received.answer(b"{}"))
    stub = await start(with_embedder(upstream.url))
    with pytest.raises(CallError) as caught:
        await stub.Embed(pb.EmbedRequest(texts=["x"]), metadata=STRANGER)
    assert caught.value.reason == "PERMISSION_DENIED"
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.EmbedRequest(), "texts"),
        (pb.EmbedRequest(texts=["x"] * 257), "texts"),
        (pb.EmbedRequest(texts=["x"], model="big"), "model"),
        (pb.EmbedRequest(texts=["x"], dimensions=-1), "dimensions"),
    ],
)
async def test_what_embed_refuses(
    start: Any, start_upstream: StartUpstream, request_: pb.EmbedRequest, field: str
) -> None:
    upstream = await start_upstream(lambda received: received.answer(b"{}"))
    stub = await start(with_embedder(upstream.url))
    with pytest.raises(CallError) as caught:
        await stub.Embed(request_, metadata=CALLER)
    assert caught.value.reason == "INVALID_FIELD"
    assert field in str(caught.value)
    assert upstream.requests == []


async def test_an_embeddings_model_does_not_chat(start: Any, start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(lambda received: received.answer(b"{}"))
    stub = await start(with_embedder(upstream.url))
    with pytest.raises(CallError, match="names a model for Embed; this call is Complete"):
        hello = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="Hello")
        await stub.Complete(pb.CompleteRequest(call=pb.ModelCall(model="embed", messages=[hello])), metadata=CALLER)


async def test_a_plan_is_of_the_kind_that_is_asked_for(start: Any, start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(lambda received: received.answer(b"{}"))
    stub = await start(with_embedder(upstream.url))
    plans = [await stub.Plan(pb.PlanRequest(kind=kind), metadata=CALLER) for kind in ("", "chat", "embeddings")]
    assert [[c.model_name for c in plan.candidates] for plan in plans] == [["big"], ["big"], ["embed"]]
    with pytest.raises(CallError, match="names a model for Complete; this call is Embed"):
        await stub.Plan(pb.PlanRequest(kind="embeddings", model="big"), metadata=CALLER)
    with pytest.raises(CallError, match="names a model for Embed; this call is Complete"):
        await stub.Plan(pb.PlanRequest(model="embed"), metadata=CALLER)
