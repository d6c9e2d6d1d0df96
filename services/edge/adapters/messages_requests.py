"""From Anthropic's messages to the orchestrator's Conversation."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters import messages_wire as wire
from services.edge.adapters.chat_requests import json_text, require_content, set_extension, set_model
from services.edge.core.errors import InvalidRequest
from services.edge.core.ports import MESSAGES, ChatRequest
from services.edge.core.voices import MESSAGES_VOICE

_ROLES = {
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
}
_MODES = {"auto": "auto", "any": "required", "none": "none"}
# The contract, like OpenAI, has no flag for a failed tool: models read it in the text.
_FAILED = "Error: "
# OpenAI's providers ask for a name of a schema, which Anthropic's clients do not give.
_SCHEMA_NAME = "answer"


def read_messages(body: bytes) -> ChatRequest:
    """Decodes and maps a body. Raises InvalidRequest."""
    request, extra_json = wire.BODY.decode(body)
    call = pb.CompleteStreamRequest() if request.stream else pb.CompleteRequest()
    _fill(call.conversation, request, extra_json)
    return ChatRequest(
        model=request.model or "",
        stream=bool(request.stream),
        include_usage=True,
        call=call,
        dialect=MESSAGES,
        voice=MESSAGES_VOICE,
    )


def _fill(result: pb.Conversation, request: wire.MessagesBody, extra_json: str) -> None:
    set_model(result, request.model)
    if not request.messages:
        require_content(result, request.llmops, "messages")
    if request.system:
        _set_content(result.messages.add(role=chat_pb2.CHAT_ROLE_SYSTEM), _blocks(request.system))
    for index, message in enumerate(request.messages):
        _add_turn(result, f"messages[{index}]", message)
    for tool in request.tools or ():
        out = result.tools.add(
            name=tool.name, description=tool.description or "", parameters_json_schema=json_text(tool.input_schema)
        )
        if tool.strict is not None:
            out.strict = tool.strict
    _set_parameters(result.parameters, request)
    if extra_json:
        result.parameters.extra_json = extra_json
    if request.metadata is not None and request.metadata.user_id:
        result.labels.end_user = request.metadata.user_id
    if request.llmops is not None:
        set_extension(result, request.llmops)


def _add_turn(result: pb.Conversation, where: str, message: wire.Message) -> None:
    """A turn of the user may hold results of tools, which are messages of their own in the contract."""
    blocks = _blocks(message.content)
    if not blocks:
        raise InvalidRequest("content holds no block.", param=f"{where}.content")
    shown: list[wire.TextBlock | wire.ImageBlock] = []
    calls: list[wire.ToolUseBlock] = []
    for position, block in enumerate(blocks):
        if isinstance(block, wire.ToolResultBlock):
            if message.role != "user":
                raise InvalidRequest("Results of tools are the user's.", param=f"{where}.content[{position}]")
            _flush(result, message.role, shown, calls)
            _add_result(result, block)
        elif isinstance(block, wire.ToolUseBlock):
            if message.role != "assistant":
                raise InvalidRequest("Only the assistant calls tools.", param=f"{where}.content[{position}]")
            calls.append(block)
        elif message.role == "system" and isinstance(block, wire.ImageBlock):
            raise InvalidRequest("Blocks of system are text.", param=f"{where}.content[{position}]")
        else:
            shown.append(block)
    _flush(result, message.role, shown, calls)


def _flush(
    result: pb.Conversation,
    role: str,
    shown: list[wire.TextBlock | wire.ImageBlock],
    calls: list[wire.ToolUseBlock],
) -> None:
    """Adds what has gathered as one message, and empties it."""
    if not shown and not calls:
        return
    out = result.messages.add(role=_ROLES[role])
    if shown:
        _set_content(out, shown)
    for index, call in enumerate(calls):
        arguments = msgspec.json.encode(call.input).decode()
        out.tool_calls.add(id=call.id, name=call.name, arguments_json=arguments, index=index)
    shown.clear()
    calls.clear()


def _add_result(result: pb.Conversation, block: wire.ToolResultBlock) -> None:
    out = result.messages.add(role=chat_pb2.CHAT_ROLE_TOOL, tool_call_id=block.tool_use_id)
    content: list[wire.TextBlock | wire.ImageBlock] = list(_blocks(block.content or ""))  # type: ignore[arg-type]
    if block.is_error:
        content.insert(0, wire.TextBlock(_FAILED))
        if len(content) > 1 and isinstance(content[1], wire.TextBlock):
            content[:2] = [wire.TextBlock(_FAILED + content[1].text)]
    if content:
        _set_content(out, content)


def _blocks(content: str | Sequence[wire.Block]) -> list[wire.Block]:
    if isinstance(content, str):
        return [wire.TextBlock(content)] if content else []
    return list(content)


def _set_content(out: chat_pb2.ChatMessage, blocks: Sequence[wire.Block]) -> None:
    """One lone text stays plain, for the cache's sake."""
    first = blocks[0]
    if len(blocks) == 1 and isinstance(first, wire.TextBlock):
        out.content = first.text
        return
    for block in blocks:
        if isinstance(block, wire.ImageBlock):
            out.parts.add(image=chat_pb2.ImagePart(url=_url(block.source)))
        elif isinstance(block, wire.TextBlock):
            out.parts.add(text=block.text)


def _url(source: wire.Base64Source | wire.UrlSource) -> str:
    return source.url if isinstance(source, wire.UrlSource) else f"data:{source.media_type};base64,{source.data}"


def _set_parameters(out: chat_pb2.GenerationParameters, request: wire.MessagesBody) -> None:
    out.max_output_tokens = request.max_tokens
    if request.temperature is not None:
        out.temperature = request.temperature
    if request.top_p is not None:
        out.top_p = request.top_p
    out.stop.extend(request.stop_sequences or ())
    if request.tool_choice is not None:
        _set_choice(out, request.tool_choice)
    wanted = request.output_config
    if wanted is not None and wanted.effort:
        out.reasoning_effort = wanted.effort
    if wanted is not None and wanted.format is not None:
        out.response_format.type = "json_schema"
        out.response_format.schema_name = _SCHEMA_NAME
        out.response_format.json_schema = json_text(wanted.format.schema)


def _set_choice(out: chat_pb2.GenerationParameters, choice: wire.ToolChoice) -> None:
    if (choice.type == "tool") != bool(choice.name):
        raise InvalidRequest("A name and the type tool go together.", param="tool_choice.name")
    if choice.name:
        out.tool_choice.tool_name = choice.name
    else:
        out.tool_choice.mode = _MODES[choice.type]
    if choice.disable_parallel_tool_use is not None:
        out.parallel_tool_calls = not choice.disable_parallel_tool_use
