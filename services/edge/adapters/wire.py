"""OpenAI's chat request on the wire: typed, closed structs.

A known parameter has its type here. An unknown one inside a message, a tool or a part is an error; at the top level
it is handed to `core.parameters`, which passes it on or refuses it. `cache_control`, which clients of Anthropic's
models write into parts, messages and tools, is a hint to providers, and ignored as on `/v1/messages`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from services.edge.adapters.decoding import Wire
from services.edge.core.parameters import HINTS, REFUSED

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class FunctionCall(Struct, forbid_unknown_fields=True, gc=False):
    """What a tool call calls; `arguments` is JSON text. What OpenAI's client parsed of it is left in, and not read."""

    name: str
    arguments: str = ""
    parsed_arguments: dict[str, Raw] | None = None


class ToolCall(Struct, forbid_unknown_fields=True, gc=False):
    """A call of a tool in an assistant message. `index` is what clients leave in when they replay a stream."""

    function: FunctionCall
    id: str = ""
    type: Literal["function"] = "function"
    index: Int32 | None = None


class TextPart(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="text"):
    """Text."""

    text: str
    cache_control: Any = None


class RefusalPart(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="refusal"):
    """An assistant's refusal."""

    refusal: str


class ImageUrl(Struct, forbid_unknown_fields=True, gc=False):
    """Where an image is."""

    url: str
    detail: str | None = None


class ImagePart(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="image_url"):
    """An image."""

    image_url: ImageUrl
    cache_control: Any = None


class Message(Struct, forbid_unknown_fields=True, gc=False):
    """A message. The fields without use here may come back `null` or empty from an answer, and must be so.

    `parsed` is what OpenAI's client made of the content of an answer: left in, and not read.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart | ImagePart | RefusalPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None
    parsed: dict[str, Raw] | None = None
    cache_control: Any = None


class Function(Struct, forbid_unknown_fields=True, gc=False):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: Raw = Raw()
    strict: bool | None = None
    cache_control: Any = None


class Tool(Struct, forbid_unknown_fields=True, gc=False):
    """A tool. OpenAI's type "custom" has no counterpart in the contract."""

    function: Function
    type: Literal["function"] = "function"
    cache_control: Any = None


class NamedFunction(Struct, forbid_unknown_fields=True, gc=False):
    """A function by name."""

    name: str


class NamedTool(Struct, forbid_unknown_fields=True, gc=False):
    """The one tool that must be called."""

    function: NamedFunction
    type: Literal["function"] = "function"


class JsonSchema(Struct, forbid_unknown_fields=True, gc=False):
    """A named schema for the answer."""

    name: str
    schema: Raw = Raw()
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(Struct, forbid_unknown_fields=True, gc=False):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Struct, forbid_unknown_fields=True, gc=False):
    """`include_obfuscation` pads chunks against length analysis: not offered, so it must not be asked for."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class CacheOptions(Struct, forbid_unknown_fields=True, gc=False):
    """How to use the cache."""

    bypass: bool = False
    refresh: bool = False
    no_store: bool = False
    exact_only: bool = False
    scope: Literal["organisation", "team", "user"] | None = None
    ttl_class: Literal["volatile", "standard", "stable"] | None = None
    max_age_s: Annotated[float, Meta(ge=0, le=315_576_000)] | None = None


class Extension(Struct, forbid_unknown_fields=True, gc=False):
    """The object `llmops`. A variable that is not a string is passed as its JSON text."""

    prompt: str | None = None
    variables: dict[str, Raw] | None = None
    cache: CacheOptions | None = None
    guard_policy: str | None = None
    feature: str | None = None
    conversation_id: str | None = None
    data_class: str | None = None


class ChatBody(Struct, forbid_unknown_fields=True, gc=False):
    """The parameters that are mapped: `core.parameters.MAPPED`."""

    model: str | None = None
    messages: list[Message] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: Int32 | None = None
    max_completion_tokens: Int32 | None = None
    stop: str | list[str] | None = None
    seed: Int64 | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    llmops: Extension | None = None


_BODY = Wire(ChatBody, REFUSED, hints=HINTS)


def decode(body: bytes) -> tuple[ChatBody, str]:
    """Returns the request and, as JSON text, the parameters to pass on; empty when there are none.

    Raises InvalidRequest.
    """
    return _BODY.decode(body)
