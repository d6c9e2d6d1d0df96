"""The request side of Anthropic's Messages API: conversations into its blocks."""

from __future__ import annotations

from typing import Any

from services.router.adapters.dialects.base import WORD_IDS, data_url, json_object, tool_arguments
from services.router.adapters.dialects.extras import ANTHROPIC, merge_extra
from services.router.adapters.dialects.turns import alternating_turns
from services.router.core.chat import ImagePart, Message, Parameters, TextPart, ToolDefinition
from services.router.core.failure import unsupported
from services.router.core.ports import ProviderRequest

# The API demands a limit; this one holds when neither the caller nor the configuration names one.
DEFAULT_MAX_TOKENS = 4096


def encode_body(request: ProviderRequest, *, stream: bool) -> dict[str, Any]:
    """The body as a mapping. Raises InvalidRequest, and ProviderError for `json_object`, which the API lacks."""
    call, spec = request.call, request.spec
    parameters = call.parameters
    body: dict[str, Any] = {
        "model": spec.model,
        "max_tokens": _max_tokens(parameters, spec.max_output_tokens),
        "messages": alternating_turns(call.messages, _blocks),
    }
    system = [block for message in call.messages if message.role in {"system", "developer"} for block in _text(message)]
    if system:
        body["system"] = system
    _add_parameters(body, parameters)
    if call.tools:
        body["tools"] = [_tool(tool, position) for position, tool in enumerate(call.tools)]
        if (choice := _tool_choice(parameters)) is not None:
            body["tool_choice"] = choice
    for name in spec.omit_parameters:
        body.pop(name, None)
    merge_extra(body, parameters.extra_json, ANTHROPIC)
    if stream:
        body["stream"] = True
    return body


def _max_tokens(parameters: Parameters, ceiling: int) -> int:
    wanted = parameters.max_output_tokens
    if wanted is None:
        return ceiling or DEFAULT_MAX_TOKENS
    return min(wanted, ceiling) if ceiling else wanted


def _add_parameters(body: dict[str, Any], parameters: Parameters) -> None:
    values: dict[str, Any] = {
        # The contract allows 0 to 2 as OpenAI does; Anthropic's scale ends at 1.
        "temperature": None if parameters.temperature is None else min(parameters.temperature, 1.0),
        "top_p": parameters.top_p,
        "stop_sequences": list(parameters.stop) or None,
        "output_config": _output_config(parameters) or None,
    }
    body.update((name, value) for name, value in values.items() if value is not None)


def _output_config(parameters: Parameters) -> dict[str, Any]:
    config: dict[str, Any] = {}
    form = parameters.response_format
    if form.type == "json_object":
        raise unsupported("json-object-without-schema")
    if form.type == "json_schema":
        schema = json_object(form.json_schema, "call.parameters.response_format.json_schema")
        config["format"] = {"type": "json_schema", "schema": schema}
    if parameters.reasoning_effort:
        # OpenAI's scale begins below Anthropic's.
        below = parameters.reasoning_effort in {"none", "minimal"}
        config["effort"] = "low" if below else parameters.reasoning_effort
    return config


def _tool(tool: ToolDefinition, position: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    if tool.parameters_json_schema:
        schema = json_object(tool.parameters_json_schema, f"call.tools[{position}].parameters_json_schema")
    row: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        row["description"] = tool.description
    if tool.strict is not None:
        row["strict"] = tool.strict
    return row


def _tool_choice(parameters: Parameters) -> dict[str, Any] | None:
    choice = parameters.tool_choice
    modes = {"auto": "auto", "none": "none", "required": "any"}
    row: dict[str, Any] | None = None
    if choice.tool_name:
        row = {"type": "tool", "name": choice.tool_name}
    elif choice.mode:
        row = {"type": modes[choice.mode]}
    if parameters.parallel_tool_calls is False and (row is None or row["type"] != "none"):
        row = (row or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    return row


def _blocks(message: Message) -> list[dict[str, Any]]:
    parts = (part for part in message.parts if not (isinstance(part, TextPart) and not part.text.strip()))
    if message.role == "tool":
        content = [_part(part) for part in parts] if message.parts else message.content
        return [{"type": "tool_result", "tool_use_id": WORD_IDS.fitting(message.tool_call_id), "content": content}]
    blocks = [_part(part) for part in parts] if message.parts else _text(message)
    for tool_call in message.tool_calls:
        arguments = tool_arguments(tool_call.arguments_json)
        call_id = WORD_IDS.fitting(tool_call.id)
        blocks.append({"type": "tool_use", "id": call_id, "name": tool_call.name, "input": arguments})
    return blocks


def _text(message: Message) -> list[dict[str, Any]]:
    """Text blocks; the API refuses blank ones."""
    text = message.text()
    return [{"type": "text", "text": text}] if text.strip() else []


def _part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if not part.url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    media_type, data = data_url(part.url)
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
