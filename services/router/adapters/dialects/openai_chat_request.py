"""The request side of OpenAI's chat completions: conversations into messages."""

from __future__ import annotations

from typing import Any

from services.router.adapters.dialects.base import json_object
from services.router.adapters.dialects.extras import Extras, merge_extra
from services.router.core.chat import ImagePart, Message, Parameters, TextPart, ToolDefinition
from services.router.core.failure import unsupported
from services.router.core.ports import ProviderRequest


def encode_body(request: ProviderRequest, max_tokens_field: str, extras: Extras) -> dict[str, Any]:
    """The body as a mapping. Raises InvalidRequest, and ProviderError for what the API has no words for."""
    call, spec = request.call, request.spec
    body: dict[str, Any] = {"model": spec.model, "messages": [_message(message) for message in call.messages]}
    if call.tools:
        body["tools"] = [_tool(tool, position) for position, tool in enumerate(call.tools)]
    _add_parameters(body, call.parameters, max_tokens_field, spec.max_output_tokens)
    if call.tools and spec.tool_reasoning_effort and not call.parameters.reasoning_effort:
        body["reasoning_effort"] = spec.tool_reasoning_effort
    for name in spec.omit_parameters:
        body.pop(name, None)
    merge_extra(body, call.parameters.extra_json, extras)
    return body


def _message(message: Message) -> dict[str, Any]:
    """The API takes texts alone as results of tools, and refuses the whole request otherwise."""
    if message.role == "tool" and any(isinstance(part, ImagePart) for part in message.parts):
        raise unsupported("images-in-tool-results")
    row: dict[str, Any] = {"role": message.role}
    if message.parts:
        row["content"] = [
            {"type": "text", "text": part.text}
            if isinstance(part, TextPart)
            else {
                "type": "image_url",
                "image_url": {"url": part.url} | ({"detail": part.detail} if part.detail else {}),
            }
            for part in message.parts
        ]
    else:
        row["content"] = message.content or (None if message.tool_calls else "")
    if message.tool_calls:
        row["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        row["tool_call_id"] = message.tool_call_id
    if message.name:
        row["name"] = message.name
    return row


def _tool(tool: ToolDefinition, position: int) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters_json_schema:
        function["parameters"] = json_object(
            tool.parameters_json_schema, f"call.tools[{position}].parameters_json_schema"
        )
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _add_parameters(body: dict[str, Any], parameters: Parameters, max_tokens_field: str, ceiling: int) -> None:
    limit = parameters.max_output_tokens
    values: dict[str, Any] = {
        "temperature": parameters.temperature,
        "top_p": parameters.top_p,
        max_tokens_field: min(limit, ceiling) if limit is not None and ceiling else limit,
        "stop": list(parameters.stop) or None,
        "seed": parameters.seed,
        "presence_penalty": parameters.presence_penalty,
        "frequency_penalty": parameters.frequency_penalty,
        "parallel_tool_calls": parameters.parallel_tool_calls,
        "reasoning_effort": parameters.reasoning_effort or None,
        "tool_choice": _tool_choice(parameters),
        "response_format": _response_format(parameters),
    }
    body.update((name, value) for name, value in values.items() if value is not None)


def _tool_choice(parameters: Parameters) -> Any:
    choice = parameters.tool_choice
    if choice.tool_name:
        return {"type": "function", "function": {"name": choice.tool_name}}
    return choice.mode or None


def _response_format(parameters: Parameters) -> dict[str, Any] | None:
    form = parameters.response_format
    if form.type != "json_schema":
        return {"type": form.type} if form.type else None
    field_path = "call.parameters.response_format.json_schema"
    schema: dict[str, Any] = {"name": form.schema_name or "answer", "schema": json_object(form.json_schema, field_path)}
    if form.strict is not None:
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": schema}
