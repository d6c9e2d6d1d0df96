"""Changes against the released contract: what breaks users fails, what only adds passes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf import descriptor_pb2 as pb

from protos.compatibility import breaking_changes
from tests.architecture.checkout import BASELINE, descriptor_set


def test_the_contract_is_compatible_with_the_last_release() -> None:
    assert breaking_changes(descriptor_set(BASELINE), descriptor_set()) == []


class Guard:
    """Two copies of one contract: `old` is released, `new` is changed by a case."""

    def __init__(self) -> None:
        self.old, self.new = descriptor_set(), descriptor_set()
        self.file = self.file_in(self.new)
        self.message = self.message_in(self.new, "CheckInputRequest")
        self.method = self.file.service[0].method[0]
        self.enum = self.common(self.new).enum_type[0]

    @staticmethod
    def file_in(files: pb.FileDescriptorSet) -> pb.FileDescriptorProto:
        return next(file for file in files.file if file.package == "llmops.guard.v1")

    @staticmethod
    def common(files: pb.FileDescriptorSet) -> pb.FileDescriptorProto:
        return next(file for file in files.file if file.name == "llmops/common/v1/verdict.proto")

    @classmethod
    def message_in(cls, files: pb.FileDescriptorSet, name: str) -> pb.DescriptorProto:
        return next(message for message in cls.file_in(files).message_type if message.name == name)

    def remove(self, things: object, name: str) -> None:
        index = [thing.name for thing in things].index(name)  # type: ignore[attr-defined]
        del things[index]  # type: ignore[attr-defined]

    def reserve_in_old(self) -> None:
        old = self.message_in(self.old, "CheckInputRequest")
        old.reserved_range.add(start=20, end=30)
        old.reserved_name.append("earlier")

    def extension(self) -> pb.FieldDescriptorProto:
        return next(file for file in self.new.file if file.name.endswith("options.proto")).extension[0]


def change(path: str, **values: object) -> Callable[[Guard], None]:
    def apply(guard: Guard) -> None:
        target: object = guard
        for step in path.split("."):
            target = target[int(step)] if step.isdigit() else getattr(target, step)  # type: ignore[index]
        for name, value in values.items():
            setattr(target, name, value)

    return apply


def removal(things: str, name: str) -> Callable[[Guard], None]:
    def apply(guard: Guard) -> None:
        first, last = things.split(".")
        guard.remove(getattr(getattr(guard, first), last), name)

    return apply


def shrink_reservation(guard: Guard) -> None:
    guard.reserve_in_old()
    guard.message.reserved_range.add(start=20, end=25)
    guard.message.reserved_name.append("earlier")


def forget_reserved_name(guard: Guard) -> None:
    guard.reserve_in_old()
    guard.message.reserved_range.add(start=20, end=30)


def join_oneof(guard: Guard) -> None:
    guard.message.oneof_decl.add(name="choice")
    guard.message.field[2].oneof_index = 0


def leave_oneof(guard: Guard) -> None:
    Guard.message_in(guard.new, "CheckOutputStreamRequest").field[0].ClearField("oneof_index")


def become_optional(guard: Guard) -> None:
    guard.message.oneof_decl.add(name="_embed")
    guard.message.field[2].oneof_index = 0
    guard.message.field[2].proto3_optional = True


BREAKING: dict[str, tuple[Callable[[Guard], None], str]] = {
    "a file removed": (removal("new.file", "llmops/guard/v1/guard.proto"), "the file was removed or moved"),
    "a file moved": (change("file", name="llmops/guard/v1/checks.proto"), "the file was removed or moved"),
    "a package renamed": (change("file", package="llmops.guard.v2"), "package llmops.guard.v1 became"),
    "a message removed": (removal("file.message_type", "MaskedMessage"), "MaskedMessage was removed"),
    "a message renamed": (change("file.message_type.0", name="Check"), "CheckInputRequest was removed"),
    "a field removed": (removal("message.field", "embed"), "CheckInputRequest.embed = 3 was removed or renumbered"),
    "a removed field not reserved by number": (removal("message.field", "embed"), "its number 3 is not reserved"),
    "a removed field not reserved by name": (removal("message.field", "embed"), 'its name "embed" is not reserved'),
    "a field renumbered": (
        change("message.field.2", number=33),
        "CheckInputRequest.embed = 3 was removed or renumbered",
    ),
    "a field renamed": (change("message.field.2", name="embedding"), "its name was embed and is embedding"),
    "a JSON name changed": (change("message.field.2", json_name="Embed"), "its JSON name was embed and is Embed"),
    "a field retyped": (change("message.field.2", type=9), "its type was TYPE_BOOL and is TYPE_STRING"),
    "a message type changed": (
        change("message.field.1", type_name=".llmops.common.v1.ToolCall"),
        "message or enum type was",
    ),
    "a field relabelled": (change("message.field.0", label=3), "its label was LABEL_OPTIONAL and is LABEL_REPEATED"),
    "presence changed": (become_optional, "its presence was"),
    "a field moved into a oneof": (join_oneof, "its oneof was none and is choice"),
    "a field moved out of a oneof": (leave_oneof, "its oneof was event and is none"),
    "a reservation shrunk": (shrink_reservation, "numbers 20 to 29 are no longer reserved"),
    "a reserved name forgotten": (forget_reserved_name, 'the name "earlier" is no longer reserved'),
    "an enum removed": (
        lambda it: it.remove(it.common(it.new).enum_type, "GuardDecision"),
        "GuardDecision was removed",
    ),
    "a value removed": (removal("enum.value", "GUARD_DECISION_MASK"), "GUARD_DECISION_MASK = 3 was removed"),
    "a removed value not reserved": (removal("enum.value", "GUARD_DECISION_MASK"), "its number 3 is not reserved"),
    "a value renumbered": (change("enum.value.3", number=13), "GUARD_DECISION_MASK = 3 was removed"),
    "a value renamed": (change("enum.value.3", name="GUARD_DECISION_HIDE"), "GUARD_DECISION_MASK = 3 was removed"),
    "a service removed": (removal("file.service", "GuardService"), "GuardService was removed"),
    "an rpc removed": (lambda it: it.remove(it.file.service[0].method, "Embed"), "GuardService.Embed was removed"),
    "a request type changed": (change("method", input_type=".llmops.guard.v1.EmbedRequest"), "its input_type was"),
    "a response type changed": (change("method", output_type=".llmops.guard.v1.EmbedResponse"), "its output_type was"),
    "a request that became a stream": (change("method", client_streaming=True), "its client_streaming was"),
    "a response that became a stream": (change("method", server_streaming=True), "its server_streaming was"),
    "an extension renumbered": (
        lambda it: setattr(it.extension(), "number", 50128),
        "extension rpc = 50127 was removed",
    ),
}


@pytest.mark.parametrize(("apply", "expected"), BREAKING.values(), ids=BREAKING)
def test_what_breaks_users_is_named(apply: Callable[[Guard], None], expected: str) -> None:
    guard = Guard()
    assert breaking_changes(guard.old, guard.new) == []
    apply(guard)
    found = breaking_changes(guard.old, guard.new)
    assert any(expected in line for line in found), found


def test_a_removal_with_reservation_still_breaks_this_version() -> None:
    guard = Guard()
    guard.remove(guard.message.field, "embed")
    guard.message.reserved_range.add(start=3, end=4)
    guard.message.reserved_name.append("embed")
    assert breaking_changes(guard.old, guard.new) == [
        "llmops/guard/v1/guard.proto: CheckInputRequest.embed = 3 was removed or renumbered"
    ]


def test_a_reservation_may_grow() -> None:
    guard = Guard()
    guard.reserve_in_old()
    guard.message.reserved_range.add(start=19, end=40)
    guard.message.reserved_name.extend(["earlier", "before"])
    assert breaking_changes(guard.old, guard.new) == []


def test_additions_pass() -> None:
    guard = Guard()
    guard.message.field.add(name="more", number=90, type=9, label=1)
    guard.message.nested_type.add(name="Inner")
    guard.file.message_type.add(name="Outer")
    guard.file.enum_type.add(name="Kind").value.add(name="KIND_UNSPECIFIED", number=0)
    guard.enum.value.add(name="GUARD_DECISION_DELAY", number=6)
    guard.file.service[0].method.add(name="More", input_type=".x", output_type=".y")
    guard.new.file.add(name="llmops/guard/v1/more.proto", package="llmops.guard.v1")
    assert breaking_changes(guard.old, guard.new) == []


def test_nested_types_are_compared() -> None:
    guard = Guard()
    for files in (guard.old, guard.new):
        inner = Guard.message_in(files, "CheckInputRequest").nested_type.add(name="Inner")
        inner.field.add(name="x", number=1, type=9, label=1)
        Guard.message_in(files, "CheckInputRequest").enum_type.add(name="Kind").value.add(name="A", number=0)
    assert breaking_changes(guard.old, guard.new) == []
    guard.message.nested_type[0].field[0].type = pb.FieldDescriptorProto.TYPE_INT32
    guard.message.enum_type[0].value[0].name = "B"
    assert len(breaking_changes(guard.old, guard.new)) == 2


def test_what_is_not_ours_is_not_compared() -> None:
    guard = Guard()
    guard.remove(guard.new.file, "buf/validate/validate.proto")
    assert breaking_changes(guard.old, guard.new) == []
