"""Sends the router's pinned prompts through the whole path, in the name of a key that pays, and hands in the answers.

The router may not spend money by itself, so whoever watches its models is an application like any other: admitted,
guarded, booked. The answers go to the router's judgement and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from llmops.common.v1 import chat_pb2, context_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.orchestrator.v1 import orchestrator_pb2_grpc
from llmops.router.v1 import router_pb2, router_pb2_grpc

from meshkit.errors import CallError, MeshError

FEATURE = "canary"
# A model that fails so often in a row is not asked further in this run.
_GIVE_UP_AFTER = 3
_TEMPERATURE = 1.0

AsCaller = Callable[[], AbstractContextManager[object]]


class CanaryRounds:
    """Every watched model, again and again. Holds one run's answers at a time."""

    def __init__(
        self,
        router: Any,
        orchestrator: Any,
        *,
        as_service: AsCaller,
        as_payer: AsCaller,
        sleep: Callable[[float], Awaitable[None]],
        now_s: Callable[[], float],
        max_calls: int,
        answers: Any,
        logger: logging.Logger,
    ) -> None:
        """`as_payer` makes calls with the key that pays; `answers` counts by model_name and outcome."""
        self._router = router_pb2_grpc.RouterServiceStub(router)
        self._orchestrator = orchestrator_pb2_grpc.OrchestratorServiceStub(orchestrator)
        self._as_service, self._as_payer = as_service, as_payer
        self._sleep, self._now_s = sleep, now_s
        self._calls = asyncio.Semaphore(max_calls)
        self._answers = answers
        self._logger = logger

    async def run(self, start_after_s: float) -> None:
        """Never ends. Rounds begin `interval` apart, and a router that is away is asked again after as long."""
        interval_s = start_after_s
        await self._sleep(interval_s)
        while True:
            began_s = self._now_s()
            try:
                interval_s = await self.round()
            except MeshError as error:
                self._logger.warning("canaries could not be sent: %s", error.reason)
            await self._sleep(max(0.0, began_s + interval_s - self._now_s()))

    async def round(self) -> float:
        """One run of each model, one after the other. Returns the pause until the next. Raises MeshError."""
        with self._as_service():
            wanted: router_pb2.ListCanariesResponse = await self._router.ListCanaries(router_pb2.ListCanariesRequest())
        for model in wanted.model_names:
            await self._watch(model, wanted)
        return float(wanted.interval.ToTimedelta().total_seconds())

    async def _watch(self, model: str, wanted: router_pb2.ListCanariesResponse) -> None:
        request = router_pb2.JudgeCanaryRequest(model_name=model)
        failures = _Failures()
        async with asyncio.TaskGroup() as group:
            for prompt in wanted.prompts:
                asked = _conversation(model, prompt.text, wanted.max_output_tokens)
                row = request.prompts.add(prompt_id=prompt.prompt_id)
                for _ in range(wanted.answers_per_prompt):
                    group.create_task(self._ask(model, asked, row, failures))
        if failures.reason:
            self._logger.warning("canaries of %s failed: %s", model, failures.reason)
        if any(row.answers for row in request.prompts):
            with self._as_service():
                await self._router.JudgeCanary(request)

    async def _ask(
        self, model: str, asked: pb.Conversation, row: router_pb2.CanaryAnswers, failures: _Failures
    ) -> None:
        async with self._calls:
            if failures.in_a_row >= _GIVE_UP_AFTER:
                return
            try:
                with self._as_payer():
                    answer: pb.CompleteResponse = await self._orchestrator.Complete(
                        pb.CompleteRequest(conversation=asked)
                    )
            except CallError as error:
                failures.in_a_row += 1
                failures.reason = error.reason
                self._answers.labels(model, "failed").inc()
                return
        failures.in_a_row = 0
        self._answers.labels(model, "answered").inc()
        row.answers.append(answer.completion.content)


class _Failures:
    """Of one model in one round."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self.reason = ""


def _conversation(model: str, text: str, max_output_tokens: int) -> pb.Conversation:
    return pb.Conversation(
        messages=[chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)],
        model=model,
        parameters=chat_pb2.GenerationParameters(temperature=_TEMPERATURE, max_output_tokens=max_output_tokens),
        labels=context_pb2.CallLabels(feature=FEATURE),
        # An answer from the cache would be the same for ever.
        cache=pb.CacheControl(bypass=True),
    )
