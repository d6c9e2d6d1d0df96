"""The request side of OpenAI's chat completions: conversations into messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from services.router.adapters.dialects.base import CallIds, json_object
from services.router.adapters.dialects.extras import Extras, merge_extra
from services.router.core.chat import ImagePart, Message, Parameters, TextPart, ToolDefinition
from services.router.core.failure import unsupported
from services.router.core.ports import ProviderRequest

OWN_IDS = CallIds(re.compile(r"(?s).{1,40}"), 32)
MISTRAL_IDS = CallIds(re.compile(r"[A-Za-z0-9]{9}"), 9)


@dataclass(frozen=True, slots=True)
class Ways:
    """What servers of this API differ in; the defaults are OpenAI's.

    `knows_developer` False is for servers that refuse the role, or read past it: its messages become the system's.
    `images_in_results` is whether a tool's result may hold images, `call_ids` which ids of calls are taken.
    """

    max_tokens_field: str = "max_completion_tokens"
    seed_field: str = "seed"
    knows_developer: bool = True
    images_in_results: bool = False
    call_ids: CallIds = OWN_IDS


OPENAI = Ways()


def encode_body(request: ProviderRequest, ways: Ways, extras: Extras) -> dict[str, Any]:
    """The body as a mapping. Raises InvalidRequest, and ProviderError for what the API has no words for."""
    call, spec = request.call, request.spec
    body: dict[str, Any] = {"model": spec.model, "messages": [_message(message, ways) for message in call.messages]}
    if call.tools:
        body["tools"] = [_tool(tool, position) for position, tool in enumerate(call.tools)]
    _add_parameters(body, call.parameters, ways, spec.max_output_tokens)
    if call.tools and spec.tool_reasoning_effort and not call.parameters.reasoning_effort:
        body["reasoning_effort"] = spec.tool_reasoning_effort
    for name in spec.omit_parameters:
        body.pop(name, None)
    merge_extra(body, call.parameters.extra_json, extras)
    return body


def _message(message: Message, ways: Ways) -> dict[str, Any]:
    """OpenAI takes texts alone as results of tools, and refuses the whole request otherwise."""
    images = not ways.images_in_results and any(isinstance(part, ImagePart) for part in message.parts)
    if images and message.role == "tool":
        raise unsupported("images-in-tool-results")
    ids, known = ways.call_ids, message.role != "developer" or ways.knows_developer
    row: dict[str, Any] = {"role": message.role if known else "system"}
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
            {
                "id": ids.fitting(call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        row["tool_call_id"] = ids.fitting(message.tool_call_id)
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


def _add_parameters(body: dict[str, Any], parameters: Parameters, ways: Ways, ceiling: int) -> None:
    limit = parameters.max_output_tokens
    values: dict[str, Any] = {
        "temperature": parameters.temperature,
        "top_p": parameters.top_p,
        ways.max_tokens_field: min(limit, ceiling) if limit is not None and ceiling else limit,
        "stop": list(parameters.stop) or None,
        ways.seed_field: parameters.seed,
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
