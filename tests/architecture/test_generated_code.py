"""gen/ holds one contract in several forms; comparing it with protos/ is the work of `protos/generate.py --check`."""

from __future__ import annotations

import importlib

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from tests.architecture.checkout import descriptor_set, own_services

OURS = [file for file in descriptor_set().file if file.name.startswith("llmops/")]


def comparable(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Without what generated modules leave out: comments and JSON names."""
    copy = descriptor_pb2.FileDescriptorProto.FromString(file.SerializeToString())
    copy.ClearField("source_code_info")
    stack = list(copy.message_type)
    fields = list(copy.extension)
    while stack:
        message = stack.pop()
        stack += message.nested_type
        fields += message.field
    for field in fields:
        field.ClearField("json_name")
    return copy


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_the_modules_and_the_descriptor_set_are_of_one_contract(file: descriptor_pb2.FileDescriptorProto) -> None:
    importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    loaded = descriptor_pool.Default().FindFileByName(file.name)
    generated = descriptor_pb2.FileDescriptorProto.FromString(loaded.serialized_pb)
    assert comparable(generated) == comparable(file)


def test_a_difference_is_noticed() -> None:
    changed = descriptor_pb2.FileDescriptorProto.FromString(OURS[0].SerializeToString())
    changed.message_type[0].field[0].number = 99
    assert comparable(changed) != comparable(OURS[0])


@pytest.mark.parametrize(("room", "file"), list(own_services()), ids=[room for room, _ in own_services()])
def test_stubs_and_servicers_know_every_rpc(room: str, file: descriptor_pb2.FileDescriptorProto) -> None:
    stubs = importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2_grpc")
    for service in file.service:
        offered = set(vars(getattr(stubs, f"{service.name}Servicer")))
        assert {method.name for method in service.method} <= offered
