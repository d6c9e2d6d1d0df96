"""The service as a client sees it: generated stubs, both transports, PostgreSQL, start to end."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from llmops.common.v1 import usage_pb2
from llmops.ledger.v1 import ledger_pb2 as pb
from llmops.ledger.v1 import ledger_pb2_grpc

from meshkit.errors import CallError
from meshkit.runtime import Runtime
from services.ledger.main import build
from services.ledger.settings import LedgerSettings, PriceSettings
from tests.support.one_service import CALLER, OPERATOR, running_service
from tests.unit.ledger.builders import TurnableClock

MODEL = pb.PricedModel(provider="acme-ai", model="m")
SETTINGS = LedgerSettings(prices={"acme-ai/m": PriceSettings("1", "2")}, sweep_interval_s=0.01)


@asynccontextmanager
async def running(
    url: str, transport: str, settings: LedgerSettings = SETTINGS, clock: TurnableClock | None = None
) -> AsyncIterator[tuple[Any, Runtime]]:
    """A stub to a process that runs the ledger alone."""
    async with running_service("ledger", build, settings, transport, url, clock) as (channel, runtime):
        yield ledger_pb2_grpc.LedgerServiceStub(channel), runtime


Start = Callable[..., AbstractAsyncContextManager[tuple[Any, Runtime]]]


@pytest.fixture
async def start(postgres_url: str) -> Start:
    """Starts the service on a database of the test's own; a second start finds what the first one left."""
    name = f"ledger_{uuid.uuid4().hex[:16]}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    base, _, query = postgres_url.partition("?")
    url = f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    return lambda transport="local", **options: running(url, transport, **options)


def a_reserve(request_id: str = "r", **fields: Any) -> pb.ReserveRequest:
    return pb.ReserveRequest(
        request_id=request_id, models=[MODEL], **{"input_tokens": 1000, "max_output_tokens": 500, **fields}
    )


def a_commit(reservation_id: str, request_id: str = "c") -> pb.CommitRequest:
    line = pb.UsageLine(model=MODEL, usage=usage_pb2.Usage(input_tokens=900, output_tokens=100), attempt=1)
    return pb.CommitRequest(request_id=request_id, reservation_id=reservation_id, lines=[line])


@pytest.mark.parametrize("transport", ["local", "grpc"])
async def test_from_hold_to_usage(start: Start, transport: str) -> None:
    async with start(transport) as (stub, runtime):
        hold = await stub.Reserve(a_reserve(), metadata=CALLER)
        assert hold.decision == pb.RESERVE_DECISION_GRANTED
        assert hold.reserved_nano_usd == 1000 * 1000 + 500 * 2000
        booked = await stub.Commit(a_commit(hold.reservation_id), metadata=CALLER)
        assert booked.amount_nano_usd == 900 * 1000 + 100 * 2000
        usage = await stub.GetUsage(pb.GetUsageRequest(), metadata=OPERATOR)
        assert {u.spent_nano_usd for u in usage.usages} == {booked.amount_nano_usd}
        assert {u.limit.scope for u in usage.usages} == {pb.LIMIT_SCOPE_USER, pb.LIMIT_SCOPE_ORGANISATION}
        assert await runtime.readiness() == {}
        with pytest.raises(CallError) as again:
            await stub.Void(pb.VoidRequest(request_id="v", reservation_id=hold.reservation_id), metadata=CALLER)
        assert (again.value.status, again.value.reason) == ("FAILED_PRECONDITION", "RESERVATION_STATE")
        metrics = runtime.metrics.exposition().decode()
    assert 'llmops_ledger_decisions_total{decision="granted",verb="reserve"} 1.0' in metrics


@pytest.mark.parametrize("transport", ["local", "grpc"])
async def test_the_default_limits_refuse_a_dear_query(start: Start, transport: str) -> None:
    async with start(transport) as (stub, _):
        denied = await stub.Reserve(a_reserve(max_output_tokens=600_000), metadata=CALLER)
    assert denied.decision == pb.RESERVE_DECISION_DENIED
    assert [v.limit.period for v in denied.violations] == [pb.LIMIT_PERIOD_QUERY]


async def test_l13_an_unpriced_model_is_refused_with_a_remedy(start: Start) -> None:
    async with start() as (stub, _):
        request = pb.ReserveRequest(request_id="r", models=[pb.PricedModel(provider="nobody", model="x")])
        with pytest.raises(CallError) as refused:
            await stub.Reserve(request, metadata=CALLER)
        known = [
            pb.PricedModel(provider="local", model="extractive"),
            pb.PricedModel(provider="openai", model="gpt-4o-mini"),
        ]
        granted = await stub.Reserve(pb.ReserveRequest(request_id="k", models=known), metadata=CALLER)
    assert (refused.value.status, refused.value.reason) == ("FAILED_PRECONDITION", "MODEL_UNPRICED")
    assert "ledger.prices" in str(refused.value)
    assert [p.version.split("/")[0] for p in granted.prices] == ["mesh.yaml", "genai-prices"]


async def test_commits_are_taken_while_the_process_drains(start: Start) -> None:
    async with start() as (stub, runtime):
        hold = await stub.Reserve(a_reserve(), metadata=CALLER)
        for end in runtime.drain_callbacks:
            await end()
        assert (await stub.Commit(a_commit(hold.reservation_id), metadata=CALLER)).amount_nano_usd > 0


async def test_only_operators_set_limits_and_a_restart_keeps_them(start: Start) -> None:
    wanted = pb.Limit(scope=pb.LIMIT_SCOPE_TEAM, period=pb.LIMIT_PERIOD_DAY, cap_nano_usd=7)
    async with start() as (stub, _):
        with pytest.raises(CallError) as refused:
            await stub.SetLimit(pb.SetLimitRequest(request_id="s", limit=wanted), metadata=CALLER)
        saved = await stub.SetLimit(pb.SetLimitRequest(request_id="s", limit=wanted), metadata=OPERATOR)
        hold = await stub.Reserve(a_reserve(), metadata=CALLER)
    assert refused.value.status == "PERMISSION_DENIED"
    async with start() as (stub, _):
        listed = await stub.ListLimits(pb.ListLimitsRequest(), metadata=CALLER)
        assert saved.limit in listed.limits
        assert len(listed.limits) == 4
        assert await stub.Reserve(a_reserve(), metadata=CALLER) == hold
        assert (await stub.Commit(a_commit(hold.reservation_id), metadata=CALLER)).overrun_nano_usd == 0


async def test_l8_the_sweeper_ends_forgotten_holds(start: Start) -> None:
    clock = TurnableClock()
    async with start(clock=clock) as (stub, _):
        await stub.Reserve(a_reserve(), metadata=CALLER)
        clock.turn(61)
        async with asyncio.timeout(10):
            while any(u.held_nano_usd for u in (await stub.GetUsage(pb.GetUsageRequest(), metadata=CALLER)).usages):
                await asyncio.sleep(0.005)


async def test_l9_a_clock_that_jumps_is_told_and_ends_no_hold(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    clock = TurnableClock()
    async with start(clock=clock) as (stub, runtime):
        hold = await stub.Reserve(a_reserve(), metadata=CALLER)
        clock.set_by(7200)
        for name in ("1", "2"):
            await stub.Reserve(a_reserve(name), metadata=CALLER)
        booked = await stub.Commit(a_commit(hold.reservation_id), metadata=CALLER)
        assert not booked.late
        assert "llmops_ledger_clock_ahead_seconds 7200.0" in runtime.metrics.exposition().decode()
        clock.set_by(-7200)
        await stub.Reserve(a_reserve("3"), metadata=CALLER)
        assert "llmops_ledger_clock_ahead_seconds 0.0" in runtime.metrics.exposition().decode()
    assert [record.levelname for record in caplog.records if "machine's clock" in record.msg] == ["ERROR", "WARNING"]


async def test_without_a_table_only_declared_prices_hold(start: Start) -> None:
    settings = LedgerSettings(price_table=False)
    async with start(settings=settings) as (stub, _):
        request = pb.ReserveRequest(request_id="r", models=[pb.PricedModel(provider="openai", model="gpt-4o-mini")])
        with pytest.raises(CallError) as refused:
            await stub.Reserve(request, metadata=CALLER)
    assert refused.value.reason == "MODEL_UNPRICED"


@pytest.mark.parametrize("transport", ["local", "grpc"])
async def test_watchers_of_another_replica_hear_of_a_denial_and_why_is_told(start: Start, transport: str) -> None:
    settings = replace(SETTINGS, watch_poll_interval_s=0.01)
    async with start(transport, settings=settings) as (here, _), start(transport, settings=settings) as (there, _):
        feed = there.Watch(pb.WatchRequest(), metadata=OPERATOR)
        events = aiter(feed)
        first = await anext(events)
        assert (first.kind, first.revision) == (pb.LEDGER_EVENT_KIND_UNSPECIFIED, 0)
        await here.Reserve(a_reserve("dear", max_output_tokens=600_000), metadata=CALLER)
        denied = await anext(events)
        assert (denied.kind, denied.revision, denied.request_id) == (pb.LEDGER_EVENT_KIND_DENIED, 1, "dear")
        feed.cancel()
        why = await there.WhyBlocked(pb.WhyBlockedRequest(), metadata=OPERATOR)
        assert (why.request_id, why.would_pass_now) == ("dear", False)
        assert [v.limit.period for v in why.violations] == [pb.LIMIT_PERIOD_QUERY]


async def test_every_later_verb_through_the_stub(start: Start) -> None:
    async with start("grpc") as (stub, _):
        for limit in (
            pb.Limit(
                scope=pb.LIMIT_SCOPE_KEY, period=pb.LIMIT_PERIOD_MINUTE, unit=pb.LIMIT_UNIT_TOKENS, max_count=9000
            ),
            pb.Limit(
                scope=pb.LIMIT_SCOPE_USER,
                period=pb.LIMIT_PERIOD_DAY,
                cap_nano_usd=1,
                mode=pb.LIMIT_MODE_SHADOW,
                time_zone="Europe/Berlin",
            ),
        ):
            wanted = pb.SetLimitRequest(request_id=limit.time_zone or "s", limit=limit)
            saved = await stub.SetLimit(wanted, metadata=OPERATOR)
            assert (saved.limit.unit or 1, saved.limit.time_zone) == (limit.unit or 1, limit.time_zone)
        hold = await stub.Reserve(a_reserve(estimate_output=True), metadata=CALLER)
        assert (hold.covered_output_tokens, hold.rates[0].remaining_count) == (500, 7500)
        assert [v.limit.mode for v in hold.shadow_violations] == [pb.LIMIT_MODE_SHADOW]
        sent = pb.MarkDispatchedRequest(request_id="d", reservation_id=hold.reservation_id)
        assert (await stub.MarkDispatched(sent, metadata=CALLER)).noted
        booked = await stub.Commit(a_commit(hold.reservation_id), metadata=CALLER)
        assert not booked.orphan
        refund = pb.AdjustRequest(request_id="a", reservation_id=hold.reservation_id, delta_nano_usd=-100, reason="x")
        assert (await stub.Adjust(refund, metadata=OPERATOR)).booked_nano_usd == booked.amount_nano_usd - 100
        lost = a_commit(hold.reservation_id[:12] + "-lost", "o")
        lost.accept_orphan = True
        assert (await stub.Commit(lost, metadata=CALLER)).orphan
        today = Timestamp(seconds=int(time.time()) // 86_400 * 86_400)
        invoice = pb.ReconcileRequest(provider="acme-ai", days=[pb.InvoiceDay(start_time=today, amount_nano_usd=5)])
        day = (await stub.Reconcile(invoice, metadata=OPERATOR)).days[0]
        assert day.booked_nano_usd == 2 * booked.amount_nano_usd - 100
        yesterday = pb.InvoiceDay(start_time=Timestamp(seconds=today.seconds - 86_400), amount_nano_usd=5 * 10**18)
        invoice.days[0].amount_nano_usd = 5 * 10**18
        invoice.days.append(yesterday)
        with pytest.raises(CallError, match="days: all days together") as too_much:
            await stub.Reconcile(invoice, metadata=OPERATOR)
        assert too_much.value.status == "INVALID_ARGUMENT"


async def test_allotments_are_for_services_alone(start: Start) -> None:
    subject = pb.AllotmentSubject(organisation="acme", key_id="key-1")
    ask = pb.AllotRequest(
        request_id="a", subject=subject, wanted_nano_usd=10**6, lease={"seconds": 10}, replica="e", models=[MODEL]
    )
    async with start() as (stub, _):
        with pytest.raises(CallError) as refused:
            await stub.Allot(ask, metadata=CALLER)
        assert refused.value.status == "PERMISSION_DENIED"
