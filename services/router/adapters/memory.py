"""Twins of everything outside: a provider that follows a script, time that only passes when told, a plain counter."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence

from services.router.core.attempts import Attempt
from services.router.core.canaries import Watched
from services.router.core.catalogue import ModelSpec
from services.router.core.deployments import Shut
from services.router.core.failure import FailureKind, ProviderError
from services.router.core.ports import Chunk, EmbedderAnswer, EmbedderRequest, ProviderAnswer, ProviderRequest
from services.router.core.prices import ModelPrice
from services.router.core.speed import Speed

Step = ProviderAnswer | ProviderError | Sequence[Chunk | ProviderError]


class ScriptedProvider:
    """Answers with the next step of its script; the last step repeats. `requests` records what was asked."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.requests: list[ProviderRequest] = []
        self.closed_streams = 0

    def _next(self, request: ProviderRequest) -> Step:
        self.requests.append(request)
        return self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """The next step, which must be an answer or an error."""
        step = self._next(request)
        if isinstance(step, ProviderError):
            raise step
        if not isinstance(step, ProviderAnswer):
            raise TypeError("the script has a stream here")
        return step

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        """The next step: an error at once, or chunks and at last an error."""
        step = self._next(request)
        try:
            if isinstance(step, ProviderError):
                raise step
            if isinstance(step, ProviderAnswer):
                raise TypeError("the script has a whole answer here")
            for chunk in step:
                if isinstance(chunk, ProviderError):
                    raise chunk
                yield chunk
        finally:
            self.closed_streams += 1


class ScriptedEmbedder:
    """Answers with the next step of its script; the last step repeats. `requests` records what was asked."""

    def __init__(self, *steps: EmbedderAnswer | ProviderError) -> None:
        self._steps = list(steps)
        self.requests: list[EmbedderRequest] = []

    async def embed(self, request: EmbedderRequest) -> EmbedderAnswer:
        """The next step."""
        self.requests.append(request)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, ProviderError):
            raise step
        return step


class ManualClock:
    """Time that passes only in `sleep` and `advance`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        """Seconds."""
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        """Passes at once."""
        self.slept_s.append(delay_s)
        self.now_s += delay_s

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_s += seconds


class ManualLoad:
    """Says what it was told. Models that nobody spoke of are idle, not measured and open."""

    def __init__(self) -> None:
        self.under_way: dict[str, int] = {}
        self.streams: dict[str, Speed] = {}
        self.whole_answers: dict[str, Speed] = {}
        self.shut_by: dict[str, Shut] = {}

    def calls_under_way(self, model_name: str) -> int:
        """What was told, else 0."""
        return self.under_way.get(model_name, 0)

    def speed(self, model_name: str, *, streamed: bool) -> Speed:
        """What was told, else not measured."""
        return (self.streams if streamed else self.whole_answers).get(model_name) or Speed()

    def shut(self, model_name: str, now_s: float) -> Shut | None:
        """What was told, until its time has come."""
        shut = self.shut_by.get(model_name)
        return None if shut is None or (shut.until_s is not None and shut.until_s <= now_s) else shut


class DeclaredPrices:
    """Prices by model name."""

    def __init__(self, declared: Mapping[str, ModelPrice]) -> None:
        self._declared = declared

    def price(self, spec: ModelSpec) -> ModelPrice | None:
        """What was declared, else None."""
        return self._declared.get(spec.name)


class AttemptLog:
    """Keeps every attempt, and counts the other events by name."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.events: Counter[str] = Counter()

    def attempt_ended(self, attempt: Attempt) -> None:
        """Appends it."""
        self.attempts.append(attempt)

    def attempt_failed(self, spec: ModelSpec, kind: FailureKind) -> None:
        """Counts it."""
        self.events[f"failed {spec.name} {kind.value}"] += 1

    def first_token(self, spec: ModelSpec, after_s: float) -> None:
        """Counts it."""
        self.events[f"first-token {spec.name}"] += 1

    def hedged(self, route: str, event: str) -> None:
        """Counts it."""
        self.events[f"hedge-{event} {route}"] += 1

    def retry_refused(self, route: str) -> None:
        """Counts it."""
        self.events[f"retry-refused {route}"] += 1


class MemoryCanaries:
    """The port `CanaryStore` for this process's life."""

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}

    def load(self) -> dict[str, Watched]:
        """What was saved."""
        return dict(self._watched)

    def save(self, watched: Mapping[str, Watched]) -> None:
        """Keeps a copy."""
        self._watched = dict(watched)
