"""The dated price table of the package genai-prices, behind the operator's own prices.

Tiers by context length take effect for all tokens of a call that crosses their start. A price is fixed before the call,
from an estimate of its input, so a tier counts as reached at half its start: a count that is twice the estimate is
still priced right. Prices by time of day are read as the dearest alternative of the day, so that a hold is never too
small; an operator who knows better declares the price.

Only text tokens are priced; service tiers are priced as standard. A row with a fee per request, without an input or
output price, with a price of zero, or that is not exact in nano-USD is refused as unpriced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from services.ledger.core.errors import ModelUnpriced
from services.ledger.core.prices import Price, nano_usd
from services.ledger.core.windows import MICROSECONDS, Period, window_at

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice

# How much larger the true count of input tokens may be than the estimate that chose a tier.
_ESTIMATE_MARGIN = 2
# Names of models come from callers: the memory of answers is bounded.
_MAX_REMEMBERED = 4096
_WRITTEN = ("cache_write_mtok", "cache_write_5m_mtok", "cache_write_1h_mtok")


class GenaiPrices:
    """Declared prices first, then the table's row of the day. Answers are remembered until midnight UTC."""

    def __init__(self, declared: Mapping[tuple[str, str], Price], table: DataSnapshot, version: str) -> None:
        self._declared = declared
        self._table = table
        self._version = f"genai-prices/{version}"
        self._remembered: dict[tuple[str, str], tuple[int, list[tuple[int, Price]]]] = {}

    def price(self, provider: str, model: str, now_us: int, input_tokens: int) -> Price:
        """See PriceBook."""
        declared = self._declared.get((provider, model))
        if declared is not None:
            return declared
        remembered = self._remembered.get((provider, model))
        if remembered is None or now_us >= remembered[0]:
            steps = self._look_up(provider, model, datetime.fromtimestamp(now_us / MICROSECONDS, UTC))
            midnight_s = window_at(Period.DAY, now_us // MICROSECONDS).end_s or 0
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            remembered = self._remembered[provider, model] = (midnight_s * MICROSECONDS, steps)
        reach = input_tokens * _ESTIMATE_MARGIN
        return next(price for start, price in reversed(remembered[1]) if start <= reach)

    def _look_up(self, provider: str, model: str, at: datetime) -> list[tuple[int, Price]]:
        """A price for each number of input tokens at which a dearer one begins; the first begins at 0."""
        try:
            _, info = self._table.find_provider_model(model, None, provider, None)
        except LookupError:
            raise ModelUnpriced(provider, model, f"{self._version} does not know it") from None
        rows = list(_rows_of_the_day(info, at))
        return [(start, self._price(provider, model, rows, start)) for start in _starts(rows)]

    def _price(self, provider: str, model: str, rows: list[ModelPrice], reach: int) -> Price:
        try:
            plain = _dearest(rows, "input_mtok", reach)
            output = _dearest(rows, "output_mtok", reach)
            read = _dearest(rows, "cache_read_mtok", reach)
            written = [_dearest(rows, key, reach) for key in _WRITTEN]
        except ValueError as error:
            raise ModelUnpriced(provider, model, f"{self._version} says {error}") from None
        if not plain or not output:
            raise ModelUnpriced(provider, model, f"{self._version} has no input or no output price for it")
        if _dearest(rows, "requests_kcount", reach):
            raise ModelUnpriced(provider, model, f"{self._version} has a fee per request for it")
        return Price(
            provider, model, self._version, plain, output, read or plain, max(filter(None, written), default=plain)
        )


def load_genai_prices(declared: Mapping[tuple[str, str], Price]) -> GenaiPrices:
    """Imports the table: 0.3 s and 30 MB, so off the event loop. Raises ImportError without the extra `ledger`."""
    from importlib.metadata import version  # noqa: PLC0415

    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - heavy, and optional

    return GenaiPrices(declared, get_snapshot(), version("genai-prices"))


def _rows_of_the_day(info: ModelInfo, at: datetime) -> Iterable[ModelPrice]:
    """Every price that can apply on the day of `at`: the standing one, and those by time of day."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint  # noqa: PLC0415

    if isinstance(info.prices, ModelPrice):
        yield info.prices
        return
    yield info.get_prices(at)
    for conditional in reversed(info.prices):
        if isinstance(conditional.constraint, TimeOfDateConstraint):
            yield conditional.prices
        elif conditional.constraint is None or conditional.constraint.active(at):
            yield conditional.prices
            return


def _starts(rows: Iterable[ModelPrice]) -> list[int]:
    """0, and every number of input tokens at which a tier of a component that we price begins."""
    stated = (getattr(row, key) for row in rows for key in ("input_mtok", "output_mtok", "cache_read_mtok", *_WRITTEN))
    return sorted({0, *(tier.start for amount in stated for tier in getattr(amount, "tiers", ()))})


def _dearest(rows: Iterable[ModelPrice], key: str, reach: int) -> int:
    """The dearest alternative of a component within `reach` input tokens, in nano-USD per million; 0 if none is stated.

    Raises ValueError.
    """
    return max((nano_usd(amount) for row in rows for amount in _amounts(row, key, reach)), default=0)


def _amounts(row: ModelPrice, key: str, reach: int) -> Iterable[Decimal]:
    stated = getattr(row, key)
    if stated is None:
        return
    if isinstance(stated, Decimal):
        yield stated
        return
    yield stated.base
    yield from (tier.price for tier in stated.tiers if tier.start <= reach)
