"""All transports through the same cases: deadline, principal, trace, cancellation and errors must be alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from llmops.common.v1 import chat_pb2
from llmops.guard.v1 import guard_pb2 as pb
from llmops.guard.v1 import guard_pb2_grpc

from meshkit.actions import NoLog
from meshkit.calls import HandlerTable
from meshkit.context import CallContext, TraceContext, current_or_none, running
from meshkit.credentials import MAX_CREDENTIAL_CHARS
from meshkit.errors import CallError
from meshkit.identity import ConfiguredKeys, Principal, StoredKey, key_digest
from meshkit.interceptors import build_chain
from meshkit.interceptors.admission import AdmissionSettings
from meshkit.metrics import MetricsRegistry
from meshkit.tracing import Tracing, TracingSettings
from meshkit.transports.local import LocalChannel
from meshkit.transports.mux.channel import MuxChannel, open_mux_channel
from meshkit.transports.remote import PeerSettings, open_channel
from meshkit.transports.server import GrpcServer, ServerSettings
from tests.support.guard_double import GuardDouble, PolicyUnknown

PEPPER = b"pepper-for-tests-only"
ADA = Principal("acme", "search", "ada", "key-ada", frozenset({"caller"}))
AUTHORISED = (("authorization", "Bearer ada-secret"),)
# A token of somebody in many groups.
LONGEST = "l" * MAX_CREDENTIAL_CHARS
SERVICE = "llmops.guard.v1.GuardService"


@dataclass
class Bench:
    stub: Any
    guard: GuardDouble
    metrics: MetricsRegistry


def handler_table(
    metrics: MetricsRegistry, admission: AdmissionSettings, tracing: Tracing | None = None
) -> HandlerTable:
    keys = ConfiguredKeys(
        PEPPER,
        [
            StoredKey(key_digest(PEPPER, "ada-secret"), ADA),
            StoredKey(key_digest(PEPPER, LONGEST), ADA),
            StoredKey(key_digest(PEPPER, "nobody-secret"), Principal("acme", "", "", "key-none", frozenset({"guest"}))),
        ],
    )
    clock_s = asyncio.get_running_loop().time
    return HandlerTable(
        build_chain(tracing or Tracing(TracingSettings(), "test"), metrics, admission, keys, clock_s, NoLog(), "")
    )


@asynccontextmanager
async def opened(
    transport: str,
    admission: AdmissionSettings | None = None,
    *,
    tracing: Tracing | None = None,
    guard: GuardDouble | None = None,
) -> AsyncIterator[Bench]:
    metrics = MetricsRegistry()
    table = handler_table(metrics, admission or AdmissionSettings(), tracing)
    guard = guard or GuardDouble()
    guard_pb2_grpc.add_GuardServiceServicer_to_server(guard, table)
    if transport == "local":
        yield Bench(guard_pb2_grpc.GuardServiceStub(LocalChannel(table)), guard, metrics)
        return
    server = GrpcServer(ServerSettings(grpc_port=0, grace_s=0.1), table)
    await server.start()
    opening = open_mux_channel if transport == "mux" else open_channel
    channel = opening(SERVICE, PeerSettings(address=f"127.0.0.1:{server.port}"))
    if isinstance(channel, MuxChannel):
        await until(lambda: channel.streams.up == 1)
    try:
        yield Bench(guard_pb2_grpc.GuardServiceStub(channel), guard, metrics)
    finally:
        await channel.close()
        await server.stop()


async def until(met: Callable[[], bool], limit_s: float = 10) -> None:
    """Waits for a condition of the code under test."""
    async with asyncio.timeout(limit_s):
        while not met():
            await asyncio.sleep(0.005)


@pytest.fixture(params=["local", "grpc", "mux"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with opened(request.param) as opened_bench:
        yield opened_bench


def check(policy: str = "") -> pb.CheckInputRequest:
    message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="hello")
    return pb.CheckInputRequest(policy=policy, messages=[message])


async def deltas(*texts: str, finish: bool = True) -> AsyncIterator[pb.CheckOutputStreamRequest]:
    for text in texts:
        yield pb.CheckOutputStreamRequest(delta=chat_pb2.CompletionDelta(content=text))
    if finish:
        yield pb.CheckOutputStreamRequest(finish=pb.StreamFinish())


async def test_unary_answers_with_the_callers_principal(bench: Bench) -> None:
    response = await bench.stub.CheckInput(check(), metadata=AUTHORISED)
    assert response.language == "acme"
    assert bench.guard.seen[0].principal == ADA


async def test_the_callee_cannot_change_the_callers_message(bench: Bench) -> None:
    request = check("original")
    await bench.stub.CheckInput(request, metadata=AUTHORISED)
    assert request.policy == "original"


async def test_stream_of_a_stream(bench: Bench) -> None:
    stream = bench.stub.CheckOutputStream(deltas("a", "b"), metadata=AUTHORISED)
    events = [r async for r in stream]
    assert [e.release.content for e in events[:2]] == ["A", "B"]
    assert events[2].WhichOneof("event") == "verdict"


async def test_the_running_call_travels_and_the_callers_own_is_untouched(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    trace = TraceContext("a" * 32, "b" * 16, sampled=False)
    with running(CallContext("request-7", ADA, "ada-secret", trace, loop.time() + 30)) as mine:
        await bench.stub.CheckInput(check())
        async for _ in bench.stub.CheckOutputStream(deltas("x")):
            assert current_or_none() is mine
    # A unary call has its own limit too (5 s in the contract); a stream lives as long as its caller waits.
    for seen, expected_s in zip(bench.guard.seen, (5, 30), strict=True):
        assert seen.request_id == "request-7"
        assert seen.trace.trace_id == "a" * 32
        assert seen.deadline_s == pytest.approx(loop.time() + expected_s, abs=2)


async def test_domain_errors_arrive_whole(bench: Bench) -> None:
    with pytest.raises(CallError) as caught:
        await bench.stub.CheckInput(check("unknown"), metadata=AUTHORISED)
    error = caught.value
    assert (error.status, error.reason) == ("NOT_FOUND", "NOT_FOUND")
    assert str(error) == "there is no such policy; policies are default"
    assert error.metadata == {"policy": "nope"}
    assert error.quota_violations == [("organisation:acme", "spent")]
    assert error.retry_after_s == 1.5


async def test_domain_errors_in_a_stream_arrive_after_what_was_sent(bench: Bench) -> None:
    got: list[str] = []
    with pytest.raises(CallError) as caught:
        async for response in bench.stub.CheckOutputStream(deltas("a", "unknown"), metadata=AUTHORISED):
            got.append(response.release.content)
    assert got == ["A"]
    assert caught.value.reason == "NOT_FOUND"


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_an_unexpected_error_never_shows_its_text(
    bench: Bench, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CallError) as caught:
        if kind == "unary":
            await bench.stub.CheckInput(check("crash"), metadata=AUTHORISED)
        else:
            async for _ in bench.stub.CheckOutputStream(deltas("crash"), metadata=AUTHORISED):
                pass
    assert caught.value.status == "INTERNAL"
    assert "secret detail" not in str(caught.value)
    assert caught.value.metadata["error_id"] in str(caught.value)
    assert any(getattr(r, "fields", {}).get("error_id") == caught.value.metadata["error_id"] for r in caplog.records)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "CREDENTIAL_INVALID"),
        ((("authorization", "Bearer wrong"),), "CREDENTIAL_INVALID"),
        ((("authorization", "Basic ada-secret"),), "CREDENTIAL_INVALID"),
        ((("authorization", "Bearer nobody-secret"),), "PERMISSION_DENIED"),
    ],
)
async def test_credentials(bench: Bench, metadata: Any, reason: str) -> None:
    with pytest.raises(CallError) as caught:
        await bench.stub.CheckInput(check(), metadata=metadata)
    assert caught.value.reason == reason
    with pytest.raises(CallError) as caught:
        async for _ in bench.stub.CheckOutputStream(deltas("a"), metadata=metadata):
            pass
    assert caught.value.reason == reason
    assert bench.guard.seen == []


async def test_invalid_fields_are_named(bench: Bench) -> None:
    with pytest.raises(CallError) as caught:
        await bench.stub.CheckInput(
            pb.CheckInputRequest(policy="x" * 200, messages=[chat_pb2.ChatMessage()]), metadata=AUTHORISED
        )
    assert caught.value.reason == "INVALID_FIELD"
    assert {field for field, _ in caught.value.field_violations} == {"policy", "messages[0].role"}


async def test_invalid_stream_messages_are_refused(bench: Bench) -> None:
    with pytest.raises(CallError) as caught:
        async for _ in bench.stub.CheckOutputStream(_empty(), metadata=AUTHORISED):
            pass
    assert caught.value.reason == "INVALID_FIELD"


async def test_a_refusal_while_the_client_still_writes_keeps_its_reason(bench: Bench) -> None:
    for _ in range(60):
        with pytest.raises(CallError) as caught:
            async for _ in bench.stub.CheckOutputStream(deltas("unknown", "a", "b", "c"), metadata=AUTHORISED):
                pass
        assert caught.value.reason == "NOT_FOUND"


async def _empty() -> AsyncIterator[pb.CheckOutputStreamRequest]:
    yield pb.CheckOutputStreamRequest()


async def test_deadline_of_a_unary_call(bench: Bench) -> None:
    with pytest.raises(CallError) as caught:
        await bench.stub.CheckInput(check("hang"), metadata=AUTHORISED, timeout=0.3)
    assert caught.value.status == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(bench.guard.cancelled.wait(), 5)


async def test_deadline_of_a_stream(bench: Bench) -> None:
    with pytest.raises(CallError) as caught:
        async for _ in bench.stub.CheckOutputStream(deltas("a", "hang"), metadata=AUTHORISED, timeout=0.3):
            pass
    assert caught.value.status == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(bench.guard.cancelled.wait(), 5)


@pytest.mark.parametrize("timeout_s", [2.005, 10.005, 100.005])
async def test_the_handler_learns_a_slightly_earlier_deadline(bench: Bench, timeout_s: float) -> None:
    """Just over a step of grpc's rounding, which would give the handler up to a second more than the caller waits."""
    response = await bench.stub.CheckInput(check(), metadata=AUTHORISED, timeout=timeout_s)
    assert (timeout_s - 1.5) * 1e3 < response.estimated_input_tokens <= (timeout_s - 0.02) * 1e3


async def test_a_call_without_hope_is_not_begun(bench: Bench) -> None:
    with pytest.raises(CallError) as caught:
        await bench.stub.CheckInput(check(), metadata=AUTHORISED, timeout=0.05)
    assert caught.value.status == "DEADLINE_EXCEEDED"
    assert bench.guard.seen == []


async def test_a_passed_deadline_is_refused_before_sending(bench: Bench) -> None:
    trace = TraceContext("a" * 32, "b" * 16, sampled=False)
    past_s = asyncio.get_running_loop().time() - 1
    with running(CallContext("r", ADA, "ada-secret", trace, past_s)):
        with pytest.raises(CallError) as caught:
            await bench.stub.CheckInput(check())
        assert caught.value.status == "DEADLINE_EXCEEDED"
        with pytest.raises(CallError):
            async for _ in bench.stub.CheckOutputStream(deltas("a")):
                pass


async def test_cancelling_a_unary_call_cancels_the_handler(bench: Bench) -> None:
    call = asyncio.ensure_future(bench.stub.CheckInput(check("hang"), metadata=AUTHORISED))
    await asyncio.wait_for(bench.guard.started.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(bench.guard.cancelled.wait(), 5)


async def test_cancelling_the_reader_of_a_stream_cancels_the_handler(bench: Bench) -> None:
    async def read() -> None:
        async for _ in bench.stub.CheckOutputStream(deltas("a", "hang"), metadata=AUTHORISED):
            pass

    reader = asyncio.ensure_future(read())
    await asyncio.wait_for(bench.guard.started.wait(), 5)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await asyncio.wait_for(bench.guard.cancelled.wait(), 5)


async def test_closing_a_stream_early_closes_the_handler(bench: Bench) -> None:
    async with aclosing(bench.stub.CheckOutputStream(deltas("a", "b", "c"), metadata=AUTHORISED)) as stream:
        assert (await anext(stream)).release.content == "A"
    await asyncio.wait_for(bench.guard.cancelled.wait(), 5)


async def test_cancel_between_reads_closes_the_handler(bench: Bench) -> None:
    stream = bench.stub.CheckOutputStream(deltas("a", "b", "c"), metadata=AUTHORISED)
    await anext(stream)
    assert stream.cancel()
    await asyncio.wait_for(bench.guard.cancelled.wait(), 5)


async def test_an_error_in_the_clients_own_iterator_ends_the_call(bench: Bench) -> None:
    async def broken() -> AsyncIterator[pb.CheckOutputStreamRequest]:
        yield pb.CheckOutputStreamRequest(delta=chat_pb2.CompletionDelta(content="a"))
        raise ValueError("the client's own mistake")

    with pytest.raises((CallError, ValueError, asyncio.CancelledError)):
        async for _ in bench.stub.CheckOutputStream(broken(), metadata=AUTHORISED):
            pass
    await asyncio.wait_for(bench.guard.cancelled.wait(), 5)


async def test_calls_are_counted_by_status(bench: Bench) -> None:
    await bench.stub.CheckInput(check(), metadata=AUTHORISED)
    for policy in ("unknown", "crash"):
        with pytest.raises(CallError):
            await bench.stub.CheckInput(check(policy), metadata=AUTHORISED)
    with pytest.raises(CallError):
        await bench.stub.CheckInput(check())
    text = bench.metrics.exposition().decode()
    path = f"/{SERVICE}/CheckInput"
    for status in ("OK", "NOT_FOUND", "INTERNAL", "UNAUTHENTICATED"):
        assert f'llmops_rpc_handled_total{{method="{path}",status="{status}"}} 1.0' in text
    assert f'llmops_rpc_in_flight{{method="{path}"}} 0.0' in text


@pytest.mark.parametrize("transport", ["local", "grpc", "mux"])
async def test_admission_refuses_what_would_only_wait(transport: str) -> None:
    async with opened(transport, AdmissionSettings(max_in_flight=1, max_waiting=0)) as bench:
        first = asyncio.ensure_future(bench.stub.CheckInput(check("hang"), metadata=AUTHORISED))
        await asyncio.wait_for(bench.guard.started.wait(), 5)
        with pytest.raises(CallError) as caught:
            await bench.stub.CheckInput(check(), metadata=AUTHORISED)
        assert caught.value.reason == "OVERLOADED"
        assert caught.value.retry_after_s is not None
        first.cancel()
        await asyncio.wait_for(bench.guard.cancelled.wait(), 5)
        assert (await bench.stub.CheckInput(check(), metadata=AUTHORISED)).language == "acme"


@pytest.mark.parametrize("transport", ["local", "grpc", "mux"])
async def test_admission_lets_the_next_one_in(transport: str) -> None:
    async with opened(transport, AdmissionSettings(max_in_flight=1, max_waiting=5, max_wait_s=5)) as bench:
        first = asyncio.ensure_future(bench.stub.CheckInput(check("hang"), metadata=AUTHORISED))
        await asyncio.wait_for(bench.guard.started.wait(), 5)
        waiting = [asyncio.ensure_future(bench.stub.CheckInput(check(), metadata=AUTHORISED)) for _ in range(3)]
        first.cancel()
        answers = await asyncio.gather(*waiting)
        assert [a.language for a in answers] == ["acme"] * 3


async def test_a_failure_of_the_clients_own_messages_reaches_its_reader(bench: Bench) -> None:
    """Over gRPC the reader saw a cancellation that nobody asked for, and its caller waited for the deadline."""

    async def failing() -> AsyncIterator[pb.CheckOutputStreamRequest]:
        async for request in deltas("a", finish=False):
            yield request
        raise PolicyUnknown

    with pytest.raises(CallError) as caught:
        async with aclosing(bench.stub.CheckOutputStream(failing(), metadata=AUTHORISED)) as stream:
            _ = [response async for response in stream]
    assert (caught.value.status, caught.value.reason) == ("NOT_FOUND", "NOT_FOUND")


async def test_a_stream_that_was_closed_has_let_go_of_its_messages(bench: Bench) -> None:
    """Over gRPC they were still being read when the callee had ended the call: closing their source failed."""

    async def endless() -> AsyncIterator[pb.CheckOutputStreamRequest]:
        async for request in deltas("unknown", finish=False):
            yield request
        await asyncio.Event().wait()

    source = endless()

    async def messages() -> AsyncIterator[pb.CheckOutputStreamRequest]:
        async for request in source:
            yield request

    with pytest.raises(CallError):
        async with aclosing(bench.stub.CheckOutputStream(messages(), metadata=AUTHORISED)) as stream:
            _ = [response async for response in stream]
    await source.aclose()


async def test_a_dependency_that_is_cancelled_is_an_error_and_no_silence(bench: Bench) -> None:
    """grpc.aio sends no status for a handler that ends cancelled: the caller waited for its deadline."""
    with pytest.raises(CallError) as caught:
        await bench.stub.CheckInput(check("dependency-cancelled"), timeout=5, metadata=AUTHORISED)
    assert (caught.value.status, caught.value.reason) == ("INTERNAL", "INTERNAL")
