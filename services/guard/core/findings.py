"""What detectors report and what a policy makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class Action(IntEnum):
    """From mildest to hardest; the numbers are those of llmops.common.v1.GuardDecision."""

    ALLOW = 1
    FLAG = 2
    MASK = 3
    REVIEW = 4
    BLOCK = 5

    @classmethod
    def parse(cls, name: str) -> Action:
        """The action of a configuration word. Raises KeyError for any other word."""
        return cls[name.upper()]


class Group(Enum):
    """Detector groups, in the order in which overlapping matches win."""

    SECRET = "secret"  # noqa: S105 - a category
    PII = "pii"
    CUSTOM = "custom"
    INJECTION = "injection"
    INJECTION_HINT = "injection-hint"


@dataclass(frozen=True, slots=True)
class Match:
    """One hit of a detector in one text, in code points of the original text.

    `kind` names the token that replaces it. A match in a decoded layer spans the whole encoded region and names the
    layer.
    """

    group: Group
    detector: str
    kind: str
    start: int
    end: int
    layer: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A remark of the verdict. Never carries content."""

    detector: str
    category: str
    action: Action
    message_index: int = -1
    start: int = 0
    end: int = 0
    layer: str = ""
    score: float = 1.0
    threshold: float = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The guard's answer: the hardest action among the findings."""

    decision: Action
    findings: tuple[Finding, ...]
    policy: str
    policy_digest: str
    degraded: bool = False
    normalisations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MaskedValue:
    """A value that was replaced, and the token that stands for it. `value` is content: never logged."""

    token: str
    value: str
    kind: str

    def __repr__(self) -> str:
        return f"MaskedValue(token={self.token!r}, kind={self.kind!r})"


@dataclass(frozen=True, slots=True)
class SchemaViolation:
    """A broken rule of an output schema: a JSON pointer and a keyword, never content."""

    pointer: str
    rule: str


CATEGORY = {
    Group.SECRET: "secret",
    Group.PII: "pii",
    Group.CUSTOM: "custom",
    Group.INJECTION: "prompt-injection",
    Group.INJECTION_HINT: "prompt-injection",
}
