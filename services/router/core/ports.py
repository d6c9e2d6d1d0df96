"""What the router needs from outside."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.router.core.attempts import Attempt
from services.router.core.canaries import Watched
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import Completion, Delta, FinishReason, ModelCall, Usage
from services.router.core.deployments import Shut
from services.router.core.facts import NOBODY, Judged, Origin, Vector
from services.router.core.failure import FailureKind
from services.router.core.prices import ModelPrice
from services.router.core.speed import Speed

Vectors = npt.NDArray[np.float32]


def _unheard(waiting: bool) -> None:  # noqa: FBT001 - a callback
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One try: the call, the model that shall answer, the caller's request id, and how long an answer is waited for.

    Of a stream `timeout_s` is the time until it begins. Who has to wait before he can send says so by `waits`, and when
    that is over.
    """

    call: ModelCall
    spec: ModelSpec
    request_id: str = ""
    timeout_s: float = math.inf
    waits: Callable[[bool], None] = field(default=_unheard, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """A complete answer; `usage` is None when the provider does not say."""

    completion: Completion
    usage: Usage | None = None
    served_model: str = ""
    response_id: str = ""


@dataclass(slots=True)
class Chunk:
    """What one read of a stream brought: at most one delta, however many events arrived together.

    A chunk without a delta says that the model is at work (hidden reasoning). `finished` marks the last chunk; only
    there do `finish_reason` and `usage` count.
    """

    delta: Delta | None = None
    served_model: str = ""
    response_id: str = ""
    finished: bool = False
    finish_reason: FinishReason = FinishReason.UNKNOWN
    usage: Usage | None = None


class Provider(Protocol):
    """A place that runs models. Both methods raise ProviderError; cancelling or closing them ends the call there."""

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """One answer."""
        ...

    def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        """The same in pieces; a stream that ends without a finished chunk raises."""
        ...


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    """Texts that shall become vectors. `model` names a route or a model; empty is the default one for embeddings.

    `dimensions` 0 means the model's own; `purpose` is "document", "query" or empty. `model_names` and `origin` are as
    in ModelCall.
    """

    model: str
    texts: tuple[str, ...]
    dimensions: int = 0
    purpose: str = ""
    model_names: tuple[str, ...] = ()
    origin: Origin = NOBODY


@dataclass(frozen=True, slots=True)
class EmbedderRequest:
    """One try: the texts, the model that shall answer, the caller's request id, and how long vectors are waited for."""

    wanted: EmbedTexts
    spec: ModelSpec
    request_id: str = ""
    timeout_s: float = math.inf
    waits: Callable[[bool], None] = field(default=_unheard, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class EmbedderAnswer:
    """Vectors float32 [texts, dimensions]; `usage` is None when the provider does not say."""

    vectors: Vectors
    usage: Usage | None = None
    served_model: str = ""


class Embedder(Protocol):
    """A place that makes vectors. Raises ProviderError; cancelling ends the call there."""

    async def embed(self, request: EmbedderRequest) -> EmbedderAnswer:
        """One vector for each text, in their order."""
        ...


class TokenCounter(Protocol):
    """Counts tokens where a provider does not."""

    async def count(self, texts: Sequence[str]) -> int:
        """Tokens of all texts together, an estimate."""
        ...


class SentenceEncoder(Protocol):
    """Turns sentences into points on the unit sphere."""

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dimensions], each row of L2 norm 1."""
        ...


class Load(Protocol):
    """What planning knows of the models; `deployments.Deployments` is the one that calls keep up to date."""

    def calls_under_way(self, model: str) -> int:
        """Tries of a configured model that have not ended."""
        ...

    def speed(self, model: str, *, streamed: bool) -> Speed:
        """How fast it begins streams, or gives whole answers."""
        ...

    def shut(self, model: str, now_s: float) -> Shut | None:
        """Why it may not be called now; None when it may."""
        ...


class PriceList(Protocol):
    """What models cost, for comparing them."""

    def price(self, spec: ModelSpec) -> ModelPrice | None:
        """From memory; None when nobody knows."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What complexity is judged by: the last user message, its language, and its embedding by the model `encoder`."""

    text: str
    language: str
    encoder: str
    embedding: Vector | None


class ComplexityScorer(Protocol):
    """Whether the cheap end of a route suffices for a question."""

    def judge(self, question: Question, quality: float, threshold: float) -> Judged:
        """At the promised quality, or at the probability `threshold` where that is above 0. Never raises."""
        ...


class AttemptObserver(Protocol):
    """Learns of every try, also of those whose caller has left. Nothing here may block."""

    def attempt_ended(self, attempt: Attempt) -> None:
        """Called once a try."""
        ...

    def attempt_failed(self, spec: ModelSpec, kind: FailureKind) -> None:
        """How a try failed that did; `attempt_ended` is called as well."""
        ...

    def first_token(self, spec: ModelSpec, after_s: float) -> None:
        """A stream began to answer."""
        ...

    def hedged(self, route: str, event: str) -> None:
        """A second request was "sent", "won", or would have been sent and was "capped" by the route's rate."""
        ...

    def retry_refused(self, route: str) -> None:
        """A try was not repeated: the route's retry budget is used up."""
        ...


class Clock(Protocol):
    """Time that passes; never a wall clock for waits."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Waits."""
        ...


class CanaryStore(Protocol):
    """What canaries learnt, kept from one process to the next. Both block."""

    def load(self) -> dict[str, Watched]:
        """What is known by model; nothing when nothing usable is there."""
        ...

    def save(self, watched: Mapping[str, Watched]) -> None:
        """Replaces it. Raises OSError."""
        ...
