"""A request in the contract's terms, rendered: the payload that the services' adapters share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmops.common.v1 import chat_pb2, context_pb2, verdict_pb2
from llmops.guard.v1 import guard_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from meshkit.context import new_request_id
from services.orchestrator.core.model import Checked, Shadow, Turn
from services.orchestrator.core.shadows import FEATURE


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a turn carries as its payload."""

    messages: Sequence[chat_pb2.ChatMessage]
    tools: Sequence[chat_pb2.ToolDefinition]
    parameters: chat_pb2.GenerationParameters
    labels: context_pb2.CallLabels
    model: str
    prompt_digest: str
    json_schema: str
    cache: pb.CacheControl


def conversation_of(turn: Turn) -> Conversation:
    """The turn's payload."""
    assert isinstance(turn.payload, Conversation)
    return turn.payload


def check_of(checked: Checked) -> guard_pb2.CheckInputResponse | None:
    """The guard's answer on the input; None when the guard was not asked or did not answer."""
    payload = checked.payload
    assert payload is None or isinstance(payload, guard_pb2.CheckInputResponse)
    return payload


def masked_values(checked: Checked) -> Sequence[verdict_pb2.MaskedValue]:
    """The values to restore."""
    answer = check_of(checked)
    return () if answer is None else answer.masked_values


def messages_to_send(turn: Turn, checked: Checked) -> Sequence[chat_pb2.ChatMessage]:
    """The conversation after masking: what may leave for a model."""
    messages = conversation_of(turn).messages
    answer = check_of(checked)
    if answer is None or not answer.masked_messages:
        return messages
    replaced = {masked.message_index: masked.message for masked in answer.masked_messages}
    return [replaced.get(index, message) for index, message in enumerate(messages)]


def shadow_copy(turn: Turn, shadow: Shadow) -> Turn:
    """The same conversation for a shadow's model. A fresh id: providers must not take it for the caller's request."""
    conversation = conversation_of(turn)
    labels = context_pb2.CallLabels()
    labels.CopyFrom(conversation.labels)
    labels.feature = FEATURE
    return replace(turn, request_id=new_request_id(), payload=replace(conversation, model=shadow.name, labels=labels))


def text_bytes(
    messages: Sequence[chat_pb2.ChatMessage], tools: Sequence[chat_pb2.ToolDefinition], schema: str = ""
) -> int:
    """UTF-8 bytes that a model will read, images left out: the base of token estimates, with `image_count`.

    Providers put tools and the answer's `schema` into the prompt and bill them as input.
    """
    total = _utf8_bytes(schema)
    for message in messages:
        total += _utf8_bytes(message.content)
        for part in message.parts:
            total += _utf8_bytes(part.text)
        for call in message.tool_calls:
            total += _utf8_bytes(call.name) + _utf8_bytes(call.arguments_json)
    for tool in tools:
        total += _utf8_bytes(tool.name) + _utf8_bytes(tool.description) + _utf8_bytes(tool.parameters_json_schema)
    return total


def image_count(messages: Sequence[chat_pb2.ChatMessage]) -> int:
    """Images that a model will see."""
    return sum(part.HasField("image") for message in messages for part in message.parts)


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
