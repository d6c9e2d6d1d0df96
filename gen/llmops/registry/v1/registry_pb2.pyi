import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from llmops.common.v1 import chat_pb2 as _chat_pb2
from llmops.common.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VariableType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VARIABLE_TYPE_UNSPECIFIED: _ClassVar[VariableType]
    VARIABLE_TYPE_STRING: _ClassVar[VariableType]
    VARIABLE_TYPE_INTEGER: _ClassVar[VariableType]
    VARIABLE_TYPE_NUMBER: _ClassVar[VariableType]
    VARIABLE_TYPE_BOOLEAN: _ClassVar[VariableType]
VARIABLE_TYPE_UNSPECIFIED: VariableType
VARIABLE_TYPE_STRING: VariableType
VARIABLE_TYPE_INTEGER: VariableType
VARIABLE_TYPE_NUMBER: VariableType
VARIABLE_TYPE_BOOLEAN: VariableType

class PromptVariable(_message.Message):
    __slots__ = ("name", "type", "description", "required", "default_value", "max_chars")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAX_CHARS_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: VariableType
    description: str
    required: bool
    default_value: str
    max_chars: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[VariableType, str]] = ..., description: _Optional[str] = ..., required: bool = ..., default_value: _Optional[str] = ..., max_chars: _Optional[int] = ...) -> None: ...

class TemplateMessage(_message.Message):
    __slots__ = ("role", "template")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    role: _chat_pb2.ChatRole
    template: str
    def __init__(self, role: _Optional[_Union[_chat_pb2.ChatRole, str]] = ..., template: _Optional[str] = ...) -> None: ...

class PromptVersion(_message.Message):
    __slots__ = ("name", "version", "messages", "variables", "output_json_schema", "model", "parameters", "guard_policy", "author", "description", "digest", "create_time", "author_date")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    GUARD_POLICY_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_DATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    messages: _containers.RepeatedCompositeFieldContainer[TemplateMessage]
    variables: _containers.RepeatedCompositeFieldContainer[PromptVariable]
    output_json_schema: str
    model: str
    parameters: _chat_pb2.GenerationParameters
    guard_policy: str
    author: str
    description: str
    digest: str
    create_time: _timestamp_pb2.Timestamp
    author_date: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[TemplateMessage, _Mapping]]] = ..., variables: _Optional[_Iterable[_Union[PromptVariable, _Mapping]]] = ..., output_json_schema: _Optional[str] = ..., model: _Optional[str] = ..., parameters: _Optional[_Union[_chat_pb2.GenerationParameters, _Mapping]] = ..., guard_policy: _Optional[str] = ..., author: _Optional[str] = ..., description: _Optional[str] = ..., digest: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., author_date: _Optional[str] = ...) -> None: ...

class RolloutArm(_message.Message):
    __slots__ = ("name", "version", "weight_basis_points")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    weight_basis_points: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., weight_basis_points: _Optional[int] = ...) -> None: ...

class EnvironmentPointer(_message.Message):
    __slots__ = ("prompt_name", "environment", "arms")
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    prompt_name: str
    environment: str
    arms: _containers.RepeatedCompositeFieldContainer[RolloutArm]
    def __init__(self, prompt_name: _Optional[str] = ..., environment: _Optional[str] = ..., arms: _Optional[_Iterable[_Union[RolloutArm, _Mapping]]] = ...) -> None: ...

class PublishPromptRequest(_message.Message):
    __slots__ = ("request_id", "prompt", "activate_environments")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prompt: PromptVersion
    activate_environments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., prompt: _Optional[_Union[PromptVersion, _Mapping]] = ..., activate_environments: _Optional[_Iterable[str]] = ...) -> None: ...

class PublishPromptResponse(_message.Message):
    __slots__ = ("prompt", "created")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    prompt: PromptVersion
    created: bool
    def __init__(self, prompt: _Optional[_Union[PromptVersion, _Mapping]] = ..., created: bool = ...) -> None: ...

class GetPromptRequest(_message.Message):
    __slots__ = ("reference",)
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    reference: str
    def __init__(self, reference: _Optional[str] = ...) -> None: ...

class GetPromptResponse(_message.Message):
    __slots__ = ("prompt",)
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    prompt: PromptVersion
    def __init__(self, prompt: _Optional[_Union[PromptVersion, _Mapping]] = ...) -> None: ...

class ListPromptsRequest(_message.Message):
    __slots__ = ("prompt_name", "page_size", "page_token")
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prompt_name: str
    page_size: int
    page_token: str
    def __init__(self, prompt_name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPromptsResponse(_message.Message):
    __slots__ = ("prompts", "next_page_token")
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prompts: _containers.RepeatedCompositeFieldContainer[PromptVersion]
    next_page_token: str
    def __init__(self, prompts: _Optional[_Iterable[_Union[PromptVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("reference", "variables", "sticky_key", "render")
    class VariablesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    STICKY_KEY_FIELD_NUMBER: _ClassVar[int]
    RENDER_FIELD_NUMBER: _ClassVar[int]
    reference: str
    variables: _containers.ScalarMap[str, str]
    sticky_key: str
    render: bool
    def __init__(self, reference: _Optional[str] = ..., variables: _Optional[_Mapping[str, str]] = ..., sticky_key: _Optional[str] = ..., render: bool = ...) -> None: ...

class ResolveResponse(_message.Message):
    __slots__ = ("prompt", "arm", "messages")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    prompt: PromptVersion
    arm: str
    messages: _containers.RepeatedCompositeFieldContainer[_chat_pb2.ChatMessage]
    def __init__(self, prompt: _Optional[_Union[PromptVersion, _Mapping]] = ..., arm: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_chat_pb2.ChatMessage, _Mapping]]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("revision", "prompts", "pointers")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    POINTERS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    prompts: _containers.RepeatedCompositeFieldContainer[PromptVersion]
    pointers: _containers.RepeatedCompositeFieldContainer[EnvironmentPointer]
    def __init__(self, revision: _Optional[int] = ..., prompts: _Optional[_Iterable[_Union[PromptVersion, _Mapping]]] = ..., pointers: _Optional[_Iterable[_Union[EnvironmentPointer, _Mapping]]] = ...) -> None: ...
