from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class CallLabels(_message.Message):
    __slots__ = ("conversation_id", "end_user", "feature", "tags", "data_class")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    END_USER_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    DATA_CLASS_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    end_user: str
    feature: str
    tags: _containers.ScalarMap[str, str]
    data_class: str
    def __init__(self, conversation_id: _Optional[str] = ..., end_user: _Optional[str] = ..., feature: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., data_class: _Optional[str] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("model", "values_f32_le", "truncated")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VALUES_F32_LE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    model: str
    values_f32_le: bytes
    truncated: bool
    def __init__(self, model: _Optional[str] = ..., values_f32_le: _Optional[bytes] = ..., truncated: bool = ...) -> None: ...
