"""The dated price table of the package genai-prices, behind the operator's own prices.

Two of its features have no single price: tiers by context length and prices by time of day. Both are read as the
dearest alternative that can apply that day, so that a hold is never too small; an operator who knows better declares
the price. Only text tokens are priced; service tiers are priced as standard. A row with a fee per request, without
an input or output price, with a price of zero, or that is not exact in nano-USD is refused as unpriced.
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

# Names of models come from callers: the memory of answers is bounded.
_MAX_REMEMBERED = 4096


class GenaiPrices:
    """Declared prices first, then the table's row of the day. Answers are remembered until midnight UTC."""

    def __init__(self, declared: Mapping[tuple[str, str], Price], table: DataSnapshot, version: str) -> None:
        self._declared = declared
        self._table = table
        self._version = f"genai-prices/{version}"
        self._remembered: dict[tuple[str, str], tuple[int, Price]] = {}

    def price(self, provider: str, model: str, now_us: int) -> Price:
        """See PriceBook."""
        declared = self._declared.get((provider, model))
        if declared is not None:
            return declared
        remembered = self._remembered.get((provider, model))
        if remembered is not None and now_us < remembered[0]:
            return remembered[1]
        price = self._look_up(provider, model, datetime.fromtimestamp(now_us / MICROSECONDS, UTC))
        midnight_s = window_at(Period.DAY, now_us // MICROSECONDS).end_s or 0
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[provider, model] = (midnight_s * MICROSECONDS, price)
        return price

    def _look_up(self, provider: str, model: str, at: datetime) -> Price:
        try:
            _, info = self._table.find_provider_model(model, None, provider, None)
        except LookupError:
            raise ModelUnpriced(provider, model, f"{self._version} does not know it") from None
        rows = list(_rows_of_the_day(info, at))
        try:
            plain = _dearest(rows, "input_mtok")
            output = _dearest(rows, "output_mtok")
            read = _dearest(rows, "cache_read_mtok")
            written = [_dearest(rows, f"cache_write_{key}mtok") for key in ("", "5m_", "1h_")]
        except ValueError as error:
            raise ModelUnpriced(provider, model, f"{self._version} says {error}") from None
        if not plain or not output:
            raise ModelUnpriced(provider, model, f"{self._version} has no input or no output price for it")
        if _dearest(rows, "requests_kcount"):
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


def _dearest(rows: Iterable[ModelPrice], key: str) -> int:
    """The dearest alternative of one component in nano-USD per million; 0 where none is stated. Raises ValueError."""
    return max((nano_usd(amount) for row in rows for amount in _amounts(row, key)), default=0)


def _amounts(row: ModelPrice, key: str) -> Iterable[Decimal]:
    stated = getattr(row, key)
    if stated is None:
        return
    if isinstance(stated, Decimal):
        yield stated
        return
    yield stated.base
    for tier in stated.tiers:
        yield tier.price
