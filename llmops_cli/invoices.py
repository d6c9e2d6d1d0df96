"""A provider's invoice as CSV: what it asks for each day of UTC, in nano-USD. No float ever holds an amount."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from llmops_cli.given_text import standard_input
from meshkit.money import INT64_MAX, format_usd
from meshkit.settings import SettingsError, nearest
from services.ledger.core.prices import nano_usd

STANDARD_INPUT = "-"
# The ledger knows days from 1970 to 9998; a file over more than ten years has a mistyped one.
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
MAX_SPAN_DAYS = 3660
MAX_INVOICE_BYTES = 64 << 20
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class Columns(NamedTuple):
    """Names of the two columns that are read; capitals do not matter."""

    day: str = "day"
    amount: str = "amount_usd"

    def __str__(self) -> str:
        return f"{self.day},{self.amount}"


class _Row(NamedTuple):
    line: int
    cells: list[str]


def load_invoice(file: str, columns: Columns) -> dict[date, int]:
    """Reads a file, or standard input for `-`; see read_invoice. Raises SettingsError."""
    name = "standard input" if file == STANDARD_INPUT else file
    try:
        if file == STANDARD_INPUT:
            data = standard_input().read(MAX_INVOICE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(MAX_INVOICE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{name}: {error.strerror}; name a CSV file, or - for standard input") from None
    if len(data) > MAX_INVOICE_BYTES:
        raise SettingsError(f"{name}: larger than {MAX_INVOICE_BYTES >> 20} MiB; sum it up by day first")
    try:
        text = data.decode("utf-8-sig")  # spreadsheets put a mark before the header
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(f"{name}, line {line}: not UTF-8; save it as CSV in UTF-8") from None
    return read_invoice(name, text, columns)


def read_invoice(name: str, text: str, columns: Columns) -> dict[date, int]:
    """What an invoice asks for each day that it names, in nano-USD, earliest day first. Rows of one day add up.

    A negative amount is a credit; a day may not fall below zero by them, for the ledger compares amounts from 0 on.
    Columns that are not named are ignored. Raises SettingsError with `name`, the line and what to do.
    """
    rows = _rows(name, text)
    header = next(rows, None)
    if header is None:
        raise SettingsError(f"{name}: empty; its first line must be a header like {columns}")
    day_place, amount_place = (_place(name, header, column) for column in columns)
    asked: dict[date, int] = {}
    lines: dict[date, int] = {}
    for row in rows:
        where = f"{name}, line {row.line}"
        if len(row.cells) != len(header.cells):
            raise SettingsError(
                f"{where}: {len(row.cells)} cells, but the header has {len(header.cells)}; "
                "separate cells by commas, and write amounts without them, like 1234.56"
            )
        day = _day(where, row.cells[day_place])
        asked[day] = asked.get(day, 0) + _amount_nano_usd(where, header.cells[amount_place], row.cells[amount_place])
        lines[day] = row.line
    if not asked:
        raise SettingsError(f"{name}: no row after the header; write one for each day, like 2026-11-24,12.50")
    _check(name, asked, lines)
    return dict(sorted(asked.items()))


def with_gaps(asked: dict[date, int]) -> dict[date, int]:
    """The same with each day between the first and the last: what an invoice does not name, it does not ask for."""
    first, last = min(asked), max(asked)
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return {day: asked.get(day, 0) for day in days}


def _rows(name: str, text: str) -> Iterator[_Row]:
    """Rows that are not blank, each with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield _Row(line, stripped)
            line = reader.line_num + 1
    except csv.Error as error:
        raise SettingsError(f"{name}, line {line}: not CSV: {error}; check its quotes") from None


def _place(name: str, header: _Row, column: str) -> int:
    known = [cell.lower() for cell in header.cells]
    found = known.count(column.lower())
    if found == 1:
        return known.index(column.lower())
    where = f"{name}, line {header.line}"
    if found:
        raise SettingsError(f"{where}: the header has {found} columns {column!r}; rename all but one")
    has = ", ".join(map(repr, header.cells))
    raise SettingsError(
        f"{where}: the header has no column {column!r}{nearest(column, known)}, only {has}; begin the file with a line "
        "like day,amount_usd, or name its own columns with --day-column and --amount-column"
    )


def _day(where: str, text: str) -> date:
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None:
        raise SettingsError(f"{where}: {text!r} is not a day; write days of UTC like 2026-11-24, and no rows of totals")
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise SettingsError(f"{where}: {day} is not in the years {_FIRST_YEAR} to {_LAST_YEAR}; correct it")
    return day


def _amount_nano_usd(where: str, column: str, text: str) -> int:
    try:
        return -nano_usd(text[1:]) if text.startswith("-") else nano_usd(text)
    except ValueError as error:
        raise SettingsError(f"{where}: {column}: {error}") from None


def _check(name: str, asked: dict[date, int], lines: dict[date, int]) -> None:
    """Raises SettingsError for what each row allows and all together do not."""
    for day, amount in asked.items():
        if amount < 0:
            raise SettingsError(
                f"{name}, line {lines[day]}: {day} sums up to {format_usd(amount)}, and no day can be below zero; put "
                "the credit on the day that it is for, or leave it out and book it with Adjust"
            )
    first, last = min(asked), max(asked)
    if (last - first).days >= MAX_SPAN_DAYS:
        raise SettingsError(
            f"{name}, line {lines[last]}: {last} is more than ten years after {first}, line {lines[first]}; "
            "correct the wrong one, or split the file"
        )
    if sum(asked.values()) > INT64_MAX:
        raise SettingsError(
            f"{name}: asks for more than {format_usd(INT64_MAX)}; are its amounts in USD? If so, split it"
        )
