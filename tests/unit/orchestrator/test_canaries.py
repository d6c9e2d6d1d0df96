"""Rounds of canaries: who pays, how much is asked, and what happens when nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.router.v1 import router_pb2
from prometheus_client import CollectorRegistry, Counter

from meshkit.errors import CallError, Failure
from services.orchestrator.adapters.canaries import CanaryRounds

AWAY = CallError(Failure("UNAVAILABLE", "UPSTREAM_UNAVAILABLE", "nobody is there"))


class TheEnd(Exception):
    """Of a test's patience."""


@dataclass
class Callee:
    """Both services as a channel: remembers who asked for what."""

    models: tuple[str, ...] = ("a",)
    is_away: bool = False
    fails: Callable[[str], bool] = lambda model: False
    who: str = ""
    asked: list[tuple[str, pb.Conversation]] = field(default_factory=list)
    judged: list[tuple[str, router_pb2.JudgeCanaryRequest]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0

    def unary_unary(self, path: str, *_: object, **__: object) -> Callable[..., Awaitable[Any]]:
        return {"ListCanaries": self._list, "JudgeCanary": self._judge, "Complete": self._complete}.get(
            path.rpartition("/")[2], self._list
        )

    def unary_stream(self, path: str, *_: object, **__: object) -> object:
        return path

    @contextlib.contextmanager
    def calling_as(self, who: str) -> Iterator[None]:
        self.who = who
        yield

    async def _list(self, request: object, **_: object) -> router_pb2.ListCanariesResponse:
        assert self.who == "service"
        if self.is_away:
            raise AWAY
        return router_pb2.ListCanariesResponse(
            model_names=self.models,
            prompts=[router_pb2.CanaryPrompt(prompt_id=f"p{n}", text=f"Say {n}") for n in range(3)],
            answers_per_prompt=4,
            max_output_tokens=20,
            interval=timedelta(seconds=100),
        )

    async def _complete(self, request: pb.CompleteRequest, **_: object) -> pb.CompleteResponse:
        asked = request.conversation
        self.asked.append((self.who, asked))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.fails(asked.model):
            raise AWAY
        return pb.CompleteResponse(completion=chat_pb2.Completion(content=f"to {asked.messages[0].content}"))

    async def _judge(self, request: router_pb2.JudgeCanaryRequest, **_: object) -> router_pb2.JudgeCanaryResponse:
        self.judged.append((self.who, request))
        return router_pb2.JudgeCanaryResponse()


def rounds(callee: Callee, slept_s: list[float] | None = None, most_sleeps: int = 1) -> CanaryRounds:
    pauses = slept_s if slept_s is not None else []

    async def sleep(duration_s: float) -> None:
        pauses.append(duration_s)
        if len(pauses) > most_sleeps:
            raise TheEnd

    return CanaryRounds(
        callee,
        callee,
        as_service=lambda: callee.calling_as("service"),
        as_payer=lambda: callee.calling_as("payer"),
        sleep=sleep,
        now_s=lambda: 0.0,
        max_calls=2,
        answers=Counter("answers", "x", ("model_name", "outcome"), registry=CollectorRegistry()),
        logger=logging.getLogger("llmops.orchestrator"),
    )


async def test_a_round_asks_each_prompt_so_often_and_hands_the_answers_in() -> None:
    callee = Callee()
    assert await rounds(callee).round() == 100
    assert len(callee.asked) == 12
    assert {who for who, _ in callee.asked} == {"payer"}
    for _, asked in callee.asked:
        assert (asked.model, asked.cache.bypass, asked.labels.feature) == ("a", True, "canary")
        assert (asked.parameters.temperature, asked.parameters.max_output_tokens) == (1.0, 20)
    ((who, run),) = callee.judged
    assert (who, run.model_name) == ("service", "a")
    assert {p.prompt_id: list(p.answers) for p in run.prompts} == {f"p{n}": [f"to Say {n}"] * 4 for n in range(3)}
    assert callee.most == 2


async def test_a_model_that_fails_is_soon_left_alone_and_the_next_one_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    callee = Callee(models=("a", "b"), fails=lambda model: model == "a")
    await rounds(callee).round()
    # Two are under way at once, so one more may have begun.
    assert 3 <= sum(asked.model == "a" for _, asked in callee.asked) <= 4
    assert [run.model_name for _, run in callee.judged] == ["b"]
    assert "canaries of a failed: UPSTREAM_UNAVAILABLE" in caplog.text


async def test_nobody_watched_costs_nothing() -> None:
    callee = Callee(models=())
    await rounds(callee).round()
    assert (callee.asked, callee.judged) == ([], [])


async def test_rounds_are_an_interval_apart_and_an_absent_router_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    slept_s: list[float] = []
    with pytest.raises(TheEnd):
        await rounds(Callee(), slept_s, most_sleeps=2).run(7.0)
    assert slept_s == [7.0, 100.0, 100.0]
    slept_s.clear()
    with pytest.raises(TheEnd):
        await rounds(Callee(is_away=True), slept_s, most_sleeps=2).run(7.0)
    assert slept_s == [7.0, 7.0, 7.0]
    assert "canaries could not be sent" in caplog.text
