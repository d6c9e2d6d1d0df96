"""`llmops ledger reconcile` against a ledger with fixed books: rows, words, data and exit codes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from llmops.ledger.v1 import ledger_pb2 as pb
from llmops.ledger.v1 import ledger_pb2_grpc
from typer.testing import CliRunner

from llmops_cli.budgets import list_budgets
from llmops_cli.main import app
from llmops_cli.reconciliation import DAYS_PER_REQUEST
from meshkit.settings import SettingsError
from tests.unit.cli.test_budgets import serving

NANO = 10**9


class Day(NamedTuple):
    """What is booked on a day, in nano-USD."""

    booked: int
    estimated: int = 0
    unattributed: int = 0


class BookedLedger(ledger_pb2_grpc.LedgerServiceServicer):
    """Books of fixed days. Remembers what it was asked, and refuses from the call `refuse_from` on."""

    def __init__(self, days: Mapping[str, Day], refuse_from: int = 100) -> None:
        self._days = days
        self._refuse_from = refuse_from
        self.requests: list[pb.ReconcileRequest] = []

    def Reconcile(self, request: Any, context: Any) -> pb.ReconcileResponse:
        if len(self.requests) == self._refuse_from:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "needs role operator")
        self.requests.append(request)
        return pb.ReconcileResponse(days=[self._day(day) for day in request.days])

    def _day(self, day: Any) -> pb.ReconciledDay:
        booked, estimated, unattributed = self._days.get(day.start_time.ToDatetime().date().isoformat(), Day(0))
        return pb.ReconciledDay(
            start_time=day.start_time,
            invoiced_nano_usd=day.amount_nano_usd,
            booked_nano_usd=booked,
            estimated_nano_usd=estimated,
            unattributed_nano_usd=unattributed,
        )


BOOKS = {
    "2026-11-24": Day(12 * NANO),
    "2026-11-25": Day(11 * NANO, 3 * NANO, 200_000_000),
    "2026-11-26": Day(4 * NANO),
    "2026-11-28": Day(1),
}


def reconcile(ledger: ledger_pb2_grpc.LedgerServiceServicer, invoice: str, *options: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    with serving(ledger) as door:
        words = ("ledger", "reconcile", "openai", "-", *options, "--address", door.address)
        ran = CliRunner(env={"LLMOPS_KEY": door.key}).invoke(app, words, input=invoice)
    if isinstance(ran.exception, SettingsError):
        raise ran.exception
    return ran.exit_code, ran.stdout, ran.stderr


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_books_that_agree() -> None:
    ledger = BookedLedger(BOOKS)
    code, out, err = reconcile(ledger, "day,amount_usd\n2026-11-25,11\n2026-11-24,12\n")
    assert (code, err) == (0, "")
    header, *days, total, verdict = out.splitlines()
    assert cells(header) == ["day", "invoiced", "booked", "of it estimated", "unattributed", "difference"]
    assert [cells(day) for day in days] == [
        ["2026-11-24", "12.00 USD", "12.00 USD", "0.00 USD", "0.00 USD", "0.00 USD"],
        ["2026-11-25", "11.00 USD", "11.00 USD", "3.00 USD", "0.20 USD", "0.00 USD"],
    ]
    assert cells(total) == ["total", "23.00 USD", "23.00 USD", "3.00 USD", "0.20 USD", "0.00 USD"]
    assert verdict == "0 of 2 days differ."
    assert {request.provider for request in ledger.requests} == {"openai"}
    starts = [day.start_time.ToJsonString() for request in ledger.requests for day in request.days]
    assert starts == ["2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"], "the ledger knows days by their first moment"


def test_a_difference_has_a_sign_and_says_what_to_do() -> None:
    invoice = "day,amount_usd\n2026-11-24,11.5\n2026-11-25,11.000000001\n2026-11-26,4\n"
    code, out, _ = reconcile(BookedLedger(BOOKS), invoice)
    assert code == 1
    rows = [cells(line) for line in out.splitlines()]
    assert [row[-1] for row in rows[1:5]] == ["-0.50 USD", "+0.000000001 USD", "0.00 USD", "-0.499999999 USD"]
    assert "2 of 3 days differ.\n" in out
    for word in (
        "Above zero the provider asks for more",
        "estimated",
        "unattributed",
        "ledger export",
        "ledger.Adjust",
    ):
        assert word in out


@pytest.mark.parametrize(
    ("tolerance", "code", "verdict"),
    [
        ("0.5", 0, "0 of 2 days differ by more than 0.50 USD."),
        ("0.499999999", 1, "1 of 2 days differ by more than 0.499999999 USD."),
    ],
)
def test_a_day_may_differ_by_the_tolerance_and_no_nano_usd_more(tolerance: str, code: int, verdict: str) -> None:
    invoice = "day,amount_usd\n2026-11-24,11.5\n2026-11-25,11.2\n"
    found, out, _ = reconcile(BookedLedger(BOOKS), invoice, "--tolerance-usd", tolerance)
    assert (found, verdict in out) == (code, True), out


def test_differences_of_two_days_do_not_make_up_for_each_other() -> None:
    code, out, _ = reconcile(BookedLedger(BOOKS), "day,amount_usd\n2026-11-24,11.5\n2026-11-25,11.5\n")
    assert (code, "2 of 2 days differ." in out) == (1, True)


def test_what_is_booked_between_the_days_of_the_invoice_is_found() -> None:
    code, out, _ = reconcile(BookedLedger(BOOKS), "day,amount_usd\n2026-11-24,12\n2026-11-25,11\n2026-11-29,0\n")
    assert code == 1
    rows = [cells(line) for line in out.splitlines()]
    assert [row[0] for row in rows[1:7]] == [
        "2026-11-24",
        "2026-11-25",
        "2026-11-26",
        "2026-11-28",
        "2026-11-29",
        "total",
    ]
    assert rows[3] == ["2026-11-26", "-", "4.00 USD", "0.00 USD", "0.00 USD", "-4.00 USD"]
    assert "-: not in the invoice, between its first and its last day, and something is booked." in out


def test_each_day_is_asked_for_by_itself() -> None:
    """The ledger reads every booking of the days it is asked for, and ends what takes too long: a month did."""
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(40)]
    ledger = BookedLedger({str(day): Day(number) for number, day in enumerate(days)})
    invoice = "day,amount_usd\n" + "".join(f"{day},0.{number:09d}\n" for number, day in enumerate(days))
    code, out, _ = reconcile(ledger, invoice)
    assert code == 0
    assert [len(request.days) for request in ledger.requests] == [DAYS_PER_REQUEST] * 40
    assert "0 of 40 days differ." in out


def test_a_refusal_in_the_middle_prints_no_half_of_a_comparison() -> None:
    invoice = "day,amount_usd\n2024-01-01,1\n2026-01-01,1\n"
    code, out, err = reconcile(BookedLedger(BOOKS, refuse_from=1), invoice)
    assert (code, out) == (1, "")
    assert "PERMISSION_DENIED" in err
    assert "needs role operator" in err


def test_json_has_the_same_as_data() -> None:
    invoice = "day,amount_usd\n2026-11-25,12\n2026-11-27,0\n"
    code, out, err = reconcile(BookedLedger(BOOKS), invoice, "--tolerance-usd", "1", "--json")
    assert code == 1
    data = json.loads(out)
    assert data["days"][0] == {
        "day": "2026-11-25",
        "in_invoice": True,
        "invoiced_nano_usd": "12000000000",
        "booked_nano_usd": "11000000000",
        "estimated_nano_usd": "3000000000",
        "unattributed_nano_usd": "200000000",
        "difference_nano_usd": "1000000000",
        "differs": False,
    }
    assert [(day["day"], day["in_invoice"], day["differs"]) for day in data["days"][1:]] == [
        ("2026-11-26", False, True),
        ("2026-11-27", True, False),
    ]
    assert data["total"] == {
        "invoiced_nano_usd": "12000000000",
        "booked_nano_usd": "15000000000",
        "estimated_nano_usd": "3000000000",
        "unattributed_nano_usd": "200000000",
        "difference_nano_usd": "-3000000000",
    }
    assert (data["provider"], data["tolerance_nano_usd"], data["differing_days"]) == ("openai", "1000000000", 1)
    assert "1 of 3 days differ by more than 1.00 USD." in err


def test_a_provider_of_whom_nothing_is_booked_is_named() -> None:
    code, out, _ = reconcile(BookedLedger({}), "day,amount_usd\n2026-11-24,1\n")
    assert code == 1
    assert "Nothing is booked for provider 'openai' on these days: write it as in the price table" in out
    assert "Usual suspects" not in out
    _, lost, _ = reconcile(BookedLedger({"2026-11-24": Day(0, 0, 7)}), "day,amount_usd\n2026-11-24,1\n")
    assert "Nothing is booked" in lost
    assert "unattributed: charged when a hold expired" in lost, "it may be what the provider asks for"


@pytest.mark.parametrize(
    ("usd", "sentence"),
    [("-1", "-1 is not an amount"), ("x", "'x' is not a decimal"), ("0.0000000001", "nine decimals")],
)
def test_a_tolerance_that_is_none_is_refused_before_anybody_is_asked(usd: str, sentence: str) -> None:
    ledger = BookedLedger(BOOKS)
    with pytest.raises(SettingsError, match=f"^--tolerance-usd: .*{sentence}"):
        reconcile(ledger, "day,amount_usd\n2026-11-24,1\n", "--tolerance-usd", usd)
    assert ledger.requests == []


def test_columns_and_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text("date,cost\n2026-11-24,12\n")
    with serving(BookedLedger(BOOKS)) as door:
        words = ("ledger", "reconcile", "openai", f"{tmp_path}/costs.csv", "--address", door.address)
        runner = CliRunner(env={"LLMOPS_KEY": door.key})
        wrong = runner.invoke(app, words).exception
        assert isinstance(wrong, SettingsError)
        assert f"{tmp_path}/costs.csv, line 1: the header has no column 'day'" in str(wrong)
        assert runner.invoke(app, (*words, "--day-column", "date", "--amount-column", "cost")).exit_code == 0


def test_a_process_without_the_ledger_is_told_from_a_ledger() -> None:
    with (
        serving(BookedLedger({})) as door,
        pytest.raises(SettingsError, match="does not run the ledger; --address names"),
    ):
        list_budgets(door)
