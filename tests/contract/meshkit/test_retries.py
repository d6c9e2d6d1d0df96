"""Between processes, a call is repeated only where the contract calls it safe, and only after UNAVAILABLE."""

from __future__ import annotations

import json

import pytest
from llmops.guard.v1 import guard_pb2 as pb
from llmops.ledger.v1 import ledger_pb2
from llmops.orchestrator.v1 import orchestrator_pb2

from meshkit.errors import CallError
from meshkit.methods import methods_of
from meshkit.transports.remote import service_config
from tests.contract.meshkit.test_transports import AUTHORISED, check, deltas, opened
from tests.support.guard_double import Away, GuardDouble


@pytest.mark.parametrize("transport", ["grpc", "mux"])
async def test_a_safe_call_is_repeated_after_unavailable(transport: str) -> None:
    async with opened(transport) as bench:
        assert (await bench.stub.CheckInput(check("away"), metadata=AUTHORISED)).language == "acme"
        assert len(bench.guard.seen) == 2


@pytest.mark.parametrize("transport", ["grpc", "mux"])
async def test_other_statuses_are_not_repeated(transport: str) -> None:
    async with opened(transport) as bench:
        with pytest.raises(CallError):
            await bench.stub.CheckInput(check("unknown"), metadata=AUTHORISED)
        assert len(bench.guard.seen) == 1


@pytest.mark.parametrize("transport", ["grpc", "mux"])
async def test_a_call_that_the_contract_never_repeats_is_not(transport: str) -> None:
    async with opened(transport) as bench:
        with pytest.raises(CallError) as caught:
            async for _ in bench.stub.CheckOutputStream(deltas("away"), metadata=AUTHORISED):
                pass
        assert caught.value.status == "UNAVAILABLE"
        assert len(bench.guard.seen) == 1


class AlwaysAway(GuardDouble):
    """Refuses until the test says otherwise."""

    away = True

    async def CheckInput(self, request: pb.CheckInputRequest, context: object) -> pb.CheckInputResponse:
        if self.away:
            self.seen.append(request)
            raise Away
        return await super().CheckInput(request, context)


@pytest.mark.parametrize("transport", ["grpc", "mux"])
async def test_a_peer_that_refuses_everything_is_not_asked_again_each_time(transport: str) -> None:
    async with opened(transport, guard=AlwaysAway()) as bench:
        for _ in range(30):
            with pytest.raises(CallError):
                await bench.stub.CheckInput(check(), metadata=AUTHORISED)
        assert len(bench.guard.seen) <= 30 + 2 * 5 + 5
        bench.guard.away = False
        for _ in range(100):
            await bench.stub.CheckInput(check(), metadata=AUTHORISED)
        bench.guard.seen.clear()
        assert (await bench.stub.CheckInput(check("away"), metadata=AUTHORISED)).language == "acme"
        assert len(bench.guard.seen) == 2


def retried(service: str) -> set[str]:
    config = json.loads(service_config(service))
    return {name["method"] for entry in config.get("methodConfig", ()) for name in entry["name"]}


def test_what_costs_money_is_never_repeated_and_what_has_a_request_id_is() -> None:
    assert orchestrator_pb2.DESCRIPTOR is not None
    assert retried("llmops.orchestrator.v1.OrchestratorService") == {"Explain"}
    assert ledger_pb2.DESCRIPTOR is not None
    everything = {method.name for method in methods_of("llmops.ledger.v1.LedgerService").values()}
    assert retried("llmops.ledger.v1.LedgerService") == everything
