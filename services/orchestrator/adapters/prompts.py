"""The registry's snapshot: prompts resolved and rendered here, so that a registry outage stops nobody."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Any

from llmops.common.v1 import chat_pb2
from llmops.orchestrator.v1 import orchestrator_pb2 as pb
from llmops.registry.v1 import registry_pb2, registry_pb2_grpc

from meshkit.bucketing import choose_arm
from meshkit.context import current
from meshkit.errors import CallError
from meshkit.settings import nearest
from meshkit.templates import CompiledPrompt, InvalidVariables, Variable, VariableType, compile_prompt
from services.orchestrator.adapters.conversation import Conversation, image_count, text_bytes
from services.orchestrator.core.errors import NothingToSend, PromptNotFound, RegistryUnavailable
from services.orchestrator.core.model import CacheWish, Turn

DEFAULT_ENVIRONMENT = "production"
DEFAULT_POLICY = "default"
_TYPES = {
    registry_pb2.VARIABLE_TYPE_INTEGER: VariableType.INTEGER,
    registry_pb2.VARIABLE_TYPE_NUMBER: VariableType.NUMBER,
    registry_pb2.VARIABLE_TYPE_BOOLEAN: VariableType.BOOLEAN,
}


@dataclass(frozen=True, slots=True)
class SnapshotPrompt:
    """A version, compiled on first use and kept."""

    version: registry_pb2.PromptVersion
    compiled: CompiledPrompt


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a reference can mean, by the reference itself."""

    revision: int
    versions: Mapping[str, SnapshotPrompt]
    pointers: Mapping[str, registry_pb2.EnvironmentPointer]


def build_snapshot(update: registry_pb2.WatchResponse, previous: Snapshot | None) -> Snapshot:
    """Indexes an update. Versions are immutable, so compiled templates of the previous snapshot are kept."""
    known = previous.versions if previous else {}
    versions: dict[str, SnapshotPrompt] = {}
    newest: dict[str, tuple[int, SnapshotPrompt]] = {}
    for version in update.prompts:
        prompt = known.get(version.digest + version.name + version.version) or _compile(version)
        major, minor = (int(part) for part in version.version.split("."))
        versions[version.digest + version.name + version.version] = prompt
        versions[version.digest] = prompt
        versions[f"{version.name}/v{version.version}"] = prompt
        line = f"{version.name}/v{major}"
        if line not in newest or newest[line][0] < minor:
            newest[line] = (minor, prompt)
    versions.update({line: prompt for line, (_, prompt) in newest.items()})
    pointers = {f"{p.prompt_name}@{p.environment}": p for p in update.pointers}
    return Snapshot(update.revision, versions, pointers)


def _compile(version: registry_pb2.PromptVersion) -> SnapshotPrompt:
    variables = [
        Variable(v.name, _TYPES.get(v.type, VariableType.STRING), v.required, v.default_value, v.max_chars)
        for v in version.variables
    ]
    return SnapshotPrompt(version, compile_prompt([m.template for m in version.messages], variables))


class SnapshotPrompts:
    """The port `Prompts` over the newest snapshot."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    def resolve(self, request: object, request_id: str) -> Turn:
        """See Prompts."""
        assert isinstance(request, pb.Conversation)
        if not request.HasField("prompt"):
            if not request.messages:
                raise NothingToSend
            return _turn(request, request_id, None, "", list(request.messages))
        current().principal.scopes.require_prompt(request.prompt.reference, DEFAULT_ENVIRONMENT)
        prompt, arm = self._find(request)
        try:
            texts = prompt.compiled.render(dict(request.prompt.variables))
        except InvalidVariables as error:
            # The renderer knows the variables; the caller knows them by their place in the request.
            error.field_violations = [(f"conversation.prompt.{path}", text) for path, text in error.field_violations]
            raise
        rendered = [
            chat_pb2.ChatMessage(role=message.role, content=text)
            for message, text in zip(prompt.version.messages, texts, strict=True)
        ]
        return _turn(request, request_id, prompt, arm, [*rendered, *request.messages])

    def _find(self, request: pb.Conversation) -> tuple[SnapshotPrompt, str]:
        snapshot, reference = self.snapshot, request.prompt.reference
        if snapshot is None:
            raise RegistryUnavailable
        direct = snapshot.versions.get(reference)
        if direct is not None:
            return direct, ""
        name = reference if "@" in reference else f"{reference}@{DEFAULT_ENVIRONMENT}"
        pointer = snapshot.pointers.get(name)
        if pointer is None:
            raise PromptNotFound(reference, nearest(reference, _nameable(snapshot)))
        labels = request.labels
        sticky = labels.conversation_id or labels.end_user or current().principal.user
        weights = [a.weight_basis_points for a in pointer.arms]
        arm = pointer.arms[choose_arm(pointer.prompt_name, pointer.environment, sticky, weights)]
        return snapshot.versions[f"{pointer.prompt_name}/v{arm.version}"], arm.name


def _nameable(snapshot: Snapshot) -> list[str]:
    """References that this key may use."""
    references, scopes = [*snapshot.pointers, *_readable(snapshot.versions)], current().principal.scopes
    return [each for each in references if scopes.allow_prompt(each, DEFAULT_ENVIRONMENT)]


def _readable(versions: Mapping[str, SnapshotPrompt]) -> list[str]:
    return [name for name in versions if not name.startswith("sha256:")]


def _turn(
    request: pb.Conversation,
    request_id: str,
    prompt: SnapshotPrompt | None,
    arm: str,
    messages: list[chat_pb2.ChatMessage],
) -> Turn:
    version = prompt.version if prompt else None
    parameters = _merged(version, request.parameters)
    schema = parameters.response_format.json_schema
    conversation = Conversation(
        messages,
        request.tools,
        parameters,
        request.labels,
        request.model or (version.model if version else ""),
        version.digest if version else "",
        schema,
        request.cache,
    )
    wish = request.cache
    return Turn(
        request_id=request_id,
        payload=conversation,
        guard_policy=_policy(request, version),
        input_bytes=text_bytes(messages, request.tools, schema),
        max_output_tokens=parameters.max_output_tokens if parameters.HasField("max_output_tokens") else None,
        prompt_version=f"{version.name}/v{version.version}" if version else "",
        prompt_arm=arm,
        cache=CacheWish(
            lookup=not (wish.bypass or wish.refresh),
            store=not (wish.bypass or wish.no_store),
            semantic=not wish.exact_only and not request.tools,
        ),
        input_images=image_count(messages),
    )


def _merged(
    version: registry_pb2.PromptVersion | None, own: chat_pb2.GenerationParameters
) -> chat_pb2.GenerationParameters:
    """The prompt's parameters under the caller's own; an output schema of the prompt asks for that format."""
    if version is None:
        return own
    merged = chat_pb2.GenerationParameters()
    merged.CopyFrom(version.parameters)
    if own.stop:
        del merged.stop[:]
    merged.MergeFrom(own)
    if version.output_json_schema and not merged.response_format.type:
        merged.response_format.type = "json_schema"
        merged.response_format.schema_name = version.name.replace("-", "_")
        merged.response_format.json_schema = version.output_json_schema
    return merged


def _policy(request: pb.Conversation, version: registry_pb2.PromptVersion | None) -> str:
    """The operator's word (pinned on the key) before the author's (in the prompt) before the caller's.

    A caller must not choose a weaker policy than those who answer for the key or the prompt did.
    """
    pinned = current().principal.guard_policy
    return pinned or (version.guard_policy if version else "") or request.guard_policy or DEFAULT_POLICY


class RegistryWatch:
    """Follows the registry: a complete snapshot at once, another after each change, again after a lost stream."""

    def __init__(
        self,
        channel: Any,
        prompts: SnapshotPrompts,
        as_service: Callable[[], AbstractContextManager[object]],
        pause: Callable[[], Awaitable[None]],
        logger: logging.Logger,
    ) -> None:
        self._stub = registry_pb2_grpc.RegistryServiceStub(channel)
        self._prompts = prompts
        self._as_service = as_service
        self._pause = pause
        self._logger = logger

    async def run(self) -> None:
        """Never ends. An absent registry is no crash of ours: the last snapshot serves, and it is soon asked again."""
        while True:
            try:
                await self._follow()
                reason = "STREAM_ENDED"
            except CallError as error:
                reason = error.reason
            self._logger.info("the registry is asked again", extra={"fields": {"reason": reason}})
            await self._pause()

    async def _follow(self) -> None:
        with self._as_service():
            updates: AsyncIterator[registry_pb2.WatchResponse] = self._stub.Watch(registry_pb2.WatchRequest())
            async with aclosing(updates):  # type: ignore[type-var]
                async for update in updates:
                    self._prompts.snapshot = build_snapshot(update, self._prompts.snapshot)
