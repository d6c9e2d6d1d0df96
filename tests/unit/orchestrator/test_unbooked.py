"""Commits in flight when an older copy of the ledger is restored are booked when an operator has accepted it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from llmops.common.v1.usage_pb2 import TokenPrice
from prometheus_client import CollectorRegistry, Counter, Gauge

from meshkit.context import current, remaining_s
from meshkit.errors import CallError, Failure
from meshkit.testing import call_context
from services.orchestrator.adapters.afterwards import BackgroundWork
from services.orchestrator.core.errors import BudgetUnavailable
from services.orchestrator.core.leased_ledger import LeasedLedger
from services.orchestrator.core.model import Plan, Reservation
from tests.support.lending_desk import ADA, Desk
from tests.support.orchestrator_ports import CHEAP
from tests.support.unbooked import LOG, Unbooked, remote
from tests.unit.orchestrator.test_ledger_adapter import LINE, turn

# One token of input costs a nano-USD: LINE costs one.
PRICE = TokenPrice(provider="acme-ai", model="cheap-1", input_nano_usd_per_million_tokens=10**6)


class RestoredLedger:
    """A channel to a ledger that fails as it is told; `booked` says which commits it took, and whose."""

    def __init__(self, status: str = "UNAVAILABLE", reason: str = "LEDGER_RESTORED") -> None:
        self.failure: Failure | None = Failure(status, reason, "not now")
        self.booked: list[tuple[str, str]] = []
        self.tries = 0
        self.hangs = False

    def __getattr__(self, arity: str) -> Callable[..., Callable[..., Any]]:
        return lambda *_, **__: self._call

    async def _call(self, request: Any) -> object:
        self.tries += 1
        assert remaining_s(0.0) > 0
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise CallError(self.failure)
        self.booked.append((request.reservation_id, current().principal.organisation))
        return object()


def hold(reservation_id: str) -> Reservation:
    return Reservation(reservation_id, {("acme-ai", "cheap-1"): PRICE})


async def commit(channel: RestoredLedger, unbooked: Unbooked, *names: str, timeout_s: float = 0.2) -> None:
    """Commits as the coordinator does: after the answer, within the time for accounting."""
    registry = CollectorRegistry()
    pending, failures = Gauge("p", "p", registry=registry), Counter("f", "f", ("work",), registry=registry)
    work = BackgroundWork(100, timeout_s, pending, failures, logging.getLogger("afterwards"))
    ledger = remote(channel, 0.01, unbooked)
    with call_context():
        for name in names:
            work.run("commit", lambda name=name: ledger.commit(hold(name), [LINE]))  # type: ignore[misc]
    await work.close()


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    found = [record.fields for record in caplog.records if record.name == LOG]  # type: ignore[attr-defined]
    return [(fields["reservation_id"], fields["amount_nano_usd"], fields["reason"]) for fields in found]


async def test_a_commit_outlasts_the_time_for_accounting_until_the_older_copy_is_accepted() -> None:
    """It was dropped after 30 s, and the reservation that would have expired was gone with the copy."""
    channel, unbooked = RestoredLedger(), Unbooked()
    await commit(channel, unbooked, "r-1", "r-2", timeout_s=0.1)
    assert (unbooked.metrics(), channel.tries) == ((2, 0), 2), "handed over at once"
    await asyncio.sleep(0.11)
    sending = asyncio.create_task(unbooked.commits.run())
    tries = channel.tries
    async with asyncio.timeout(5):
        while channel.tries < tries + 3:
            await asyncio.sleep(0.01)
        channel.failure = None
        while len(channel.booked) < 2:
            await asyncio.sleep(0.01)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    with call_context() as call:
        organisation = call.principal.organisation
    assert channel.booked == [("r-1", organisation), ("r-2", organisation)]
    assert unbooked.metrics() == (0, 0)


async def test_what_still_waits_at_the_end_is_tried_once_more_and_then_said(caplog: pytest.LogCaptureFixture) -> None:
    channel, unbooked = RestoredLedger(), Unbooked()
    await commit(channel, unbooked, "r-1", "r-2")
    tries = channel.tries
    await unbooked.commits.close()
    assert channel.tries == tries + 1, "the second would not be heard either"
    assert said(caplog) == [("r-1", 1, "shutdown"), ("r-2", 1, "shutdown")]
    assert unbooked.metrics() == (0, 2)


async def test_one_too_many_is_said(caplog: pytest.LogCaptureFixture) -> None:
    channel, unbooked = RestoredLedger(), Unbooked(limit=1)
    await commit(channel, unbooked, "r-1", "r-2")
    assert said(caplog) == [("r-2", 1, "too-many")]
    assert unbooked.metrics() == (1, 1)


async def test_one_that_is_refused_stops_no_others(caplog: pytest.LogCaptureFixture) -> None:
    channel, unbooked = RestoredLedger(), Unbooked()
    await commit(channel, unbooked, "r-1", "r-2")
    channel.failure = Failure("NOT_FOUND", "NOT_FOUND", "too old")
    await unbooked.commits.close()
    assert said(caplog) == [("r-1", 1, "NOT_FOUND"), ("r-2", 1, "NOT_FOUND")]
    assert unbooked.metrics() == (0, 2)


@pytest.mark.parametrize(
    ("status", "hangs", "reason"),
    [
        ("UNAVAILABLE", False, "SERVICE_UNAVAILABLE"),
        ("NOT_FOUND", False, "SERVICE_UNAVAILABLE"),
        ("UNAVAILABLE", True, "out-of-time"),
    ],
)
async def test_a_commit_that_is_given_up_is_said(
    status: str, reason: str, caplog: pytest.LogCaptureFixture, *, hangs: bool
) -> None:
    channel, unbooked = RestoredLedger(status, "SERVICE_UNAVAILABLE"), Unbooked()
    channel.hangs = hangs
    await commit(channel, unbooked, "r-1", timeout_s=0.05)
    assert said(caplog) == [("r-1", 1, reason)]
    assert unbooked.metrics() == (0, 1)


async def test_no_lease_stands_in_for_a_ledger_that_was_restored() -> None:
    """What it lent rests on spending that it has lost, and nobody knows when it will be accepted."""
    desk, channel = Desk(), RestoredLedger()
    await desk.warm()
    ledger = LeasedLedger(remote(channel), desk.leases, desk.ports, lambda _: ADA)
    plan = Plan((CHEAP,), ("cheap",), 4096, "route#1")
    with call_context(deadline_s=asyncio.get_running_loop().time() + 5):
        with pytest.raises(BudgetUnavailable):
            await ledger.reserve(turn(), plan, 0, 10)
        assert desk.events.outcomes == []
        channel.failure = Failure("UNAVAILABLE", "STORAGE_UNAVAILABLE", "its database is away")
        assert (await ledger.reserve(turn(), plan, 0, 10)).lent
