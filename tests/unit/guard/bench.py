"""A guard servicer on memory twins, and the requests that tests send it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from llmops.common.v1 import chat_pb2 as chat
from llmops.guard.v1 import guard_pb2 as pb

from services.guard.adapters.memory import (
    InlineExecutor,
    MemoryEncoder,
    MemoryObserver,
    MemoryPatternEngine,
    MemorySchemaCompiler,
)
from services.guard.api import GuardApi
from services.guard.core.active_policy import PolicyBook
from services.guard.core.guard import Guard, GuardLimits
from services.guard.core.policy import DEFAULT, SHIPPED, Policy
from services.guard.core.ports import Classifier, CompiledPattern


class Broken(MemoryPatternEngine):
    """Compiles patterns that fail when they run."""

    def compile(self, pattern: str) -> CompiledPattern:
        class Fails:
            def spans(self, text: str, start: int) -> Any:
                raise RuntimeError(text)

        return Fails()


class Bench:
    """A servicer and what it was wired with."""

    def __init__(
        self,
        policy: Policy = DEFAULT,
        engine: MemoryPatternEngine | None = None,
        encoder: MemoryEncoder | None = None,
        classifiers: Sequence[Classifier] = (),
    ) -> None:
        self.observer = MemoryObserver()
        self.encoder = encoder
        book = PolicyBook({**SHIPPED, "default": policy}, engine or MemoryPatternEngine())
        guard = Guard(
            book, MemorySchemaCompiler(), InlineExecutor(), self.observer, GuardLimits(), encoder, tuple(classifiers)
        )
        self.api = GuardApi(guard)

    async def check(self, *messages: chat.ChatMessage, **fields: Any) -> pb.CheckInputResponse:
        return await self.api.CheckInput(pb.CheckInputRequest(messages=messages, **fields), None)

    async def answer(self, completion: chat.Completion, **fields: Any) -> pb.CheckOutputResponse:
        return await self.api.CheckOutput(pb.CheckOutputRequest(completion=completion, **fields), None)

    async def stream(self, *events: pb.CheckOutputStreamRequest) -> list[pb.CheckOutputStreamResponse]:
        async def requests() -> AsyncIterator[pb.CheckOutputStreamRequest]:
            for event in events:
                yield event

        return [response async for response in self.api.CheckOutputStream(requests(), None)]


def user(text: str) -> chat.ChatMessage:
    return chat.ChatMessage(role=chat.CHAT_ROLE_USER, content=text)


def opened(**fields: Any) -> pb.CheckOutputStreamRequest:
    return pb.CheckOutputStreamRequest(open=pb.StreamOpen(**fields))


def delta(**fields: Any) -> pb.CheckOutputStreamRequest:
    return pb.CheckOutputStreamRequest(delta=chat.CompletionDelta(**fields))


FINISH = pb.CheckOutputStreamRequest(finish=pb.StreamFinish())
