import datetime

from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetryClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRY_CLASS_UNSPECIFIED: _ClassVar[RetryClass]
    RETRY_CLASS_SAFE: _ClassVar[RetryClass]
    RETRY_CLASS_IDEMPOTENT_WITH_REQUEST_ID: _ClassVar[RetryClass]
    RETRY_CLASS_NEVER: _ClassVar[RetryClass]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_CALLER: _ClassVar[Role]
    ROLE_OPERATOR: _ClassVar[Role]
    ROLE_SERVICE: _ClassVar[Role]
    ROLE_VIEWER: _ClassVar[Role]
    ROLE_AUTHOR: _ClassVar[Role]
    ROLE_APPROVER: _ClassVar[Role]
    ROLE_PUBLISHER: _ClassVar[Role]
    ROLE_AUDITOR: _ClassVar[Role]
RETRY_CLASS_UNSPECIFIED: RetryClass
RETRY_CLASS_SAFE: RetryClass
RETRY_CLASS_IDEMPOTENT_WITH_REQUEST_ID: RetryClass
RETRY_CLASS_NEVER: RetryClass
ROLE_UNSPECIFIED: Role
ROLE_CALLER: Role
ROLE_OPERATOR: Role
ROLE_SERVICE: Role
ROLE_VIEWER: Role
ROLE_AUTHOR: Role
ROLE_APPROVER: Role
ROLE_PUBLISHER: Role
ROLE_AUDITOR: Role
RPC_FIELD_NUMBER: _ClassVar[int]
rpc: _descriptor.FieldDescriptor

class RpcPolicy(_message.Message):
    __slots__ = ("retry", "roles", "default_timeout", "settles", "audited", "audited_fields", "ends_with_credential", "within_mesh", "tells_mesh_apart", "few_messages")
    RETRY_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    SETTLES_FIELD_NUMBER: _ClassVar[int]
    AUDITED_FIELD_NUMBER: _ClassVar[int]
    AUDITED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    ENDS_WITH_CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    WITHIN_MESH_FIELD_NUMBER: _ClassVar[int]
    TELLS_MESH_APART_FIELD_NUMBER: _ClassVar[int]
    FEW_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    retry: RetryClass
    roles: _containers.RepeatedScalarFieldContainer[Role]
    default_timeout: _duration_pb2.Duration
    settles: bool
    audited: bool
    audited_fields: _containers.RepeatedScalarFieldContainer[str]
    ends_with_credential: bool
    within_mesh: bool
    tells_mesh_apart: bool
    few_messages: bool
    def __init__(self, retry: _Optional[_Union[RetryClass, str]] = ..., roles: _Optional[_Iterable[_Union[Role, str]]] = ..., default_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., settles: bool = ..., audited: bool = ..., audited_fields: _Optional[_Iterable[str]] = ..., ends_with_credential: bool = ..., within_mesh: bool = ..., tells_mesh_apart: bool = ..., few_messages: bool = ...) -> None: ...
