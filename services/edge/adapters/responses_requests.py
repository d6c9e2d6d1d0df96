"""From OpenAI's responses to the orchestrator's Conversation."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters import responses_wire as wire
from services.edge.adapters.chat_requests import json_text, require_content, set_extension, set_format, set_model
from services.edge.adapters.wire import JsonSchema, ResponseFormat
from services.edge.core.errors import InvalidRequest
from services.edge.core.ports import RESPONSES, ChatRequest
from services.edge.core.voices import ResponsesVoice

_ROLES = {
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
    "developer": chat_pb2.CHAT_ROLE_DEVELOPER,
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
}
# Which fields an item of a type must have, and may have.
_FIELDS = {
    "message": (("role", "content"), ()),
    "function_call": (("call_id", "name", "arguments"), ()),
    "function_call_output": (("call_id", "output"), ("name",)),
}
_OWN_FIELDS = ("role", "content", "call_id", "name", "arguments", "output")
_SAME_NAMES = ("temperature", "top_p", "parallel_tool_calls", "max_output_tokens")
_NO_FORMAT = {"format": {"type": "text"}}


def read_responses(body: bytes) -> ChatRequest:
    """Decodes and maps a body. Raises InvalidRequest."""
    request, extra_json = wire.BODY.decode(body)
    call = pb.CompleteStreamRequest() if request.stream else pb.CompleteRequest()
    _fill(call.conversation, request, extra_json)
    return ChatRequest(
        model=request.model or "",
        stream=bool(request.stream),
        include_usage=True,
        call=call,
        dialect=RESPONSES,
        voice=ResponsesVoice(),
        echo=_echo(request),
    )


def _echo(request: wire.ResponsesBody) -> dict[str, object]:
    """What a response repeats of its request."""
    effort = request.reasoning.effort if request.reasoning is not None else None
    return {
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": effort, "summary": None},
        "store": False,
        "background": False,
        "temperature": request.temperature,
        "text": _shown(request.text) if request.text is not None else _NO_FORMAT,
        "tool_choice": request.tool_choice or "auto",
        "tools": [_shown_tool(tool) for tool in request.tools or ()],
        "top_p": request.top_p,
        "truncation": "disabled",
        "user": request.user,
    }


def _shown(text: wire.Text) -> dict[str, object]:
    shown: dict[str, object] = dict(_NO_FORMAT)
    if text.format is not None:
        fields = {name: getattr(text.format, name) for name in wire.Format.__struct_fields__ if name != "schema"}
        shown["format"] = {name: value for name, value in fields.items() if value is not None}
        if bytes(text.format.schema):
            shown["format"] |= {"schema": text.format.schema}  # type: ignore[operator]
    if text.verbosity is not None:
        shown["verbosity"] = text.verbosity
    return shown


def _shown_tool(tool: wire.Tool) -> dict[str, object]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters if bytes(tool.parameters) else None,
        "strict": tool.strict,
    }


def _fill(result: pb.Conversation, request: wire.ResponsesBody, extra_json: str) -> None:
    set_model(result, request.model)
    _add_input(result, request)
    for tool in request.tools or ():
        out = result.tools.add(
            name=tool.name, description=tool.description or "", parameters_json_schema=json_text(tool.parameters)
        )
        if tool.strict is not None:
            out.strict = tool.strict
    _set_parameters(result.parameters, request, extra_json)
    if request.user:
        result.labels.end_user = request.user
    if request.metadata:
        result.labels.tags.update(request.metadata)
    if request.llmops is not None:
        set_extension(result, request.llmops)


def _add_input(result: pb.Conversation, request: wire.ResponsesBody) -> None:
    if not request.input:
        require_content(result, request.llmops, "input")
    if request.instructions:
        result.messages.add(role=chat_pb2.CHAT_ROLE_SYSTEM, content=request.instructions)
    if isinstance(request.input, str):
        if request.input:
            result.messages.add(role=chat_pb2.CHAT_ROLE_USER, content=request.input)
        return
    for index, item in enumerate(request.input or ()):
        _add_item(result, f"input[{index}]", item)


def _add_item(result: pb.Conversation, where: str, item: wire.Item) -> None:
    _require_fields(where, item)
    if item.type == "function_call":
        _add_call(result, item)
    elif item.type == "function_call_output":
        assert item.output is not None
        out = result.messages.add(role=chat_pb2.CHAT_ROLE_TOOL, tool_call_id=item.call_id)
        _set_content(out, item.output)
    else:
        assert item.content is not None
        assert item.role is not None
        if not item.content and item.role != "assistant":
            raise InvalidRequest("content holds no part.", param=f"{where}.content")
        _set_content(result.messages.add(role=_ROLES[item.role]), item.content)


def _require_fields(where: str, item: wire.Item) -> None:
    needed, allowed = _FIELDS[item.type]
    for name in _OWN_FIELDS:
        if name in needed and getattr(item, name) is None:
            raise InvalidRequest(f"An item of type {item.type} has {name}.", param=f"{where}.{name}")
        if name not in needed and name not in allowed and getattr(item, name) is not None:
            raise InvalidRequest(f"An item of type {item.type} has no {name}.", param=f"{where}.{name}")


def _add_call(result: pb.Conversation, item: wire.Item) -> None:
    """Calls that follow the assistant's text, or each other, are one turn: providers want them in one message."""
    last = result.messages[-1] if result.messages else None
    if last is None or last.role != chat_pb2.CHAT_ROLE_ASSISTANT:
        last = result.messages.add(role=chat_pb2.CHAT_ROLE_ASSISTANT)
    last.tool_calls.add(id=item.call_id, name=item.name, arguments_json=item.arguments, index=len(last.tool_calls))


def _set_content(out: chat_pb2.ChatMessage, content: str | Sequence[wire.Part]) -> None:
    """One lone text stays plain, for the cache's sake."""
    if isinstance(content, str):
        out.content = content
        return
    if len(content) == 1 and not isinstance(content[0], wire.InputImage):
        out.content = _text_of(content[0])
        return
    for part in content:
        if isinstance(part, wire.InputImage):
            out.parts.add(image=chat_pb2.ImagePart(url=part.image_url, detail=part.detail or ""))
        else:
            out.parts.add(text=_text_of(part))


def _text_of(part: wire.InputText | wire.OutputText | wire.RefusalPart) -> str:
    return part.refusal if isinstance(part, wire.RefusalPart) else part.text


def _set_parameters(out: chat_pb2.GenerationParameters, request: wire.ResponsesBody, extra_json: str) -> None:
    for name in _SAME_NAMES:
        value = getattr(request, name)
        if value is not None:
            setattr(out, name, value)
    if request.reasoning is not None and request.reasoning.effort:
        out.reasoning_effort = request.reasoning.effort
    if isinstance(request.tool_choice, str):
        out.tool_choice.mode = request.tool_choice
    elif request.tool_choice is not None:
        out.tool_choice.tool_name = request.tool_choice.name
    verbosity = None
    if request.text is not None:
        verbosity = request.text.verbosity
        if request.text.format is not None:
            _set_form(out, request.text.format)
    extra = msgspec.json.decode(extra_json) if extra_json else {}
    if verbosity is not None:
        extra["verbosity"] = verbosity
    if extra:
        out.extra_json = msgspec.json.encode(extra).decode()


def _set_form(out: chat_pb2.GenerationParameters, wanted: wire.Format) -> None:
    schema = None
    if wanted.name is not None or bytes(wanted.schema):
        if not wanted.name:
            raise InvalidRequest("A schema has a name.", param="text.format.name")
        schema = JsonSchema(wanted.name, wanted.schema, wanted.strict, wanted.description)
    if (schema is not None) != (wanted.type == "json_schema"):
        raise InvalidRequest("A schema and the type json_schema go together.", param="text.format.schema")
    set_format(out.response_format, ResponseFormat(wanted.type, schema))
