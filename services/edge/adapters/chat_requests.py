"""From the wire's structs to the orchestrator's Conversation."""

from __future__ import annotations

import msgspec
from llmops.cache.v1 import cache_pb2
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters import wire
from services.edge.core.errors import InvalidRequest
from services.edge.core.ports import ChatRequest

_ROLES = {
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
    "developer": chat_pb2.CHAT_ROLE_DEVELOPER,
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
    "tool": chat_pb2.CHAT_ROLE_TOOL,
}
DEFAULT_MODELS = frozenset({"auto", "default"})
_SCOPES = {
    None: cache_pb2.CACHE_SCOPE_UNSPECIFIED,
    "organisation": cache_pb2.CACHE_SCOPE_ORGANISATION,
    "team": cache_pb2.CACHE_SCOPE_TEAM,
    "user": cache_pb2.CACHE_SCOPE_USER,
}
_TTL_CLASSES = {
    None: cache_pb2.TTL_CLASS_UNSPECIFIED,
    "volatile": cache_pb2.TTL_CLASS_VOLATILE,
    "standard": cache_pb2.TTL_CLASS_STANDARD,
    "stable": cache_pb2.TTL_CLASS_STABLE,
}
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Copied as they are when they are set; the contract uses the same names.
_SAME_NAMES = (
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "parallel_tool_calls",
    "reasoning_effort",
)


def read_chat(body: bytes) -> ChatRequest:
    """Decodes and maps a body. Raises InvalidRequest."""
    request, extra_json = wire.decode(body)
    options = request.stream_options
    call = pb.CompleteStreamRequest() if request.stream else pb.CompleteRequest()
    fill_conversation(call.conversation, request, extra_json)
    return ChatRequest(
        model=request.model or "",
        stream=bool(request.stream),
        include_usage=options is not None and bool(options.include_usage),
        call=call,
    )


def fill_conversation(result: pb.Conversation, request: wire.ChatBody, extra_json: str) -> None:
    """Maps the whole request. Raises InvalidRequest where OpenAI's rules are stricter than the contract's.

    What the contract's own rules cover (ranges, counts, lengths) is left to them: the answer names the field.
    """
    set_model(result, request.model)
    for index, message in enumerate(request.messages or ()):
        _add_message(result, index, message)
    require_content(result, request.llmops, "messages")
    if request.tools:
        for tool in request.tools:
            _add_tool(result, tool.function)
    _set_parameters(result.parameters, request, extra_json)
    if request.user:
        result.labels.end_user = request.user
    if request.metadata:
        result.labels.tags.update(request.metadata)
    if request.llmops is not None:
        set_extension(result, request.llmops)


def set_model(result: pb.Conversation, model: str | None) -> None:
    """Route or model; the names of the default route mean none."""
    if model and model not in DEFAULT_MODELS:
        result.model = model


def require_content(result: pb.Conversation, extension: wire.Extension | None, param: str) -> None:
    """Raises InvalidRequest when there is nothing to ask."""
    if not result.messages and (extension is None or not extension.prompt):
        raise InvalidRequest(f"{param} must hold at least one message when no prompt is named.", param=param)


def _require_fields(where: str, message: wire.Message) -> None:
    role = message.role
    if role == "tool" and not message.tool_call_id:
        raise InvalidRequest("A tool message names the call that it answers.", param=f"{where}.tool_call_id")
    if message.tool_calls and role != "assistant":
        raise InvalidRequest("Only assistant messages call tools.", param=f"{where}.tool_calls")
    if message.parsed is not None and role != "assistant":
        raise InvalidRequest("Only assistant messages are parsed.", param=f"{where}.parsed")
    if message.content is None and role != "assistant":
        raise InvalidRequest("content is missing.", param=f"{where}.content")
    if isinstance(message.content, list) and not message.content:
        raise InvalidRequest("content holds no part.", param=f"{where}.content")


def _add_message(result: pb.Conversation, index: int, message: wire.Message) -> None:
    _require_fields(f"messages[{index}]", message)
    role, content = message.role, message.content or ""
    out = result.messages.add()
    out.role = _ROLES[role]
    if message.name:
        out.name = message.name
    if message.tool_call_id:
        out.tool_call_id = message.tool_call_id
    if isinstance(content, str) and not message.refusal:
        out.content = content
    else:
        _set_parts(out, content, message.refusal)
    for position, call in enumerate(message.tool_calls or ()):
        out.tool_calls.add(id=call.id, name=call.function.name, arguments_json=call.function.arguments, index=position)


def _set_parts(
    out: chat_pb2.ChatMessage,
    content: str | list[wire.TextPart | wire.ImagePart | wire.RefusalPart],
    refusal: str | None,
) -> None:
    """A refusal is the assistant's own text: it joins the content. One lone text stays plain, for the cache's sake."""
    parts = ([wire.TextPart(content)] if content else []) if isinstance(content, str) else list(content)
    if refusal:
        parts.append(wire.TextPart(refusal))
    if len(parts) == 1 and not isinstance(parts[0], wire.ImagePart):
        out.content = _text_of(parts[0])
        return
    for part in parts:
        if isinstance(part, wire.ImagePart):
            out.parts.add(image=chat_pb2.ImagePart(url=part.image_url.url, detail=part.image_url.detail or ""))
        else:
            out.parts.add(text=_text_of(part))


def _text_of(part: wire.TextPart | wire.RefusalPart) -> str:
    return part.text if isinstance(part, wire.TextPart) else part.refusal


def _add_tool(result: pb.Conversation, function: wire.Function) -> None:
    tool = result.tools.add(
        name=function.name,
        description=function.description or "",
        parameters_json_schema=json_text(function.parameters),
    )
    if function.strict is not None:
        tool.strict = function.strict


def _set_parameters(out: chat_pb2.GenerationParameters, request: wire.ChatBody, extra_json: str) -> None:
    for name in _SAME_NAMES:
        value = getattr(request, name)
        if value is not None:
            setattr(out, name, value)
    # The newer name wins, as at OpenAI.
    limit = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    if limit is not None:
        out.max_output_tokens = limit
    if request.stop:
        out.stop.extend([request.stop] if isinstance(request.stop, str) else request.stop)
    if request.response_format is not None:
        set_format(out.response_format, request.response_format)
    if isinstance(request.tool_choice, str):
        out.tool_choice.mode = request.tool_choice
    elif request.tool_choice is not None:
        out.tool_choice.tool_name = request.tool_choice.function.name
    if extra_json:
        out.extra_json = extra_json


def set_format(out: chat_pb2.ResponseFormat, wanted: wire.ResponseFormat) -> None:
    """The form of the answer. Raises InvalidRequest."""
    out.type = wanted.type
    schema = wanted.json_schema
    if (schema is not None) != (wanted.type == "json_schema"):
        raise InvalidRequest("json_schema and the type json_schema go together.", param="response_format.json_schema")
    if schema is None:
        return
    out.schema_name = schema.name
    out.json_schema = _described(schema)
    if schema.strict is not None:
        out.strict = schema.strict


def _described(schema: wire.JsonSchema) -> str:
    """The contract has no place for a description beside the schema; JSON Schema has one inside."""
    text = json_text(schema.schema)
    if not schema.description:
        return text
    try:
        fields = _FIELDS.decode(text or "{}")
    except msgspec.ValidationError:  # no object; the router says so
        return text
    fields.setdefault("description", msgspec.Raw(msgspec.json.encode(schema.description)))
    return msgspec.json.encode(fields).decode()


def set_extension(result: pb.Conversation, extension: wire.Extension) -> None:
    """What the object `llmops` says. Raises InvalidRequest."""
    if extension.prompt:
        result.prompt.reference = extension.prompt
        for name, value in (extension.variables or {}).items():
            result.prompt.variables[name] = _variable(name, value)
    elif extension.variables:
        raise InvalidRequest("Variables are given but no prompt is named.", param="llmops.prompt")
    result.guard_policy = extension.guard_policy or ""
    if extension.feature:
        result.labels.feature = extension.feature
    if extension.conversation_id:
        result.labels.conversation_id = extension.conversation_id
    if extension.data_class:
        result.labels.data_class = extension.data_class
    if extension.cache is not None:
        _set_cache(result.cache, extension.cache)


def _variable(name: str, value: msgspec.Raw) -> str:
    text = json_text(value)
    if not text:
        raise InvalidRequest("A variable must not be null; leave it out.", param=f"llmops.variables.{name}")
    return msgspec.json.decode(text, type=str) if text.startswith('"') else text


def _set_cache(out: pb.CacheControl, options: wire.CacheOptions) -> None:
    out.bypass, out.refresh = options.bypass, options.refresh
    out.no_store, out.exact_only = options.no_store, options.exact_only
    out.scope = _SCOPES[options.scope]
    out.ttl_class = _TTL_CLASSES[options.ttl_class]
    if options.max_age_s is not None:
        out.max_age.FromMilliseconds(round(options.max_age_s * 1000))


def json_text(raw: msgspec.Raw) -> str:
    """JSON exactly as it was sent; empty for null and for nothing."""
    text = bytes(raw)
    return "" if text == b"null" else text.decode()
