"""What is asked of a model: requests of the contract in the core's terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from llmops.common.v1 import chat_pb2, context_pb2
from llmops.router.v1 import router_pb2 as pb

from meshkit.context import current
from meshkit.errors import InvalidField
from services.router.core import chat
from services.router.core.facts import Origin
from services.router.core.ports import EmbedTexts

_ROLES: dict[int, chat.Role] = {
    chat_pb2.CHAT_ROLE_SYSTEM: "system",
    chat_pb2.CHAT_ROLE_DEVELOPER: "developer",
    chat_pb2.CHAT_ROLE_USER: "user",
    chat_pb2.CHAT_ROLE_ASSISTANT: "assistant",
    chat_pb2.CHAT_ROLE_TOOL: "tool",
}
_TEXT_PURPOSES = {pb.EMBEDDING_PURPOSE_DOCUMENT: "document", pb.EMBEDDING_PURPOSE_QUERY: "query"}
_NO_PARAMETERS = chat.Parameters()


class CallRequests:
    """Requests as the router takes them."""

    def model_call(self, call: pb.ModelCall, request_id: str) -> chat.ModelCall:
        """The conversation, and of whom it is. Raises InvalidField."""
        return chat.ModelCall(
            call.model,
            tuple(_message(message, index) for index, message in enumerate(call.messages)),
            tuple(_tool(tool) for tool in call.tools),
            _parameters(call.parameters) if call.HasField("parameters") else _NO_PARAMETERS,
            tuple(call.model_names),
            _origin(call, request_id),
        )

    def texts(self, request: pb.EmbedRequest, request_id: str) -> EmbedTexts:
        """The texts, and of whom they are."""
        return EmbedTexts(
            request.model,
            tuple(request.texts),
            request.dimensions,
            _TEXT_PURPOSES.get(request.purpose, ""),
            tuple(request.model_names),
            _owner(request.labels, request_id),
        )

    def origin(self, request: pb.PlanRequest, request_id: str) -> Origin:
        """Of whom the call would be that is planned. Raises InvalidField."""
        return _origin(request, request_id)


def _owner(labels: context_pb2.CallLabels, request_id: str) -> Origin:
    """Of a call without a conversation. The organisation is the credential's; the rest is what the caller says."""
    principal = current().principal
    user = labels.end_user or principal.user
    return Origin(
        principal.organisation, labels.feature, labels.conversation_id, user, labels.data_class, "", request_id
    )


def _origin(asked: pb.PlanRequest | pb.ModelCall, request_id: str) -> Origin:
    vector = None
    if asked.embedding.values_f32_le:
        try:
            vector = np.frombuffer(asked.embedding.values_f32_le, "<f4")
        except ValueError:
            raise InvalidField("embedding.values_f32_le", "must be whole numbers of 4 bytes") from None
    owner = _owner(asked.labels, request_id)
    return replace(owner, language=asked.language, encoder=asked.embedding.model, embedding=vector)


def _message(message: chat_pb2.ChatMessage, index: int) -> chat.Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidField(f"call.messages[{index}].role", "must be a role that this version knows")
    calls: tuple[chat.ToolCall, ...] = ()
    parts: tuple[chat.TextPart | chat.ImagePart, ...] = ()
    if message.tool_calls:
        calls = tuple(chat.ToolCall(c.id, c.name, c.arguments_json, c.index) for c in message.tool_calls)
    if message.parts:
        parts = tuple(_part(part, index, place) for place, part in enumerate(message.parts))
    return chat.Message(role, message.content, parts, calls, message.tool_call_id, message.name)


def _part(part: chat_pb2.ContentPart, index: int, place: int) -> chat.TextPart | chat.ImagePart:
    if part.WhichOneof("kind") == "image":
        # A provider of one's own would fetch http: from its network and read file: from its disk.
        if not part.image.url.lower().startswith(("https://", "data:")):
            field_path = f"call.messages[{index}].parts[{place}].image.url"
            raise InvalidField(field_path, "must be an https: or a data: address")
        return chat.ImagePart(part.image.url, part.image.detail)
    return chat.TextPart(part.text)


def _tool(tool: chat_pb2.ToolDefinition) -> chat.ToolDefinition:
    strict = tool.strict if tool.HasField("strict") else None
    return chat.ToolDefinition(tool.name, tool.description, tool.parameters_json_schema, strict)


def _parameters(message: chat_pb2.GenerationParameters) -> chat.Parameters:
    has = message.HasField
    return chat.Parameters(
        temperature=message.temperature if has("temperature") else None,
        top_p=message.top_p if has("top_p") else None,
        max_output_tokens=message.max_output_tokens if has("max_output_tokens") else None,
        stop=tuple(message.stop),
        seed=message.seed if has("seed") else None,
        presence_penalty=message.presence_penalty if has("presence_penalty") else None,
        frequency_penalty=message.frequency_penalty if has("frequency_penalty") else None,
        response_format=_form(message.response_format) if has("response_format") else _NO_PARAMETERS.response_format,
        tool_choice=_choice(message.tool_choice) if has("tool_choice") else _NO_PARAMETERS.tool_choice,
        parallel_tool_calls=message.parallel_tool_calls if has("parallel_tool_calls") else None,
        reasoning_effort=message.reasoning_effort,
        extra_json=message.extra_json,
    )


def _form(form: chat_pb2.ResponseFormat) -> chat.ResponseFormat:
    strict = form.strict if form.HasField("strict") else None
    return chat.ResponseFormat(form.type, form.schema_name, form.json_schema, strict)


def _choice(choice: chat_pb2.ToolChoice) -> chat.ToolChoice:
    return chat.ToolChoice(choice.mode, choice.tool_name)
