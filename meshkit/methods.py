"""What the contract promises about each RPC, read from the `rpc` option of its descriptor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from llmops.common.v1 import options_pb2

_RETRYABLE = frozenset({options_pb2.RETRY_CLASS_SAFE, options_pb2.RETRY_CLASS_IDEMPOTENT_WITH_REQUEST_ID})
_FALLBACK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC. `roles` are lower-case names; an RPC without roles is refused to everyone.

    With `shows_mesh_key` processes of the mesh send their own key beside the caller's; `within_mesh` refuses others.
    """

    path: str
    service: str
    name: str
    client_streaming: bool
    server_streaming: bool
    retryable: bool
    roles: frozenset[str]
    default_timeout_s: float
    settles: bool
    ends_with_credential: bool
    within_mesh: bool
    shows_mesh_key: bool
    few_messages: bool
    audited: bool
    audited_fields: tuple[str, ...]
    request_type: type[Message]
    response_type: type[Message]


def _method(descriptor: MethodDescriptor) -> Method:
    service: ServiceDescriptor = descriptor.containing_service
    policy: options_pb2.RpcPolicy = descriptor.GetOptions().Extensions[options_pb2.rpc]  # type: ignore[index]
    timeout = policy.default_timeout
    return Method(
        path=f"/{service.full_name}/{descriptor.name}",
        service=service.full_name,
        name=descriptor.name,
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
        retryable=policy.retry in _RETRYABLE,
        roles=frozenset(options_pb2.Role.Name(r).removeprefix("ROLE_").lower() for r in policy.roles),
        default_timeout_s=timeout.seconds + timeout.nanos / 1e9 or _FALLBACK_TIMEOUT_S,
        settles=policy.settles,
        ends_with_credential=policy.ends_with_credential,
        within_mesh=policy.within_mesh,
        shows_mesh_key=policy.within_mesh or policy.tells_mesh_apart,
        few_messages=policy.few_messages,
        audited=policy.audited,
        audited_fields=tuple(policy.audited_fields),
        request_type=message_factory.GetMessageClass(descriptor.input_type),
        response_type=message_factory.GetMessageClass(descriptor.output_type),
    )


@cache
def methods_of(service: str) -> dict[str, Method]:
    """Every RPC of a service by path. Raises KeyError when its generated module was not imported."""
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    return {method.path: method for method in map(_method, descriptor.methods)}


@cache
def method_at(path: str) -> Method:
    """The RPC at "/package.Service/Name". Raises KeyError when there is none."""
    return methods_of(path.rsplit("/", 1)[0].lstrip("/"))[path]
