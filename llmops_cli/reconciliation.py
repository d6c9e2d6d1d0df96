"""`llmops ledger reconcile`: a provider's invoice against the books of a running mesh, day by day."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from llmops.ledger.v1 import ledger_pb2 as pb

from llmops_cli.budgets import Door, add_row, ask_ledger, new_table, print_table
from llmops_cli.invoices import Columns, load_invoice, with_gaps
from meshkit.money import format_usd
from meshkit.settings import SettingsError
from services.ledger.core.prices import nano_usd

EXIT_DIFFERENT = 1
# The contract allows 400 in one request, but of a busy mesh the ledger reads for seconds for each.
DAYS_PER_REQUEST = 1
_EPOCH = date(1970, 1, 1)
_DAY_S = 86_400
_COLUMNS = ("day", "invoiced", "booked", "of it estimated", "unattributed", "difference")
_NOT_IN_INVOICE = "-"
_WHAT_TO_DO = """\
Above zero the provider asks for more than is booked, below zero for less. Usual suspects:
- estimated: the provider never said what these calls took (left, cut off or timed out);
- unattributed: charged when a hold expired, for which provider is not known, so no provider's booked amount has it;
- calls around midnight: booked on the day of UTC on which they ended;
- calls past the mesh, or with keys of another organisation: not in the books of this key.
`llmops ledger export` lists the bookings, and Adjust corrects one:
  llmops call ledger.Adjust '{"request_id": "i-1", "reservation_id": "…", "delta_nano_usd": …, "reason": "invoice"}'
A correction counts here on the day of the call's hold, whenever it is made. The ledger knows a call for
`ledger.reservation_retention_s` (7 days if not set), and corrects none that is older.
"""


class Wanted(NamedTuple):
    """What to compare, as the command's arguments and options say it."""

    provider: str
    file: str
    columns: Columns = Columns()
    tolerance_usd: str = "0"
    as_json: bool = False


class Amounts(NamedTuple):
    """Of a day, or of all days, in nano-USD. What is estimated is part of what is booked; unattributed is beside it."""

    invoiced_nano_usd: int
    booked_nano_usd: int
    estimated_nano_usd: int
    unattributed_nano_usd: int

    @property
    def difference_nano_usd(self) -> int:
        """Invoiced less booked."""
        return self.invoiced_nano_usd - self.booked_nano_usd


class Comparison(NamedTuple):
    """An invoice beside the books. `days` has those of the invoice, and those between them with something booked."""

    wanted: Wanted
    tolerance_nano_usd: int
    invoiced_days: frozenset[date]
    days: Mapping[date, Amounts]

    @property
    def total(self) -> Amounts:
        """The sum over all days."""
        return Amounts(*map(sum, zip(*self.days.values(), strict=True)))

    def differs(self, amounts: Amounts) -> bool:
        """Whether invoice and books are further apart than what is tolerated."""
        return abs(amounts.difference_nano_usd) > self.tolerance_nano_usd

    @property
    def differing_days(self) -> int:
        """The number of days that differ."""
        return sum(map(self.differs, self.days.values()))


def reconcile(door: Door, wanted: Wanted) -> int:
    """Prints what an invoice asks and what is booked for each day; 1 where a day differs by more than is tolerated.

    Raises SettingsError for a file or a tolerance that is none.
    """
    try:
        tolerance_nano_usd = nano_usd(wanted.tolerance_usd)
    except ValueError as error:
        raise SettingsError(f"--tolerance-usd: {error}") from None
    invoice = load_invoice(wanted.file, wanted.columns)

    def work(stub: Any, options: dict[str, Any]) -> int:
        booked = _booked(stub, options, wanted.provider, with_gaps(invoice))
        days = {day: amounts for day, amounts in booked.items() if day in invoice or amounts.booked_nano_usd}
        comparison = Comparison(wanted, tolerance_nano_usd, frozenset(invoice), days)
        if wanted.as_json:
            sys.stdout.write(json.dumps(_data(comparison), indent=2, ensure_ascii=False) + "\n")
        else:
            _print_days(comparison)
        # With --json standard output has data alone.
        (sys.stderr if wanted.as_json else sys.stdout).write(_verdict(comparison))
        return EXIT_DIFFERENT if comparison.differing_days else 0

    return ask_ledger(door, "ledger.Reconcile", work)


def _booked(stub: Any, options: dict[str, Any], provider: str, invoice: dict[date, int]) -> dict[date, Amounts]:
    asked = [pb.InvoiceDay(start_time=_start(day), amount_nano_usd=amount) for day, amount in invoice.items()]
    found: dict[date, Amounts] = {}
    for first in range(0, len(asked), DAYS_PER_REQUEST):
        days = asked[first : first + DAYS_PER_REQUEST]
        answer = stub.Reconcile(pb.ReconcileRequest(provider=provider, days=days), **options)
        for day in answer.days:
            found[_EPOCH + timedelta(days=day.start_time.seconds // _DAY_S)] = Amounts(
                day.invoiced_nano_usd, day.booked_nano_usd, day.estimated_nano_usd, day.unattributed_nano_usd
            )
    return found


def _start(day: date) -> Timestamp:
    return Timestamp(seconds=(day - _EPOCH).days * _DAY_S)


def _print_days(comparison: Comparison) -> None:
    table = new_table(*_COLUMNS)
    for day, amounts in comparison.days.items():
        invoiced, *others = _cells(amounts)
        add_row(table, str(day), invoiced if day in comparison.invoiced_days else _NOT_IN_INVOICE, *others)
    add_row(table, "total", *_cells(comparison.total))
    print_table(table)


def _cells(amounts: Amounts) -> list[str]:
    sign = "+" if amounts.difference_nano_usd > 0 else ""
    return [*map(format_usd, amounts), sign + format_usd(amounts.difference_nano_usd)]


def _data(comparison: Comparison) -> dict[str, Any]:
    """Amounts are strings, as in the JSON of every RPC: numbers beyond 2^53 lose digits in many programs."""
    return {
        "provider": comparison.wanted.provider,
        "tolerance_nano_usd": str(comparison.tolerance_nano_usd),
        "days": [
            {
                "day": str(day),
                "in_invoice": day in comparison.invoiced_days,
                **_amounts_data(amounts),
                "differs": comparison.differs(amounts),
            }
            for day, amounts in comparison.days.items()
        ],
        "total": _amounts_data(comparison.total),
        "differing_days": comparison.differing_days,
    }


def _amounts_data(amounts: Amounts) -> dict[str, str]:
    named = {**amounts._asdict(), "difference_nano_usd": amounts.difference_nano_usd}
    return {name: str(amount) for name, amount in named.items()}


def _verdict(comparison: Comparison) -> str:
    """What the rows mean, and what to do about them."""
    days, differing, total = comparison.days, comparison.differing_days, comparison.total
    beyond = f" by more than {format_usd(comparison.tolerance_nano_usd)}" if comparison.tolerance_nano_usd else ""
    said = f"{differing} of {len(days)} days differ{beyond}.\n"
    if len(days) > len(comparison.invoiced_days):
        said += f"{_NOT_IN_INVOICE}: not in the invoice, between its first and its last day, and something is booked.\n"
    nothing_booked = not any(amounts.booked_nano_usd for amounts in days.values())
    if nothing_booked:
        provider = comparison.wanted.provider
        said += (
            f"Nothing is booked for provider {provider!r} on these days: write it as in the price table (openai of "
            "openai/gpt-4o-mini), and use a key of the organisation that called it.\n"
        )
    explained = nothing_booked and not total.unattributed_nano_usd
    return said + (_WHAT_TO_DO if differing and not explained else "")
