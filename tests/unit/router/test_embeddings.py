"""Embed on twins: retries, fallback and cooldowns as for chat, and what is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from services.router.adapters.memory import AttemptLog, ManualClock, ScriptedEmbedder
from services.router.adapters.tokens import CharacterTokenCounter
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import Catalogue, ModelSpec, RouteSpec
from services.router.core.chat import Usage
from services.router.core.cooldown import Cooldown
from services.router.core.embeddings import Embedded, Embeddings
from services.router.core.errors import (
    InvalidRequest,
    ModelNotFound,
    Unsupported,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from services.router.core.failure import Failure, FailureKind, Outcome, ProviderError
from services.router.core.fallback import RetryPolicy
from services.router.core.plan import Needs
from services.router.core.ports import EmbedderAnswer, EmbedderRequest, EmbedTexts
from services.router.core.router import Router

ONE = ModelSpec("one", "a", "m-1", kind="embeddings", vector_space="m")
TWO = ModelSpec("two", "b", "m-2", kind="embeddings", vector_space="m")
CHAT = ModelSpec("talk", "a", "t")
ROUTES = {
    "talk": RouteSpec("talk", (CHAT,), 1, is_model=True),
    "one": RouteSpec("one", (ONE,), 1, is_model=True),
    "both": RouteSpec("both", (ONE, TWO), 1),
}
CATALOGUE = Catalogue(ROUTES, "talk", "both")
VECTORS = np.asarray([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
ANSWER = EmbedderAnswer(VECTORS, Usage(5), "m-served")
TEXTS = EmbedTexts("", ("first text", "second"))


def failing(kind: FailureKind, retry_after_s: float | None = None, usage: Usage | None = None) -> ProviderError:
    return ProviderError(Failure(kind, "cause", 503, retry_after_s=retry_after_s, usage=usage))


class World:
    """Both providers as scripts, with everything that a call leaves behind."""

    def __init__(self, one: ScriptedEmbedder, two: ScriptedEmbedder | None = None) -> None:
        self.one, self.two = one, two or ScriptedEmbedder(ANSWER)
        self.clock, self.log = ManualClock(), AttemptLog()
        self.router = Router(
            CATALOGUE,
            {},
            policy=RetryPolicy(),
            breaker=BreakerPolicy(),
            clock=self.clock,
            wall_now=lambda: datetime(2026, 11, 23, tzinfo=UTC),
            jitter=lambda: 0.5,
            observer=self.log,
            counter=CharacterTokenCounter(),
        )
        self.embeddings = Embeddings(
            CATALOGUE,
            {"a": self.one, "b": self.two},
            self.router.shared,
            self.router.planner,
            clock=self.clock,
            jitter=lambda: 0.5,
            counter=CharacterTokenCounter(),
        )


async def test_vectors_with_usage_space_and_attempts() -> None:
    world = World(ScriptedEmbedder(ANSWER))
    found = await world.embeddings.embed(TEXTS, "req-1", 10.0)
    assert (found.vectors.tolist(), found.vector_space, found.served_model) == (VECTORS.tolist(), "m", "m-served")
    assert (found.usage, [a.outcome for a in found.attempts]) == (Usage(5), [Outcome.SUCCEEDED])
    assert world.one.requests[0].request_id == "req-1"
    assert world.log.attempts == list(found.attempts)


async def test_tokens_are_counted_where_the_provider_does_not() -> None:
    world = World(ScriptedEmbedder(EmbedderAnswer(VECTORS)))
    found = await world.embeddings.embed(TEXTS, "", 10.0)
    assert found.usage == Usage(4, estimated=True)
    assert found.served_model == "m-1"


async def test_retries_then_the_next_candidate_and_a_cooldown_that_the_router_lists() -> None:
    world = World(ScriptedEmbedder(failing(FailureKind.UNAVAILABLE)))
    found = await world.embeddings.embed(TEXTS, "", 10.0)
    assert [(a.model_name, a.outcome) for a in found.attempts] == [
        ("one", Outcome.REFUSED),
        ("one", Outcome.REFUSED),
        ("two", Outcome.SUCCEEDED),
    ]
    assert {m.route.name: m.cooling_down for m in world.router.models()} == {"talk": False, "one": True, "both": False}
    again = await world.embeddings.embed(TEXTS, "", 10.0)
    assert [a.model_name for a in again.attempts] == ["two"], "it cools"


async def test_a_try_that_may_be_billed_is_counted_and_one_that_says_its_cost_is_believed() -> None:
    world = World(ScriptedEmbedder(failing(FailureKind.BROKEN)))
    (broken, _) = (await world.embeddings.embed(TEXTS, "", 10.0)).attempts
    assert broken.usage is not None
    assert (broken.usage.estimated, broken.usage.output_tokens) == (True, 0)
    assert broken.usage.input_tokens >= 4
    world = World(ScriptedEmbedder(failing(FailureKind.CONTENT_POLICY, usage=Usage(3))))
    assert (await world.embeddings.embed(TEXTS, "", 10.0)).attempts[0].usage == Usage(3)


async def test_when_nobody_is_left_the_error_says_why_and_lists_the_tries() -> None:
    limited = ScriptedEmbedder(failing(FailureKind.RATE_LIMITED, 60.0))
    with pytest.raises(UpstreamRateLimited) as caught:
        await World(limited, limited).embeddings.embed(TEXTS, "", 10.0)
    assert [row["outcome"] for row in json.loads(caught.value.metadata["attempts_json"])] == ["RATE_LIMITED"] * 2
    with pytest.raises(Unsupported):
        await World(ScriptedEmbedder(failing(FailureKind.UNSUPPORTED))).embeddings.embed(
            EmbedTexts("one", ("x",)), "", 10.0
        )


async def test_only_the_models_that_the_call_names_are_asked() -> None:
    world = World(ScriptedEmbedder(ANSWER))
    found = await world.embeddings.embed(EmbedTexts("both", ("x",), model_names=("two",)), "", 10.0)
    assert ([a.model_name for a in found.attempts], world.one.requests) == (["two"], [])
    with pytest.raises(UpstreamUnavailable):
        await world.embeddings.embed(EmbedTexts("both", ("x",), model_names=("gone",)), "", 10.0)


async def test_a_chat_model_makes_no_vectors_and_an_embeddings_model_does_not_chat() -> None:
    world = World(ScriptedEmbedder(ANSWER))
    with pytest.raises(InvalidRequest, match="names a model for Complete; this call is Embed") as caught:
        await world.embeddings.embed(EmbedTexts("talk", ("x",)), "", 10.0)
    assert caught.value.field_violations[0][0] == "model"
    with pytest.raises(InvalidRequest, match="names a model for Embed; this call is Complete"):
        world.router.plan("both", Needs())
    with pytest.raises(ModelNotFound, match="default_embeddings"):
        Catalogue(ROUTES, "talk").resolve("", "embeddings")


class Waiting(ScriptedEmbedder):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__(ANSWER)
        self.may = asyncio.Event()

    async def embed(self, request: EmbedderRequest) -> EmbedderAnswer:
        await self.may.wait()
        return await super().embed(request)


@pytest.mark.parametrize(
    ("first", "named", "told"),
    [
        (ScriptedEmbedder(failing(FailureKind.TIMED_OUT)), (), [("one", Outcome.TIMED_OUT), ("two", None)]),
        (ScriptedEmbedder(ANSWER), ("one", "two"), [("two", None)]),
    ],
)
async def test_what_is_tried_is_told_before_the_vectors(
    first: ScriptedEmbedder, named: tuple[str, ...], told: list[tuple[str, Outcome | None]]
) -> None:
    """The second by a plan whose first model cools by now."""
    second = Waiting()
    world = World(first, second)
    if named:
        world.router.deployments.rest("one", Cooldown(world.clock.monotonic() + 60.0, rate_limited=True), shared=False)
    steps = world.embeddings.embed_with_tries(replace(TEXTS, model_names=named), "req-1", 10.0)
    tried = await anext(steps)
    assert [(attempt.model_name, attempt.outcome) for attempt in tried.attempts] == told
    second.may.set()
    [answer] = [step async for step in steps]
    assert isinstance(answer, Embedded)
    assert answer.attempts[-1].outcome is Outcome.SUCCEEDED


async def test_a_caller_who_leaves_is_on_the_record() -> None:
    class Slow(ScriptedEmbedder):
        async def embed(self, request: object) -> EmbedderAnswer:
            await asyncio.sleep(60)
            raise AssertionError

    world = World(Slow(ANSWER))
    task = asyncio.create_task(world.embeddings.embed(TEXTS, "", 10.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [a.outcome for a in world.log.attempts] == [Outcome.CANCELLED]
