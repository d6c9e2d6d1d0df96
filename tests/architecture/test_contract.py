"""The house rules of the contract: kept, and each able to fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2 as pb
from llmops.common.v1 import options_pb2

from protos import lint
from tests.architecture.checkout import descriptor_set

INT64, DOUBLE, STRING = (getattr(pb.FieldDescriptorProto, f"TYPE_{name}") for name in ("INT64", "DOUBLE", "STRING"))


def test_the_contract_keeps_every_rule() -> None:
    assert lint.violations(descriptor_set()) == []


class Ledger:
    """The real contract with handles on the parts that the cases below damage."""

    def __init__(self) -> None:
        self.set = descriptor_set()
        self.file = next(file for file in self.set.file if file.package == "llmops.ledger.v1")
        self.service = self.file.service[0]
        self.reserve = self.service.method[0]
        self.request = next(message for message in self.file.message_type if message.name == "ReserveRequest")
        self.enum = self.file.enum_type[0]

    def policy(self) -> options_pb2.RpcPolicy:
        policy: options_pb2.RpcPolicy = self.reserve.options.Extensions[lint.RPC_OPTION]
        return policy

    def rules(self, field: str) -> validate_pb2.FieldRules:
        found = next(one for one in self.request.field if one.name == field)
        rules: validate_pb2.FieldRules = found.options.Extensions[lint.FIELD_RULES]
        return rules

    def add(self, name: str, kind: int, type_name: str = "") -> None:
        """Adds a field with a comment, so that only its own fault shows."""
        self.request.field.add(name=name, number=90, type=kind, type_name=type_name, label=1)
        message = list(self.file.message_type).index(self.request)
        self.file.source_code_info.location.add(path=[4, message, 2, len(self.request.field) - 1], leading_comments="x")

    def comment(self, path: list[int], text: str) -> None:
        for location in self.file.source_code_info.location:
            if list(location.path) == path:
                location.leading_comments = text


def set_policy(**changes: object) -> Callable[[Ledger], None]:
    def change(ledger: Ledger) -> None:
        for name, value in changes.items():
            ledger.policy().ClearField(name)
            if isinstance(value, list):
                getattr(ledger.policy(), name).extend(value)
            elif value is not None:
                setattr(ledger.policy(), name, value)

    return change


def set_policy_of(rpc: str, **changes: object) -> Callable[[Ledger], None]:
    def change(ledger: Ledger) -> None:
        ledger.reserve = next(method for method in ledger.service.method if method.name == rpc)
        set_policy(**changes)(ledger)

    return change


def audits(*fields: str) -> Callable[[Ledger], None]:
    return set_policy_of("SetLimit", audited_fields=list(fields))


CASES: dict[str, tuple[Callable[[Ledger], object], str]] = {
    "a file with another name": (
        lambda it: setattr(it.file, "name", "llmops/ledger/v1/api.proto"),
        "named after its package",
    ),
    "a service with another name": (lambda it: setattr(it.service, "name", "Ledger"), "should be LedgerService"),
    "a request of another rpc": (
        lambda it: setattr(it.reserve, "input_type", ".llmops.ledger.v1.VoidRequest"),
        "Reserve uses",
    ),
    "a response of another rpc": (
        lambda it: setattr(it.reserve, "output_type", ".llmops.ledger.v1.Limit"),
        "Reserve uses",
    ),
    "a service without comment": (lambda it: it.comment([6, 0], " "), "LedgerService has no comment"),
    "an rpc without comment": (lambda it: it.comment([6, 0, 2, 0], ""), "LedgerService.Reserve has no comment"),
    "a message without comment": (lambda it: it.comment([4, 0], ""), "Limit has no comment"),
    "a field without comment": (lambda it: it.comment([4, 0, 2, 1], ""), "Limit.scope has no comment"),
    "an enum without comment": (lambda it: it.comment([5, 0], ""), "LimitScope has no comment"),
    "a value without comment": (lambda it: it.comment([5, 0, 2, 1], ""), "LIMIT_SCOPE_ORGANISATION has no comment"),
    "an enum without a zero": (lambda it: setattr(it.enum.value[0], "number", 9), "does not start with"),
    "a zero with another name": (
        lambda it: setattr(it.enum.value[0], "name", "LIMIT_SCOPE_NONE"),
        "does not start with",
    ),
    "a value without prefix": (lambda it: setattr(it.enum.value[1], "name", "ORGANISATION"), "lacks the prefix"),
    "no policy": (lambda it: it.reserve.options.ClearExtension(lint.RPC_OPTION), "has no option"),
    "no roles": (set_policy(roles=[]), "which roles"),
    "the unspecified role": (set_policy(roles=[0]), "which roles"),
    "no retry class": (set_policy(retry=0), "may be retried"),
    "no timeout": (set_policy(default_timeout=None), "no default timeout"),
    "a comment that contradicts": (set_policy(retry=options_pb2.RETRY_CLASS_SAFE), "should say 'safe to retry'"),
    "a comment that says two things": (
        lambda it: it.comment([6, 0, 2, 0], "Idempotent with request_id. Safe to retry."),
        "should say 'idempotent'",
    ),
    "a mutation without request_id": (lambda it: setattr(it.request.field[0], "name", "id"), "its request has none"),
    "a request_id that may be empty": (lambda it: it.rules("request_id").string.ClearField("min_len"), "may be empty"),
    "an audited stream": (set_policy_of("Watch", audited=True), "is audited and streams"),
    "an audited read": (set_policy_of("GetUsage", audited=True), "no request_id to be known by"),
    "audited fields of what is not audited": (set_policy(audited_fields=["request_id"]), "is not audited"),
    "an audited field that is not there": (audits("limit.cap"), "cannot put limit.cap into"),
    "an audited field of nothing": (audits("cap.limit"), "cannot put cap.limit into"),
    "an audited message": (audits("limit"), "cannot put limit into"),
    "few messages of a unary rpc": (set_policy_of("GetUsage", few_messages=True), "no stream of answers"),
    "few messages that are retried": (set_policy_of("Watch", few_messages=True), "may be retried"),
    "a timeout without unit": (lambda it: it.add("lock_timeout", INT64), "measures time"),
    "money without unit": (lambda it: it.add("amount", INT64), "measures money"),
    "money in floats": (lambda it: it.add("amount_nano_usd", DOUBLE), "is money and not int64"),
    "a size without unit": (lambda it: it.add("body_size", INT64), "measures size"),
    "a unit in front": (lambda it: it.add("tokens_in", INT64), "unit tokens at the end"),
    "a moment without _time": (lambda it: it.add("created", 11, ".google.protobuf.Timestamp"), "does not end in _time"),
    "a Duration with unit": (lambda it: it.add("ttl_s", 11, ".google.protobuf.Duration"), "needs no unit"),
    "a text without bound": (lambda it: it.add("note", STRING), "ReserveRequest.note has no greatest length"),
    "bytes without bound": (lambda it: it.add("blob", 12), "ReserveRequest.blob has no greatest length"),
    "a list without bound": (
        lambda it: it.rules("models").repeated.ClearField("max_items"),
        "a list without max_items",
    ),
}


@pytest.mark.parametrize(("damage", "expected"), CASES.values(), ids=CASES)
def test_a_broken_rule_is_named(damage: Callable[[Ledger], object], expected: str) -> None:
    ledger = Ledger()
    damage(ledger)
    found = set(lint.violations(ledger.set)) - set(lint.violations(descriptor_set()))
    assert any(expected in line for line in found), found


@pytest.mark.parametrize(
    ("name", "package", "expected"),
    [
        ("llmops/ledger/v1/ledger.proto", "llmops.books.v1", "does not lie in"),
        ("ledger.proto", "llmops.ledger.v1", "does not lie in"),
        ("llmops/ledger/ledger.proto", "llmops.ledger", "does not end in a version"),
        ("llmops/ledger/v0/ledger.proto", "llmops.ledger.v0", "does not end in a version"),
    ],
)
def test_a_package_is_its_path_and_has_a_version(name: str, package: str, expected: str) -> None:
    files = pb.FileDescriptorSet(file=[pb.FileDescriptorProto(name=name, package=package)])
    assert [expected in line for line in lint.package_is_path(lint.Contract.of(files), files.file[0])] == [True]


@pytest.mark.parametrize("package", ["llmops.ledger.v1", "llmops.ledger.v12", "llmops.ledger.v1alpha1"])
def test_a_package_in_its_place_passes(package: str) -> None:
    file = pb.FileDescriptorProto(name=f"{package.replace('.', '/')}/ledger.proto", package=package)
    assert list(lint.package_is_path(lint.Contract.of(pb.FileDescriptorSet()), file)) == []


@pytest.mark.parametrize(
    ("name", "kind", "type_name"),
    [
        ("lock_timeout_ms", INT64, ""),
        ("amount_nano_usd", INT64, ""),
        ("output_nano_usd_per_million_tokens", INT64, ""),
        ("body_size_bytes", INT64, ""),
        ("page_size", INT64, ""),
        ("grace", 11, ".google.protobuf.Duration"),
        ("create_time", 11, ".google.protobuf.Timestamp"),
    ],
)
def test_names_that_follow_the_rules_pass(name: str, kind: int, type_name: str) -> None:
    ledger = Ledger()
    ledger.add(name, kind, type_name)
    assert lint.violations(ledger.set) == lint.violations(descriptor_set())


@pytest.mark.parametrize(
    ("pattern", "bounded"),
    [("^[a-z]{0,63}$", True), ("^[a-z]+$", False), ("^a{1,}$", False), ("[a-z]{3}", False), ("^a\\+b$", True)],
)
def test_a_pattern_bounds_a_text_when_it_is_anchored_and_ends(pattern: str, bounded: bool) -> None:  # noqa: FBT001
    ledger = Ledger()
    ledger.add("code", STRING)
    ledger.rules("code").string.pattern = pattern
    assert any("code has no greatest length" in line for line in lint.violations(ledger.set)) is not bounded


def test_a_bound_is_looked_for_in_everything_that_a_request_holds() -> None:
    ledger = Ledger()
    context = next(file for file in ledger.set.file if file.name == "llmops/common/v1/context.proto")
    labels = next(message for message in context.message_type if message.name == "CallLabels")
    tags = next(field for field in labels.field if field.name == "tags").options.Extensions[lint.FIELD_RULES].map
    tags.ClearField("max_pairs")
    tags.keys.Clear()
    tags.values.Clear()
    found = [line for line in lint.violations(ledger.set) if "CallLabels.tags" in line]
    assert [line.split(" is a map ")[1] for line in found] == [
        "without max_pairs",
        "whose keys have no greatest length",
        "whose values have no greatest length",
    ]
