"""The house rules of the contract, checked over its descriptor set. `python protos/lint.py` lists what breaks them.

Each rule is a function over one file that yields sentences; `RULES` is the list.
"""
# ruff: noqa: INP001, T201 - a script beside the contract, not a package

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# A script has to find the stubs itself; tests and installations have them on their path.
sys.path.insert(0, str(ROOT / "gen"))

from buf.validate import validate_pb2  # noqa: E402
from google.protobuf import descriptor_pb2 as pb  # noqa: E402
from llmops.common.v1 import options_pb2  # noqa: E402

OURS = "llmops/"
# Typed loosely: generators of type stubs disagree on the type of an extension.
RPC_OPTION: Any = options_pb2.rpc
FIELD_RULES: Any = validate_pb2.field
_PACKAGE = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?$")
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# What the comment of an RPC must say, by the class that its option declares.
_RETRY_WORDS = {
    options_pb2.RETRY_CLASS_SAFE: "safe to retry",
    options_pb2.RETRY_CLASS_IDEMPOTENT_WITH_REQUEST_ID: "idempotent",
    options_pb2.RETRY_CLASS_NEVER: "never retried",
}
_NUMERIC = frozenset(range(1, 8)) | {13, 15, 16, 17, 18}
_UNITS = ("nano_usd", "basis_points", "tokens", "bytes", "chars", "count", "s", "ms", "us", "ns")
# A number with such a word in its name measures something: the name has to end in what it is measured in.
_MEASURES = {
    "time": ({"timeout", "ttl", "latency", "duration", "age", "delay", "elapsed", "wait"}, ("s", "ms", "us", "ns")),
    "money": (
        {"cost", "price", "amount", "cap", "budget", "spent", "held", "reserved", "released", "overrun", "usd"},
        ("nano_usd", "nano_usd_per_million_tokens"),
    ),
    "size": ({"size", "length", "bytes", "memory"}, ("bytes", "chars", "tokens", "count")),
}
# Names that a standard gives (AIP-158).
_STANDARD_NAMES = {"page_size"}
# A pattern bounds a text when it is anchored and repeats nothing without an end.
_ANCHORED = re.compile(r"^\^.*\$$")
_UNENDING = re.compile(r"(?<!\\)[*+]|\{[0-9]+,\}")

# How source info names a place: field numbers and indexes from the file down.
SourcePath = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contract:
    """A descriptor set with its messages by full name."""

    files: tuple[pb.FileDescriptorProto, ...]
    messages: Mapping[str, pb.DescriptorProto]

    @staticmethod
    def of(files: pb.FileDescriptorSet) -> Contract:
        """Indexes a set; it must contain its imports."""
        messages = {
            f".{file.package}.{name}": message
            for file in files.file
            for name, message, _ in _messages(file.message_type)
        }
        return Contract(tuple(files.file), messages)

    def reachable(self, roots: list[str]) -> Iterator[tuple[str, pb.DescriptorProto]]:
        """The messages of `roots` and of everything that their fields hold, ours only, each once."""
        seen: set[str] = set()
        while roots:
            name = roots.pop()
            if name in seen or not name.startswith(".llmops."):
                continue
            seen.add(name)
            message = self.messages[name]
            if not message.options.map_entry:
                yield name, message
            roots += [field.type_name for field in message.field if field.type == field.TYPE_MESSAGE]


Rule = Callable[[Contract, pb.FileDescriptorProto], Iterator[str]]


def _messages(
    messages: Iterable[pb.DescriptorProto], prefix: str = "", path: SourcePath = (4,)
) -> Iterator[tuple[str, pb.DescriptorProto, SourcePath]]:
    """Every message with its name inside the package and its path in the source info; map entries have no path."""
    for index, message in enumerate(messages):
        name = f"{prefix}{message.name}"
        if message.options.map_entry:
            yield name, message, ()
            continue
        yield name, message, (*path, index)
        yield from _messages(message.nested_type, f"{name}.", (*path, index, 3))


def _enums(file: pb.FileDescriptorProto) -> Iterator[tuple[str, pb.EnumDescriptorProto, SourcePath]]:
    for index, enum in enumerate(file.enum_type):
        yield enum.name, enum, (5, index)
    for name, message, path in _messages(file.message_type):
        for index, enum in enumerate(message.enum_type):
            yield f"{name}.{enum.name}", enum, (*path, 4, index)


def _methods(file: pb.FileDescriptorProto) -> Iterator[tuple[str, pb.MethodDescriptorProto, SourcePath]]:
    for outer, service in enumerate(file.service):
        for inner, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", method, (6, outer, 2, inner)


def _comments(file: pb.FileDescriptorProto) -> dict[SourcePath, str]:
    return {tuple(at.path): at.leading_comments.strip() for at in file.source_code_info.location}


def package_is_path(_contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """`llmops.guard.v1` lies in `llmops/guard/v1/`, and a file with a service is named after its package."""
    folder, _, name = file.name.rpartition("/")
    if folder != file.package.replace(".", "/"):
        yield f"{file.name}: package {file.package} does not lie in {folder}"
    if not _PACKAGE.match(file.package):
        yield f"{file.name}: package {file.package} does not end in a version"
    if file.service and name != f"{file.package.split('.')[-2]}.proto":
        yield f"{file.name}: a file with a service is named after its package"


def services_are_named_after_their_package(_contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """`llmops.guard.v1` holds `GuardService`."""
    parts = file.package.split(".")
    expected = f"{parts[-2].title().replace('_', '')}Service" if len(parts) > 1 else ""
    for service in file.service:
        if service.name != expected:
            yield f"{file.name}: service {service.name} should be {expected}"


def rpcs_own_their_messages(_contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """`Check` takes `CheckRequest` and returns `CheckResponse`, both of its own package."""
    for name, method, _ in _methods(file):
        for role, actual in (("Request", method.input_type), ("Response", method.output_type)):
            expected = f".{file.package}.{method.name}{role}"
            if actual != expected:
                yield f"{file.name}: {name} uses {actual} where it should use {expected}"


def everything_is_explained(_contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """Every service, RPC, message, field, oneof, enum and value has a comment above it."""
    comments = _comments(file)
    named: list[tuple[str, SourcePath]] = [(service.name, (6, at)) for at, service in enumerate(file.service)]
    named += [(name, path) for name, _, path in _methods(file)]
    for name, message, path in _messages(file.message_type):
        if path:
            named.append((name, path))
            named += [(f"{name}.{field.name}", (*path, 2, at)) for at, field in enumerate(message.field)]
            real = [at for at, one in enumerate(message.oneof_decl) if not _is_synthetic(message, at)]
            named += [(f"{name}.{message.oneof_decl[at].name}", (*path, 8, at)) for at in real]
    for name, enum, path in _enums(file):
        named.append((name, path))
        named += [(f"{name}.{value.name}", (*path, 2, at)) for at, value in enumerate(enum.value)]
    for name, path in named:
        if not comments.get(path):
            yield f"{file.name}: {name} has no comment"


def _is_synthetic(message: pb.DescriptorProto, oneof: int) -> bool:
    """`optional` is written as a oneof of one field."""
    return any(field.proto3_optional and field.oneof_index == oneof for field in message.field)


def enums_have_a_prefix_and_a_zero(_contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """`GuardDecision` starts with `GUARD_DECISION_UNSPECIFIED = 0`, and all its values share that prefix."""
    for name, enum, _ in _enums(file):
        prefix = _CAMEL_BOUNDARY.sub("_", enum.name).upper() + "_"
        if (enum.value[0].name, enum.value[0].number) != (f"{prefix}UNSPECIFIED", 0):
            yield f"{file.name}: {name} does not start with {prefix}UNSPECIFIED = 0"
        for value in enum.value:
            if not value.name.startswith(prefix):
                yield f"{file.name}: {name}.{value.name} lacks the prefix {prefix}"


def rpcs_state_their_policy(_contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """The option `rpc` gives roles, a retry class and a default timeout."""
    for name, method, _ in _methods(file):
        if not method.options.HasExtension(RPC_OPTION):
            yield f"{file.name}: {name} has no option (llmops.common.v1.rpc)"
            continue
        policy = method.options.Extensions[RPC_OPTION]
        if not policy.roles or options_pb2.ROLE_UNSPECIFIED in policy.roles:
            yield f"{file.name}: {name} does not say which roles may call it"
        if policy.retry == options_pb2.RETRY_CLASS_UNSPECIFIED:
            yield f"{file.name}: {name} does not say whether it may be retried"
        if policy.default_timeout.ToMilliseconds() <= 0:
            yield f"{file.name}: {name} has no default timeout"


def comments_agree_on_retries(_contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """The comment says "Safe to retry", "Idempotent" or "Never retried", as the option does, and nothing else."""
    comments = _comments(file)
    for name, method, path in _methods(file):
        declared = method.options.Extensions[RPC_OPTION].retry
        text = " ".join(comments.get(path, "").lower().split())
        said = {retry for retry, words in _RETRY_WORDS.items() if words in text}
        if said != {declared} & _RETRY_WORDS.keys():
            expected = _RETRY_WORDS.get(declared, "nothing")
            yield f"{file.name}: the comment of {name} should say {expected!r} and no other retry class"


def mutations_carry_a_request_id(contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """What is deduplicated by request_id has one, and it must not be empty."""
    for name, method, _ in _methods(file):
        if method.options.Extensions[RPC_OPTION].retry != options_pb2.RETRY_CLASS_IDEMPOTENT_WITH_REQUEST_ID:
            continue
        fields = {field.name: field for field in contract.messages[method.input_type].field}
        found = fields.get("request_id")
        if found is None or found.type != found.TYPE_STRING:
            yield f"{file.name}: {name} is idempotent by request_id, and its request has none"
        elif not found.options.Extensions[FIELD_RULES].string.min_len:
            yield f"{file.name}: the request_id of {name} may be empty"


def audited_rpcs_can_be_recorded(contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """What is audited is unary, has a request_id, and names fields that are there and are no message and no bytes."""
    for name, method, _ in _methods(file):
        policy = method.options.Extensions[RPC_OPTION]
        if policy.audited_fields and not policy.audited:
            yield f"{file.name}: {name} has audited_fields and is not audited"
        if not policy.audited:
            continue
        if method.client_streaming or method.server_streaming:
            yield f"{file.name}: {name} is audited and streams"
        if policy.retry != options_pb2.RETRY_CLASS_IDEMPOTENT_WITH_REQUEST_ID:
            yield f"{file.name}: {name} is audited and has no request_id to be known by"
        for path in policy.audited_fields:
            if not _is_recordable(contract, method.input_type, path):
                yield f"{file.name}: {name} cannot put {path} into the audit log"


def few_messages_can_be_carried(_contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """A stream of few messages has one request, and nothing that repeats it."""
    for name, method, _ in _methods(file):
        policy = method.options.Extensions[RPC_OPTION]
        if not policy.few_messages:
            continue
        if method.client_streaming or not method.server_streaming:
            yield f"{file.name}: {name} has few_messages and is no stream of answers to one request"
        if policy.retry != options_pb2.RETRY_CLASS_NEVER:
            yield f"{file.name}: {name} has few_messages and may be retried"


def _is_recordable(contract: Contract, type_name: str, path: str) -> bool:
    *outer, last = path.split(".")
    for part in outer:
        found = next((field for field in contract.messages[type_name].field if field.name == part), None)
        if found is None or found.type_name not in contract.messages or found.label == found.LABEL_REPEATED:
            return False
        type_name = found.type_name
    field = next((field for field in contract.messages[type_name].field if field.name == last), None)
    return field is not None and field.type not in (field.TYPE_MESSAGE, field.TYPE_BYTES, field.TYPE_GROUP)


def units_come_last(_contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """Numbers that measure time, money or size end in their unit; money is int64; moments end in `_time`."""
    for message_name, message, path in _messages(file.message_type):
        for field in message.field if path else ():
            where = f"{file.name}: {message_name}.{field.name}"
            if field.type_name == ".google.protobuf.Timestamp" and not field.name.endswith("_time"):
                yield f"{where} is a moment and does not end in _time"
            if field.type_name == ".google.protobuf.Duration" and field.name.endswith(("_s", "_ms", "_seconds")):
                yield f"{where} is a Duration, which needs no unit"
            if field.type in _NUMERIC and field.name not in _STANDARD_NAMES:
                yield from (f"{where} {objection}" for objection in _unit_objections(field))


def _unit_objections(field: pb.FieldDescriptorProto) -> Iterator[str]:
    name, words = field.name, set(field.name.split("_"))
    for measure, (signs, units) in _MEASURES.items():
        if words & signs and not name.endswith(tuple(f"_{unit}" for unit in units)):
            yield f"measures {measure} and does not end in one of {', '.join(units)}"
    if "nano_usd" in name and field.type != field.TYPE_INT64:
        yield "is money and not int64"
    for unit in _UNITS:
        if re.search(rf"(^|_){unit}_(?!per_)", name) and not re.search(rf"_(per_\w+|{'|'.join(_UNITS)})$", name):
            yield f"does not have its unit {unit} at the end"


def requests_are_bounded(contract: Contract, file: pb.FileDescriptorProto) -> Iterator[str]:
    """Every text, bytes, list and map that a request can hold has a greatest length."""
    for name, message in contract.reachable([method.input_type for _, method, _ in _methods(file)]):
        for field in message.field:
            for objection in _bound_objections(contract, field):
                yield f"{name.removeprefix('.')}.{field.name} {objection}"


def _bound_objections(contract: Contract, field: pb.FieldDescriptorProto) -> Iterator[str]:
    rules = field.options.Extensions[FIELD_RULES]
    entry = contract.messages.get(field.type_name)
    if entry is not None and entry.options.map_entry:
        if not rules.map.max_pairs:
            yield "is a map without max_pairs"
        for part, half in zip(("keys", "values"), entry.field, strict=True):
            if not _is_bounded(half.type, getattr(rules.map, part)):
                yield f"is a map whose {part} have no greatest length"
    elif field.label == field.LABEL_REPEATED:
        if not rules.repeated.max_items:
            yield "is a list without max_items"
        if not _is_bounded(field.type, rules.repeated.items):
            yield "is a list whose items have no greatest length"
    elif not _is_bounded(field.type, rules):
        yield "has no greatest length"


def _is_bounded(kind: int, rules: validate_pb2.FieldRules) -> bool:
    if kind == pb.FieldDescriptorProto.TYPE_BYTES:
        return bool(rules.bytes.max_len or rules.bytes.len)
    if kind != pb.FieldDescriptorProto.TYPE_STRING:
        return True
    text = rules.string
    if text.max_len or text.max_bytes or text.len or text.len_bytes or getattr(text, "in") or text.uuid:
        return True
    return bool(_ANCHORED.match(text.pattern) and not _UNENDING.search(text.pattern))


RULES: tuple[Rule, ...] = (
    package_is_path,
    services_are_named_after_their_package,
    rpcs_own_their_messages,
    everything_is_explained,
    enums_have_a_prefix_and_a_zero,
    rpcs_state_their_policy,
    comments_agree_on_retries,
    mutations_carry_a_request_id,
    audited_rpcs_can_be_recorded,
    few_messages_can_be_carried,
    units_come_last,
    requests_are_bounded,
)


def violations(files: pb.FileDescriptorSet) -> list[str]:
    """Every broken rule of our own files, each once, in order."""
    contract = Contract.of(files)
    ours = [file for file in contract.files if file.name.startswith(OURS)]
    return list(dict.fromkeys(found for rule in RULES for file in ours for found in rule(contract, file)))


def main() -> None:
    """Entry point: lists what breaks a rule, and exits 1 if anything does."""
    found = violations(pb.FileDescriptorSet.FromString((ROOT / "gen/llmops/descriptors.binpb").read_bytes()))
    print("\n".join(found) if found else "the contract keeps every rule")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
