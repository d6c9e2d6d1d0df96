"""`llmops budget`: what is not named stays, and names are no markup."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from llmops.ledger.v1 import ledger_pb2 as pb
from llmops.ledger.v1 import ledger_pb2_grpc

from llmops_cli.budgets import Door, WantedLimit, set_budget, show_usage
from meshkit.settings import SettingsError

DAY = pb.Limit(
    limit_id="lim-1",
    scope=pb.LIMIT_SCOPE_TEAM,
    subject="search",
    period=pb.LIMIT_PERIOD_DAY,
    unit=pb.LIMIT_UNIT_MONEY,
    mode=pb.LIMIT_MODE_SHADOW,
    cap_nano_usd=5,
    alert_basis_points=5000,
    stop_basis_points=10_000,
    time_zone="Europe/Berlin",
    version=3,
)
RATE = pb.Limit(
    scope=pb.LIMIT_SCOPE_KEY,
    period=pb.LIMIT_PERIOD_MINUTE,
    unit=pb.LIMIT_UNIT_REQUESTS,
    mode=pb.LIMIT_MODE_ENFORCE,
    max_count=60,
    burst_count=10,
)


class FixedLedger(ledger_pb2_grpc.LedgerServiceServicer):
    """Two limits, and whatever is set."""

    def __init__(self) -> None:
        self.saved: list[pb.Limit] = []

    def ListLimits(self, request: Any, context: Any) -> pb.ListLimitsResponse:
        return pb.ListLimitsResponse(limits=[DAY, RATE])

    def SetLimit(self, request: Any, context: Any) -> pb.SetLimitResponse:
        self.saved.append(request.limit)
        return pb.SetLimitResponse(limit=request.limit)

    def GetUsage(self, request: Any, context: Any) -> pb.GetUsageResponse:
        names = ("[/x]", "[red]eve[/red]")
        return pb.GetUsageResponse(usages=[pb.LimitUsage(limit=DAY, subject=name) for name in names])


@contextmanager
def serving(ledger: ledger_pb2_grpc.LedgerServiceServicer) -> Iterator[Door]:
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(ledger, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield Door(f"127.0.0.1:{port}", "llmops-key")
        finally:
            server.stop(None).wait()


def wanted(scope: str, period: str, **options: Any) -> WantedLimit:
    nothing: dict[str, Any] = {"usd": "", "most": None, "unit": "money", "subject": ""}
    return WantedLimit(scope, period, **(nothing | {"mode": None, "time_zone": None, "burst": None} | options))


def test_review_8_what_no_option_names_stays() -> None:
    """A new cap alone made a shadow limit deny, moved its lines and its zone, and so forgot what was spent."""
    ledger = FixedLedger()
    with serving(ledger) as door:
        assert set_budget(door, wanted("team", "day", subject="search", usd="2")) == 0
        assert set_budget(door, wanted("team", "day", subject="search", usd="2", mode="enforce", time_zone="")) == 0
        assert set_budget(door, wanted("key", "minute", unit="requests", most=5)) == 0
        # Names of enumerations are taken in any case.
        assert set_budget(door, wanted("User", "DAY", usd="1", unit="Money")) == 0
    raised, named, rate, new = ledger.saved
    kept = pb.Limit()
    kept.CopyFrom(DAY)
    kept.ClearField("limit_id")
    kept.ClearField("version")
    kept.cap_nano_usd = 2 * 10**9
    assert raised == kept
    assert (named.mode, named.time_zone, named.stop_basis_points) == (pb.LIMIT_MODE_ENFORCE, "", 10_000)
    assert (rate.max_count, rate.burst_count, rate.mode) == (5, 5, pb.LIMIT_MODE_ENFORCE)
    # The ledger's defaults hold for what is new.
    assert (new.mode, new.time_zone, new.alert_basis_points) == (pb.LIMIT_MODE_UNSPECIFIED, "", 0)


def test_review_15_an_end_users_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(FixedLedger()) as door:
        assert show_usage(door, "") == 0
    shown = capsys.readouterr().out
    assert "[/x]" in shown
    assert "[red]eve[/red]" in shown


@pytest.mark.parametrize("usd", ["five", "1,50", "-1", "nan", "1e999999", "9000000001", "0.1234567891"])
def test_a_cap_that_is_no_amount_is_refused_with_what_to_write(usd: str) -> None:
    """Beyond 64 bits it ended in a traceback."""
    with pytest.raises(SettingsError, match=r"--usd: .*; 0 suspends"):
        set_budget(Door("127.0.0.1:1", "llmops-key"), wanted("team", "day", usd=usd))


def test_a_cap_that_is_not_named_is_asked_for() -> None:
    with pytest.raises(SettingsError, match="^--usd says how much may be spent; 0 suspends$"):
        set_budget(Door("127.0.0.1:1", "llmops-key"), wanted("team", "day"))


@pytest.mark.parametrize(
    "options", [{"usd": "5", "most": 100}, {"usd": "5", "most": 7, "unit": "requests"}, {"usd": "0", "unit": "tokens"}]
)
def test_what_would_be_ignored_is_refused(options: dict[str, Any]) -> None:
    """A cap in USD on requests looked as if it held."""
    with pytest.raises(SettingsError, match=r"^--(usd|count) is for "):
        set_budget(Door("127.0.0.1:1", "llmops-key"), wanted("team", "day", **options))
