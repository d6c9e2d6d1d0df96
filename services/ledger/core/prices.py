"""Prices as exact integers: nano-USD per million tokens."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

_NANO_USD = Decimal("1e-9")
# int64 nano-USD ends at 9.2 billion USD.
MAX_USD = Decimal(9_000_000_000)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
_MAX_QUOTED_CHARS = 64


class Price(NamedTuple):
    """What tokens of one model cost. `version` names the table and its row; it is written into the journal."""

    provider: str
    model: str
    version: str
    input_nano_usd_per_million_tokens: int
    output_nano_usd_per_million_tokens: int
    cached_input_nano_usd_per_million_tokens: int
    cache_write_input_nano_usd_per_million_tokens: int

    @property
    def free(self) -> bool:
        """Whether no token costs anything."""
        return not any(self[3:])


class Tokens(NamedTuple):
    """Token counts of one call; cached, written and reasoning tokens are parts of input and output."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


def nano_usd(usd: str | Decimal) -> int:
    """Converts a decimal amount or price exactly. Raises ValueError for what is none, or finer than a nano-USD."""
    amount = usd if isinstance(usd, Decimal) else _decimal(usd)
    if not amount.is_finite() or amount < 0 or amount > MAX_USD:
        raise ValueError(f"{usd} is not an amount in USD; it must be at least 0 and at most {MAX_USD}")
    # A product would be rounded to 28 digits before it is compared, and hide what comes after them.
    exact = amount.quantize(_NANO_USD)
    if exact != amount:
        raise ValueError(f"{usd} has more than nine decimals; it would not be booked exactly")
    return int(exact / _NANO_USD)


def _decimal(text: str) -> Decimal:
    """Decimal itself reads 1_000 as well, and digits of any script: an amount must be what it looks like."""
    if not _NUMBER.fullmatch(text):
        shown = text if len(text) <= _MAX_QUOTED_CHARS else f"{text[:_MAX_QUOTED_CHARS]}…"
        raise ValueError(f"{shown!r} is not a decimal number; write it like '0.15'")
    return Decimal(text)


@lru_cache(maxsize=1024)
def dearest(rows: tuple[Price, ...]) -> Price:
    """A price that no candidate exceeds on any component; input takes the dearest of plain, cached and written."""
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
