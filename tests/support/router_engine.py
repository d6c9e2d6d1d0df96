"""The router's engine with one route of many models on twins: what each provider does is said by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.router.adapters.memory import AttemptLog, ManualClock, ScriptedProvider, Step
from services.router.adapters.system import LoopClock
from services.router.adapters.tokens import CharacterTokenCounter
from services.router.core.breaker import BreakerPolicy
from services.router.core.catalogue import Catalogue, ModelSpec, RouteSpec
from services.router.core.chat import Completion, Delta, FinishReason, Message, ModelCall, Usage
from services.router.core.failure import Failure, FailureKind, Outcome, ProviderError
from services.router.core.fallback import RetryPolicy
from services.router.core.ports import Chunk, Clock, Provider, ProviderAnswer, ProviderRequest, TokenCounter
from services.router.core.router import Answer, Router, StreamEvent
from services.router.core.tries import Tried

CALL = ModelCall("", (Message("user", "hello there"),))
USAGE = Usage(3, 5)
ANSWER = ProviderAnswer(Completion("hi", finish_reason=FinishReason.STOP), USAGE, "served", "id-1")
DONE = Chunk(None, "served", "id-1", finished=True, finish_reason=FinishReason.STOP, usage=USAGE)


def failing(kind: FailureKind, retry_after_s: float | None = None) -> ProviderError:
    return ProviderError(Failure(kind, kind.value, retry_after_s=retry_after_s))


def text(*pieces: str) -> list[Chunk | ProviderError]:
    return [Chunk(Delta(piece), "served", "id-1") for piece in pieces]


@dataclass
class Timed:
    """Takes its time before it answers or fails; knows how many calls are under way, and which were left."""

    step: Step
    after_s: float = 0.0
    requests: list[ProviderRequest] = field(default_factory=list)
    running: int = 0
    left: int = 0

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        await self._wait(request)
        if isinstance(self.step, ProviderError):
            raise self.step
        assert isinstance(self.step, ProviderAnswer)
        return self.step

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        await self._wait(request)
        if isinstance(self.step, ProviderError):
            raise self.step
        assert isinstance(self.step, Sequence)
        self.running += 1
        try:
            for chunk in self.step:
                if isinstance(chunk, ProviderError):
                    raise chunk
                yield chunk
        except GeneratorExit:
            self.left += 1
            raise
        finally:
            self.running -= 1

    async def _wait(self, request: ProviderRequest) -> None:
        self.requests.append(request)
        self.running += 1
        try:
            await asyncio.sleep(self.after_s)
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.running -= 1


class Engine:
    """`providers` by model name; each model has a provider of its own, and each gets `spec` and `route` fields."""

    def __init__(
        self,
        providers: Mapping[str, Sequence[Step] | Provider],
        *,
        route: Mapping[str, object] | None = None,
        specs: Mapping[str, Mapping[str, object]] | None = None,
        candidates: Sequence[str] = (),
        retries: int = 0,
        policy: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        clock: Clock | None = None,
        counter: TokenCounter | None = None,
    ) -> None:
        self.specs = {name: _spec(name, (specs or {}).get(name, {})) for name in providers}
        fields = {key: _named(self.specs, value) for key, value in (route or {}).items()}
        asked = tuple(self.specs[name] for name in candidates or providers)
        default = RouteSpec("default", asked, retries, **fields)  # type: ignore[arg-type]
        alone = {name: RouteSpec(name, (spec,), 1, is_model=True) for name, spec in self.specs.items()}
        self.clock = clock or ManualClock()
        self.log = AttemptLog()
        self.told: list[Tried] = []
        self.router = Router(
            Catalogue({"default": default, **alone}, "default"),
            {
                f"p-{name}": ScriptedProvider(*provider) if isinstance(provider, Sequence) else provider
                for name, provider in providers.items()
            },
            policy=policy or RetryPolicy(),
            breaker=breaker or BreakerPolicy(),
            clock=self.clock,
            wall_now=lambda: datetime(2026, 11, 23, tzinfo=UTC),
            jitter=lambda: 0.5,
            observer=self.log,
            counter=counter or CharacterTokenCounter(),
        )

    async def complete(self, call: ModelCall = CALL, budget_s: float = 60.0) -> Answer:
        return await self.router.complete(call, "req-1", budget_s)

    async def stream(self, call: ModelCall = CALL, budget_s: float = 60.0) -> list[StreamEvent]:
        """All but what was tried on the way, which is in `told`."""
        events = [event async for event in self.router.stream(call, "req-1", budget_s)]
        self.told += [event for event in events if isinstance(event, Tried)]
        return [event for event in events if not isinstance(event, Tried)]

    def tries(self) -> list[tuple[str, str, Outcome | None]]:
        """Model, purpose and outcome of every try that ended, in that order."""
        return [(attempt.model_name, attempt.purpose.name, attempt.outcome) for attempt in self.log.attempts]


def _spec(name: str, fields: Mapping[str, object]) -> ModelSpec:
    return ModelSpec(name, f"p-{name}", f"model-{name}", **fields)  # type: ignore[arg-type]


def _named(specs: Mapping[str, ModelSpec], value: object) -> object:
    """Lists of names stand for their models."""
    return tuple(specs[name] for name in value) if isinstance(value, list) else value


def real_time() -> Clock:
    return LoopClock(asyncio.get_running_loop())
