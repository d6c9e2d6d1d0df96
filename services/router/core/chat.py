"""Conversations and answers in no vendor's dialect: the router's own words for the messages of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from services.router.core.facts import NOBODY, Origin

Role = Literal["system", "developer", "user", "assistant", "tool"]


class FinishReason(Enum):
    """Why an answer ended."""

    UNKNOWN = "unknown"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text inside a message of several parts."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image: an https address that the provider fetches, or a data: URL."""

    url: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool; on streams a fragment of one, joined by `index`."""

    id: str = ""
    name: str = ""
    arguments_json: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `parts` replaces `content` where both could be meant."""

    role: Role
    content: str = ""
    parts: tuple[TextPart | ImagePart, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    def text(self) -> str:
        """The message's text; the text parts of a message of several parts joined by a newline."""
        if not self.parts:
            return self.content
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool that the model may call. `parameters_json_schema` is JSON text, empty for no arguments."""

    name: str
    description: str = ""
    parameters_json_schema: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tool: a mode ("auto", "none", "required"), or the one tool named."""

    mode: str = ""
    tool_name: str = ""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form of the answer: "", "text", "json_object" or "json_schema"."""

    type: str = ""
    schema_name: str = ""
    json_schema: str = ""
    strict: bool | None = None

    @property
    def structured(self) -> bool:
        """Whether the answer must be JSON."""
        return self.type in {"json_object", "json_schema"}


# Shared by all calls that leave them open: a call is built on every request.
_ANY_FORM = ResponseFormat()
_ANY_CHOICE = ToolChoice()


@dataclass(frozen=True, slots=True)
class Parameters:
    """How to generate; None and empty mean the provider's default."""

    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: ResponseFormat = _ANY_FORM
    tool_choice: ToolChoice = _ANY_CHOICE
    parallel_tool_calls: bool | None = None
    reasoning_effort: str = ""
    extra_json: str = ""


_PROVIDERS_OWN = Parameters()


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A conversation for a model. `model` names a route or a model; empty is the default route.

    `model_names` are the only models that may answer; empty allows every model of the route. `origin` is for choosing
    among them and goes to no provider.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    parameters: Parameters = _PROVIDERS_OWN
    model_names: tuple[str, ...] = ()
    origin: Origin = NOBODY


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one try. Cached, cache-write and reasoning tokens are parts of input and output, not beside them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_input_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """A pointer into the conversation: `start_char` and `end_char` count Unicode code points of `Message.text()`."""

    index: int
    message_index: int
    start_char: int
    end_char: int
    quote: str


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer as a whole."""

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = FinishReason.UNKNOWN
    refusal: str = ""
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of an answer; pieces join by concatenation."""

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str = ""
    citations: tuple[Citation, ...] = ()
