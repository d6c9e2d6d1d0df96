"""Rules written as a model name or a header, so that a test needs no admin call.

A model `sim-DIRECTIVE` or `sim-DIRECTIVE+DIRECTIVE…` behaves as the directives say, for example
`sim-429-retry-7` or `sim-tokens-100+interval-10+cut-after-3`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from llmops_cli.provider_sim.script import Rule, ScriptError

MODEL_PREFIX: Final = "sim-"
_HUGE_LINE_BYTES: Final = 8 << 20
_GZIP_BOMB_BYTES: Final = 64 << 20

_Fields = dict[str, Any]
_DIRECTIVES: Final[tuple[tuple[str, str, Callable[[re.Match[str]], _Fields]], ...]] = (
    ("STATUS", r"([2-5]\d\d)", lambda m: {"status": int(m[1])}),
    ("STATUS-retry-SECONDS", r"([45]\d\d)-retry-(\d+)", lambda m: {"status": int(m[1]), "headers": _retry_after(m[2])}),
    ("latency-MS", r"latency-(\d+)", lambda m: {"latency_ms": float(m[1])}),
    ("first-MS", r"first-(\d+)", lambda m: {"first_token_ms": float(m[1])}),
    ("interval-MS", r"interval-(\d+)", lambda m: {"token_interval_ms": float(m[1])}),
    ("tokens-N", r"tokens-(\d+)", lambda m: {"output_tokens": int(m[1])}),
    ("chunks-N", r"chunks-(\d+)", lambda m: {"chunks": int(m[1])}),
    ("echo", r"echo", lambda _: {"echo": True}),
    ("hang", r"hang", lambda _: {"hang_before_headers": True}),
    ("hang-after-N", r"hang-after-(\d+)", lambda m: {"hang_after_chunks": int(m[1])}),
    ("cut", r"cut", lambda _: {"cut_before_headers": True}),
    ("cut-after-N", r"cut-after-(\d+)", lambda m: {"cut_after_chunks": int(m[1])}),
    ("reset", r"reset", lambda _: {"cut_before_headers": True, "cut_with": "reset"}),
    ("reset-after-N", r"reset-after-(\d+)", lambda m: {"cut_after_chunks": int(m[1]), "cut_with": "reset"}),
    ("error-after-N", r"error-after-(\d+)", lambda m: {"error_after_chunks": int(m[1])}),
    ("malformed", r"malformed", lambda _: {"malformed": "truncated"}),
    ("bad-utf8", r"bad-utf8", lambda _: {"malformed": "invalid_utf8"}),
    ("no-done", r"no-done", lambda _: {"omit_done": True}),
    ("no-usage", r"no-usage", lambda _: {"omit_usage": True}),
    ("wrong-type", r"wrong-type", lambda _: {"content_type": "text/html; charset=utf-8"}),
    ("crlf", r"crlf", lambda _: {"crlf_lines": True}),
    ("comments", r"comments", lambda _: {"comments": True}),
    ("one-byte", r"one-byte", lambda _: {"one_byte_packets": True}),
    ("huge-line", r"huge-line", lambda _: {"huge_line_bytes": _HUGE_LINE_BYTES}),
    ("gzip-bomb", r"gzip-bomb", lambda _: {"gzip_bomb_bytes": _GZIP_BOMB_BYTES}),
)
DIRECTIVES: Final = tuple(name for name, _, _ in _DIRECTIVES)


def _retry_after(seconds: str) -> dict[str, str]:
    return {"Retry-After": seconds}


@lru_cache(maxsize=1024)
def from_directives(text: str) -> Rule | None:
    """The rule of `DIRECTIVE+DIRECTIVE…`, or None when a directive is unknown."""
    fields: _Fields = {}
    for directive in text.split("+"):
        for _, pattern, build in _DIRECTIVES:
            match = re.fullmatch(pattern, directive)
            if match:
                fields.update(build(match))
                break
        else:
            return None
    return Rule(**fields)


def from_model(model: str) -> Rule | None:
    """The rule that a model name spells, or None for any other name."""
    return from_directives(model.removeprefix(MODEL_PREFIX)) if model.startswith(MODEL_PREFIX) else None


@lru_cache(maxsize=1024)
def from_header(value: str) -> Rule:
    """The rule of an `x-sim-script` header: one rule as JSON, or directives; ScriptError for anything else."""
    if value.startswith("{"):
        try:
            return msgspec.json.decode(value, type=Rule)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise ScriptError(f"x-sim-script cannot be read: {error}") from error
    rule = from_directives(value)
    if rule is None:
        raise ScriptError(f"x-sim-script is a rule as JSON or directives joined by '+': {', '.join(DIRECTIVES)}")
    return rule
