"""Prices as exact integers: nano-USD per million tokens."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

_NANO_PER_USD = Decimal(10**9)
# 1,000 USD per token: far above any price, and small enough that a thousand million tokens stay within int64 guards.
MAX_USD_PER_MILLION_TOKENS = Decimal(10**9)


class Price(NamedTuple):
    """What tokens of one model cost. `version` names the table and its row; it is written into the journal."""

    provider: str
    model: str
    version: str
    input_nano_usd_per_million_tokens: int
    output_nano_usd_per_million_tokens: int
    cached_input_nano_usd_per_million_tokens: int
    cache_write_input_nano_usd_per_million_tokens: int


class Tokens(NamedTuple):
    """Token counts of one call; cached, written and reasoning tokens are parts of input and output."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


def nano_usd_per_million(usd_per_million: str | Decimal) -> int:
    """Converts a decimal price exactly. Raises ValueError for what is no price or not a whole number of nano-USD."""
    try:
        usd = Decimal(usd_per_million)
    except InvalidOperation:
        raise ValueError(f"{usd_per_million!r} is not a decimal number; write it like '0.15'") from None
    if not usd.is_finite() or usd < 0 or usd > MAX_USD_PER_MILLION_TOKENS:
        raise ValueError(f"{usd_per_million} is not a price; it must be from 0 to {MAX_USD_PER_MILLION_TOKENS}")
    nano = usd * _NANO_PER_USD
    if nano != nano.to_integral_value():
        raise ValueError(f"{usd_per_million} has more than nine decimals; it would not be booked exactly")
    return int(nano)


def dearest(prices: Iterable[Price]) -> Price:
    """A price that no candidate exceeds on any component; input takes the dearest of plain, cached and written."""
    rows = tuple(prices)
    per_input = max(
        max(
            row.input_nano_usd_per_million_tokens,
            row.cached_input_nano_usd_per_million_tokens,
            row.cache_write_input_nano_usd_per_million_tokens,
        )
        for row in rows
    )
    per_output = max(row.output_nano_usd_per_million_tokens for row in rows)
    return Price("", "", "dearest", per_input, per_output, per_input, per_input)
