import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from llmops.common.v1 import chat_pb2 as _chat_pb2
from llmops.common.v1 import context_pb2 as _context_pb2
from llmops.common.v1 import options_pb2 as _options_pb2
from llmops.common.v1 import usage_pb2 as _usage_pb2
from llmops.common.v1 import verdict_pb2 as _verdict_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CacheScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_SCOPE_UNSPECIFIED: _ClassVar[CacheScope]
    CACHE_SCOPE_ORGANISATION: _ClassVar[CacheScope]
    CACHE_SCOPE_TEAM: _ClassVar[CacheScope]
    CACHE_SCOPE_USER: _ClassVar[CacheScope]

class CacheStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_STATUS_UNSPECIFIED: _ClassVar[CacheStatus]
    CACHE_STATUS_MISS: _ClassVar[CacheStatus]
    CACHE_STATUS_EXACT: _ClassVar[CacheStatus]
    CACHE_STATUS_SEMANTIC: _ClassVar[CacheStatus]
    CACHE_STATUS_STALE: _ClassVar[CacheStatus]
    CACHE_STATUS_BYPASS: _ClassVar[CacheStatus]

class TtlClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TTL_CLASS_UNSPECIFIED: _ClassVar[TtlClass]
    TTL_CLASS_VOLATILE: _ClassVar[TtlClass]
    TTL_CLASS_STANDARD: _ClassVar[TtlClass]
    TTL_CLASS_STABLE: _ClassVar[TtlClass]
CACHE_SCOPE_UNSPECIFIED: CacheScope
CACHE_SCOPE_ORGANISATION: CacheScope
CACHE_SCOPE_TEAM: CacheScope
CACHE_SCOPE_USER: CacheScope
CACHE_STATUS_UNSPECIFIED: CacheStatus
CACHE_STATUS_MISS: CacheStatus
CACHE_STATUS_EXACT: CacheStatus
CACHE_STATUS_SEMANTIC: CacheStatus
CACHE_STATUS_STALE: CacheStatus
CACHE_STATUS_BYPASS: CacheStatus
TTL_CLASS_UNSPECIFIED: TtlClass
TTL_CLASS_VOLATILE: TtlClass
TTL_CLASS_STANDARD: TtlClass
TTL_CLASS_STABLE: TtlClass

class CacheKey(_message.Message):
    __slots__ = ("scope", "model_policy", "prompt_digest", "messages", "tools", "parameters", "guard_policy", "end_user")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    MODEL_POLICY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    GUARD_POLICY_FIELD_NUMBER: _ClassVar[int]
    END_USER_FIELD_NUMBER: _ClassVar[int]
    scope: CacheScope
    model_policy: str
    prompt_digest: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ToolDefinition]
    parameters: _chat_pb2.GenerationParameters
    guard_policy: str
    end_user: str
    def __init__(self, scope: _Optional[_Union[CacheScope, str]] = ..., model_policy: _Optional[str] = ..., prompt_digest: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.ToolDefinition, _Mapping]]] = ..., parameters: _Optional[_Union[_chat_pb2.GenerationParameters, _Mapping]] = ..., guard_policy: _Optional[str] = ..., end_user: _Optional[str] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("key", "embedding", "language", "max_age", "allow_stale")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    key: CacheKey
    embedding: _context_pb2.Embedding
    language: str
    max_age: _duration_pb2.Duration
    allow_stale: bool
    def __init__(self, key: _Optional[_Union[CacheKey, _Mapping]] = ..., embedding: _Optional[_Union[_context_pb2.Embedding, _Mapping]] = ..., language: _Optional[str] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., allow_stale: bool = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("status", "entry", "similarity", "refusal")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    status: CacheStatus
    entry: CacheEntry
    similarity: float
    refusal: str
    def __init__(self, status: _Optional[_Union[CacheStatus, str]] = ..., entry: _Optional[_Union[CacheEntry, _Mapping]] = ..., similarity: _Optional[float] = ..., refusal: _Optional[str] = ...) -> None: ...

class CacheEntry(_message.Message):
    __slots__ = ("entry_id", "completion", "usage", "model", "verdict", "create_time", "expire_time")
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    entry_id: str
    completion: _chat_pb2.Completion
    usage: _usage_pb2.Usage
    model: str
    verdict: _verdict_pb2.GuardVerdict
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, entry_id: _Optional[str] = ..., completion: _Optional[_Union[_chat_pb2.Completion, _Mapping]] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., model: _Optional[str] = ..., verdict: _Optional[_Union[_verdict_pb2.GuardVerdict, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StoreRequest(_message.Message):
    __slots__ = ("request_id", "key", "embedding", "language", "completion", "usage", "model", "verdict", "ttl_class", "ttl")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    TTL_CLASS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    key: CacheKey
    embedding: _context_pb2.Embedding
    language: str
    completion: _chat_pb2.Completion
    usage: _usage_pb2.Usage
    model: str
    verdict: _verdict_pb2.GuardVerdict
    ttl_class: TtlClass
    ttl: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., key: _Optional[_Union[CacheKey, _Mapping]] = ..., embedding: _Optional[_Union[_context_pb2.Embedding, _Mapping]] = ..., language: _Optional[str] = ..., completion: _Optional[_Union[_chat_pb2.Completion, _Mapping]] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., model: _Optional[str] = ..., verdict: _Optional[_Union[_verdict_pb2.GuardVerdict, _Mapping]] = ..., ttl_class: _Optional[_Union[TtlClass, str]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StoreResponse(_message.Message):
    __slots__ = ("entry_id", "expire_time")
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    entry_id: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, entry_id: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class InvalidateRequest(_message.Message):
    __slots__ = ("request_id", "prompt_digest", "writer_key_id", "key", "entry_id", "everything")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WRITER_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prompt_digest: str
    writer_key_id: str
    key: CacheKey
    entry_id: str
    everything: bool
    def __init__(self, request_id: _Optional[str] = ..., prompt_digest: _Optional[str] = ..., writer_key_id: _Optional[str] = ..., key: _Optional[_Union[CacheKey, _Mapping]] = ..., entry_id: _Optional[str] = ..., everything: bool = ...) -> None: ...

class InvalidateResponse(_message.Message):
    __slots__ = ("entry_count",)
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    entry_count: int
    def __init__(self, entry_count: _Optional[int] = ...) -> None: ...

class ReportBadHitRequest(_message.Message):
    __slots__ = ("request_id", "entry_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    entry_id: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., entry_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReportBadHitResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("entry_count", "lookup_count", "exact_hit_count", "semantic_hit_count", "refused_candidate_count", "bad_hit_count")
    ENTRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXACT_HIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEMANTIC_HIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_CANDIDATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    BAD_HIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    entry_count: int
    lookup_count: int
    exact_hit_count: int
    semantic_hit_count: int
    refused_candidate_count: int
    bad_hit_count: int
    def __init__(self, entry_count: _Optional[int] = ..., lookup_count: _Optional[int] = ..., exact_hit_count: _Optional[int] = ..., semantic_hit_count: _Optional[int] = ..., refused_candidate_count: _Optional[int] = ..., bad_hit_count: _Optional[int] = ...) -> None: ...
