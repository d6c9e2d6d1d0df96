"""The request side of OpenAI's responses: conversations into input items."""

from __future__ import annotations

import re
from typing import Any

from services.router.adapters.dialects.base import CallIds, json_object
from services.router.adapters.dialects.extras import OPENAI_RESPONSES, extra_parameters
from services.router.core.chat import ImagePart, Message, Parameters, TextPart, ToolDefinition
from services.router.core.failure import unsupported
from services.router.core.ports import ProviderRequest

_IDS = CallIds(re.compile(r"(?s).{1,64}"), 32)


def encode_body(request: ProviderRequest, *, stream: bool) -> dict[str, Any]:
    """The body as a mapping. Raises InvalidRequest, and ProviderError for texts that end the answer."""
    call, spec = request.call, request.spec
    parameters = call.parameters
    if parameters.stop:
        raise unsupported("stop-texts")
    body: dict[str, Any] = {
        "model": spec.model,
        "input": [item for message in call.messages for item in _items(message)],
    }
    if call.tools:
        body["tools"] = [_tool(tool, position) for position, tool in enumerate(call.tools)]
    effort = parameters.reasoning_effort or (spec.tool_reasoning_effort if call.tools else "")
    limit, ceiling = parameters.max_output_tokens, spec.max_output_tokens
    values: dict[str, Any] = {
        "temperature": parameters.temperature,
        "top_p": parameters.top_p,
        "max_output_tokens": min(limit, ceiling) if limit is not None and ceiling else limit,
        "parallel_tool_calls": parameters.parallel_tool_calls,
        "reasoning": {"effort": effort} if effort else None,
        "tool_choice": _tool_choice(parameters),
        "text": _text_form(parameters),
    }
    body.update((name, v) for name, v in values.items() if v is not None and name not in spec.omit_parameters)
    extra = extra_parameters(parameters.extra_json, OPENAI_RESPONSES)
    if "verbosity" in extra:
        # Beside the form of the answer, and not at the top as in chat completions.
        body["text"] = body.get("text", {}) | {"verbosity": extra.pop("verbosity")}
    body.update(extra)
    # By default the API keeps every answer for 30 days: the conversation is the caller's, and stays so.
    body["store"] = False
    if stream:
        body["stream"] = True
    return body


def _items(message: Message) -> list[dict[str, Any]]:
    """One message is several items when it calls tools: text, then each call."""
    if message.role == "tool":
        output: Any = [_part(part, "input_text") for part in message.parts] if message.parts else message.content
        return [{"type": "function_call_output", "call_id": _IDS.fitting(message.tool_call_id), "output": output}]
    items: list[dict[str, Any]] = []
    if message.parts:
        kind = "output_text" if message.role == "assistant" else "input_text"
        items.append({"role": message.role, "content": [_part(part, kind) for part in message.parts]})
    elif message.content or not message.tool_calls:
        items.append({"role": message.role, "content": message.content})
    items.extend(
        {"type": "function_call", "call_id": _IDS.fitting(call.id), "name": call.name, "arguments": call.arguments_json}
        for call in message.tool_calls
    )
    return items


def _part(part: TextPart | ImagePart, kind: str) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": kind, "text": part.text}
    return {"type": "input_image", "image_url": part.url, "detail": part.detail or "auto"}


def _tool(tool: ToolDefinition, position: int) -> dict[str, Any]:
    """`strict` is always said: left out it means yes here, and schemas that are fine elsewhere are refused."""
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    if tool.parameters_json_schema:
        schema = json_object(tool.parameters_json_schema, f"call.tools[{position}].parameters_json_schema")
    row = {"type": "function", "name": tool.name, "parameters": schema, "strict": bool(tool.strict)}
    return row | ({"description": tool.description} if tool.description else {})


def _tool_choice(parameters: Parameters) -> Any:
    choice = parameters.tool_choice
    return {"type": "function", "name": choice.tool_name} if choice.tool_name else choice.mode or None


def _text_form(parameters: Parameters) -> dict[str, Any] | None:
    form = parameters.response_format
    if form.type != "json_schema":
        return {"format": {"type": form.type}} if form.type else None
    schema = json_object(form.json_schema, "call.parameters.response_format.json_schema")
    row: dict[str, Any] = {"type": "json_schema", "name": form.schema_name or "answer", "schema": schema}
    if form.strict is not None:
        row["strict"] = form.strict
    return {"format": row}
