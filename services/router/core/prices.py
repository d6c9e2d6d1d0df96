"""What a call would roughly cost: only to put candidates in an order. What is charged is the ledger's alone."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

_NANO_PER_USD = 10**9
_TOKENS_PER_PRICE = 10**6
# Dearer than anything sold, and far inside 64 bits.
_MAX_USD = 1_000_000
# Stand in for counts that are not known. Any constant gives each model the same footing.
ASSUMED_INPUT_TOKENS = 1000
ASSUMED_OUTPUT_TOKENS = 500


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Plain input and output, without caches, tiers and times of day."""

    input_nano_usd_per_million_tokens: int
    output_nano_usd_per_million_tokens: int

    def cost_nano_usd(self, input_tokens: int, output_tokens: int) -> int:
        """Of one call, rounded up."""
        read = input_tokens * self.input_nano_usd_per_million_tokens
        written = output_tokens * self.output_nano_usd_per_million_tokens
        return -(-(read + written) // _TOKENS_PER_PRICE)


def nano_usd(usd: str | Decimal) -> int:
    """A price exactly. Raises ValueError for what is none, or finer than a nano-USD."""
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        raise ValueError(f"{usd!r} is not a decimal number; write it like '0.15'") from None
    if not amount.is_finite() or not 0 <= amount <= _MAX_USD:
        raise ValueError(f"{usd} is not a price in USD; it must be at least 0 and at most {_MAX_USD}")
    nano = amount * _NANO_PER_USD
    if nano != nano.to_integral_value():
        raise ValueError(f"{usd} has more than nine decimals")
    return int(nano)
