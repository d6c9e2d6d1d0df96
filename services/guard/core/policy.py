"""Policies as data: what each detector group does about what it finds. The words are those of mesh.yaml."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from services.guard.core.findings import Action
from services.guard.core.pii import KINDS

_ANY = frozenset(action.name.lower() for action in Action)
_NO_MASK = _ANY - {"mask"}
_ON_ERROR = frozenset(("allow", "block"))
_KIND = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
MIN_STREAM_WINDOW_BYTES = 256
MAX_PATTERN_CHARS = 4096


@dataclass(frozen=True, slots=True)
class SizeRules:
    """Limits of what is read. Characters are Unicode code points. Beyond a limit nothing else is scanned."""

    action: str = "block"
    max_messages: int = 1024
    max_message_chars: int = 1_000_000
    max_total_chars: int = 2_000_000
    max_output_chars: int = 2_000_000


@dataclass(frozen=True, slots=True)
class InvisibleRules:
    """Characters that readers cannot see: zero-width, bidi controls, Unicode tags."""

    action: str = "review"
    # Share of a message's characters from which the action applies; smuggled text is mostly invisible.
    max_ratio: float = 0.1
    # Messages with fewer invisible characters than this are left alone.
    min_count: int = 8


@dataclass(frozen=True, slots=True)
class LayerRules:
    """Encoded text that is decoded and scanned again. `action` applies when a limit stopped the decoding."""

    action: str = "flag"
    max_depth: int = 3
    max_region_chars: int = 65_536
    max_regions: int = 256


@dataclass(frozen=True, slots=True)
class SecretRules:
    """Credentials. A masked secret is never restored: it appears in no map."""

    input: str = "mask"
    output: str = "mask"
    on_error: str = "block"


@dataclass(frozen=True, slots=True)
class PiiRules:
    """Personal data. On output only values count that the request's map and sources do not hold."""

    input: str = "mask"
    output: str = "mask"
    kinds: tuple[str, ...] = KINDS
    output_kinds: tuple[str, ...] = KINDS
    on_error: str = "block"


@dataclass(frozen=True, slots=True)
class InjectionRules:
    """Injection in user and tool messages and in tool descriptions."""

    patterns: str = "block"
    hints: str = "flag"
    on_error: str = "block"


@dataclass(frozen=True, slots=True)
class JsonSchemaRules:
    """Answers that break the output schema."""

    action: str = "block"
    on_error: str = "block"


@dataclass(frozen=True, slots=True)
class CustomPattern:
    """A pattern of the operator, in RE2 syntax: linear time, no look-around, no back-references."""

    name: str = ""
    pattern: str = ""
    action: str = "flag"
    input: bool = True
    output: bool = True
    # Name of the token that replaces a match; empty means the pattern's name.
    kind: str = ""
    on_error: str = "block"

    @property
    def token_kind(self) -> str:
        """Upper snake, as in "<PROJECT_1>"."""
        return self.kind or self.name.upper().replace("-", "_")


@dataclass(frozen=True, slots=True)
class ClassifierRules:
    """What to do with a classifier head's score."""

    action: str = "flag"
    threshold: float = 0.5
    on_error: str = "allow"


@dataclass(frozen=True, slots=True)
class Policy:
    """One guard policy. A policy without any setting is the shipped "default"."""

    size: SizeRules = field(default_factory=SizeRules)
    invisible: InvisibleRules = field(default_factory=InvisibleRules)
    layers: LayerRules = field(default_factory=LayerRules)
    secrets: SecretRules = field(default_factory=SecretRules)
    pii: PiiRules = field(default_factory=PiiRules)
    injection: InjectionRules = field(default_factory=InjectionRules)
    json_schema: JsonSchemaRules = field(default_factory=JsonSchemaRules)
    custom: tuple[CustomPattern, ...] = ()
    classifiers: dict[str, ClassifierRules] = field(default_factory=dict)
    # Exact values that are never a finding, in any case; "@example.com" allows every address of that domain.
    allow_values: tuple[str, ...] = ()
    # Detector names that are switched off, for example "pii-phone" or "injection-role-reset".
    disabled_detectors: tuple[str, ...] = ()
    # How much of a streamed answer is held back where `custom` has patterns for answers: they may match anything. The
    # built-in detectors need none of it. Counted in code points, so never fewer bytes.
    stream_window_bytes: int = MIN_STREAM_WINDOW_BYTES
    # A streamed answer without any place to cut (one endless word) is cut after this many code points.
    stream_max_hold_chars: int = 16_384

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be right."""
        for name, value, allowed in self._words():
            if value not in allowed:
                yield f'{name} is "{value}"; use one of {", ".join(sorted(allowed))}.'
        for kind in (*self.pii.kinds, *self.pii.output_kinds):
            if kind not in KINDS:
                yield f'pii.kinds names "{kind}"; known kinds are {", ".join(sorted(KINDS))}.'
        for name, number in self._counts():
            if number < 1:
                yield f"{name} is {number}; it must be at least 1."
        if self.stream_window_bytes < MIN_STREAM_WINDOW_BYTES:
            yield f"stream_window_bytes is {self.stream_window_bytes}; it must be at least {MIN_STREAM_WINDOW_BYTES}."
        if not 0 < self.invisible.max_ratio <= 1:
            yield f"invisible.max_ratio is {self.invisible.max_ratio}; it must be above 0 and at most 1."
        yield from self._custom_problems()

    def _words(self) -> Iterator[tuple[str, str, frozenset[str]]]:
        yield "size.action", self.size.action, _NO_MASK
        yield "invisible.action", self.invisible.action, _NO_MASK
        yield "layers.action", self.layers.action, _NO_MASK
        yield "secrets.input", self.secrets.input, _ANY
        yield "secrets.output", self.secrets.output, _ANY
        yield "secrets.on_error", self.secrets.on_error, _ON_ERROR
        yield "pii.input", self.pii.input, _ANY
        yield "pii.output", self.pii.output, _ANY
        yield "pii.on_error", self.pii.on_error, _ON_ERROR
        yield "injection.patterns", self.injection.patterns, _NO_MASK
        yield "injection.hints", self.injection.hints, _NO_MASK
        yield "injection.on_error", self.injection.on_error, _ON_ERROR
        yield "json_schema.action", self.json_schema.action, _NO_MASK
        yield "json_schema.on_error", self.json_schema.on_error, _ON_ERROR
        for name, rules in self.classifiers.items():
            yield f"classifiers.{name}.action", rules.action, _NO_MASK
            yield f"classifiers.{name}.on_error", rules.on_error, _ON_ERROR
        for custom in self.custom:
            yield f"custom.{custom.name}.action", custom.action, _ANY
            yield f"custom.{custom.name}.on_error", custom.on_error, _ON_ERROR

    def _counts(self) -> Iterator[tuple[str, int]]:
        yield "size.max_messages", self.size.max_messages
        yield "size.max_message_chars", self.size.max_message_chars
        yield "size.max_total_chars", self.size.max_total_chars
        yield "size.max_output_chars", self.size.max_output_chars
        yield "layers.max_region_chars", self.layers.max_region_chars
        yield "layers.max_regions", self.layers.max_regions
        yield "stream_max_hold_chars", self.stream_max_hold_chars

    def _custom_problems(self) -> Iterator[str]:
        for custom in self.custom:
            if not _NAME.fullmatch(custom.name):
                yield f'custom has the name "{custom.name}"; use lower case letters, digits and dashes, at most 64.'
            elif not 0 < len(custom.pattern) <= MAX_PATTERN_CHARS:
                yield f"custom.{custom.name}.pattern must have 1 to {MAX_PATTERN_CHARS} characters."
            elif not _KIND.fullmatch(custom.token_kind):
                rule = "use capitals, digits and underscores, at most 40"
                yield f'custom.{custom.name}.kind is "{custom.token_kind}"; {rule}.'

    def digest(self) -> str:
        """SHA-256 of the policy as canonical JSON: sorted keys, no spaces."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


DEFAULT = Policy()
# For regulated traffic: nothing doubtful passes, and a secret is the caller's mistake to repair.
STRICT = replace(
    DEFAULT,
    invisible=InvisibleRules(action="block", max_ratio=0.02),
    layers=LayerRules(action="block"),
    secrets=SecretRules(input="block", output="block"),
    injection=InjectionRules(patterns="block", hints="review"),
)
# For a trial on live traffic: everything is reported, nothing is changed or stopped but what exceeds the size limits.
AUDIT = replace(
    DEFAULT,
    invisible=InvisibleRules(action="flag"),
    secrets=SecretRules(input="flag", output="flag", on_error="allow"),
    pii=PiiRules(input="flag", output="flag", on_error="allow"),
    injection=InjectionRules(patterns="flag", hints="flag", on_error="allow"),
    json_schema=JsonSchemaRules(action="flag", on_error="allow"),
)
SHIPPED: Mapping[str, Policy] = {"default": DEFAULT, "strict": STRICT, "audit": AUDIT}
