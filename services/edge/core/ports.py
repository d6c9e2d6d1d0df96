"""What the edge needs from outside, and what travels through these ports."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.origin import CallTerms
from services.edge.core.voices import CHAT_VOICE, Voice

# Dialects: OpenAI's chat completions, OpenAI's responses, Anthropic's messages.
CHAT = "chat"
RESPONSES = "responses"
MESSAGES = "messages"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A decoded request of a dialect. `call` is the adapter's own form of it; nobody else looks inside.

    `echo` is what the dialect's answers repeat of the request, `voice` how its stream sounds.
    """

    model: str
    stream: bool
    include_usage: bool
    call: object
    dialect: str = CHAT
    voice: Voice = CHAT_VOICE
    echo: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """A decoded request for vectors. `call` is the adapter's own; `as_base64` how the vectors are to be written."""

    model: str
    as_base64: bool
    call: object


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A whole answer: its facts and the JSON body."""

    facts: AnswerFacts
    body: bytes


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A name that callers may use. `context_tokens` is 0 when not known; `kind` is "chat" or "embeddings"."""

    name: str
    provider: str
    context_tokens: int
    supports_tools: bool
    cooling_down: bool
    kind: str = ""


class Door(Protocol):
    """Who may send a body."""

    async def admit(self, credential: str) -> None:
        """Raises CallFailed for a credential that nobody has, as the mesh would."""
        ...


class Chat(Protocol):
    """Answers of models, from wire bytes to wire bytes, in the dialect of the request."""

    async def read(self, body: bytes, dialect: str = CHAT) -> ChatRequest:
        """Decodes a request body. Raises InvalidRequest, which names the parameter."""
        ...

    async def complete(self, request: ChatRequest, terms: CallTerms, created_s: int) -> ChatAnswer:
        """One answer. `created_s` is Unix time. Raises CallFailed. Cancelling it cancels the call."""
        ...

    def stream(
        self, request: ChatRequest, terms: CallTerms, created_s: int
    ) -> AsyncGenerator[AnswerFacts | bytes, None]:
        """The facts first, then SSE frames, without the voice's own. Raises CallFailed. Closing it ends the call."""
        ...


class Embeddings(Protocol):
    """Vectors, from wire bytes to wire bytes."""

    async def read(self, body: bytes) -> EmbeddingsRequest:
        """Decodes a request body. Raises InvalidRequest, which names the parameter."""
        ...

    async def embed(self, request: EmbeddingsRequest, terms: CallTerms) -> ChatAnswer:
        """All vectors. Raises CallFailed. Cancelling it cancels the call."""
        ...


class Models(Protocol):
    """The names that a caller may use."""

    async def list(self, terms: CallTerms) -> Sequence[ListedModel]:
        """By name, at most 10,000. Raises CallFailed."""
        ...


class Probes(Protocol):
    """The state of this process."""

    async def readiness(self) -> Mapping[str, str]:
        """Failing checks and why; empty means ready."""
        ...

    async def metrics(self) -> bytes:
        """The Prometheus text format."""
        ...


class Observer(Protocol):
    """What is counted about requests."""

    def answered(self, route: str, http_status: int, duration_s: float) -> None:
        """A request ended with this status; 499 when the client left."""
        ...

    def first_event(self, duration_s: float) -> None:
        """A stream's first event came."""
        ...

    def stream_failed(self, reason: str) -> None:
        """A stream broke off after its first byte."""
        ...


class EventSink(Protocol):
    """The client's side of a stream."""

    @property
    def opened(self) -> bool:
        """Whether status and headers are sent."""
        ...

    async def open(self, headers: Mapping[str, str]) -> None:
        """Sends status 200 and headers."""
        ...

    async def write(self, frame: bytes) -> None:
        """Sends a frame; waits while the client reads slowly. Raises SlowReader when it stopped."""
        ...

    async def offer(self, frame: bytes) -> None:
        """Sends a frame unless the client is behind; never waits."""
        ...
