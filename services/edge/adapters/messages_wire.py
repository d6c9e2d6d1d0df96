"""Anthropic's messages request on the wire: typed, closed structs.

`cache_control` is a hint to providers, accepted wherever Anthropic's clients put it, and ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from services.edge.adapters.decoding import Wire
from services.edge.adapters.wire import Extension, Int32
from services.edge.core.messages_parameters import HINTS, IGNORED, PASSED, REFUSED

# What older clients and replayed answers leave in: nothing, or an empty list.
_Nothing = Annotated[list[Any], Meta(max_length=0)] | None


class DirectCaller(Struct, forbid_unknown_fields=True, gc=False):
    """A tool that the model called itself: the only way there is here."""

    type: Literal["direct"]


class TextBlock(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="text"):
    """Text."""

    text: str
    cache_control: Any = None
    citations: _Nothing = None


class Base64Source(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="base64"):
    """An image in the request."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="url"):
    """An image that the provider fetches."""

    url: str


class ImageBlock(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="image"):
    """An image."""

    source: Base64Source | UrlSource
    cache_control: Any = None
    transformations: _Nothing = None


class ToolUseBlock(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="tool_use"):
    """A call of a tool in an assistant message; `input` is a JSON object."""

    id: str
    name: str
    input: dict[str, Raw]
    cache_control: Any = None
    caller: DirectCaller | None = None
    toolset_name: None = None


class ToolResultBlock(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="tool_result"):
    """What a tool returned."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock] | None = None
    is_error: bool | None = None
    cache_control: Any = None
    toolset_name: None = None


Block = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock


class Message(Struct, forbid_unknown_fields=True, gc=False):
    """A turn, or instructions between turns."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(Struct, forbid_unknown_fields=True, gc=False):
    """A tool of the caller. `eager_input_streaming` is a hint on speed, and ignored."""

    name: str
    input_schema: Raw
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: Any = None
    eager_input_streaming: bool | None = None
    defer_loading: Literal[False] | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    input_examples: _Nothing = None


class ToolChoice(Struct, forbid_unknown_fields=True, gc=False):
    """Which tool may or must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Metadata(Struct, forbid_unknown_fields=True, gc=False):
    """Who asks."""

    user_id: str | None = None


class OutputFormat(Struct, forbid_unknown_fields=True, gc=False):
    """The form of the answer."""

    schema: Raw
    type: Literal["json_schema"]


class OutputConfig(Struct, forbid_unknown_fields=True, gc=False):
    """How to answer."""

    effort: str | None = None
    format: OutputFormat | None = None


class MessagesBody(Struct, forbid_unknown_fields=True, gc=False):
    """The parameters that are mapped: `core.messages_parameters.MAPPED`."""

    max_tokens: Int32
    messages: list[Message]
    model: str | None = None
    system: str | list[TextBlock] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    # Anthropic's scale ends at 1; the contract's, like OpenAI's, at 2.
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: float | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None
    llmops: Extension | None = None


BODY = Wire(MessagesBody, REFUSED, PASSED, IGNORED, HINTS)
