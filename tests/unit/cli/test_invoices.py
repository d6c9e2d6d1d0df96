"""Invoices as CSV: exact, and whatever is wrong is named with its line and what to do."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_cli.invoices import MAX_INVOICE_BYTES, MAX_SPAN_DAYS, Columns, load_invoice, read_invoice, with_gaps
from meshkit.settings import SettingsError

NOVEMBER_24, NOVEMBER_25, NOVEMBER_27 = (date(2026, 11, day) for day in (24, 25, 27))
NANO = 10**9


def read(text: str, columns: Columns = Columns()) -> dict[date, int]:  # noqa: B008 - a tuple
    return read_invoice("openai.csv", text, columns)


def test_rows_of_one_day_add_up_and_days_are_in_order() -> None:
    invoice = read("day,amount_usd\n2026-11-25,0.1\n2026-11-24,12.000000001\n2026-11-25,0.2\n")
    assert list(invoice.items()) == [(NOVEMBER_24, 12 * NANO + 1), (NOVEMBER_25, 300_000_000)]


@given(st.lists(st.integers(0, 10**15), min_size=1))
def test_what_is_read_is_exact(amounts: list[int]) -> None:
    rows = [f"2026-11-24,{amount // NANO}.{amount % NANO:09d}\n" for amount in amounts]
    assert read("day,amount_usd\n" + "".join(rows)) == {NOVEMBER_24: sum(amounts)}


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffday,amount_usd\r\n2026-11-24,1.5\r\n",  # as spreadsheets save it
        "\nDay , Amount_USD\n\n , \n 2026-11-24 , 1.5 \n",
        'project,"amount_usd",day\n"a, ""b""\nc",1.5E0,2026-11-24\n',
        "day,amount_usd\n2026-11-24,2\n2026-11-24,-0.5\n",
    ],
)
def test_forms_that_mean_the_same(text: str, tmp_path: Path) -> None:
    (tmp_path / "invoice.csv").write_text(text, encoding="utf-8", newline="")
    assert load_invoice(f"{tmp_path}/invoice.csv", Columns()) == {NOVEMBER_24: 1_500_000_000}


def test_columns_of_another_name() -> None:
    text = "start,cost,day\n2026-11-24,3,of no interest\n"
    assert read(text, Columns("START", "cost")) == {NOVEMBER_24: 3 * NANO}


def test_a_credit_may_bring_a_day_to_zero() -> None:
    assert read("day,amount_usd\n2026-11-24,-3\n2026-11-24,3\n") == {NOVEMBER_24: 0}


HEADER = "day,amount_usd\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "openai.csv: empty; its first line must be a header like day,amount_usd"),
        ("\n \n", "openai.csv: empty"),
        (HEADER, "openai.csv: no row after the header; write one for each day, like 2026-11-24,12.50"),
        (
            "2026-11-24,1\n",
            "openai.csv, line 1: the header has no column 'day', only '2026-11-24', '1'; begin the file",
        ),
        ("\nday,amount_us\n", "line 2: the header has no column 'amount_usd' (did you mean 'amount_us'?)"),
        ("day;amount_usd\n2026-11-24;1\n", "name its own columns with --day-column and --amount-column"),
        ("day,amount_usd,Day\n", "line 1: the header has 2 columns 'day'; rename all but one"),
        (
            HEADER + "2026-11-24,1\n24.11.2026,1\n",
            "line 3: '24.11.2026' is not a day; write days of UTC like 2026-11-24",
        ),
        (HEADER + "2026-02-30,1\n", "line 2: '2026-02-30' is not a day"),
        (HEADER + "20261124,1\n", "line 2: '20261124' is not a day"),
        (HEADER + "2026-11-24T00:00:00Z,1\n", "is not a day"),
        (
            HEADER + "2026-11-24,1\nTotal,1\n",
            "line 3: 'Total' is not a day; write days of UTC like 2026-11-24, and no rows",
        ),
        (HEADER + "1969-12-31,1\n", "line 2: 1969-12-31 is not in the years 1970 to 9998; correct it"),
        (HEADER + "9999-01-01,1\n", "line 2: 9999-01-01 is not in the years 1970 to 9998"),
        (HEADER + "2026-11-24,\n", "line 2: amount_usd: '' is not a decimal number; write it like '0.15'"),
        (HEADER + "2026-11-24,$5\n", "line 2: amount_usd: '$5' is not a decimal number"),
        (HEADER + "2026-11-24,NaN\n", "amount_usd: 'NaN' is not a decimal number"),
        (
            HEADER + "2026-11-24,1e999999\n",
            "amount_usd: 1e999999 is not an amount in USD; it must be at least 0 and at most",
        ),
        (HEADER + "2026-11-24,0.1234567891\n", "line 2: amount_usd: 0.1234567891 has more than nine decimals"),
        (HEADER + f"2026-11-24,-0.1{'0' * 30}1\n", "has more than nine decimals"),
        (
            HEADER + "2026-11-24,1,234.56\n",
            "line 2: 3 cells, but the header has 2; separate cells by commas, and write",
        ),
        (HEADER + "2026-11-24\n", "line 2: 1 cells, but the header has 2"),
        (HEADER + '2026-11-24,"1\n', "line 2: not CSV: unexpected end of data; check its quotes"),
        (HEADER + f"2026-11-24,{'1' * 200_000}\n", "line 2: not CSV: field larger than field limit"),
        (
            HEADER + "2026-11-24,3\n2026-11-25,1\n2026-11-24,-3.5\n",
            "line 4: 2026-11-24 sums up to -0.50 USD, and no day can be below zero; put the credit on the day",
        ),
        (
            HEADER + "2026-11-24,3\n2062-11-25,1\n",
            "line 3: 2062-11-25 is more than ten years after 2026-11-24, line 2; correct the wrong one",
        ),
        (
            HEADER + "2026-11-24,9e9\n2026-11-25,9e9\n",
            "openai.csv: asks for more than 9223372036.854775807 USD; are its",
        ),
    ],
)
def test_mistakes_are_named_with_their_line(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(text)
    assert str(raised.value).startswith("openai.csv")
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_cell_over_several_lines_does_not_move_the_lines_behind_it() -> None:
    with pytest.raises(SettingsError, match="line 5: 'x' is not a day"):
        read('day,amount_usd,note\n2026-11-24,1,"a\nb\nc"\nx,1,\n')


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=f"{tmp_path}/none.csv: No such file or directory; name a CSV file, or - for"
    ):
        load_invoice(f"{tmp_path}/none.csv", Columns())
    (tmp_path / "latin.csv").write_bytes(b"day,amount_usd,note\n2026-11-24,1,caf\xe9\n")
    with pytest.raises(SettingsError, match="latin.csv, line 2: not UTF-8; save it as CSV in UTF-8"):
        load_invoice(f"{tmp_path}/latin.csv", Columns())
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(MAX_INVOICE_BYTES + 1)
    with pytest.raises(SettingsError, match="large.csv: larger than 64 MiB"):
        load_invoice(f"{tmp_path}/large.csv", Columns())


def test_standard_input_is_read_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"day,amount_usd\n2026-11-24,1\n")))
    assert load_invoice("-", Columns()) == {NOVEMBER_24: NANO}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(SettingsError, match="^standard input: empty"):
        load_invoice("-", Columns())


def test_days_between_are_asked_nothing_for() -> None:
    assert with_gaps({NOVEMBER_27: 5, NOVEMBER_24: 7}) == {
        NOVEMBER_24: 7,
        NOVEMBER_25: 0,
        date(2026, 11, 26): 0,
        NOVEMBER_27: 5,
    }
    assert MAX_SPAN_DAYS > 366
