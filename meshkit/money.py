"""Money as integers: nano-USD (1 USD = 10^9), prices in nano-USD per million tokens. No float ever holds an amount."""

from __future__ import annotations

from typing import Protocol

NANO_USD_PER_USD = 10**9
TOKENS_PER_PRICE = 10**6
INT64_MAX = 2**63 - 1


class TokenCounts(Protocol):
    """Tokens of one call; `llmops.common.v1.Usage` is one. Cached and written tokens are parts of the input."""

    @property
    def input_tokens(self) -> int:
        """Tokens read, all of them."""

    @property
    def output_tokens(self) -> int:
        """Tokens written, all of them."""

    @property
    def cached_input_tokens(self) -> int:
        """Part of the input that the provider read from its cache."""

    @property
    def cache_write_input_tokens(self) -> int:
        """Part of the input that the provider wrote to its cache."""


class PricePerMillion(Protocol):
    """Prices in nano-USD per million tokens; `llmops.common.v1.TokenPrice` is one."""

    @property
    def input_nano_usd_per_million_tokens(self) -> int:
        """Plain input."""

    @property
    def output_nano_usd_per_million_tokens(self) -> int:
        """Output."""

    @property
    def cached_input_nano_usd_per_million_tokens(self) -> int:
        """Input read from the provider's cache."""

    @property
    def cache_write_input_nano_usd_per_million_tokens(self) -> int:
        """Input written to the provider's cache."""


def cost_nano_usd(usage: TokenCounts, price: PricePerMillion) -> int:
    """The cost of one usage line, rounded up once: the formula at `TokenPrice` in llmops/common/v1/usage.proto.

    Some providers count cached tokens beside the input instead of within it. Where the parts exceed the whole, the
    input is read as the plain part: of the two readings, the one that never charges too little.

    Raises ValueError for a negative count or price, OverflowError for a cost beyond int64.
    """
    read, written = usage.cached_input_tokens, usage.cache_write_input_tokens
    plain = usage.input_tokens - read - written
    if plain < 0:
        plain = usage.input_tokens
    terms = (
        plain * price.input_nano_usd_per_million_tokens,
        read * price.cached_input_nano_usd_per_million_tokens,
        written * price.cache_write_input_nano_usd_per_million_tokens,
        usage.output_tokens * price.output_nano_usd_per_million_tokens,
    )
    if min(plain, read, written, *terms) < 0:
        raise ValueError("token counts and prices must not be negative")
    cost = -(-sum(terms) // TOKENS_PER_PRICE)
    if cost > INT64_MAX:
        raise OverflowError("the cost does not fit into 64 bits of nano-USD (9.2 billion USD)")
    return cost


def format_usd(amount_nano_usd: int) -> str:
    """An amount for people: at least two decimals, more only where they are not zero. `1.50 USD`, `0.0000375 USD`."""
    sign = "-" if amount_nano_usd < 0 else ""
    whole, part = divmod(abs(amount_nano_usd), NANO_USD_PER_USD)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals} USD"
