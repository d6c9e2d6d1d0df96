"""`llmops call`: any RPC of a running server, found by reflection."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from llmops_cli import attempts
from llmops_cli.channels import open_channel, why_unreached
from llmops_cli.targets import TARGETS
from meshkit.settings import SettingsError, nearest
from meshkit.transports.status import decode

EXIT_CALL_FAILED = 1
_TIMEOUT_S = 60.0


def call(address: str, rpc: str, body: str, key: str) -> int:
    """Prints each response as JSON. Returns the exit code. Raises SettingsError for what cannot be sent."""
    with open_channel(address) as channel:
        try:
            method = _find(channel, rpc)
            return _invoke(channel, method, body, key)
        except grpc.RpcError as error:
            return explain(error, address, rpc)


def _find(channel: grpc.Channel, rpc: str) -> MethodDescriptor:
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    services = [pool.FindServiceByName(name) for name in database.get_services() if name.startswith("llmops.")]
    methods = {f"{service.full_name}/{method.name}": method for service in services for method in service.methods}
    short = {_short(service, method): method for service in services for method in service.methods}
    wanted = rpc.strip("/")
    found = methods.get(wanted) or short.get(wanted.replace("/", ".")) or short.get(_without_suffix(wanted))
    if found is None:
        service = _without_suffix(wanted).partition(".")[0]
        if service in TARGETS and not any(name.startswith(f"{service}.") for name in short):
            raise SettingsError(
                f"{service} does not run behind this address; in a mesh of processes each service has its own: "
                f"name {service}'s with --address"
            )
        known = ", ".join(sorted(short)) or "none"
        raise SettingsError(f"there is no RPC {rpc!r} here{nearest(wanted, short)}; known: {known}")
    return found


def _short(service: ServiceDescriptor, method: MethodDescriptor) -> str:
    return f"{service.full_name.split('.')[1]}.{method.name}"


def _without_suffix(name: str) -> str:
    """LedgerService/GetUsage as ledger.GetUsage."""
    service, _, method = name.replace("/", ".").rpartition(".")
    return f"{service.rpartition('.')[2].removesuffix('Service').lower()}.{method}"


def _invoke(channel: grpc.Channel, method: MethodDescriptor, body: str, key: str) -> int:
    requests = requests_of(method, body)
    request = requests[0]
    path = f"/{method.containing_service.full_name}/{method.name}"
    serialise = type(request).SerializeToString
    parse = message_factory.GetMessageClass(method.output_type).FromString
    options: dict[str, Any] = {"metadata": (("authorization", f"Bearer {key}"),), "timeout": _TIMEOUT_S}
    responses: Iterable[Any]
    if method.server_streaming and method.client_streaming:
        responses = channel.stream_stream(path, serialise, parse)(iter(requests), **options)
    elif method.server_streaming:
        responses = channel.unary_stream(path, serialise, parse)(request, **options)
    elif method.client_streaming:
        responses = [channel.stream_unary(path, serialise, parse)(iter(requests), **options)]
    else:
        responses = [channel.unary_unary(path, serialise, parse)(request, **options)]
    for response in responses:
        text = json_format.MessageToJson(response, preserving_proto_field_name=True, ensure_ascii=False)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return 0


def requests_of(method: MethodDescriptor, body: str) -> list[Message]:
    """One message; where the client streams, a JSON list of them. Raises SettingsError."""
    kind = message_factory.GetMessageClass(method.input_type)
    try:
        parsed = json.loads(body)
        # Half a character, written as an escape, in a name: the parser of messages breaks on it.
        json.dumps(parsed, ensure_ascii=False).encode()
        texts = parsed if method.client_streaming and isinstance(parsed, list) else [parsed]
        return [json_format.ParseDict(text, kind()) for text in texts] or [kind()]
    except (json_format.ParseError, ValueError, AttributeError, TypeError, RecursionError) as error:
        mistake = " ".join(str(error).split())
        raise SettingsError(f"the request is not a {method.input_type.full_name}: {mistake}") from None


def explain(error: Any, address: str, rpc: str) -> int:
    """Writes what went wrong, and what helps. Returns the exit code."""
    failure = decode(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()), rpc)
    if failure.status == "UNAVAILABLE" and failure.reason == "SERVICE_UNAVAILABLE":
        sys.stderr.write(f"llmops: {why_unreached(address, error.details() or '')}\n")
        return EXIT_CALL_FAILED
    # Some reasons are the status itself.
    names = dict.fromkeys((failure.status, failure.reason))
    sys.stderr.write(f"{' '.join(names)}: {failure.message}\n")
    for field, description in (*failure.field_violations, *failure.quota_violations):
        # One violation alone is often the message.
        if failure.message != f"{field}: {description}":
            sys.stderr.write(f"  {field}: {description}\n")
    for line in attempts.lines(failure.metadata):
        sys.stderr.write(line + "\n")
    if failure.retry_after_s is not None:
        sys.stderr.write(f"  retry after {failure.retry_after_s:.0f} s\n")
    return EXIT_CALL_FAILED
