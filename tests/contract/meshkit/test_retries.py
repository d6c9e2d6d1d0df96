"""Between processes, a call is repeated only where the contract calls it safe, and only after UNAVAILABLE."""

from __future__ import annotations

import asyncio
import json

import pytest
from llmops.guard.v1 import guard_pb2 as pb
from llmops.ledger.v1 import ledger_pb2
from llmops.orchestrator.v1 import orchestrator_pb2

from meshkit.errors import CallError
from meshkit.methods import methods_of
from meshkit.transports.remote import RETRY_TOKENS, service_config
from tests.contract.meshkit.mux_peers import CHECK_INPUT, Gate, channel_to, guard_of, peer, up
from tests.contract.meshkit.test_transports import AUTHORISED, check, deltas, opened, until
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


async def test_what_a_dying_peer_had_at_hand_comes_to_the_others_under_the_throttle() -> None:
    """gRPC's throttle: ten tokens, one for each failure, and nothing is repeated below half of them."""
    first, second = Gate(), Gate()
    async with peer(first) as one, peer(second) as two, channel_to(one, two) as channel:
        await up(channel, 2)
        calls = [guard_of(channel).CheckInput(check(), metadata=AUTHORISED) for _ in range(60)]
        await until(lambda: first.begun == second.begun == 30)
        await one.kill()
        second.go.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        errors = [error for error in ended if isinstance(error, CallError)]
        assert {error.status for error in errors} == {"UNAVAILABLE"}
        assert second.begun - 30 == two.seen.methods[CHECK_INPUT] == 30 - len(errors)
        assert 1 <= second.begun - 30 <= RETRY_TOKENS / 2


def retried(service: str) -> set[str]:
    config = json.loads(service_config(service))
    return {name["method"] for entry in config.get("methodConfig", ()) for name in entry["name"]}


def test_what_costs_money_is_never_repeated_and_what_has_a_request_id_is() -> None:
    assert orchestrator_pb2.DESCRIPTOR is not None
    assert retried("llmops.orchestrator.v1.OrchestratorService") == {"Explain"}
    assert ledger_pb2.DESCRIPTOR is not None
    everything = {method.name for method in methods_of("llmops.ledger.v1.LedgerService").values()}
    assert retried("llmops.ledger.v1.LedgerService") == everything
