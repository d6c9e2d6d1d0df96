"""What the guard needs from outside, and the one seam for classifier heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.guard.core.findings import SchemaViolation, Verdict

P = ParamSpec("P")
T = TypeVar("T")


class CompiledPattern(Protocol):
    """A custom pattern, ready to search in linear time."""

    def spans(self, text: str, start: int) -> Iterable[tuple[int, int]]:
        """Non-empty, non-overlapping matches from `start` on, in code points; what stands before `start` is context."""


class PatternEngine(Protocol):
    """Compiles custom patterns."""

    def compile(self, pattern: str) -> CompiledPattern:
        """Raises InvalidPatternError when the pattern is not valid."""


class CompiledSchema(Protocol):
    """An output schema, ready to validate."""

    def violations(self, text: str, limit: int) -> tuple[SchemaViolation, ...]:
        """Broken rules of a text that should be JSON, at most `limit`; rule "json" when it is not JSON.

        Raises SchemaCostError, before validating, when that could take too long.
        """

    def evaluations(self, text: str) -> int:
        """An upper bound of the schema evaluations that `violations` needs; 0 when the text is not JSON.

        Raises SchemaCostError when the text is nested too deeply.
        """


class SchemaCompiler(Protocol):
    """Compiles JSON Schemas. Fetches nothing."""

    def compile(self, json_schema: str) -> CompiledSchema:
        """Raises InvalidRequestError (field json_schema) when the text is not a usable schema."""


class EncodedText(Protocol):
    """One text as a vector."""

    @property
    def vector(self) -> NDArray[np.float32]:
        """float32, one dimension, L2 norm 1."""

    @property
    def token_count(self) -> int:
        """Tokens that the vector stands for."""

    @property
    def truncated(self) -> bool:
        """Whether the text was longer than the encoder reads."""


class Encoder(Protocol):
    """The sentence encoder that the process shares."""

    @property
    def model(self) -> str:
        """Model and digest."""

    async def encode(self, text: str) -> EncodedText:
        """One text."""

    async def encode_many(self, texts: Sequence[str]) -> Sequence[EncodedText]:
        """Several texts, each on its own."""

    def count_tokens(self, text: str) -> int:
        """Tokens without truncation. A line break divides tokens: the count of lines is the sum of their counts."""


@dataclass(frozen=True, slots=True)
class HeadScore:
    """A classifier head's score. `name` is the key of the policy's `classifiers`; score 0 to 1."""

    name: str
    category: str
    score: float


class Classifier(Protocol):
    """The seam for model heads: normalised windows of untrusted text, and the last user message's embedding."""

    @property
    def names(self) -> tuple[str, ...]:
        """Heads that it scores."""

    def score(self, windows: Sequence[str], embedding: NDArray[np.float32] | None) -> Sequence[HeadScore]:
        """The highest score of each head over the windows. Runs in the executor; may raise."""


class CpuExecutor(Protocol):
    """Runs CPU work off the event loop, bounded."""

    async def run(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """The function's result; raises when the queue is full."""


class Observer(Protocol):
    """Hears what was decided. Never given content."""

    def decided(self, direction: str, verdict: Verdict) -> None:
        """`direction` is "input" or "output"."""

    def detector_failed(self, detector: str, error: BaseException) -> None:
        """A detector raised; the policy's on_error has been applied."""
