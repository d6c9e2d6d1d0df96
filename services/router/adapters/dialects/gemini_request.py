"""The request side of Gemini's generateContent: conversations into contents and parts."""

from __future__ import annotations

import re
from typing import Any

from services.router.adapters.dialects.base import data_url, json_object, tool_arguments
from services.router.adapters.dialects.extras import GEMINI, extra_parameters
from services.router.adapters.dialects.turns import alternating_turns
from services.router.core.catalogue import ModelSpec
from services.router.core.chat import ImagePart, Message, ModelCall, Parameters, TextPart, ToolDefinition
from services.router.core.failure import unsupported
from services.router.core.ports import ProviderRequest

# Up to 2.5 thinking is bought by a budget; from 3 on by a level, and calls in the history must carry a signature.
_BUDGET_FAMILIES = re.compile(r"gemini-(?:1|2)[.\-]")
# Google's own equivalents of the OpenAI words, from its page on OpenAI compatibility.
_BUDGET_TOKENS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}
# Words of others beyond the highest level here.
_BEYOND = {"xhigh": "high", "max": "high"}
# From 3 on a function may answer with media.
_SEES_RESULTS = re.compile(r"gemini-(?:[3-9]|[1-9]\d)[.\-]")
_TOOL_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
# The contract has no place for signatures; this value is Google's for calls that come without one.
_NO_SIGNATURE = "skip_thought_signature_validator"
# All other extra parameters belong to generationConfig.
_TOP_LEVEL = frozenset({"safetySettings"})


def encode_body(request: ProviderRequest) -> dict[str, Any]:
    """The body as a mapping. Raises InvalidRequest, and ProviderError for what the API has no words for."""
    call, spec = request.call, request.spec
    body: dict[str, Any] = {"contents": _contents(call, spec)}
    system = [message.text() for message in call.messages if message.role in {"system", "developer"}]
    if any(system):
        body["systemInstruction"] = {"parts": [{"text": text} for text in system if text]}
    if call.tools:
        declarations = [_declaration(tool, position) for position, tool in enumerate(call.tools)]
        body["tools"] = [{"functionDeclarations": declarations}]
        if (config := _tool_config(call.parameters)) is not None:
            body["toolConfig"] = config
    config = _generation_config(request)
    for name, value in extra_parameters(call.parameters.extra_json, GEMINI).items():
        (body if name in _TOP_LEVEL else config)[name] = value
    if config:
        body["generationConfig"] = config
    return body


def _generation_config(request: ProviderRequest) -> dict[str, Any]:
    parameters, ceiling = request.call.parameters, request.spec.max_output_tokens
    limit = parameters.max_output_tokens
    values: dict[str, Any] = {
        "temperature": parameters.temperature,
        "topP": parameters.top_p,
        "maxOutputTokens": min(limit, ceiling) if limit is not None and ceiling else limit,
        "stopSequences": list(parameters.stop) or None,
        "seed": parameters.seed,
        "presencePenalty": parameters.presence_penalty,
        "frequencyPenalty": parameters.frequency_penalty,
        "thinkingConfig": _thinking(request),
        **_response_form(parameters),
    }
    return {name: v for name, v in values.items() if v is not None and name not in request.spec.omit_parameters}


def _thinks_by_budget(spec: ModelSpec) -> bool:
    """Names may come with the API's own prefix."""
    return _BUDGET_FAMILIES.match(spec.model.removeprefix("models/")) is not None


def _thinking(request: ProviderRequest) -> dict[str, Any] | None:
    effort = request.call.parameters.reasoning_effort
    if not effort and request.call.tools:
        effort = request.spec.tool_reasoning_effort
    if not effort:
        return None
    effort = _BEYOND.get(effort, effort)
    if _thinks_by_budget(request.spec):
        budget = _BUDGET_TOKENS.get(effort)
        return None if budget is None else {"thinkingBudget": budget}
    return {"thinkingLevel": "minimal" if effort == "none" else effort}


def _response_form(parameters: Parameters) -> dict[str, Any]:
    """`responseJsonSchema` takes JSON Schema as it is; the older `responseSchema` refuses its common keywords."""
    form = parameters.response_format
    if not form.structured:
        return {}
    values: dict[str, Any] = {"responseMimeType": "application/json"}
    if form.type == "json_schema":
        values["responseJsonSchema"] = json_object(form.json_schema, "call.parameters.response_format.json_schema")
    return values


def _declaration(tool: ToolDefinition, position: int) -> dict[str, Any]:
    row: dict[str, Any] = {"name": tool.name}
    if tool.description:
        row["description"] = tool.description
    if tool.parameters_json_schema:
        field_path = f"call.tools[{position}].parameters_json_schema"
        row["parametersJsonSchema"] = json_object(tool.parameters_json_schema, field_path)
    return row


def _tool_config(parameters: Parameters) -> dict[str, Any] | None:
    choice = parameters.tool_choice
    if choice.tool_name:
        return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [choice.tool_name]}}
    return {"functionCallingConfig": {"mode": _TOOL_MODES[choice.mode]}} if choice.mode else None


def _contents(call: ModelCall, spec: ModelSpec) -> list[dict[str, Any]]:
    names = {c.id: c.name for message in call.messages for c in message.tool_calls}
    signed, sees_results = not _thinks_by_budget(spec), _SEES_RESULTS.match(spec.model.removeprefix("models/"))

    def parts_of(message: Message) -> list[dict[str, Any]]:
        if message.role != "tool":
            return _parts(message, signed=signed)
        if not sees_results and any(isinstance(part, ImagePart) for part in message.parts):
            raise unsupported("images-in-tool-results")
        return [_tool_result(message, names)]

    return alternating_turns(call.messages, parts_of, assistant="model", parts_key="parts")


def _tool_result(message: Message, names: dict[str, str]) -> dict[str, Any]:
    # The API joins results by name; the id is its newer, optional way.
    name = names.get(message.tool_call_id) or message.name or message.tool_call_id
    result: dict[str, Any] = {"id": message.tool_call_id, "name": name, "response": {"result": message.text()}}
    if media := [_part(part) for part in message.parts if isinstance(part, ImagePart)]:
        result["parts"] = media
    return {"functionResponse": result}


def _parts(message: Message, *, signed: bool) -> list[dict[str, Any]]:
    """The API refuses a text part without text."""
    parts = [_part(part) for part in message.parts if isinstance(part, ImagePart) or part.text]
    if not message.parts and message.content:
        parts = [{"text": message.content}]
    for position, call in enumerate(message.tool_calls):
        function = {"id": call.id, "name": call.name, "args": tool_arguments(call.arguments_json)}
        part: dict[str, Any] = {"functionCall": function}
        if signed and not position:
            part["thoughtSignature"] = _NO_SIGNATURE
        parts.append(part)
    return parts


def _part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.text}
    if not part.url.startswith("data:"):
        raise unsupported("image-addresses")
    media_type, data = data_url(part.url)
    return {"inlineData": {"mimeType": media_type, "data": data}}
