"""The request side of Bedrock's Converse: conversations into content blocks."""

from __future__ import annotations

from typing import Any

from services.router.adapters.dialects.base import WORD_IDS, data_url, json_object, tool_arguments
from services.router.adapters.dialects.extras import BEDROCK, extra_parameters
from services.router.adapters.dialects.turns import alternating_turns
from services.router.core.chat import ImagePart, Message, ModelCall, TextPart, ToolDefinition
from services.router.core.failure import unsupported
from services.router.core.ports import ProviderRequest

# A result must have a block, and a text block must have text.
_NO_OUTPUT = "(no output)"
_IMAGE_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}


def encode_body(request: ProviderRequest) -> dict[str, Any]:
    """The body as a mapping. Raises InvalidRequest, and ProviderError for what the API has no words for.

    Extra parameters go to `additionalModelRequestFields`, which the API hands to the model unread.
    """
    call = request.call
    if call.parameters.response_format.structured:
        raise unsupported("structured-output")
    body: dict[str, Any] = {"messages": alternating_turns(call.messages, _blocks)}
    system = [block for message in call.messages if message.role in {"system", "developer"} for block in _text(message)]
    if system:
        body["system"] = system
    config = _inference_config(request)
    if config:
        body["inferenceConfig"] = config
    if (tools := _tool_config(call)) is not None:
        body["toolConfig"] = tools
    if extra := extra_parameters(call.parameters.extra_json, BEDROCK):
        body["additionalModelRequestFields"] = extra
    return body


def _inference_config(request: ProviderRequest) -> dict[str, Any]:
    parameters, ceiling = request.call.parameters, request.spec.max_output_tokens
    limit = parameters.max_output_tokens
    values: dict[str, Any] = {
        "maxTokens": min(limit, ceiling) if limit is not None and ceiling else limit,
        # The contract allows 0 to 2 as OpenAI does; this scale ends at 1.
        "temperature": None if parameters.temperature is None else min(parameters.temperature, 1.0),
        "topP": parameters.top_p,
        "stopSequences": list(parameters.stop) or None,
    }
    return {name: v for name, v in values.items() if v is not None and name not in request.spec.omit_parameters}


def _tool_config(call: ModelCall) -> dict[str, Any] | None:
    """None without tools. There is no word for "none": without calls in the history the tools are left out instead.

    A history with calls is refused by the API unless tools are named, and whoever names none wants none called.
    """
    choice = call.parameters.tool_choice
    called = any(message.tool_calls or message.role == "tool" for message in call.messages)
    if not call.tools:
        if called:
            raise unsupported("tool-history-without-tools")
        return None
    if choice.mode == "none":
        if called:
            raise unsupported("tool-choice-none")
        return None
    config: dict[str, Any] = {"tools": [_tool(tool, position) for position, tool in enumerate(call.tools)]}
    if choice.tool_name:
        config["toolChoice"] = {"tool": {"name": choice.tool_name}}
    elif choice.mode:
        config["toolChoice"] = {"any" if choice.mode == "required" else "auto": {}}
    return config


def _tool(tool: ToolDefinition, position: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    if tool.parameters_json_schema:
        schema = json_object(tool.parameters_json_schema, f"call.tools[{position}].parameters_json_schema")
    spec: dict[str, Any] = {"name": tool.name, "inputSchema": {"json": schema}}
    if tool.description:
        spec["description"] = tool.description
    return {"toolSpec": spec}


def _blocks(message: Message) -> list[dict[str, Any]]:
    parts = (part for part in message.parts if not (isinstance(part, TextPart) and not part.text.strip()))
    blocks = [_part(part) for part in parts] if message.parts else _text(message)
    if message.role == "tool":
        content = blocks or [{"text": _NO_OUTPUT}]
        return [{"toolResult": {"toolUseId": WORD_IDS.fitting(message.tool_call_id), "content": content}}]
    for call in message.tool_calls:
        arguments = tool_arguments(call.arguments_json)
        call_id = WORD_IDS.fitting(call.id)
        blocks.append({"toolUse": {"toolUseId": call_id, "name": call.name, "input": arguments}})
    return blocks


def _text(message: Message) -> list[dict[str, Any]]:
    """Text blocks; the API refuses blank ones."""
    text = message.text()
    return [{"text": text}] if text.strip() else []


def _part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.text}
    if not part.url.startswith("data:"):
        raise unsupported("image-addresses")
    media_type, data = data_url(part.url)
    if media_type not in _IMAGE_FORMATS:
        raise unsupported("image-format")
    return {"image": {"format": _IMAGE_FORMATS[media_type], "source": {"bytes": data}}}
