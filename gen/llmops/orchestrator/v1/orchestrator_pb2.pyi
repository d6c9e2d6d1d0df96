import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from llmops.cache.v1 import cache_pb2 as _cache_pb2
from llmops.common.v1 import chat_pb2 as _chat_pb2
from llmops.common.v1 import context_pb2 as _context_pb2
from llmops.common.v1 import options_pb2 as _options_pb2
from llmops.common.v1 import usage_pb2 as _usage_pb2
from llmops.common.v1 import verdict_pb2 as _verdict_pb2
from llmops.router.v1 import router_pb2 as _router_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PromptInput(_message.Message):
    __slots__ = ("reference", "variables")
    class VariablesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    reference: str
    variables: _containers.ScalarMap[str, str]
    def __init__(self, reference: _Optional[str] = ..., variables: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CacheControl(_message.Message):
    __slots__ = ("bypass", "refresh", "no_store", "exact_only", "scope", "ttl_class", "max_age")
    BYPASS_FIELD_NUMBER: _ClassVar[int]
    REFRESH_FIELD_NUMBER: _ClassVar[int]
    NO_STORE_FIELD_NUMBER: _ClassVar[int]
    EXACT_ONLY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    TTL_CLASS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    bypass: bool
    refresh: bool
    no_store: bool
    exact_only: bool
    scope: _cache_pb2.CacheScope
    ttl_class: _cache_pb2.TtlClass
    max_age: _duration_pb2.Duration
    def __init__(self, bypass: bool = ..., refresh: bool = ..., no_store: bool = ..., exact_only: bool = ..., scope: _Optional[_Union[_cache_pb2.CacheScope, str]] = ..., ttl_class: _Optional[_Union[_cache_pb2.TtlClass, str]] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Conversation(_message.Message):
    __slots__ = ("prompt", "messages", "model", "tools", "parameters", "labels", "cache", "guard_policy")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    GUARD_POLICY_FIELD_NUMBER: _ClassVar[int]
    prompt: PromptInput
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    model: str
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ToolDefinition]
    parameters: _chat_pb2.GenerationParameters
    labels: _context_pb2.CallLabels
    cache: CacheControl
    guard_policy: str
    def __init__(self, prompt: _Optional[_Union[PromptInput, _Mapping]] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., model: _Optional[str] = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.ToolDefinition, _Mapping]]] = ..., parameters: _Optional[_Union[_chat_pb2.GenerationParameters, _Mapping]] = ..., labels: _Optional[_Union[_context_pb2.CallLabels, _Mapping]] = ..., cache: _Optional[_Union[CacheControl, _Mapping]] = ..., guard_policy: _Optional[str] = ...) -> None: ...

class CompleteRequest(_message.Message):
    __slots__ = ("request_id", "conversation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    conversation: Conversation
    def __init__(self, request_id: _Optional[str] = ..., conversation: _Optional[_Union[Conversation, _Mapping]] = ...) -> None: ...

class StepLatency(_message.Message):
    __slots__ = ("step", "duration")
    STEP_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    step: str
    duration: _duration_pb2.Duration
    def __init__(self, step: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CallReport(_message.Message):
    __slots__ = ("request_id", "trace_id", "prompt_version", "prompt_arm", "model", "attempts", "input_verdict", "output_verdict", "grounding_score", "cache_status", "cache_entry_id", "cost_nano_usd", "usage", "steps", "duration", "degraded", "accept_time", "replayed", "rates")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_ARM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_VERDICT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_VERDICT_FIELD_NUMBER: _ClassVar[int]
    GROUNDING_SCORE_FIELD_NUMBER: _ClassVar[int]
    CACHE_STATUS_FIELD_NUMBER: _ClassVar[int]
    CACHE_ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    COST_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_TIME_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    trace_id: str
    prompt_version: str
    prompt_arm: str
    model: str
    attempts: _containers.RepeatedCompositeFieldContainer[_router_pb2.Attempt]
    input_verdict: _verdict_pb2.GuardVerdict
    output_verdict: _verdict_pb2.GuardVerdict
    grounding_score: float
    cache_status: _cache_pb2.CacheStatus
    cache_entry_id: str
    cost_nano_usd: int
    usage: _usage_pb2.Usage
    steps: _containers.RepeatedCompositeFieldContainer[StepLatency]
    duration: _duration_pb2.Duration
    degraded: _containers.RepeatedScalarFieldContainer[str]
    accept_time: _timestamp_pb2.Timestamp
    replayed: bool
    rates: _containers.RepeatedCompositeFieldContainer[RateLimit]
    def __init__(self, request_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., prompt_version: _Optional[str] = ..., prompt_arm: _Optional[str] = ..., model: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[_router_pb2.Attempt, _Mapping]]] = ..., input_verdict: _Optional[_Union[_verdict_pb2.GuardVerdict, _Mapping]] = ..., output_verdict: _Optional[_Union[_verdict_pb2.GuardVerdict, _Mapping]] = ..., grounding_score: _Optional[float] = ..., cache_status: _Optional[_Union[_cache_pb2.CacheStatus, str]] = ..., cache_entry_id: _Optional[str] = ..., cost_nano_usd: _Optional[int] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[StepLatency, _Mapping]]] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., degraded: _Optional[_Iterable[str]] = ..., accept_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., replayed: bool = ..., rates: _Optional[_Iterable[_Union[RateLimit, _Mapping]]] = ...) -> None: ...

class RateLimit(_message.Message):
    __slots__ = ("unit", "limit_count", "remaining_count", "reset_after")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_COUNT_FIELD_NUMBER: _ClassVar[int]
    RESET_AFTER_FIELD_NUMBER: _ClassVar[int]
    unit: str
    limit_count: int
    remaining_count: int
    reset_after: _duration_pb2.Duration
    def __init__(self, unit: _Optional[str] = ..., limit_count: _Optional[int] = ..., remaining_count: _Optional[int] = ..., reset_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CompleteResponse(_message.Message):
    __slots__ = ("completion", "report")
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    completion: _chat_pb2.Completion
    report: CallReport
    def __init__(self, completion: _Optional[_Union[_chat_pb2.Completion, _Mapping]] = ..., report: _Optional[_Union[CallReport, _Mapping]] = ...) -> None: ...

class CompleteStreamRequest(_message.Message):
    __slots__ = ("request_id", "conversation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    conversation: Conversation
    def __init__(self, request_id: _Optional[str] = ..., conversation: _Optional[_Union[Conversation, _Mapping]] = ...) -> None: ...

class CompleteStreamResponse(_message.Message):
    __slots__ = ("started", "delta", "finished", "continued")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    CONTINUED_FIELD_NUMBER: _ClassVar[int]
    started: StreamStarted
    delta: _chat_pb2.CompletionDelta
    finished: StreamFinished
    continued: StreamContinued
    def __init__(self, started: _Optional[_Union[StreamStarted, _Mapping]] = ..., delta: _Optional[_Union[_chat_pb2.CompletionDelta, _Mapping]] = ..., finished: _Optional[_Union[StreamFinished, _Mapping]] = ..., continued: _Optional[_Union[StreamContinued, _Mapping]] = ...) -> None: ...

class StreamContinued(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class StreamStarted(_message.Message):
    __slots__ = ("request_id", "trace_id", "model", "prompt_version", "cache_status", "replayed", "rates", "degraded")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CACHE_STATUS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    trace_id: str
    model: str
    prompt_version: str
    cache_status: _cache_pb2.CacheStatus
    replayed: bool
    rates: _containers.RepeatedCompositeFieldContainer[RateLimit]
    degraded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., model: _Optional[str] = ..., prompt_version: _Optional[str] = ..., cache_status: _Optional[_Union[_cache_pb2.CacheStatus, str]] = ..., replayed: bool = ..., rates: _Optional[_Iterable[_Union[RateLimit, _Mapping]]] = ..., degraded: _Optional[_Iterable[str]] = ...) -> None: ...

class StreamFinished(_message.Message):
    __slots__ = ("finish_reason", "report")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    finish_reason: _chat_pb2.FinishReason
    report: CallReport
    def __init__(self, finish_reason: _Optional[_Union[_chat_pb2.FinishReason, str]] = ..., report: _Optional[_Union[CallReport, _Mapping]] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("request_id", "model", "texts", "dimensions", "purpose", "labels", "guard_policy")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    GUARD_POLICY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    dimensions: int
    purpose: _router_pb2.EmbeddingPurpose
    labels: _context_pb2.CallLabels
    guard_policy: str
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., dimensions: _Optional[int] = ..., purpose: _Optional[_Union[_router_pb2.EmbeddingPurpose, str]] = ..., labels: _Optional[_Union[_context_pb2.CallLabels, _Mapping]] = ..., guard_policy: _Optional[str] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("values_f32_le", "dimensions", "vector_space", "report")
    VALUES_F32_LE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_SPACE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    values_f32_le: bytes
    dimensions: int
    vector_space: str
    report: CallReport
    def __init__(self, values_f32_le: _Optional[bytes] = ..., dimensions: _Optional[int] = ..., vector_space: _Optional[str] = ..., report: _Optional[_Union[CallReport, _Mapping]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("report", "status", "reason", "message")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    report: CallReport
    status: str
    reason: str
    message: str
    def __init__(self, report: _Optional[_Union[CallReport, _Mapping]] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
