"""Streams that carry calls: when they end, age, drain, fill or meet a peer that knows none of it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from meshkit.errors import CallError
from meshkit.runtime import ProcessSettings, Runtime
from meshkit.transports.mux import limits
from meshkit.transports.mux.addresses import Replicas
from meshkit.transports.mux.channel import MuxChannel, open_mux_channel
from meshkit.transports.mux.limits import EXCHANGE, MuxTimes
from meshkit.transports.mux.replicas import Streams
from meshkit.transports.remote import PeerSettings, RemoteChannel, open_channel
from tests.contract.meshkit.mux_peers import (
    CHECK_INPUT,
    COMPLETE,
    ORCHESTRATOR,
    QUICK,
    Gate,
    channel_to,
    complete,
    guard_of,
    peer,
    up,
)
from tests.contract.meshkit.test_transports import AUTHORISED, SERVICE, check, deltas, until


async def test_small_calls_share_one_stream() -> None:
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        stub = guard_of(channel)
        answers = await asyncio.gather(*(stub.CheckInput(check(), metadata=AUTHORISED) for _ in range(200)))
        assert [a.language for a in answers] == ["acme"] * 200
        assert there.seen.methods == {EXCHANGE: 1}


async def test_a_call_before_any_stream_is_up_is_an_rpc_of_its_own() -> None:
    async with peer() as there, channel_to(there) as channel:
        assert channel.streams.up == 0
        assert (await guard_of(channel).CheckInput(check(), metadata=AUTHORISED)).language == "acme"
        assert there.seen.methods[CHECK_INPUT] == 1


async def test_a_large_message_is_an_rpc_of_its_own() -> None:
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        request = check()
        request.messages[0].content = "x" * (limits.MAX_REQUEST_BYTES - len(request.SerializeToString()) - 10)
        assert (await guard_of(channel).CheckInput(request, metadata=AUTHORISED)).language == "acme"
        assert CHECK_INPUT not in there.seen.methods
        request.messages[0].content += "x" * 20
        assert (await guard_of(channel).CheckInput(request, metadata=AUTHORISED)).language == "acme"
        assert there.seen.methods[CHECK_INPUT] == 1


async def test_other_metadata_travels_and_large_metadata_travels_by_itself() -> None:
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        metadata = (*AUTHORISED, ("x-request-id", "mine"), ("idempotency-key", "k"))
        await guard_of(channel).CheckInput(check(), metadata=metadata)
        assert there.guard.seen[0].request_id == "mine"
        assert CHECK_INPUT not in there.seen.methods
        with pytest.raises(CallError) as caught:
            await guard_of(channel).CheckInput(check(), metadata=(*AUTHORISED, ("x-much", "y" * 30_000)))
        assert caught.value.status == "RESOURCE_EXHAUSTED"
        assert "the metadata of a call" not in str(caught.value), "as gRPC itself says it"
        assert (await guard_of(channel).CheckInput(check(), metadata=AUTHORISED)).language == "acme"


@pytest.mark.parametrize("opening", [open_channel, open_mux_channel])
async def test_a_call_that_is_never_repeated_fails_when_its_connection_does(opening: Any) -> None:
    async with peer() as one, peer() as two:
        channel = opening(ORCHESTRATOR, PeerSettings(address=f"ipv4:{one.address},{two.address}"))
        if isinstance(channel, MuxChannel):
            await up(channel, 2)
        calls = [complete(channel) for _ in range(2)]
        await until(lambda: one.slow.begun + two.slow.begun == 2)
        first, second = (one, two) if one.slow.begun else (two, one)
        begun = second.slow.begun
        await first.kill()
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for call in done:
            error = call.exception()
            assert isinstance(error, CallError)
            assert (error.status, error.reason) == ("UNAVAILABLE", "SERVICE_UNAVAILABLE")
            assert error.metadata == {"service": ORCHESTRATOR}
            assert str(error).startswith(f"{ORCHESTRATOR}: ")
            assert error.unheard == isinstance(channel, MuxChannel)
        second.slow.go.set()
        await asyncio.gather(*calls, return_exceptions=True)
        assert second.slow.begun == begun
        await channel.close()


async def test_a_call_that_may_be_repeated_is_when_its_stream_breaks() -> None:
    first, second = Gate(), Gate()
    second.go.set()
    async with peer(first) as one, peer(second) as two, channel_to(one, two) as channel:
        await up(channel, 2)
        calls = [guard_of(channel).CheckInput(check(), metadata=AUTHORISED) for _ in range(2)]
        await until(lambda: first.begun == second.begun == 1)
        await one.kill()
        assert [answer.language for answer in await asyncio.gather(*calls)] == ["acme"] * 2
        assert second.begun == 2
        assert two.seen.methods[CHECK_INPUT] == 1


async def test_a_call_that_was_never_written_is_sent_by_itself_whatever_it_is() -> None:
    async with peer() as there, channel_to(there, service=ORCHESTRATOR) as channel:
        await up(channel)
        there.slow.go.set()
        call = complete(channel)
        channel.streams._up[0]._call.cancel()
        await call
        assert there.slow.begun == 1
        assert there.seen.methods[COMPLETE] == 1


async def test_a_caller_that_leaves_a_call_that_is_sent_again_leaves_that_too() -> None:
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        call = guard_of(channel).CheckInput(check("hang"), metadata=AUTHORISED)
        await until(there.guard.started.is_set)
        there.guard.started.clear()
        channel.streams._up[0]._call.cancel()
        await until(there.guard.started.is_set)
        assert there.seen.methods[CHECK_INPUT] == 1
        there.guard.cancelled.clear()
        call.cancel()
        await asyncio.wait_for(there.guard.cancelled.wait(), 5)
        assert call.cancelled()


async def test_a_cancelled_call_leaves_the_stream_to_the_others() -> None:
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        stub = guard_of(channel)
        hanging = stub.CheckInput(check("hang"), metadata=AUTHORISED)
        await until(there.guard.started.is_set)
        hanging.cancel()
        await asyncio.wait_for(there.guard.cancelled.wait(), 5)
        unwritten = stub.CheckInput(check(), metadata=AUTHORISED)
        unwritten.cancel()
        assert (await stub.CheckInput(check(), metadata=AUTHORISED)).language == "acme"
        assert len(there.guard.seen) == 2
        assert there.seen.methods == {EXCHANGE: 1}


async def test_calls_on_a_stream_that_was_replaced_can_still_be_left() -> None:
    times = replace(QUICK, max_age_s=0.05)
    async with peer() as there, channel_to(there, times=times) as channel:
        await up(channel)
        hanging = [guard_of(channel).CheckInput(check("hang"), timeout=60, metadata=AUTHORISED) for _ in range(2)]
        first = channel.streams._up[0]
        await until(lambda: len(there.guard.seen) == 2 and there.seen.methods[EXCHANGE] >= 3)
        for call in hanging:
            assert not first.ended
            there.guard.cancelled.clear()
            call.cancel()
            await asyncio.wait_for(there.guard.cancelled.wait(), 5)
        await until(lambda: first.ended)


async def test_a_client_that_closes_cancels_its_handlers_and_its_callers() -> None:
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        call = asyncio.ensure_future(guard_of(channel).CheckInput(check("hang"), timeout=60, metadata=AUTHORISED))
        await until(there.guard.started.is_set)
        await channel.close()
        await asyncio.wait_for(there.guard.cancelled.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_drain_loses_nothing_and_waits_for_no_grace() -> None:
    loop = asyncio.get_running_loop()
    async with (
        peer(settings={"grace_s": 20, "drain_delay_s": 0.2}) as one,
        peer() as two,
        channel_to(one, two, service=ORCHESTRATOR) as channel,
    ):
        await up(channel, 2)
        in_flight = [complete(channel) for _ in range(10)]
        await until(lambda: one.slow.begun == two.slow.begun == 5)
        began_s = loop.time()
        drained = asyncio.ensure_future(one.server.drain())
        await until(lambda: channel.streams.up == 1)
        later = [complete(channel) for _ in range(4)]
        await until(lambda: two.slow.begun == 9)
        one.slow.go.set()
        two.slow.go.set()
        await asyncio.gather(*in_flight, *later)
        await drained
        assert loop.time() - began_s < 10
        assert one.slow.begun == 5


async def test_a_peer_that_knows_no_streams_of_calls_is_spoken_to_without_and_asked_again_rarely() -> None:
    async with peer(hidden=EXCHANGE) as there, channel_to(there) as channel:
        await until(lambda: there.seen.methods[EXCHANGE] == 1)
        for _ in range(5):
            assert (await guard_of(channel).CheckInput(check(), metadata=AUTHORISED)).language == "acme"
        assert there.seen.methods[EXCHANGE] <= 2
        there.seen.hidden = ""
        await up(channel)


async def test_a_stream_that_breaks_while_its_replacement_is_late_takes_no_calls() -> None:
    async with (
        peer() as there,
        channel_to(there, times=replace(QUICK, max_age_s=0.05, connect_timeout_s=60)) as channel,
    ):
        await up(channel)
        there.seen.open.clear()
        seen = there.seen.methods[EXCHANGE]
        await until(lambda: there.seen.methods[EXCHANGE] > seen)
        channel.streams._up[0]._call.cancel()
        await until(lambda: channel.streams.up == 0)
        assert (await guard_of(channel).CheckInput(check(), timeout=2, metadata=AUTHORISED)).language == "acme"
        there.seen.open.set()


async def test_replicas_take_turns_and_one_that_dies_is_not_missed() -> None:
    async with peer() as one, peer() as two, channel_to(one, two) as channel:
        await up(channel, 2)
        stub = guard_of(channel)
        for _ in range(10):
            await stub.CheckInput(check(), metadata=AUTHORISED)
        assert (len(one.guard.seen), len(two.guard.seen)) == (5, 5)
        await one.kill()
        for _ in range(10):
            assert (await stub.CheckInput(check(), metadata=AUTHORISED)).language == "acme"
        assert len(two.guard.seen) >= 14
        async with peer(port=one.server.port) as back:
            await up(channel, 2)
            for _ in range(4):
                await stub.CheckInput(check(), metadata=AUTHORISED)
            assert len(back.guard.seen) == 2


class Moving(Replicas):
    """A name whose addresses the test decides."""

    now: ClassVar[set[str]] = set()

    async def resolve(self) -> frozenset[str]:
        return frozenset(self.now)


async def test_replicas_come_and_go_with_their_name_and_no_call_is_lost() -> None:
    times = replace(QUICK, resolve_interval_s=0.05)
    async with peer() as one, peer() as two:
        settings = PeerSettings(address=one.address)
        Moving.now = {f"ipv4:{one.address}"}
        remote = open_channel(ORCHESTRATOR, settings)
        streams = Streams(settings, Moving(host="moving", port=1), times, remote.ready)
        channel = MuxChannel(remote, streams)
        await up(channel)
        staying = complete(channel)
        await until(lambda: one.slow.begun == 1)
        Moving.now = {f"ipv4:{two.address}"}
        await until(lambda: two.seen.methods[EXCHANGE] == 1 and streams.up == 1)
        later = complete(channel)
        await until(lambda: two.slow.begun == 1)
        one.slow.go.set()
        two.slow.go.set()
        await asyncio.gather(staying, later)
        assert one.slow.begun == 1
        await channel.close()


async def stream_of(channel: MuxChannel) -> list[Any]:
    return [r async for r in guard_of(channel).CheckOutputStream(deltas("a"), metadata=AUTHORISED)]


async def test_a_peer_that_is_back_is_back_for_every_kind_of_call() -> None:
    """Streams of calls came up at once while gRPC's own channel still waited to connect again: unary calls passed."""
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        await stream_of(channel)
        await there.kill()
        # Until gRPC lets a second pass between its attempts.
        for _ in range(30):
            with pytest.raises(CallError):
                await stream_of(channel)
            await asyncio.sleep(0.1)
        async with peer(port=there.server.port):
            await up(channel)
            assert len(await stream_of(channel)) == 2


@pytest.mark.parametrize(
    ("times", "settings"),
    [(replace(QUICK, max_age_s=0.1), {}), (QUICK, {"max_connection_age_s": 0.4, "grace_s": 5})],
    ids=["the client's age", "the server's age"],
)
async def test_a_stream_is_replaced_under_load_without_a_lost_call(times: MuxTimes, settings: dict[str, Any]) -> None:
    async with peer(settings=settings) as there, channel_to(there, service=ORCHESTRATOR, times=times) as channel:
        await up(channel)
        there.slow.go.set()
        asked = 0

        async def caller() -> None:
            nonlocal asked
            while there.seen.methods[EXCHANGE] < 6:
                await complete(channel)
                asked += 1

        await asyncio.gather(*(caller() for _ in range(8)))
        assert there.slow.begun == asked


async def test_a_stream_that_is_full_leaves_further_calls_to_rpcs_of_their_own() -> None:
    gate = Gate()
    async with peer(gate) as there, channel_to(there) as channel:
        await up(channel)
        stub = guard_of(channel)
        calls = [stub.CheckInput(check(), metadata=AUTHORISED) for _ in range(limits.MAX_IN_FLIGHT + 3)]
        await until(lambda: gate.begun == len(calls))
        gate.go.set()
        await asyncio.gather(*calls)
        assert there.seen.methods[CHECK_INPUT] == 3


async def test_no_more_bytes_wait_to_be_written_than_a_client_keeps() -> None:
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        request = check()
        request.messages[0].content = "x" * 250_000
        waiting = limits.MAX_QUEUED_BYTES // 250_000 + 1
        for turn in (1, 2):
            calls = [guard_of(channel).CheckInput(request, metadata=AUTHORISED) for _ in range(waiting + 2)]
            assert [answer.language for answer in await asyncio.gather(*calls)] == ["acme"] * len(calls)
            assert there.seen.methods[CHECK_INPUT] == 2 * turn


async def test_a_name_is_looked_up_and_leads_to_a_stream() -> None:
    async with peer(settings={"host": "localhost"}) as there:
        for address in (f"localhost:{there.server.port}", f"dns:///localhost:{there.server.port}"):
            channel = open_mux_channel(SERVICE, PeerSettings(address=address), QUICK)
            assert isinstance(channel, MuxChannel)
            await until(lambda channel=channel: channel.streams.up >= 1)  # type: ignore[misc]
            await guard_of(channel).CheckInput(check(), metadata=AUTHORISED)
            await channel.close()
        assert CHECK_INPUT not in there.seen.methods


async def test_nothing_is_left_when_a_channel_and_its_peer_are_closed() -> None:
    before = asyncio.all_tasks()
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        await asyncio.gather(*(guard_of(channel).CheckInput(check(), metadata=AUTHORISED) for _ in range(20)))
        hanging = guard_of(channel).CheckInput(check("hang"), metadata=AUTHORISED)
        await until(there.guard.started.is_set)
    assert hanging.cancelled()
    await until(lambda: asyncio.all_tasks() <= before)


async def test_an_answered_call_is_freed_without_the_collector() -> None:
    async with peer() as there, channel_to(there) as channel:
        await up(channel)
        gc.disable()
        try:
            call = guard_of(channel).CheckInput(check(), metadata=AUTHORISED)
            await call
            left = weakref.ref(call)
            del call
            await asyncio.sleep(0)
            assert left() is None
        finally:
            gc.enable()


async def test_a_process_shares_streams_unless_told_otherwise() -> None:
    async with peer() as there:
        peers = {"guard": PeerSettings(address=there.address, multiplex=False), "cache": PeerSettings(there.address)}
        runtime = Runtime("test", ProcessSettings(peers=peers), frozenset(), None)
        assert isinstance(runtime.channel("guard"), RemoteChannel)
        assert isinstance(runtime.channel("cache"), MuxChannel)
        await runtime.close()
