"""OpenAI's responses request on the wire: typed, closed structs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from services.edge.adapters.decoding import Wire
from services.edge.adapters.wire import Extension, Int32
from services.edge.core.responses_parameters import HINTS, IGNORED, PASSED, REFUSED

_Nothing = Annotated[list[Any], Meta(max_length=0)] | None
# What answers say of themselves, and clients leave in when they send them back.
_Status = Literal["in_progress", "completed", "incomplete"] | None


class InputText(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="input_text"):
    """Text of the caller."""

    text: str


class OutputText(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="output_text"):
    """Text of an earlier answer."""

    text: str
    annotations: _Nothing = None
    logprobs: _Nothing = None


class RefusalPart(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="refusal"):
    """A refusal in an earlier answer."""

    refusal: str


class InputImage(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="input_image"):
    """An image by address; `file_id` would name one stored at OpenAI."""

    image_url: str
    detail: str | None = None
    file_id: None = None


Part = InputText | OutputText | RefusalPart | InputImage


class Item(Struct, forbid_unknown_fields=True, gc=False):
    """An item of the input. Which fields belong to which type is checked where it is mapped."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[InputText | InputImage] | None = None
    id: str | None = None
    status: _Status = None
    phase: Any = None


class Tool(Struct, forbid_unknown_fields=True, gc=False):
    """A function of the caller."""

    name: str
    type: Literal["function"]
    description: str | None = None
    parameters: Raw = Raw()
    strict: bool | None = None
    defer_loading: Literal[False] | None = None


class NamedTool(Struct, forbid_unknown_fields=True, gc=False):
    """The one function that must be called."""

    name: str
    type: Literal["function"] = "function"


class Format(Struct, forbid_unknown_fields=True, gc=False):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: Raw = Raw()
    strict: bool | None = None
    description: str | None = None


class Text(Struct, forbid_unknown_fields=True, gc=False):
    """How the text is to be."""

    format: Format | None = None
    verbosity: str | None = None


class Reasoning(Struct, forbid_unknown_fields=True, gc=False):
    """How long to think. A summary could not be returned, so it must not be asked for."""

    effort: str | None = None
    summary: None = None
    generate_summary: None = None


class StreamOptions(Struct, forbid_unknown_fields=True, gc=False):
    """Padding of chunks is not offered, so it must not be asked for."""

    include_obfuscation: Literal[False] | None = None


class ResponsesBody(Struct, forbid_unknown_fields=True, gc=False):
    """The parameters that are mapped: `core.responses_parameters.MAPPED`."""

    input: str | list[Item] | None = None
    instructions: str | None = None
    model: str | None = None
    max_output_tokens: Int32 | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    text: Text | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    tools: list[Tool] | None = None
    top_p: float | None = None
    user: str | None = None
    llmops: Extension | None = None


BODY = Wire(ResponsesBody, REFUSED, PASSED, IGNORED, HINTS)
