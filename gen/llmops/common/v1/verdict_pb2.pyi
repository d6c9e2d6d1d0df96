from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GuardDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GUARD_DECISION_UNSPECIFIED: _ClassVar[GuardDecision]
    GUARD_DECISION_ALLOW: _ClassVar[GuardDecision]
    GUARD_DECISION_FLAG: _ClassVar[GuardDecision]
    GUARD_DECISION_MASK: _ClassVar[GuardDecision]
    GUARD_DECISION_REVIEW: _ClassVar[GuardDecision]
    GUARD_DECISION_BLOCK: _ClassVar[GuardDecision]
GUARD_DECISION_UNSPECIFIED: GuardDecision
GUARD_DECISION_ALLOW: GuardDecision
GUARD_DECISION_FLAG: GuardDecision
GUARD_DECISION_MASK: GuardDecision
GUARD_DECISION_REVIEW: GuardDecision
GUARD_DECISION_BLOCK: GuardDecision

class GuardFinding(_message.Message):
    __slots__ = ("detector", "category", "action", "score", "threshold", "message_index", "start_char", "end_char", "layer")
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    START_CHAR_FIELD_NUMBER: _ClassVar[int]
    END_CHAR_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    detector: str
    category: str
    action: GuardDecision
    score: float
    threshold: float
    message_index: int
    start_char: int
    end_char: int
    layer: str
    def __init__(self, detector: _Optional[str] = ..., category: _Optional[str] = ..., action: _Optional[_Union[GuardDecision, str]] = ..., score: _Optional[float] = ..., threshold: _Optional[float] = ..., message_index: _Optional[int] = ..., start_char: _Optional[int] = ..., end_char: _Optional[int] = ..., layer: _Optional[str] = ...) -> None: ...

class GuardVerdict(_message.Message):
    __slots__ = ("decision", "findings", "policy", "policy_digest", "degraded", "normalisations")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    NORMALISATIONS_FIELD_NUMBER: _ClassVar[int]
    decision: GuardDecision
    findings: _containers.RepeatedCompositeFieldContainer[GuardFinding]
    policy: str
    policy_digest: str
    degraded: bool
    normalisations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, decision: _Optional[_Union[GuardDecision, str]] = ..., findings: _Optional[_Iterable[_Union[GuardFinding, _Mapping]]] = ..., policy: _Optional[str] = ..., policy_digest: _Optional[str] = ..., degraded: bool = ..., normalisations: _Optional[_Iterable[str]] = ...) -> None: ...

class MaskedValue(_message.Message):
    __slots__ = ("token", "value", "kind")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    token: str
    value: str
    kind: str
    def __init__(self, token: _Optional[str] = ..., value: _Optional[str] = ..., kind: _Optional[str] = ...) -> None: ...
