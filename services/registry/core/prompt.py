"""What a prompt is: versions, messages, variables, parameters, arms."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

MAX_COMPONENT = 999_999
BASIS_POINTS = 10_000
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version "major.minor", ordered as numbers."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """Reads "2.1"; None for anything else, leading zeros included: a version has one spelling."""
        match = _VERSION.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class VariableType(StrEnum):
    """How a value, given as text, must read."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Message:
    """A message with holes."""

    role: Role
    template: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the templates; `default` is set unless it is required. `max_chars` 0 means 1,000,000."""

    name: str
    type: VariableType = VariableType.STRING
    required: bool = True
    default: str = ""
    max_chars: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form of the answer as a provider is asked for it."""

    type: str = ""
    schema_name: str = ""
    json_schema: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tool the model may or must use."""

    mode: str = ""
    tool_name: str = ""


@dataclass(frozen=True, slots=True)
class Parameters:
    """How to generate; None and empty leave it to the provider."""

    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: ResponseFormat | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str = ""
    extra_json: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The content of one version. `output_json_schema` is JSON text, empty for free text."""

    name: str
    messages: tuple[Message, ...]
    variables: tuple[Variable, ...] = ()
    output_json_schema: str = ""
    model: str = ""
    parameters: Parameters = field(default_factory=Parameters)
    guard_policy: str = ""
    author: str = ""
    description: str = ""
    author_date: str = ""


@dataclass(frozen=True, slots=True)
class PublishedPrompt:
    """An immutable version. `size_bytes` is what it takes in storage and, nearly, on the wire."""

    prompt: Prompt
    version: Version
    digest: str
    create_time: datetime
    size_bytes: int

    @property
    def name(self) -> str:
        """Name of the prompt."""
        return self.prompt.name

    @property
    def label(self) -> str:
        """How people and references write it: "summarize/v1.0"."""
        return f"{self.name}/v{self.version}"


@dataclass(frozen=True, slots=True)
class Arm:
    """A share of an environment's traffic, in basis points."""

    name: str
    version: Version
    weight_basis_points: int


@dataclass(frozen=True, slots=True)
class Pointer:
    """What an environment serves for a prompt; the arms sum to 10,000.

    `file_arms` is what registry.yaml said when it was last applied, empty when it never was. A file that still says
    the same changes nothing: a rollback made through the API survives a restart.
    """

    prompt_name: str
    environment: str
    arms: tuple[Arm, ...]
    file_arms: tuple[Arm, ...] = ()


def whole(version: Version) -> tuple[Arm, ...]:
    """The ordinary case: one arm with all of the traffic."""
    return (Arm("active", version, BASIS_POINTS),)
