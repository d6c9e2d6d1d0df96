"""The dialects of answers: how each reads a request, writes an answer, writes a stream, and names parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from llmops.orchestrator.v1 import orchestrator_pb2 as pb

from services.edge.adapters.chat_answers import ChunkWriter, whole_answer
from services.edge.adapters.chat_requests import read_chat
from services.edge.adapters.messages_answers import MessagesWriter, whole_message
from services.edge.adapters.messages_requests import read_messages
from services.edge.adapters.responses_answers import ResponsesWriter, whole_response
from services.edge.adapters.responses_requests import read_responses
from services.edge.core import embeddings_parameters, messages_parameters, parameters, responses_parameters
from services.edge.core.answer_facts import AnswerFacts
from services.edge.core.ports import CHAT, MESSAGES, RESPONSES, ChatAnswer, ChatRequest


class StreamWriter(Protocol):
    """The frames of one stream."""

    def frames(self, event: pb.CompleteStreamResponse) -> tuple[AnswerFacts | bytes, ...]:
        """What an event becomes; of the first one, the facts first. Raises CallFailed on a wrong order."""
        ...

    def require_finished(self) -> None:
        """Raises CallFailed when the events ended before the last one."""
        ...


@dataclass(frozen=True, slots=True)
class Names:
    """What parameters are called: by field of the contract, and by a reason that alone tells which one is at fault."""

    param_of: Callable[[str], str]
    by_reason: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of them. `whole` and `writer` take the request, its id, and when it came in Unix seconds."""

    read: Callable[[bytes], ChatRequest]
    whole: Callable[[pb.CompleteResponse, ChatRequest, str, int], ChatAnswer]
    writer: Callable[[ChatRequest, str, int], StreamWriter]
    names: Names


CHAT_NAMES = Names(parameters.param_of)
EMBEDDINGS_NAMES = Names(embeddings_parameters.param_of, embeddings_parameters.BY_REASON)
DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        CHAT: Dialect(read_chat, whole_answer, ChunkWriter, CHAT_NAMES),
        RESPONSES: Dialect(
            read_responses,
            whole_response,
            ResponsesWriter,
            Names(responses_parameters.param_of, responses_parameters.BY_REASON),
        ),
        MESSAGES: Dialect(
            read_messages,
            whole_message,
            MessagesWriter,
            Names(messages_parameters.param_of),
        ),
    }
)
