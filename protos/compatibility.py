"""What would break users of the released contract. `python protos/compatibility.py` lists it, against `baseline.binpb`.

FILE level: generated code, stored messages and JSON of the release must go on working, so nothing may be removed,
renamed, renumbered, retyped or moved to another file. Additions pass. Deprecate instead; a new major version is a new
package.
"""
# ruff: noqa: INP001, T201 - a script beside the contract, not a package

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2 as pb

ROOT = Path(__file__).resolve().parent.parent
OURS = "llmops/"
_TYPES = pb.FieldDescriptorProto.Type
_LABELS = pb.FieldDescriptorProto.Label


def breaking_changes(released: pb.FileDescriptorSet, current: pb.FileDescriptorSet) -> list[str]:
    """Every change between two descriptor sets that breaks somebody, in the order of the released files."""
    files = {file.name: file for file in current.file}
    found: list[str] = []
    for old in released.file:
        if not old.name.startswith(OURS):
            continue
        if old.name not in files:
            found.append(f"{old.name}: the file was removed or moved")
        else:
            found += _file(old, files[old.name])
    return found


def _file(old: pb.FileDescriptorProto, new: pb.FileDescriptorProto) -> Iterator[str]:
    where = old.name
    if old.package != new.package:
        yield f"{where}: package {old.package} became {new.package}"
    for before, after in _pairs(old.message_type, new.message_type):
        yield from _message(f"{where}: {before.name}", before, after)
    for before, after in _pairs(old.enum_type, new.enum_type):
        yield from _enum(f"{where}: {before.name}", before, after)
    for before, after in _pairs(old.service, new.service):
        yield from _service(f"{where}: {before.name}", before, after)
    extensions = {field.number: field for field in new.extension}
    for before in old.extension:
        yield from _field(f"{where}: extension {before.name}", before, extensions.get(before.number), {}, {})


def _pairs(old: Iterable[Any], new: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Each old thing with the new thing of the same name, or None."""
    by_name = {thing.name: thing for thing in new}
    for thing in old:
        yield thing, by_name.get(thing.name)


def _message(where: str, old: pb.DescriptorProto, new: pb.DescriptorProto | None) -> Iterator[str]:
    if new is None:
        yield f"{where} was removed, renamed or moved"
        return
    fields = {field.number: field for field in new.field}
    for field in old.field:
        after = fields.get(field.number)
        yield from _field(f"{where}.{field.name}", field, after, _oneofs(old), _oneofs(new))
        if after is None:
            yield from _unreserved(f"{where}.{field.name}", field.number, field.name, new, end_is_inclusive=False)
    yield from _reservations(where, old, new, end_is_inclusive=False)
    for before, after_nested in _pairs(old.nested_type, new.nested_type):
        yield from _message(f"{where}.{before.name}", before, after_nested)
    for before_enum, after_enum in _pairs(old.enum_type, new.enum_type):
        yield from _enum(f"{where}.{before_enum.name}", before_enum, after_enum)


def _oneofs(message: pb.DescriptorProto) -> Mapping[int, str]:
    """Names of the oneofs that fields belong to, by field number. `optional` is no oneof to a user."""
    return {
        field.number: message.oneof_decl[field.oneof_index].name
        for field in message.field
        if field.HasField("oneof_index") and not field.proto3_optional
    }


def _field(
    where: str,
    old: pb.FieldDescriptorProto,
    new: pb.FieldDescriptorProto | None,
    old_oneofs: Mapping[int, str],
    new_oneofs: Mapping[int, str],
) -> Iterator[str]:
    if new is None:
        yield f"{where} = {old.number} was removed or renumbered"
        return
    traits = {
        "name": (old.name, new.name),
        "JSON name": (old.json_name, new.json_name),
        "type": (_TYPES.Name(old.type), _TYPES.Name(new.type)),
        "message or enum type": (old.type_name, new.type_name),
        "label": (_LABELS.Name(old.label), _LABELS.Name(new.label)),
        "presence": (old.proto3_optional, new.proto3_optional),
        "oneof": (old_oneofs.get(old.number, ""), new_oneofs.get(new.number, "")),
        "extended message": (old.extendee, new.extendee),
    }
    for trait, (before, after) in traits.items():
        if before != after:
            yield f"{where} = {old.number}: its {trait} was {before or 'none'} and is {after or 'none'}"


def _enum(where: str, old: pb.EnumDescriptorProto, new: pb.EnumDescriptorProto | None) -> Iterator[str]:
    if new is None:
        yield f"{where} was removed, renamed or moved"
        return
    names = {(value.number, value.name) for value in new.value}
    numbers = {value.number for value in new.value}
    for value in old.value:
        if (value.number, value.name) not in names:
            yield f"{where}.{value.name} = {value.number} was removed, renamed or renumbered"
        if value.number not in numbers:
            yield from _unreserved(f"{where}.{value.name}", value.number, value.name, new, end_is_inclusive=True)
    yield from _reservations(where, old, new, end_is_inclusive=True)


def _service(where: str, old: pb.ServiceDescriptorProto, new: pb.ServiceDescriptorProto | None) -> Iterator[str]:
    if new is None:
        yield f"{where} was removed, renamed or moved"
        return
    for before, after in _pairs(old.method, new.method):
        if after is None:
            yield f"{where}.{before.name} was removed or renamed"
            continue
        for trait in ("input_type", "output_type", "client_streaming", "server_streaming"):
            if getattr(before, trait) != getattr(after, trait):
                yield f"{where}.{before.name}: its {trait} was {getattr(before, trait)} and is {getattr(after, trait)}"


_Reserving = pb.DescriptorProto | pb.EnumDescriptorProto


def _reserved_numbers(thing: _Reserving, *, end_is_inclusive: bool) -> Iterator[range]:
    """Messages write ranges with an exclusive end, enums with an inclusive one."""
    for reserved in thing.reserved_range:
        yield range(reserved.start, reserved.end + end_is_inclusive)


def _unreserved(where: str, number: int, name: str, new: _Reserving, *, end_is_inclusive: bool) -> Iterator[str]:
    """What is removed in a new major version leaves its number and name reserved."""
    if not any(number in numbers for numbers in _reserved_numbers(new, end_is_inclusive=end_is_inclusive)):
        yield f"{where}: its number {number} is not reserved"
    if name not in new.reserved_name:
        yield f'{where}: its name "{name}" is not reserved'


def _reservations(where: str, old: _Reserving, new: _Reserving, *, end_is_inclusive: bool) -> Iterator[str]:
    kept = list(_reserved_numbers(new, end_is_inclusive=end_is_inclusive))
    for numbers in _reserved_numbers(old, end_is_inclusive=end_is_inclusive):
        # Both ends in one range: a reservation may grow, not shrink or split.
        if not any(numbers[0] in wide and numbers[-1] in wide for wide in kept):
            yield f"{where}: numbers {numbers[0]} to {numbers[-1]} are no longer reserved"
    for name in old.reserved_name:
        if name not in new.reserved_name:
            yield f'{where}: the name "{name}" is no longer reserved'


def main() -> None:
    """Entry point: lists what breaks the release, and exits 1 if anything does."""
    paths = ROOT / "protos/baseline.binpb", ROOT / "gen/llmops/descriptors.binpb"
    released, current = (pb.FileDescriptorSet.FromString(path.read_bytes()) for path in paths)
    found = breaking_changes(released, current)
    print("\n".join(found) if found else "the contract is compatible with the last release")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
