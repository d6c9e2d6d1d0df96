import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
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

class LimitScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIMIT_SCOPE_UNSPECIFIED: _ClassVar[LimitScope]
    LIMIT_SCOPE_ORGANISATION: _ClassVar[LimitScope]
    LIMIT_SCOPE_TEAM: _ClassVar[LimitScope]
    LIMIT_SCOPE_USER: _ClassVar[LimitScope]
    LIMIT_SCOPE_KEY: _ClassVar[LimitScope]
    LIMIT_SCOPE_FEATURE: _ClassVar[LimitScope]

class LimitPeriod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIMIT_PERIOD_UNSPECIFIED: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_QUERY: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_HOUR: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_DAY: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_MONTH: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_LIFETIME: _ClassVar[LimitPeriod]

class ReserveDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESERVE_DECISION_UNSPECIFIED: _ClassVar[ReserveDecision]
    RESERVE_DECISION_GRANTED: _ClassVar[ReserveDecision]
    RESERVE_DECISION_DENIED: _ClassVar[ReserveDecision]
LIMIT_SCOPE_UNSPECIFIED: LimitScope
LIMIT_SCOPE_ORGANISATION: LimitScope
LIMIT_SCOPE_TEAM: LimitScope
LIMIT_SCOPE_USER: LimitScope
LIMIT_SCOPE_KEY: LimitScope
LIMIT_SCOPE_FEATURE: LimitScope
LIMIT_PERIOD_UNSPECIFIED: LimitPeriod
LIMIT_PERIOD_QUERY: LimitPeriod
LIMIT_PERIOD_HOUR: LimitPeriod
LIMIT_PERIOD_DAY: LimitPeriod
LIMIT_PERIOD_MONTH: LimitPeriod
LIMIT_PERIOD_LIFETIME: LimitPeriod
RESERVE_DECISION_UNSPECIFIED: ReserveDecision
RESERVE_DECISION_GRANTED: ReserveDecision
RESERVE_DECISION_DENIED: ReserveDecision

class Limit(_message.Message):
    __slots__ = ("limit_id", "scope", "subject", "period", "cap_nano_usd", "alert_basis_points", "stop_basis_points", "version")
    LIMIT_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    CAP_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    ALERT_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    STOP_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    limit_id: str
    scope: LimitScope
    subject: str
    period: LimitPeriod
    cap_nano_usd: int
    alert_basis_points: int
    stop_basis_points: int
    version: int
    def __init__(self, limit_id: _Optional[str] = ..., scope: _Optional[_Union[LimitScope, str]] = ..., subject: _Optional[str] = ..., period: _Optional[_Union[LimitPeriod, str]] = ..., cap_nano_usd: _Optional[int] = ..., alert_basis_points: _Optional[int] = ..., stop_basis_points: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class PricedModel(_message.Message):
    __slots__ = ("provider", "model")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("request_id", "models", "input_tokens", "max_output_tokens", "labels", "ttl")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    models: _containers.RepeatedCompositeFieldContainer[PricedModel]
    input_tokens: int
    max_output_tokens: int
    labels: _context_pb2.CallLabels
    ttl: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., models: _Optional[_Iterable[_Union[PricedModel, _Mapping]]] = ..., input_tokens: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., labels: _Optional[_Union[_context_pb2.CallLabels, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LimitViolation(_message.Message):
    __slots__ = ("limit", "remaining_nano_usd", "requested_nano_usd", "window_end_time")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_TIME_FIELD_NUMBER: _ClassVar[int]
    limit: Limit
    remaining_nano_usd: int
    requested_nano_usd: int
    window_end_time: _timestamp_pb2.Timestamp
    def __init__(self, limit: _Optional[_Union[Limit, _Mapping]] = ..., remaining_nano_usd: _Optional[int] = ..., requested_nano_usd: _Optional[int] = ..., window_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class LimitAlert(_message.Message):
    __slots__ = ("limit", "used_nano_usd")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    USED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    limit: Limit
    used_nano_usd: int
    def __init__(self, limit: _Optional[_Union[Limit, _Mapping]] = ..., used_nano_usd: _Optional[int] = ...) -> None: ...

class ReserveResponse(_message.Message):
    __slots__ = ("decision", "reservation_id", "reserved_nano_usd", "violations", "alerts", "retry_after", "prices", "expire_time")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    PRICES_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    decision: ReserveDecision
    reservation_id: str
    reserved_nano_usd: int
    violations: _containers.RepeatedCompositeFieldContainer[LimitViolation]
    alerts: _containers.RepeatedCompositeFieldContainer[LimitAlert]
    retry_after: _duration_pb2.Duration
    prices: _containers.RepeatedCompositeFieldContainer[_usage_pb2.TokenPrice]
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, decision: _Optional[_Union[ReserveDecision, str]] = ..., reservation_id: _Optional[str] = ..., reserved_nano_usd: _Optional[int] = ..., violations: _Optional[_Iterable[_Union[LimitViolation, _Mapping]]] = ..., alerts: _Optional[_Iterable[_Union[LimitAlert, _Mapping]]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., prices: _Optional[_Iterable[_Union[_usage_pb2.TokenPrice, _Mapping]]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExtendRequest(_message.Message):
    __slots__ = ("request_id", "reservation_id", "add_nano_usd", "spent_so_far_nano_usd", "ttl")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    ADD_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    SPENT_SO_FAR_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    reservation_id: str
    add_nano_usd: int
    spent_so_far_nano_usd: int
    ttl: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., reservation_id: _Optional[str] = ..., add_nano_usd: _Optional[int] = ..., spent_so_far_nano_usd: _Optional[int] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ExtendResponse(_message.Message):
    __slots__ = ("decision", "reserved_nano_usd", "violations", "expire_time")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    RESERVED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    decision: ReserveDecision
    reserved_nano_usd: int
    violations: _containers.RepeatedCompositeFieldContainer[LimitViolation]
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, decision: _Optional[_Union[ReserveDecision, str]] = ..., reserved_nano_usd: _Optional[int] = ..., violations: _Optional[_Iterable[_Union[LimitViolation, _Mapping]]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UsageLine(_message.Message):
    __slots__ = ("model", "usage", "attempt")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    model: PricedModel
    usage: _usage_pb2.Usage
    attempt: int
    def __init__(self, model: _Optional[_Union[PricedModel, _Mapping]] = ..., usage: _Optional[_Union[_usage_pb2.Usage, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("request_id", "reservation_id", "lines")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    reservation_id: str
    lines: _containers.RepeatedCompositeFieldContainer[UsageLine]
    def __init__(self, request_id: _Optional[str] = ..., reservation_id: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[UsageLine, _Mapping]]] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("amount_nano_usd", "overrun_nano_usd", "late")
    AMOUNT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    OVERRUN_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    amount_nano_usd: int
    overrun_nano_usd: int
    late: bool
    def __init__(self, amount_nano_usd: _Optional[int] = ..., overrun_nano_usd: _Optional[int] = ..., late: bool = ...) -> None: ...

class VoidRequest(_message.Message):
    __slots__ = ("request_id", "reservation_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    reservation_id: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., reservation_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class VoidResponse(_message.Message):
    __slots__ = ("released_nano_usd",)
    RELEASED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    released_nano_usd: int
    def __init__(self, released_nano_usd: _Optional[int] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("scope", "subject", "at_time", "page_size", "page_token")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    scope: LimitScope
    subject: str
    at_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, scope: _Optional[_Union[LimitScope, str]] = ..., subject: _Optional[str] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class LimitUsage(_message.Message):
    __slots__ = ("limit", "subject", "window_start_time", "window_end_time", "spent_nano_usd", "held_nano_usd")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_TIME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_TIME_FIELD_NUMBER: _ClassVar[int]
    SPENT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    HELD_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    limit: Limit
    subject: str
    window_start_time: _timestamp_pb2.Timestamp
    window_end_time: _timestamp_pb2.Timestamp
    spent_nano_usd: int
    held_nano_usd: int
    def __init__(self, limit: _Optional[_Union[Limit, _Mapping]] = ..., subject: _Optional[str] = ..., window_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., window_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spent_nano_usd: _Optional[int] = ..., held_nano_usd: _Optional[int] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("usages", "next_page_token")
    USAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    usages: _containers.RepeatedCompositeFieldContainer[LimitUsage]
    next_page_token: str
    def __init__(self, usages: _Optional[_Iterable[_Union[LimitUsage, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListLimitsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLimitsResponse(_message.Message):
    __slots__ = ("limits", "next_page_token")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    limits: _containers.RepeatedCompositeFieldContainer[Limit]
    next_page_token: str
    def __init__(self, limits: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SetLimitRequest(_message.Message):
    __slots__ = ("request_id", "limit")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    limit: Limit
    def __init__(self, request_id: _Optional[str] = ..., limit: _Optional[_Union[Limit, _Mapping]] = ...) -> None: ...

class SetLimitResponse(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: Limit
    def __init__(self, limit: _Optional[_Union[Limit, _Mapping]] = ...) -> None: ...
