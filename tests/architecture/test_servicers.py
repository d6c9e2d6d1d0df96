from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
from llmops.guard.v1 import guard_pb2, guard_pb2_grpc

from tests.architecture import servicers
from tests.architecture.checkout import ROOT, own_services

IMPLEMENTED = [room for room, _ in own_services() if (ROOT / "services" / room / "api.py").is_file()]
GUARD = guard_pb2.DESCRIPTOR.services_by_name["GuardService"]
BASE = guard_pb2_grpc.GuardServiceServicer


@pytest.mark.parametrize("room", IMPLEMENTED)
def test_every_rpc_is_answered_by_the_service_of_its_package(room: str) -> None:
    messages = importlib.import_module(f"llmops.{room}.v1.{room}_pb2")
    stubs = importlib.import_module(f"llmops.{room}.v1.{room}_pb2_grpc")
    api = importlib.import_module(f"services.{room}.api")
    for name, contract in messages.DESCRIPTOR.services_by_name.items():
        base = getattr(stubs, f"{name}Servicer")
        found = servicers.servicers_in(api, base)
        assert found, f"services/{room}/api.py defines no {name}Servicer"
        assert [line for servicer in found for line in servicers.objections(servicer, base, contract)] == []
        assert list(servicers.long_handlers(ROOT / "services" / room / "api.py", contract)) == []


async def unary(self: object, request: object, context: object) -> None: ...


async def stream(self: object, request: object, context: object) -> AsyncIterator[None]:
    yield


def servicer(**changed: object) -> type:
    members: dict[str, object] = {m.name: stream if m.server_streaming else unary for m in GUARD.methods}
    members |= changed
    return type("GuardApi", (BASE,), {name: member for name, member in members.items() if member is not None})


def test_a_complete_servicer_passes() -> None:
    assert list(servicers.objections(servicer(), BASE, GUARD)) == []


def test_an_rpc_that_is_left_to_the_generated_base_is_named() -> None:
    assert list(servicers.objections(servicer(Embed=None), BASE, GUARD)) == ["GuardApi.Embed is not implemented"]


def test_a_stream_must_be_an_async_generator_and_a_unary_call_a_coroutine() -> None:
    found = list(servicers.objections(servicer(CheckOutputStream=unary, Embed=stream), BASE, GUARD))
    assert [line.split()[0] for line in found] == ["GuardApi.CheckOutputStream", "GuardApi.Embed"]


def test_imported_servicers_do_not_count_as_the_module_s_own() -> None:
    module = ModuleType("services.other.api")
    imported = servicer()
    module.__dict__["Imported"] = imported
    assert servicers.servicers_in(module, BASE) == []
    imported.__module__ = module.__name__
    assert servicers.servicers_in(module, BASE) == [imported]


def test_a_handler_that_does_more_than_translate_is_named(tmp_path: Path) -> None:
    api = tmp_path / "api.py"
    body = "        pass\n"
    api.write_text(
        f"class GuardApi:\n    async def Embed(self, request):\n{body * 19}\n    def helper(self):\n{body * 30}"
    )
    assert [line.split()[0] for line in servicers.long_handlers(api, GUARD)] == ["GuardApi.Embed"]
    api.write_text(f"class GuardApi:\n    async def Embed(self, request):\n{body * 18}")
    assert list(servicers.long_handlers(api, GUARD)) == []
