"""The one formula of money."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmops.common.v1 import usage_pb2

from meshkit.money import INT64_MAX, cost_nano_usd, format_usd

counts = st.integers(0, 10**7)
prices = st.integers(0, 10**12)


class Counts(NamedTuple):
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0


class Row(NamedTuple):
    input_nano_usd_per_million_tokens: int = 0
    output_nano_usd_per_million_tokens: int = 0
    cached_input_nano_usd_per_million_tokens: int = 0
    cache_write_input_nano_usd_per_million_tokens: int = 0


@given(counts, counts, counts, counts, prices, prices, prices, prices)
def test_l17_rounds_up_once_and_by_less_than_one_nano(
    plain: int, output: int, read: int, written: int, p_in: int, p_out: int, p_read: int, p_written: int
) -> None:
    usage = Counts(plain + read + written, output, read, written)
    exact = Fraction(plain * p_in + output * p_out + read * p_read + written * p_written, 10**6)
    cost = cost_nano_usd(usage, Row(p_in, p_out, p_read, p_written))
    assert 0 <= cost - exact < 1


def test_fractions_of_a_nano_add_up_before_they_are_rounded() -> None:
    # Each part alone is a third of a nano-USD: rounded one by one they would cost three.
    row = Row(333_333, 333_333, 333_334, 0)
    assert cost_nano_usd(Counts(2, 1, 1, 0), row) == 1


def test_takes_the_messages_of_the_contract() -> None:
    usage = usage_pb2.Usage(input_tokens=1000, output_tokens=500, cached_input_tokens=400)
    price = usage_pb2.TokenPrice(
        input_nano_usd_per_million_tokens=150_000_000,
        output_nano_usd_per_million_tokens=600_000_000,
        cached_input_nano_usd_per_million_tokens=75_000_000,
    )
    assert cost_nano_usd(usage, price) == 600 * 150 + 400 * 75 + 500 * 600


def test_parts_beside_the_whole_are_charged_in_full() -> None:
    row = Row(1_000_000, 0, 100_000, 0)
    assert cost_nano_usd(Counts(input_tokens=100, cached_input_tokens=1000), row) == 100 + 100


@pytest.mark.parametrize("usage", [Counts(-1), Counts(0, -1), Counts(0, 0, -5), Counts(0, 0, 0, -5)])
def test_refuses_negative_counts(usage: Counts) -> None:
    with pytest.raises(ValueError, match="negative"):
        cost_nano_usd(usage, Row(1, 1, 1, 1))


def test_l17_refuses_what_does_not_fit_into_int64() -> None:
    assert cost_nano_usd(Counts(10**6), Row(INT64_MAX)) == INT64_MAX
    with pytest.raises(OverflowError):
        cost_nano_usd(Counts(10**6 + 1), Row(INT64_MAX))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00 USD"),
        (1_500_000_000, "1.50 USD"),
        (37_500, "0.0000375 USD"),
        (-1, "-0.000000001 USD"),
        (12_000_000_000, "12.00 USD"),
    ],
)
def test_formats_for_people(amount: int, text: str) -> None:
    assert format_usd(amount) == text
