import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from llmops.common.v1 import chat_pb2 as _chat_pb2
from llmops.common.v1 import context_pb2 as _context_pb2
from llmops.common.v1 import options_pb2 as _options_pb2
from llmops.common.v1 import usage_pb2 as _usage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttemptOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_OUTCOME_UNSPECIFIED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_SUCCEEDED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_REFUSED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_RATE_LIMITED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_TIMED_OUT: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_NOT_CONNECTED: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_BROKEN: _ClassVar[AttemptOutcome]
    ATTEMPT_OUTCOME_CANCELLED: _ClassVar[AttemptOutcome]

class AttemptPurpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_PURPOSE_UNSPECIFIED: _ClassVar[AttemptPurpose]
    ATTEMPT_PURPOSE_FIRST: _ClassVar[AttemptPurpose]
    ATTEMPT_PURPOSE_RETRY: _ClassVar[AttemptPurpose]
    ATTEMPT_PURPOSE_FALLBACK: _ClassVar[AttemptPurpose]
    ATTEMPT_PURPOSE_HEDGE: _ClassVar[AttemptPurpose]
    ATTEMPT_PURPOSE_CONTINUATION: _ClassVar[AttemptPurpose]

class EmbeddingPurpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EMBEDDING_PURPOSE_UNSPECIFIED: _ClassVar[EmbeddingPurpose]
    EMBEDDING_PURPOSE_DOCUMENT: _ClassVar[EmbeddingPurpose]
    EMBEDDING_PURPOSE_QUERY: _ClassVar[EmbeddingPurpose]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_LIVE: _ClassVar[ModelState]
    MODEL_STATE_COOLING: _ClassVar[ModelState]
    MODEL_STATE_BREAKER_OPEN: _ClassVar[ModelState]
    MODEL_STATE_HALF_OPEN: _ClassVar[ModelState]
    MODEL_STATE_QUARANTINED: _ClassVar[ModelState]
    MODEL_STATE_WITHOUT_KEY: _ClassVar[ModelState]
ATTEMPT_OUTCOME_UNSPECIFIED: AttemptOutcome
ATTEMPT_OUTCOME_SUCCEEDED: AttemptOutcome
ATTEMPT_OUTCOME_REFUSED: AttemptOutcome
ATTEMPT_OUTCOME_RATE_LIMITED: AttemptOutcome
ATTEMPT_OUTCOME_TIMED_OUT: AttemptOutcome
ATTEMPT_OUTCOME_NOT_CONNECTED: AttemptOutcome
ATTEMPT_OUTCOME_BROKEN: AttemptOutcome
ATTEMPT_OUTCOME_CANCELLED: AttemptOutcome
ATTEMPT_PURPOSE_UNSPECIFIED: AttemptPurpose
ATTEMPT_PURPOSE_FIRST: AttemptPurpose
ATTEMPT_PURPOSE_RETRY: AttemptPurpose
ATTEMPT_PURPOSE_FALLBACK: AttemptPurpose
ATTEMPT_PURPOSE_HEDGE: AttemptPurpose
ATTEMPT_PURPOSE_CONTINUATION: AttemptPurpose
EMBEDDING_PURPOSE_UNSPECIFIED: EmbeddingPurpose
EMBEDDING_PURPOSE_DOCUMENT: EmbeddingPurpose
EMBEDDING_PURPOSE_QUERY: EmbeddingPurpose
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_LIVE: ModelState
MODEL_STATE_COOLING: ModelState
MODEL_STATE_BREAKER_OPEN: ModelState
MODEL_STATE_HALF_OPEN: ModelState
MODEL_STATE_QUARANTINED: ModelState
MODEL_STATE_WITHOUT_KEY: ModelState

class ModelCall(_message.Message):
    __slots__ = ("model", "messages", "tools", "parameters", "labels", "embedding", "language", "model_names")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    tools: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ToolDefinition]
    parameters: _chat_pb2.GenerationParameters
    labels: _context_pb2.CallLabels
    embedding: _context_pb2.Embedding
    language: str
    model_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_chat_pb2.ToolDefinition, _Mapping]]] = ..., parameters: _Optional[_Union[_chat_pb2.GenerationParameters, _Mapping]] = ..., labels: _Optional[_Union[_context_pb2.CallLabels, _Mapping]] = ..., embedding: _Optional[_Union[_context_pb2.Embedding, _Mapping]] = ..., language: _Optional[str] = ..., model_names: _Optional[_Iterable[str]] = ...) -> None: ...

class CompleteRequest(_message.Message):
    __slots__ = ("request_id", "call")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    call: ModelCall
    def __init__(self, request_id: _Optional[str] = ..., call: _Optional[_Union[ModelCall, _Mapping]] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("model_name", "provider", "model", "outcome", "http_status", "duration", "usage", "cause", "purpose")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    provider: str
    model: str
    outcome: AttemptOutcome
    http_status: int
    duration: _duration_pb2.Duration
    usage: _usage_pb2.Usage
    cause: str
    purpose: AttemptPurpose
    def __init__(self, model_name: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., outcome: _Optional[_Union[AttemptOutcome, str]] = ..., http_status: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., cause: _Optional[str] = ..., purpose: _Optional[_Union[AttemptPurpose, str]] = ...) -> None: ...

class CompleteResponse(_message.Message):
    __slots__ = ("completion", "usage", "attempts", "served_model", "provider_response_id")
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SERVED_MODEL_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    completion: _chat_pb2.Completion
    usage: _usage_pb2.Usage
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    served_model: str
    provider_response_id: str
    def __init__(self, completion: _Optional[_Union[_chat_pb2.Completion, _Mapping]] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., served_model: _Optional[str] = ..., provider_response_id: _Optional[str] = ...) -> None: ...

class CompleteWithTriesRequest(_message.Message):
    __slots__ = ("request_id", "call")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    call: ModelCall
    def __init__(self, request_id: _Optional[str] = ..., call: _Optional[_Union[ModelCall, _Mapping]] = ...) -> None: ...

class CompleteWithTriesResponse(_message.Message):
    __slots__ = ("tries", "answer")
    TRIES_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    tries: TriesSoFar
    answer: CompleteResponse
    def __init__(self, tries: _Optional[_Union[TriesSoFar, _Mapping]] = ..., answer: _Optional[_Union[CompleteResponse, _Mapping]] = ...) -> None: ...

class TriesSoFar(_message.Message):
    __slots__ = ("attempts",)
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    def __init__(self, attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ...) -> None: ...

class CompleteStreamRequest(_message.Message):
    __slots__ = ("request_id", "call")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    call: ModelCall
    def __init__(self, request_id: _Optional[str] = ..., call: _Optional[_Union[ModelCall, _Mapping]] = ...) -> None: ...

class CompleteStreamResponse(_message.Message):
    __slots__ = ("started", "delta", "finished", "continued", "tries")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    CONTINUED_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    started: StreamStarted
    delta: _chat_pb2.CompletionDelta
    finished: StreamFinished
    continued: StreamContinued
    tries: TriesSoFar
    def __init__(self, started: _Optional[_Union[StreamStarted, _Mapping]] = ..., delta: _Optional[_Union[_chat_pb2.CompletionDelta, _Mapping]] = ..., finished: _Optional[_Union[StreamFinished, _Mapping]] = ..., continued: _Optional[_Union[StreamContinued, _Mapping]] = ..., tries: _Optional[_Union[TriesSoFar, _Mapping]] = ...) -> None: ...

class StreamContinued(_message.Message):
    __slots__ = ("attempts", "served_model")
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SERVED_MODEL_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    served_model: str
    def __init__(self, attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., served_model: _Optional[str] = ...) -> None: ...

class StreamStarted(_message.Message):
    __slots__ = ("attempts", "served_model")
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SERVED_MODEL_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    served_model: str
    def __init__(self, attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., served_model: _Optional[str] = ...) -> None: ...

class StreamFinished(_message.Message):
    __slots__ = ("finish_reason", "usage", "attempts", "provider_response_id")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    finish_reason: _chat_pb2.FinishReason
    usage: _usage_pb2.Usage
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    provider_response_id: str
    def __init__(self, finish_reason: _Optional[_Union[_chat_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., provider_response_id: _Optional[str] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("request_id", "model", "texts", "dimensions", "purpose", "model_names", "labels")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    dimensions: int
    purpose: EmbeddingPurpose
    model_names: _containers.RepeatedScalarFieldContainer[str]
    labels: _context_pb2.CallLabels
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., dimensions: _Optional[int] = ..., purpose: _Optional[_Union[EmbeddingPurpose, str]] = ..., model_names: _Optional[_Iterable[str]] = ..., labels: _Optional[_Union[_context_pb2.CallLabels, _Mapping]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("values_f32_le", "dimensions", "vector_space", "usage", "attempts", "served_model")
    VALUES_F32_LE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_SPACE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SERVED_MODEL_FIELD_NUMBER: _ClassVar[int]
    values_f32_le: bytes
    dimensions: int
    vector_space: str
    usage: _usage_pb2.Usage
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    served_model: str
    def __init__(self, values_f32_le: _Optional[bytes] = ..., dimensions: _Optional[int] = ..., vector_space: _Optional[str] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., served_model: _Optional[str] = ...) -> None: ...

class EmbedWithTriesRequest(_message.Message):
    __slots__ = ("call",)
    CALL_FIELD_NUMBER: _ClassVar[int]
    call: EmbedRequest
    def __init__(self, call: _Optional[_Union[EmbedRequest, _Mapping]] = ...) -> None: ...

class EmbedWithTriesResponse(_message.Message):
    __slots__ = ("tries", "answer")
    TRIES_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    tries: TriesSoFar
    answer: EmbedResponse
    def __init__(self, tries: _Optional[_Union[TriesSoFar, _Mapping]] = ..., answer: _Optional[_Union[EmbedResponse, _Mapping]] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("model", "labels", "uses_tools", "input_tokens", "uses_images", "structured_output", "language", "embedding", "planned_request_id", "kind")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    USES_TOOLS_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    USES_IMAGES_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    PLANNED_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    model: str
    labels: _context_pb2.CallLabels
    uses_tools: bool
    input_tokens: int
    uses_images: bool
    structured_output: bool
    language: str
    embedding: _context_pb2.Embedding
    planned_request_id: str
    kind: str
    def __init__(self, model: _Optional[str] = ..., labels: _Optional[_Union[_context_pb2.CallLabels, _Mapping]] = ..., uses_tools: bool = ..., input_tokens: _Optional[int] = ..., uses_images: bool = ..., structured_output: bool = ..., language: _Optional[str] = ..., embedding: _Optional[_Union[_context_pb2.Embedding, _Mapping]] = ..., planned_request_id: _Optional[str] = ..., kind: _Optional[str] = ...) -> None: ...

class PlannedCandidate(_message.Message):
    __slots__ = ("model_name", "provider", "model", "timeout", "max_output_tokens", "reason", "drain_on_cancel")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRAIN_ON_CANCEL_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    provider: str
    model: str
    timeout: _duration_pb2.Duration
    max_output_tokens: int
    reason: str
    drain_on_cancel: bool
    def __init__(self, model_name: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_output_tokens: _Optional[int] = ..., reason: _Optional[str] = ..., drain_on_cancel: bool = ...) -> None: ...

class RejectedCandidate(_message.Message):
    __slots__ = ("model_name", "reason", "detail", "retry_after", "rate_limited")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    reason: str
    detail: str
    retry_after: _duration_pb2.Duration
    rate_limited: bool
    def __init__(self, model_name: _Optional[str] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., rate_limited: bool = ...) -> None: ...

class PlannedShadow(_message.Message):
    __slots__ = ("model_name", "provider", "model")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    provider: str
    model: str
    def __init__(self, model_name: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class PlannedCascade(_message.Message):
    __slots__ = ("min_confidence",)
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    min_confidence: float
    def __init__(self, min_confidence: _Optional[float] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("candidates", "rejected", "model_policy", "strategy", "max_billed_calls", "shadow", "cascade", "apology", "allow_stale", "wants_embedding", "refusal")
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    MODEL_POLICY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    MAX_BILLED_CALLS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    CASCADE_FIELD_NUMBER: _ClassVar[int]
    APOLOGY_FIELD_NUMBER: _ClassVar[int]
    ALLOW_STALE_FIELD_NUMBER: _ClassVar[int]
    WANTS_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    candidates: _containers.RepeatedCompositeFieldContainer[PlannedCandidate]
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedCandidate]
    model_policy: str
    strategy: str
    max_billed_calls: int
    shadow: PlannedShadow
    cascade: PlannedCascade
    apology: str
    allow_stale: bool
    wants_embedding: bool
    refusal: PlanRefusal
    def __init__(self, candidates: _Optional[_Iterable[_Union[PlannedCandidate, _Mapping]]] = ..., rejected: _Optional[_Iterable[_Union[RejectedCandidate, _Mapping]]] = ..., model_policy: _Optional[str] = ..., strategy: _Optional[str] = ..., max_billed_calls: _Optional[int] = ..., shadow: _Optional[_Union[PlannedShadow, _Mapping]] = ..., cascade: _Optional[_Union[PlannedCascade, _Mapping]] = ..., apology: _Optional[str] = ..., allow_stale: bool = ..., wants_embedding: bool = ..., refusal: _Optional[_Union[PlanRefusal, _Mapping]] = ...) -> None: ...

class PlanRefusal(_message.Message):
    __slots__ = ("status", "reason", "message", "feature", "retry_after")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    status: str
    reason: str
    message: str
    feature: str
    retry_after: _duration_pb2.Duration
    def __init__(self, status: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., feature: _Optional[str] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "provider", "context_tokens", "supports_tools", "cooling_down", "kind", "health")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SUPPORTS_TOOLS_FIELD_NUMBER: _ClassVar[int]
    COOLING_DOWN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    name: str
    provider: str
    context_tokens: int
    supports_tools: bool
    cooling_down: bool
    kind: str
    health: ModelHealth
    def __init__(self, name: _Optional[str] = ..., provider: _Optional[str] = ..., context_tokens: _Optional[int] = ..., supports_tools: bool = ..., cooling_down: bool = ..., kind: _Optional[str] = ..., health: _Optional[_Union[ModelHealth, _Mapping]] = ...) -> None: ...

class ModelHealth(_message.Message):
    __slots__ = ("state", "shut_for", "calls_under_way", "first_token", "failure_rate", "canary")
    STATE_FIELD_NUMBER: _ClassVar[int]
    SHUT_FOR_FIELD_NUMBER: _ClassVar[int]
    CALLS_UNDER_WAY_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FAILURE_RATE_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    state: ModelState
    shut_for: _duration_pb2.Duration
    calls_under_way: int
    first_token: _duration_pb2.Duration
    failure_rate: float
    canary: str
    def __init__(self, state: _Optional[_Union[ModelState, str]] = ..., shut_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., calls_under_way: _Optional[int] = ..., first_token: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., failure_rate: _Optional[float] = ..., canary: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListCanariesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CanaryPrompt(_message.Message):
    __slots__ = ("prompt_id", "text")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    text: str
    def __init__(self, prompt_id: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ListCanariesResponse(_message.Message):
    __slots__ = ("model_names", "prompts", "answers_per_prompt", "max_output_tokens", "interval")
    MODEL_NAMES_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_PER_PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    model_names: _containers.RepeatedScalarFieldContainer[str]
    prompts: _containers.RepeatedCompositeFieldContainer[CanaryPrompt]
    answers_per_prompt: int
    max_output_tokens: int
    interval: _duration_pb2.Duration
    def __init__(self, model_names: _Optional[_Iterable[str]] = ..., prompts: _Optional[_Iterable[_Union[CanaryPrompt, _Mapping]]] = ..., answers_per_prompt: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CanaryAnswers(_message.Message):
    __slots__ = ("prompt_id", "answers")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    answers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, prompt_id: _Optional[str] = ..., answers: _Optional[_Iterable[str]] = ...) -> None: ...

class JudgeCanaryRequest(_message.Message):
    __slots__ = ("model_name", "prompts")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    prompts: _containers.RepeatedCompositeFieldContainer[CanaryAnswers]
    def __init__(self, model_name: _Optional[str] = ..., prompts: _Optional[_Iterable[_Union[CanaryAnswers, _Mapping]]] = ...) -> None: ...

class JudgeCanaryResponse(_message.Message):
    __slots__ = ("p_value", "is_reference", "suspicions", "alarm")
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    IS_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    SUSPICIONS_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    p_value: float
    is_reference: bool
    suspicions: int
    alarm: str
    def __init__(self, p_value: _Optional[float] = ..., is_reference: bool = ..., suspicions: _Optional[int] = ..., alarm: _Optional[str] = ...) -> None: ...

class ReleaseModelRequest(_message.Message):
    __slots__ = ("request_id", "model_name")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model_name: str
    def __init__(self, request_id: _Optional[str] = ..., model_name: _Optional[str] = ...) -> None: ...

class ReleaseModelResponse(_message.Message):
    __slots__ = ("was_quarantined",)
    WAS_QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    was_quarantined: bool
    def __init__(self, was_quarantined: bool = ...) -> None: ...
