"""Memory twins of the guard's ports: the reference for the contract suite, and what tests and trials run on."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.guard.core.errors import InvalidPatternError, InvalidRequestError
from services.guard.core.findings import SchemaViolation, Verdict
from services.guard.core.ports import CompiledPattern, CompiledSchema, HeadScore
from services.guard.core.schema_cost import SchemaCost, SchemaLimits

P = ParamSpec("P")
T = TypeVar("T")

_DIMENSIONS = 384
_MAX_WORDS = 254


class MemoryPatternEngine:
    """PatternEngine on the standard library: same answers, without the promise of linear time."""

    def compile(self, pattern: str) -> CompiledPattern:
        """See PatternEngine. Refuses what RE2 does not have."""
        if re.search(r"\(\?<?[=!]|\\[1-9]", pattern):
            raise InvalidPatternError("look-around and back-references are not supported")
        try:
            return _MemoryPattern(re.compile(pattern))
        except re.error as error:
            raise InvalidPatternError(str(error)) from error


class _MemoryPattern:
    def __init__(self, compiled: re.Pattern[str]) -> None:
        self._compiled = compiled

    def spans(self, text: str, start: int) -> Iterator[tuple[int, int]]:
        """See CompiledPattern."""
        return (found.span() for found in self._compiled.finditer(text, start) if found.end() > found.start())


class MemorySchemaCompiler:
    """SchemaCompiler for the keywords type, enum, required, properties, additionalProperties (false) and items."""

    def compile(self, json_schema: str) -> CompiledSchema:
        """See SchemaCompiler."""
        try:
            schema = json.loads(json_schema)
        except json.JSONDecodeError as error:
            raise InvalidRequestError(
                "json_schema", f"is not JSON (line {error.lineno}, column {error.colno})"
            ) from error
        if not isinstance(schema, dict):
            raise InvalidRequestError("json_schema", "must be a JSON object")
        if not str(schema.get("$ref", "#")).startswith("#") or schema.get("type", "object") not in _TYPES:
            raise InvalidRequestError("json_schema", "is not a valid JSON Schema, or refers to another document")
        return _MemorySchema(schema)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


class _MemorySchema:
    def __init__(self, schema: Mapping[str, object]) -> None:
        self._schema = schema
        self._cost = SchemaCost(schema)

    def violations(self, text: str, limit: int) -> tuple[SchemaViolation, ...]:
        """See CompiledSchema."""
        try:
            document = json.loads(text, parse_constant=_no_constant)
        except (json.JSONDecodeError, RecursionError):
            return (SchemaViolation("", "json"),)
        self._cost.check(document, SchemaLimits())
        return tuple(_broken_rules(self._schema, document, ""))[:limit]

    def evaluations(self, text: str) -> int:
        """See CompiledSchema."""
        try:
            return self._cost.evaluations(json.loads(text, parse_constant=_no_constant), SchemaLimits())
        except (json.JSONDecodeError, RecursionError):
            return 0


def _no_constant(name: str) -> object:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def _broken_rules(schema: Mapping[str, object], value: object, pointer: str) -> Iterator[SchemaViolation]:
    expected = schema.get("type")
    if isinstance(expected, str) and (
        not isinstance(value, _TYPES[expected]) or (isinstance(value, bool) and expected != "boolean")
    ):
        yield SchemaViolation(pointer, "type")
        return
    options = schema.get("enum")
    if isinstance(options, list) and value not in options:
        yield SchemaViolation(pointer, "enum")
    if isinstance(value, dict):
        yield from _broken_members(schema, value, pointer)
    items = schema.get("items")
    if isinstance(value, list) and isinstance(items, dict):
        for index, item in enumerate(value):
            yield from _broken_rules(items, item, f"{pointer}/{index}")


def _broken_members(
    schema: Mapping[str, object], value: Mapping[str, object], pointer: str
) -> Iterator[SchemaViolation]:
    properties = schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if name not in value:
            yield SchemaViolation(pointer, "required")
    if schema.get("additionalProperties") is False and set(value) - set(known):
        yield SchemaViolation(pointer, "additionalProperties")
    for name, inner in known.items():
        if name in value:
            escaped = name.replace("~", "~0").replace("/", "~1")
            yield from _broken_rules(inner, value[name], f"{pointer}/{escaped}")


class InlineExecutor:
    """CpuExecutor that runs the work at once, in the caller's thread."""

    async def run(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """See CpuExecutor."""
        return function(*arguments, **options)


@dataclass(frozen=True, slots=True, eq=False)
class MemoryEncodedText:
    """An EncodedText."""

    vector: NDArray[np.float32]
    token_count: int
    truncated: bool


class MemoryEncoder:
    """Encoder that hashes words into 384 buckets: equal texts are equal points, and nothing more."""

    model = "memory@crc32"

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def encode(self, text: str) -> MemoryEncodedText:
        """See Encoder."""
        self.texts.append(text)
        vector = np.zeros(_DIMENSIONS, dtype=np.float32)
        vector[0] = 1.0
        words = text.lower().split()
        for word in words[:_MAX_WORDS]:
            vector[zlib.crc32(word.encode()) % _DIMENSIONS] += 1.0
        norm = np.float32(np.linalg.norm(vector))
        return MemoryEncodedText(vector / norm, min(len(words), _MAX_WORDS), len(words) > _MAX_WORDS)

    async def encode_many(self, texts: Sequence[str]) -> list[MemoryEncodedText]:
        """See Encoder."""
        return [await self.encode(text) for text in texts]

    def count_tokens(self, text: str) -> int:
        """See Encoder: words."""
        return len(text.split())


@dataclass(slots=True)
class WordClassifier:
    """Classifier whose one head is the share of windows that hold a word."""

    name: str
    word: str
    seen: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """See Classifier."""
        return (self.name,)

    def score(self, windows: Sequence[str], embedding: NDArray[np.float32] | None) -> list[HeadScore]:
        """See Classifier."""
        self.seen += windows
        hits = sum(self.word in window for window in windows)
        return [HeadScore(self.name, "test", hits / max(1, len(windows)))]


@dataclass(slots=True)
class MemoryObserver:
    """Observer that remembers."""

    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def decided(self, direction: str, verdict: Verdict) -> None:
        """See Observer."""
        self.verdicts.append((direction, verdict))

    def detector_failed(self, detector: str, error: BaseException) -> None:
        """See Observer."""
        self.failures.append((detector, type(error).__name__))
