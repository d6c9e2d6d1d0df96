from buf.validate import validate_pb2 as _validate_pb2
from llmops.common.v1 import chat_pb2 as _chat_pb2
from llmops.common.v1 import context_pb2 as _context_pb2
from llmops.common.v1 import options_pb2 as _options_pb2
from llmops.common.v1 import verdict_pb2 as _verdict_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckInputRequest(_message.Message):
    __slots__ = ("policy", "messages", "embed", "tools")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    EMBED_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    embed: bool
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ToolDefinition]
    def __init__(self, policy: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., embed: bool = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.ToolDefinition, _Mapping]]] = ...) -> None: ...

class CheckInputResponse(_message.Message):
    __slots__ = ("verdict", "masked_messages", "masked_values", "embedding", "language", "complexity", "estimated_input_tokens")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MASKED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MASKED_VALUES_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    COMPLEXITY_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    verdict: _verdict_pb2.GuardVerdict
    masked_messages: _containers.RepeatedCompositeFieldContainer[MaskedMessage]
    masked_values: _containers.RepeatedCompositeFieldContainer[_verdict_pb2.MaskedValue]
    embedding: _context_pb2.Embedding
    language: str
    complexity: float
    estimated_input_tokens: int
    def __init__(self, verdict: _Optional[_Union[_verdict_pb2.GuardVerdict, _Mapping]] = ..., masked_messages: _Optional[_Iterable[_Union[MaskedMessage, _Mapping]]] = ..., masked_values: _Optional[_Iterable[_Union[_verdict_pb2.MaskedValue, _Mapping]]] = ..., embedding: _Optional[_Union[_context_pb2.Embedding, _Mapping]] = ..., language: _Optional[str] = ..., complexity: _Optional[float] = ..., estimated_input_tokens: _Optional[int] = ...) -> None: ...

class MaskedMessage(_message.Message):
    __slots__ = ("message_index", "message")
    MESSAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message_index: int
    message: _chat_pb2.ChatMessage
    def __init__(self, message_index: _Optional[int] = ..., message: _Optional[_Union[_chat_pb2.ChatMessage, _Mapping]] = ...) -> None: ...

class CheckOutputRequest(_message.Message):
    __slots__ = ("policy", "completion", "json_schema", "masked_values", "sources")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    MASKED_VALUES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    policy: str
    completion: _chat_pb2.Completion
    json_schema: str
    masked_values: _containers.RepeatedCompositeFieldContainer[_verdict_pb2.MaskedValue]
    sources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy: _Optional[str] = ..., completion: _Optional[_Union[_chat_pb2.Completion, _Mapping]] = ..., json_schema: _Optional[str] = ..., masked_values: _Optional[_Iterable[_Union[_verdict_pb2.MaskedValue, _Mapping]]] = ..., sources: _Optional[_Iterable[str]] = ...) -> None: ...

class CheckOutputResponse(_message.Message):
    __slots__ = ("verdict", "completion", "schema_violations", "grounding_score", "confidence")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    GROUNDING_SCORE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    verdict: _verdict_pb2.GuardVerdict
    completion: _chat_pb2.Completion
    schema_violations: _containers.RepeatedCompositeFieldContainer[SchemaViolation]
    grounding_score: float
    confidence: float
    def __init__(self, verdict: _Optional[_Union[_verdict_pb2.GuardVerdict, _Mapping]] = ..., completion: _Optional[_Union[_chat_pb2.Completion, _Mapping]] = ..., schema_violations: _Optional[_Iterable[_Union[SchemaViolation, _Mapping]]] = ..., grounding_score: _Optional[float] = ..., confidence: _Optional[float] = ...) -> None: ...

class SchemaViolation(_message.Message):
    __slots__ = ("pointer", "rule")
    POINTER_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    pointer: str
    rule: str
    def __init__(self, pointer: _Optional[str] = ..., rule: _Optional[str] = ...) -> None: ...

class CheckOutputStreamRequest(_message.Message):
    __slots__ = ("open", "delta", "finish")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    open: StreamOpen
    delta: _chat_pb2.CompletionDelta
    finish: StreamFinish
    def __init__(self, open: _Optional[_Union[StreamOpen, _Mapping]] = ..., delta: _Optional[_Union[_chat_pb2.CompletionDelta, _Mapping]] = ..., finish: _Optional[_Union[StreamFinish, _Mapping]] = ...) -> None: ...

class StreamOpen(_message.Message):
    __slots__ = ("policy", "json_schema", "masked_values", "sources")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    MASKED_VALUES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    policy: str
    json_schema: str
    masked_values: _containers.RepeatedCompositeFieldContainer[_verdict_pb2.MaskedValue]
    sources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy: _Optional[str] = ..., json_schema: _Optional[str] = ..., masked_values: _Optional[_Iterable[_Union[_verdict_pb2.MaskedValue, _Mapping]]] = ..., sources: _Optional[_Iterable[str]] = ...) -> None: ...

class StreamFinish(_message.Message):
    __slots__ = ("finish_reason",)
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    finish_reason: _chat_pb2.FinishReason
    def __init__(self, finish_reason: _Optional[_Union[_chat_pb2.FinishReason, str]] = ...) -> None: ...

class CheckOutputStreamResponse(_message.Message):
    __slots__ = ("release", "verdict")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    release: _chat_pb2.CompletionDelta
    verdict: StreamVerdict
    def __init__(self, release: _Optional[_Union[_chat_pb2.CompletionDelta, _Mapping]] = ..., verdict: _Optional[_Union[StreamVerdict, _Mapping]] = ...) -> None: ...

class StreamVerdict(_message.Message):
    __slots__ = ("verdict", "schema_violations", "grounding_score")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    GROUNDING_SCORE_FIELD_NUMBER: _ClassVar[int]
    verdict: _verdict_pb2.GuardVerdict
    schema_violations: _containers.RepeatedCompositeFieldContainer[SchemaViolation]
    grounding_score: float
    def __init__(self, verdict: _Optional[_Union[_verdict_pb2.GuardVerdict, _Mapping]] = ..., schema_violations: _Optional[_Iterable[_Union[SchemaViolation, _Mapping]]] = ..., grounding_score: _Optional[float] = ...) -> None: ...

class AnonymizeRequest(_message.Message):
    __slots__ = ("policy", "texts")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class AnonymizeResponse(_message.Message):
    __slots__ = ("texts", "masked_values")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    MASKED_VALUES_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    masked_values: _containers.RepeatedCompositeFieldContainer[_verdict_pb2.MaskedValue]
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., masked_values: _Optional[_Iterable[_Union[_verdict_pb2.MaskedValue, _Mapping]]] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("texts", "masked_values")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    MASKED_VALUES_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    masked_values: _containers.RepeatedCompositeFieldContainer[_verdict_pb2.MaskedValue]
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., masked_values: _Optional[_Iterable[_Union[_verdict_pb2.MaskedValue, _Mapping]]] = ...) -> None: ...

class RestoreResponse(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("embeddings",)
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[_context_pb2.Embedding]
    def __init__(self, embeddings: _Optional[_Iterable[_Union[_context_pb2.Embedding, _Mapping]]] = ...) -> None: ...
