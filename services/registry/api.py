"""The servicer: protobuf in, protobuf out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing

from llmops.common.v1 import chat_pb2
from llmops.registry.v1 import registry_pb2 as pb
from llmops.registry.v1 import registry_pb2_grpc as pb_grpc

from meshkit import context as mesh_context
from meshkit.errors import PermissionDenied
from meshkit.identity import Scopes
from services.registry.core.catalog import Catalog, Resolution
from services.registry.core.errors import PromptNotFound
from services.registry.core.ports import Executor
from services.registry.core.prompt import (
    Arm,
    Message,
    Parameters,
    Pointer,
    Prompt,
    PublishedPrompt,
    ResponseFormat,
    Role,
    ToolChoice,
    Variable,
    VariableType,
)
from services.registry.core.references import DEFAULT_ENVIRONMENT
from services.registry.core.registry import Publication, Registry

_ROLES = {
    chat_pb2.CHAT_ROLE_SYSTEM: Role.SYSTEM,
    chat_pb2.CHAT_ROLE_DEVELOPER: Role.DEVELOPER,
    chat_pb2.CHAT_ROLE_USER: Role.USER,
    chat_pb2.CHAT_ROLE_ASSISTANT: Role.ASSISTANT,
    chat_pb2.CHAT_ROLE_TOOL: Role.TOOL,
}
_ROLE_NUMBERS = {role: number for number, role in _ROLES.items()}
_TYPES = {
    pb.VARIABLE_TYPE_UNSPECIFIED: VariableType.STRING,
    pb.VARIABLE_TYPE_STRING: VariableType.STRING,
    pb.VARIABLE_TYPE_INTEGER: VariableType.INTEGER,
    pb.VARIABLE_TYPE_NUMBER: VariableType.NUMBER,
    pb.VARIABLE_TYPE_BOOLEAN: VariableType.BOOLEAN,
}
_TYPE_NUMBERS = {kind: number for number, kind in _TYPES.items() if number != pb.VARIABLE_TYPE_UNSPECIFIED}
# Scalars that mean "not set" when absent, by the same name on both sides.
_OPTIONAL_PARAMETERS = (
    "temperature",
    "top_p",
    "max_output_tokens",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "parallel_tool_calls",
)


class RegistryApi(pb_grpc.RegistryServiceServicer):
    """llmops.registry.v1.RegistryService."""

    def __init__(self, registry: Registry, executor: Executor) -> None:
        """`executor` builds snapshots, which may be megabytes."""
        self._registry = registry
        self._snapshots = _Snapshots(executor)

    async def PublishPrompt(self, request: pb.PublishPromptRequest, context: object) -> pb.PublishPromptResponse:
        """See registry.proto."""
        _require_environments(request.activate_environments)
        publication = Publication(
            request_id=request.request_id,
            prompt=prompt_from_proto(request.prompt),
            version=request.prompt.version,
            environments=tuple(request.activate_environments),
            publisher=mesh_context.current().principal.user,
        )
        published = await self._registry.publish(publication)
        return pb.PublishPromptResponse(prompt=version_to_proto(published.prompt), created=published.created)

    async def GetPrompt(self, request: pb.GetPromptRequest, context: object) -> pb.GetPromptResponse:
        """See registry.proto."""
        found = await self._find(request.reference)
        return pb.GetPromptResponse(prompt=version_to_proto(found.prompt))

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: object) -> pb.ListPromptsResponse:
        """See registry.proto."""
        only = _scopes().environments
        page = self._registry.page(request.prompt_name, request.page_size, request.page_token, only)
        return pb.ListPromptsResponse(
            prompts=[version_to_proto(each) for each in page.prompts], next_page_token=page.next_token
        )

    async def Resolve(self, request: pb.ResolveRequest, context: object) -> pb.ResolveResponse:
        """See registry.proto."""
        found = await self._find(request.reference, request.sticky_key)
        response = pb.ResolveResponse(prompt=version_to_proto(found.prompt), arm=found.arm)
        if request.render:
            messages = await self._registry.render(found.prompt.prompt, request.variables)
            response.messages.extend(_message_to_proto(message) for message in messages)
        return response

    async def Watch(self, request: pb.WatchRequest, context: object) -> AsyncIterator[pb.WatchResponse]:
        """See registry.proto."""
        if _scopes().environments:
            raise PermissionDenied(
                "Watch sends the whole registry; this key is limited to prompts of some environments; use ListPrompts"
            )
        async with aclosing(self._registry.watch()) as catalogs:
            async for catalog in catalogs:
                yield await self._snapshots.of(catalog)

    async def _find(self, reference: str, sticky_key: str = "") -> Resolution:
        """What a reference means. A key that is limited to environments is told of no other: not where else it is."""
        _scopes().require_prompt(reference, DEFAULT_ENVIRONMENT)
        try:
            return await self._registry.find(reference, sticky_key)
        except PromptNotFound:
            if not _scopes().environments:
                raise
            raise PromptNotFound(reference, f"{reference} is not served; ListPrompts names what is") from None


def _scopes() -> Scopes:
    return mesh_context.current().principal.scopes


def _require_environments(activated: Iterable[str]) -> None:
    """A key that may not use an environment's prompts does not decide what they are either."""
    own = _scopes().environments
    beyond = sorted(set(activated) - own) if own else []
    if beyond:
        raise PermissionDenied(f"this key may not move {', '.join(beyond)}; it is limited to {', '.join(sorted(own))}")


class _Snapshots:
    """Builds the message of a catalog once, however many watchers want it."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._building = asyncio.Lock()
        self._latest: tuple[Catalog, pb.WatchResponse] | None = None

    async def of(self, catalog: Catalog) -> pb.WatchResponse:
        async with self._building:
            if self._latest is None or self._latest[0] is not catalog:
                self._latest = (catalog, await self._executor.run(snapshot_to_proto, catalog))
            return self._latest[1]


def snapshot_to_proto(catalog: Catalog) -> pb.WatchResponse:
    """The whole registry, in a fixed order."""
    return pb.WatchResponse(
        revision=catalog.revision,
        prompts=[version_to_proto(each) for each in catalog.newest_first("")],
        pointers=[_pointer_to_proto(catalog.pointers[key]) for key in sorted(catalog.pointers)],
    )


def version_to_proto(published: PublishedPrompt) -> pb.PromptVersion:
    """One version as the contract shows it."""
    prompt = published.prompt
    message = pb.PromptVersion(
        name=prompt.name,
        version=str(published.version),
        messages=[
            pb.TemplateMessage(role=_ROLE_NUMBERS[each.role], template=each.template) for each in prompt.messages
        ],
        variables=[_variable_to_proto(each) for each in prompt.variables],
        output_json_schema=prompt.output_json_schema,
        model=prompt.model,
        guard_policy=prompt.guard_policy,
        author=prompt.author,
        description=prompt.description,
        author_date=prompt.author_date,
        digest=published.digest,
    )
    if prompt.parameters != Parameters():
        message.parameters.CopyFrom(_parameters_to_proto(prompt.parameters))
    message.create_time.FromDatetime(published.create_time)
    return message


def prompt_from_proto(message: pb.PromptVersion) -> Prompt:
    """The content that a caller sent; version, digest and create_time are not part of it."""
    return Prompt(
        name=message.name,
        messages=tuple(Message(_ROLES[each.role], each.template) for each in message.messages),
        variables=tuple(_variable_from_proto(each) for each in message.variables),
        output_json_schema=message.output_json_schema,
        model=message.model,
        parameters=_parameters_from_proto(message.parameters),
        guard_policy=message.guard_policy,
        author=message.author,
        description=message.description,
        author_date=message.author_date,
    )


def _variable_from_proto(message: pb.PromptVariable) -> Variable:
    return Variable(
        name=message.name,
        type=_TYPES[message.type],
        required=message.required,
        default=message.default_value,
        max_chars=message.max_chars,
        description=message.description,
    )


def _variable_to_proto(variable: Variable) -> pb.PromptVariable:
    return pb.PromptVariable(
        name=variable.name,
        type=_TYPE_NUMBERS[variable.type],
        required=variable.required,
        default_value=variable.default,
        max_chars=variable.max_chars,
        description=variable.description,
    )


def _parameters_from_proto(message: chat_pb2.GenerationParameters) -> Parameters:
    given = {name: getattr(message, name) for name in _OPTIONAL_PARAMETERS if message.HasField(name)}
    return Parameters(
        stop=tuple(message.stop),
        response_format=_format_from_proto(message.response_format) if message.HasField("response_format") else None,
        tool_choice=_tool_from_proto(message.tool_choice) if message.HasField("tool_choice") else None,
        reasoning_effort=message.reasoning_effort,
        extra_json=message.extra_json,
        **given,
    )


def _format_from_proto(message: chat_pb2.ResponseFormat) -> ResponseFormat:
    strict = message.strict if message.HasField("strict") else None
    return ResponseFormat(message.type, message.schema_name, message.json_schema, strict)


def _tool_from_proto(message: chat_pb2.ToolChoice) -> ToolChoice:
    return ToolChoice(message.mode, message.tool_name)


def _parameters_to_proto(parameters: Parameters) -> chat_pb2.GenerationParameters:
    # None leaves a field of the message absent.
    message = chat_pb2.GenerationParameters(
        stop=parameters.stop,
        reasoning_effort=parameters.reasoning_effort,
        extra_json=parameters.extra_json,
        **{name: getattr(parameters, name) for name in _OPTIONAL_PARAMETERS},
    )
    if (answer := parameters.response_format) is not None:
        message.response_format.CopyFrom(
            chat_pb2.ResponseFormat(type=answer.type, schema_name=answer.schema_name, json_schema=answer.json_schema)
        )
        if answer.strict is not None:
            message.response_format.strict = answer.strict
    if (tool := parameters.tool_choice) is not None:
        message.tool_choice.CopyFrom(chat_pb2.ToolChoice(mode=tool.mode, tool_name=tool.tool_name))
    return message


def _pointer_to_proto(pointer: Pointer) -> pb.EnvironmentPointer:
    return pb.EnvironmentPointer(
        prompt_name=pointer.prompt_name,
        environment=pointer.environment,
        arms=[_arm_to_proto(arm) for arm in pointer.arms],
    )


def _arm_to_proto(arm: Arm) -> pb.RolloutArm:
    return pb.RolloutArm(name=arm.name, version=str(arm.version), weight_basis_points=arm.weight_basis_points)


def _message_to_proto(message: Message) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(role=_ROLE_NUMBERS[message.role], content=message.template)
