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
    LIMIT_PERIOD_MINUTE: _ClassVar[LimitPeriod]
    LIMIT_PERIOD_MOMENT: _ClassVar[LimitPeriod]

class LimitUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIMIT_UNIT_UNSPECIFIED: _ClassVar[LimitUnit]
    LIMIT_UNIT_MONEY: _ClassVar[LimitUnit]
    LIMIT_UNIT_REQUESTS: _ClassVar[LimitUnit]
    LIMIT_UNIT_TOKENS: _ClassVar[LimitUnit]
    LIMIT_UNIT_CONCURRENCY: _ClassVar[LimitUnit]

class LimitMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIMIT_MODE_UNSPECIFIED: _ClassVar[LimitMode]
    LIMIT_MODE_ENFORCE: _ClassVar[LimitMode]
    LIMIT_MODE_SHADOW: _ClassVar[LimitMode]

class ReserveDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESERVE_DECISION_UNSPECIFIED: _ClassVar[ReserveDecision]
    RESERVE_DECISION_GRANTED: _ClassVar[ReserveDecision]
    RESERVE_DECISION_DENIED: _ClassVar[ReserveDecision]

class LedgerEventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEDGER_EVENT_KIND_UNSPECIFIED: _ClassVar[LedgerEventKind]
    LEDGER_EVENT_KIND_ALERT: _ClassVar[LedgerEventKind]
    LEDGER_EVENT_KIND_OVERRUN: _ClassVar[LedgerEventKind]
    LEDGER_EVENT_KIND_COMMIT_AFTER_VOID: _ClassVar[LedgerEventKind]
    LEDGER_EVENT_KIND_ORPHAN_COMMIT: _ClassVar[LedgerEventKind]
    LEDGER_EVENT_KIND_EXPIRED_CHARGED: _ClassVar[LedgerEventKind]
    LEDGER_EVENT_KIND_DENIED: _ClassVar[LedgerEventKind]
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
LIMIT_PERIOD_MINUTE: LimitPeriod
LIMIT_PERIOD_MOMENT: LimitPeriod
LIMIT_UNIT_UNSPECIFIED: LimitUnit
LIMIT_UNIT_MONEY: LimitUnit
LIMIT_UNIT_REQUESTS: LimitUnit
LIMIT_UNIT_TOKENS: LimitUnit
LIMIT_UNIT_CONCURRENCY: LimitUnit
LIMIT_MODE_UNSPECIFIED: LimitMode
LIMIT_MODE_ENFORCE: LimitMode
LIMIT_MODE_SHADOW: LimitMode
RESERVE_DECISION_UNSPECIFIED: ReserveDecision
RESERVE_DECISION_GRANTED: ReserveDecision
RESERVE_DECISION_DENIED: ReserveDecision
LEDGER_EVENT_KIND_UNSPECIFIED: LedgerEventKind
LEDGER_EVENT_KIND_ALERT: LedgerEventKind
LEDGER_EVENT_KIND_OVERRUN: LedgerEventKind
LEDGER_EVENT_KIND_COMMIT_AFTER_VOID: LedgerEventKind
LEDGER_EVENT_KIND_ORPHAN_COMMIT: LedgerEventKind
LEDGER_EVENT_KIND_EXPIRED_CHARGED: LedgerEventKind
LEDGER_EVENT_KIND_DENIED: LedgerEventKind

class Limit(_message.Message):
    __slots__ = ("limit_id", "scope", "subject", "period", "cap_nano_usd", "alert_basis_points", "stop_basis_points", "version", "unit", "max_count", "burst_count", "mode", "time_zone")
    LIMIT_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    CAP_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    ALERT_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    STOP_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    MAX_COUNT_FIELD_NUMBER: _ClassVar[int]
    BURST_COUNT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    limit_id: str
    scope: LimitScope
    subject: str
    period: LimitPeriod
    cap_nano_usd: int
    alert_basis_points: int
    stop_basis_points: int
    version: int
    unit: LimitUnit
    max_count: int
    burst_count: int
    mode: LimitMode
    time_zone: str
    def __init__(self, limit_id: _Optional[str] = ..., scope: _Optional[_Union[LimitScope, str]] = ..., subject: _Optional[str] = ..., period: _Optional[_Union[LimitPeriod, str]] = ..., cap_nano_usd: _Optional[int] = ..., alert_basis_points: _Optional[int] = ..., stop_basis_points: _Optional[int] = ..., version: _Optional[int] = ..., unit: _Optional[_Union[LimitUnit, str]] = ..., max_count: _Optional[int] = ..., burst_count: _Optional[int] = ..., mode: _Optional[_Union[LimitMode, str]] = ..., time_zone: _Optional[str] = ...) -> None: ...

class PricedModel(_message.Message):
    __slots__ = ("provider", "model")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("request_id", "models", "input_tokens", "max_output_tokens", "labels", "ttl", "estimate_output", "calls")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    models: _containers.RepeatedCompositeFieldContainer[PricedModel]
    input_tokens: int
    max_output_tokens: int
    labels: _context_pb2.CallLabels
    ttl: _duration_pb2.Duration
    estimate_output: bool
    calls: int
    def __init__(self, request_id: _Optional[str] = ..., models: _Optional[_Iterable[_Union[PricedModel, _Mapping]]] = ..., input_tokens: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., labels: _Optional[_Union[_context_pb2.CallLabels, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., estimate_output: bool = ..., calls: _Optional[int] = ...) -> None: ...

class LimitViolation(_message.Message):
    __slots__ = ("limit", "remaining_nano_usd", "requested_nano_usd", "window_end_time", "remaining_count", "requested_count", "retry_after")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_TIME_FIELD_NUMBER: _ClassVar[int]
    REMAINING_COUNT_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    limit: Limit
    remaining_nano_usd: int
    requested_nano_usd: int
    window_end_time: _timestamp_pb2.Timestamp
    remaining_count: int
    requested_count: int
    retry_after: _duration_pb2.Duration
    def __init__(self, limit: _Optional[_Union[Limit, _Mapping]] = ..., remaining_nano_usd: _Optional[int] = ..., requested_nano_usd: _Optional[int] = ..., window_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., remaining_count: _Optional[int] = ..., requested_count: _Optional[int] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RateStatus(_message.Message):
    __slots__ = ("limit", "remaining_count", "reset_after")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_COUNT_FIELD_NUMBER: _ClassVar[int]
    RESET_AFTER_FIELD_NUMBER: _ClassVar[int]
    limit: Limit
    remaining_count: int
    reset_after: _duration_pb2.Duration
    def __init__(self, limit: _Optional[_Union[Limit, _Mapping]] = ..., remaining_count: _Optional[int] = ..., reset_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LimitAlert(_message.Message):
    __slots__ = ("limit", "used_nano_usd")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    USED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    limit: Limit
    used_nano_usd: int
    def __init__(self, limit: _Optional[_Union[Limit, _Mapping]] = ..., used_nano_usd: _Optional[int] = ...) -> None: ...

class ReserveResponse(_message.Message):
    __slots__ = ("decision", "reservation_id", "reserved_nano_usd", "violations", "alerts", "retry_after", "prices", "expire_time", "shadow_violations", "rates", "covered_output_tokens")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    PRICES_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SHADOW_VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    COVERED_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    decision: ReserveDecision
    reservation_id: str
    reserved_nano_usd: int
    violations: _containers.RepeatedCompositeFieldContainer[LimitViolation]
    alerts: _containers.RepeatedCompositeFieldContainer[LimitAlert]
    retry_after: _duration_pb2.Duration
    prices: _containers.RepeatedCompositeFieldContainer[_usage_pb2.TokenPrice]
    expire_time: _timestamp_pb2.Timestamp
    shadow_violations: _containers.RepeatedCompositeFieldContainer[LimitViolation]
    rates: _containers.RepeatedCompositeFieldContainer[RateStatus]
    covered_output_tokens: int
    def __init__(self, decision: _Optional[_Union[ReserveDecision, str]] = ..., reservation_id: _Optional[str] = ..., reserved_nano_usd: _Optional[int] = ..., violations: _Optional[_Iterable[_Union[LimitViolation, _Mapping]]] = ..., alerts: _Optional[_Iterable[_Union[LimitAlert, _Mapping]]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., prices: _Optional[_Iterable[_Union[_usage_pb2.TokenPrice, _Mapping]]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., shadow_violations: _Optional[_Iterable[_Union[LimitViolation, _Mapping]]] = ..., rates: _Optional[_Iterable[_Union[RateStatus, _Mapping]]] = ..., covered_output_tokens: _Optional[int] = ...) -> None: ...

class MarkDispatchedRequest(_message.Message):
    __slots__ = ("request_id", "reservation_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    reservation_id: str
    def __init__(self, request_id: _Optional[str] = ..., reservation_id: _Optional[str] = ...) -> None: ...

class MarkDispatchedResponse(_message.Message):
    __slots__ = ("noted",)
    NOTED_FIELD_NUMBER: _ClassVar[int]
    noted: bool
    def __init__(self, noted: bool = ...) -> None: ...

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
    __slots__ = ("request_id", "reservation_id", "lines", "accept_orphan", "labels")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_ORPHAN_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    reservation_id: str
    lines: _containers.RepeatedCompositeFieldContainer[UsageLine]
    accept_orphan: bool
    labels: _context_pb2.CallLabels
    def __init__(self, request_id: _Optional[str] = ..., reservation_id: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[UsageLine, _Mapping]]] = ..., accept_orphan: bool = ..., labels: _Optional[_Union[_context_pb2.CallLabels, _Mapping]] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("amount_nano_usd", "overrun_nano_usd", "late", "orphan", "after_void")
    AMOUNT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    OVERRUN_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    ORPHAN_FIELD_NUMBER: _ClassVar[int]
    AFTER_VOID_FIELD_NUMBER: _ClassVar[int]
    amount_nano_usd: int
    overrun_nano_usd: int
    late: bool
    orphan: bool
    after_void: bool
    def __init__(self, amount_nano_usd: _Optional[int] = ..., overrun_nano_usd: _Optional[int] = ..., late: bool = ..., orphan: bool = ..., after_void: bool = ...) -> None: ...

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
    __slots__ = ("limit", "subject", "window_start_time", "window_end_time", "spent_nano_usd", "held_nano_usd", "used_count")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_TIME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_TIME_FIELD_NUMBER: _ClassVar[int]
    SPENT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    HELD_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    USED_COUNT_FIELD_NUMBER: _ClassVar[int]
    limit: Limit
    subject: str
    window_start_time: _timestamp_pb2.Timestamp
    window_end_time: _timestamp_pb2.Timestamp
    spent_nano_usd: int
    held_nano_usd: int
    used_count: int
    def __init__(self, limit: _Optional[_Union[Limit, _Mapping]] = ..., subject: _Optional[str] = ..., window_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., window_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spent_nano_usd: _Optional[int] = ..., held_nano_usd: _Optional[int] = ..., used_count: _Optional[int] = ...) -> None: ...

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

class AdjustRequest(_message.Message):
    __slots__ = ("request_id", "reservation_id", "delta_nano_usd", "provider", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    DELTA_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    reservation_id: str
    delta_nano_usd: int
    provider: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., reservation_id: _Optional[str] = ..., delta_nano_usd: _Optional[int] = ..., provider: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class AdjustResponse(_message.Message):
    __slots__ = ("booked_nano_usd",)
    BOOKED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    booked_nano_usd: int
    def __init__(self, booked_nano_usd: _Optional[int] = ...) -> None: ...

class AllotRequest(_message.Message):
    __slots__ = ("request_id", "subject", "wanted_nano_usd", "lease", "replica", "models", "max_input_tokens", "settle_within")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    WANTED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MAX_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SETTLE_WITHIN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    subject: AllotmentSubject
    wanted_nano_usd: int
    lease: _duration_pb2.Duration
    replica: str
    models: _containers.RepeatedCompositeFieldContainer[PricedModel]
    max_input_tokens: int
    settle_within: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., subject: _Optional[_Union[AllotmentSubject, _Mapping]] = ..., wanted_nano_usd: _Optional[int] = ..., lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., replica: _Optional[str] = ..., models: _Optional[_Iterable[_Union[PricedModel, _Mapping]]] = ..., max_input_tokens: _Optional[int] = ..., settle_within: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class AllotmentSubject(_message.Message):
    __slots__ = ("organisation", "team", "user", "key_id", "feature")
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    TEAM_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    organisation: str
    team: str
    user: str
    key_id: str
    feature: str
    def __init__(self, organisation: _Optional[str] = ..., team: _Optional[str] = ..., user: _Optional[str] = ..., key_id: _Optional[str] = ..., feature: _Optional[str] = ...) -> None: ...

class AllotResponse(_message.Message):
    __slots__ = ("allotment_id", "granted_nano_usd", "expire_time", "prices", "most_per_call_nano_usd", "not_lent")
    ALLOTMENT_ID_FIELD_NUMBER: _ClassVar[int]
    GRANTED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    PRICES_FIELD_NUMBER: _ClassVar[int]
    MOST_PER_CALL_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    NOT_LENT_FIELD_NUMBER: _ClassVar[int]
    allotment_id: str
    granted_nano_usd: int
    expire_time: _timestamp_pb2.Timestamp
    prices: _containers.RepeatedCompositeFieldContainer[_usage_pb2.TokenPrice]
    most_per_call_nano_usd: int
    not_lent: _containers.RepeatedCompositeFieldContainer[Limit]
    def __init__(self, allotment_id: _Optional[str] = ..., granted_nano_usd: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., prices: _Optional[_Iterable[_Union[_usage_pb2.TokenPrice, _Mapping]]] = ..., most_per_call_nano_usd: _Optional[int] = ..., not_lent: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ...) -> None: ...

class ReturnAllotmentRequest(_message.Message):
    __slots__ = ("request_id", "allotment_id", "lines", "organisation", "subject", "keep_for", "keep_nano_usd")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOTMENT_ID_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    KEEP_FOR_FIELD_NUMBER: _ClassVar[int]
    KEEP_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    allotment_id: str
    lines: _containers.RepeatedCompositeFieldContainer[UsageLine]
    organisation: str
    subject: AllotmentSubject
    keep_for: _duration_pb2.Duration
    keep_nano_usd: int
    def __init__(self, request_id: _Optional[str] = ..., allotment_id: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[UsageLine, _Mapping]]] = ..., organisation: _Optional[str] = ..., subject: _Optional[_Union[AllotmentSubject, _Mapping]] = ..., keep_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., keep_nano_usd: _Optional[int] = ...) -> None: ...

class ReturnAllotmentResponse(_message.Message):
    __slots__ = ("booked_nano_usd", "overrun_nano_usd", "late", "orphan")
    BOOKED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    OVERRUN_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    ORPHAN_FIELD_NUMBER: _ClassVar[int]
    booked_nano_usd: int
    overrun_nano_usd: int
    late: bool
    orphan: bool
    def __init__(self, booked_nano_usd: _Optional[int] = ..., overrun_nano_usd: _Optional[int] = ..., late: bool = ..., orphan: bool = ...) -> None: ...

class InvoiceDay(_message.Message):
    __slots__ = ("start_time", "amount_nano_usd")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    amount_nano_usd: int
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., amount_nano_usd: _Optional[int] = ...) -> None: ...

class ReconcileRequest(_message.Message):
    __slots__ = ("provider", "days")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    provider: str
    days: _containers.RepeatedCompositeFieldContainer[InvoiceDay]
    def __init__(self, provider: _Optional[str] = ..., days: _Optional[_Iterable[_Union[InvoiceDay, _Mapping]]] = ...) -> None: ...

class ReconciledDay(_message.Message):
    __slots__ = ("start_time", "booked_nano_usd", "invoiced_nano_usd", "estimated_nano_usd", "unattributed_nano_usd")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    BOOKED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    INVOICED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    UNATTRIBUTED_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    booked_nano_usd: int
    invoiced_nano_usd: int
    estimated_nano_usd: int
    unattributed_nano_usd: int
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., booked_nano_usd: _Optional[int] = ..., invoiced_nano_usd: _Optional[int] = ..., estimated_nano_usd: _Optional[int] = ..., unattributed_nano_usd: _Optional[int] = ...) -> None: ...

class ReconcileResponse(_message.Message):
    __slots__ = ("days", "difference_nano_usd")
    DAYS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    days: _containers.RepeatedCompositeFieldContainer[ReconciledDay]
    difference_nano_usd: int
    def __init__(self, days: _Optional[_Iterable[_Union[ReconciledDay, _Mapping]]] = ..., difference_nano_usd: _Optional[int] = ...) -> None: ...

class WhyBlockedRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class WhyBlockedResponse(_message.Message):
    __slots__ = ("request_id", "decide_time", "violations", "usages", "would_pass_now")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECIDE_TIME_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    USAGES_FIELD_NUMBER: _ClassVar[int]
    WOULD_PASS_NOW_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    decide_time: _timestamp_pb2.Timestamp
    violations: _containers.RepeatedCompositeFieldContainer[LimitViolation]
    usages: _containers.RepeatedCompositeFieldContainer[LimitUsage]
    would_pass_now: bool
    def __init__(self, request_id: _Optional[str] = ..., decide_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., violations: _Optional[_Iterable[_Union[LimitViolation, _Mapping]]] = ..., usages: _Optional[_Iterable[_Union[LimitUsage, _Mapping]]] = ..., would_pass_now: bool = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("after_revision",)
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    after_revision: int
    def __init__(self, after_revision: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("revision", "kind", "event_time", "alerts", "reservation_id", "amount_nano_usd", "request_id")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ALERTS_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    revision: int
    kind: LedgerEventKind
    event_time: _timestamp_pb2.Timestamp
    alerts: _containers.RepeatedCompositeFieldContainer[LimitAlert]
    reservation_id: str
    amount_nano_usd: int
    request_id: str
    def __init__(self, revision: _Optional[int] = ..., kind: _Optional[_Union[LedgerEventKind, str]] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., alerts: _Optional[_Iterable[_Union[LimitAlert, _Mapping]]] = ..., reservation_id: _Optional[str] = ..., amount_nano_usd: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...
