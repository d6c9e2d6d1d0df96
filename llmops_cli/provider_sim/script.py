"""The scripts a simulated provider follows: rules, their delays and faults, and which rule a call gets."""

from __future__ import annotations

import fnmatch
import random
import re
from pathlib import Path
from typing import Final, Literal

import msgspec
import yaml

MAX_OUTPUT_TOKENS: Final = 1_000_000
MAX_DIMENSIONS: Final = 16_384
MAX_FAULT_BYTES: Final = 1 << 30
MAX_DELAY_MS: Final = 600_000.0


class ScriptError(ValueError):
    """A script that cannot be followed; the message names the field and what it must be."""


class Distribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A random delay in milliseconds; exactly one field is set.

    Samples are cut to [0, MAX_DELAY_MS]. `lognormal` takes the median in milliseconds and sigma, the
    shape that measured provider latencies have.
    """

    uniform: tuple[float, float] | None = None
    normal: tuple[float, float] | None = None
    lognormal: tuple[float, float] | None = None
    exponential: float | None = None

    def __post_init__(self) -> None:
        """Refuse a distribution that names no shape or two."""
        shapes = (self.uniform, self.normal, self.lognormal, self.exponential)
        if sum(shape is not None for shape in shapes) != 1:
            raise ScriptError("a delay has exactly one of uniform, normal, lognormal, exponential")

    def sample(self, rng: random.Random) -> float:
        """One delay in milliseconds."""
        if self.uniform is not None:
            value = rng.uniform(*self.uniform)
        elif self.normal is not None:
            value = rng.normalvariate(*self.normal)
        elif self.lognormal is not None:
            median, sigma = self.lognormal
            value = median * rng.lognormvariate(0.0, sigma)
        else:
            assert self.exponential is not None
            value = rng.expovariate(1.0 / self.exponential) if self.exponential else 0.0
        return min(max(value, 0.0), MAX_DELAY_MS)


Delay = float | Distribution


class ScriptedToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call that the simulated model makes; `arguments` is the JSON text the client receives."""

    name: str
    arguments: str = "{}"


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to the calls that match.

    Matching: `model` and `path` are shell patterns; calls that match both are counted per rule from 1, and
    the rule applies to every `every`-th of those from `first_call` to `last_call`.

    Time: headers leave after `latency_ms`; the first chunk `first_token_ms` later, the next ones
    `token_interval_ms` apart. A unary answer waits for the same generation and then leaves at once.

    Content: the first that is set of `echo` (the last user message), `text`, `tool_calls`; otherwise what the
    request asks for (a forced tool, a response_format) and else `output_tokens` words. One word is one token.
    `chunks` spreads the tokens over that many events (default: one token each). `input_tokens` replaces the
    estimate of four characters a token. `dimensions` is the length of a vector where the request names none.

    Faults: `*_after_chunks` count content events; on a unary answer they mean "after the headers and half
    the body". `cancel_billing` is what a client that leaves still pays for: what was `generated` until the
    provider noticed, the `full` answer, or `none`.
    """

    model: str = "*"
    path: str = "*"
    first_call: int = 1
    last_call: int | None = None
    every: int = 1

    latency_ms: Delay = 0.0
    first_token_ms: Delay = 0.0
    token_interval_ms: Delay = 0.0

    echo: bool = False
    text: str | None = None
    tool_calls: tuple[ScriptedToolCall, ...] = ()
    output_tokens: int = 16
    chunks: int | None = None
    input_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    dimensions: int = 1536

    status: int = 200
    error_message: str = "The simulated provider was told to fail."
    headers: dict[str, str] = {}
    content_type: str | None = None
    hang_before_headers: bool = False
    cut_before_headers: bool = False
    hang_after_chunks: int | None = None
    cut_after_chunks: int | None = None
    cut_with: Literal["close", "reset"] = "close"
    error_after_chunks: int | None = None
    malformed: Literal["truncated", "invalid_utf8"] | None = None
    omit_done: bool = False
    omit_usage: bool = False
    crlf_lines: bool = False
    comments: bool = False
    one_byte_packets: bool = False
    huge_line_bytes: int = 0
    gzip_bomb_bytes: int = 0
    cancel_billing: Literal["generated", "full", "none"] = "generated"

    def __post_init__(self) -> None:
        """Check the ranges that the types do not state."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ScriptError(f"{name} must be between {low} and {high}, not {value}")
        for name in _DELAYS:
            delay = getattr(self, name)
            if not isinstance(delay, Distribution) and not 0 <= delay <= MAX_DELAY_MS:
                raise ScriptError(f"{name} must be between 0 and {MAX_DELAY_MS:.0f} ms, not {delay}")


_DELAYS: Final = ("latency_ms", "first_token_ms", "token_interval_ms")
_RANGES: Final = (
    ("first_call", 1, 1 << 53),
    ("last_call", 1, 1 << 53),
    ("every", 1, 1 << 53),
    ("output_tokens", 0, MAX_OUTPUT_TOKENS),
    ("chunks", 1, MAX_OUTPUT_TOKENS),
    ("input_tokens", 0, 1 << 53),
    ("cached_tokens", 0, 1 << 53),
    ("reasoning_tokens", 0, MAX_OUTPUT_TOKENS),
    ("dimensions", 1, MAX_DIMENSIONS),
    ("status", 200, 599),
    ("hang_after_chunks", 0, MAX_OUTPUT_TOKENS),
    ("cut_after_chunks", 0, MAX_OUTPUT_TOKENS),
    ("error_after_chunks", 0, MAX_OUTPUT_TOKENS),
    ("huge_line_bytes", 0, MAX_FAULT_BYTES),
    ("gzip_bomb_bytes", 0, MAX_FAULT_BYTES),
)
# Fields that leave a unary answer's bytes and timing alone when they have their default.
_CONTENT_FIELDS: Final = frozenset(
    {"echo", "text", "tool_calls", "output_tokens", "chunks", "input_tokens", "cached_tokens", "reasoning_tokens"}
    | {"dimensions"}
)
_MATCH_FIELDS: Final = frozenset({"model", "path", "first_call", "last_call", "every"})
_STREAM_ONLY_FIELDS: Final = frozenset({"omit_done", "crlf_lines", "comments", "cancel_billing", "cut_with"})


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An ordered list of rules; the first that matches a call applies, a plain answer where none does."""

    seed: int = 0
    models: tuple[str, ...] = ("sim",)
    rules: tuple[Rule, ...] = ()

    @classmethod
    def from_json(cls, text: bytes) -> Script:
        """Parse a script; ScriptError names the field that is wrong."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise ScriptError(f"the script cannot be read: {error}") from error

    @classmethod
    def from_mapping(cls, raw: object) -> Script:
        """Build a script from plain data, such as parsed YAML; ScriptError names the field that is wrong."""
        try:
            return msgspec.convert(raw, type=cls)
        except msgspec.ValidationError as error:
            raise ScriptError(f"the script cannot be read: {error}") from error

    @classmethod
    def load(cls, path: Path) -> Script:
        """Read a JSON or YAML file; OSError when it cannot be read, ScriptError when it is no script."""
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError) as error:
            raise ScriptError(f"{path.name} is neither JSON nor YAML: {error}") from error
        return cls.from_mapping({} if raw is None else raw)


def is_instant(rule: Rule) -> bool:
    """Whether a unary answer of this rule leaves at once and unharmed, so that it needs no task."""
    default = Rule()
    return all(
        getattr(rule, name) == getattr(default, name)
        for name in Rule.__struct_fields__
        if name not in _CONTENT_FIELDS | _MATCH_FIELDS | _STREAM_ONLY_FIELDS
    )


class Selected(msgspec.Struct, frozen=True):
    """The rule of one call; `call` is its number among the rule's matches and seeds the random delays."""

    rule: Rule
    instant: bool
    seed: str

    def rng(self) -> random.Random:
        """A generator that depends on seed, rule and call number only, never on how calls interleave."""
        return random.Random(self.seed)  # noqa: S311 (reproducible on purpose)


class _Candidate:
    """A rule with its compiled patterns and the number of calls that matched it so far."""

    def __init__(self, index: int, rule: Rule) -> None:
        self.rule = rule
        self.instant = is_instant(rule)
        self.index = index
        self.calls = 0
        self._model = _pattern(rule.model)
        self._path = _pattern(rule.path)

    def takes(self, model: str, path: str) -> bool:
        """Count the call if the patterns match; True when the rule applies to it."""
        if self._model is not None and not self._model.match(model):
            return False
        if self._path is not None and not self._path.match(path):
            return False
        self.calls += 1
        rule = self.rule
        if self.calls < rule.first_call or (rule.last_call is not None and self.calls > rule.last_call):
            return False
        return (self.calls - rule.first_call) % rule.every == 0


class Matcher:
    """Chooses the rule of each call and counts calls per rule; a new script starts from zero."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._candidates = tuple(_Candidate(index, rule) for index, rule in enumerate(script.rules))

    def select(self, model: str, path: str) -> Selected | None:
        """The first rule that applies, or None."""
        for candidate in self._candidates:
            if candidate.takes(model, path):
                seed = f"{self.script.seed}:{candidate.index}:{candidate.calls}"
                return Selected(candidate.rule, candidate.instant, seed)
        return None


def _pattern(text: str) -> re.Pattern[str] | None:
    return None if text == "*" else re.compile(fnmatch.translate(text))


def sample_ms(delay: Delay, rng: random.Random | None) -> float:
    """The delay in milliseconds; `rng` is needed only for a distribution."""
    if isinstance(delay, Distribution):
        assert rng is not None
        return delay.sample(rng)
    return delay
