"""Prices for comparing models: the operator's own, then today's row of the package genai-prices.

The row's plain rates only: tiers, caches and times of day matter to what is charged, and that is the ledger's. A row
without an input or output price, or that is not exact in nano-USD, is no price.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from services.router.core.catalogue import ModelSpec
from services.router.core.prices import ModelPrice, nano_usd

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot


class TablePrices:
    """Remembers a day's answers: configured models are few. A look-up costs 20 us, once a day and model."""

    def __init__(self, declared: Mapping[str, ModelPrice], table: DataSnapshot, now: Callable[[], dt.datetime]) -> None:
        self._declared = declared
        self._table = table
        self._now = now
        self._day: dt.date | None = None
        self._remembered: dict[str, ModelPrice | None] = {}

    def price(self, spec: ModelSpec) -> ModelPrice | None:
        """See PriceList."""
        declared = self._declared.get(spec.name)
        if declared is not None:
            return declared
        now = self._now()
        if now.date() != self._day:
            self._day = now.date()
            self._remembered.clear()
        if spec.name not in self._remembered:
            self._remembered[spec.name] = self._look_up(spec, now)
        return self._remembered[spec.name]

    def _look_up(self, spec: ModelSpec, now: dt.datetime) -> ModelPrice | None:
        try:
            _, info = self._table.find_provider_model(spec.model, None, spec.provider, None)
            row = info.get_prices(now)
            read, written = _plain(row.input_mtok), _plain(row.output_mtok)
        except (LookupError, ValueError):
            return None
        return None if read is None or written is None else ModelPrice(read, written)


def load_table_prices(declared: Mapping[str, ModelPrice], now: Callable[[], dt.datetime]) -> TablePrices:
    """Imports the table: 0.3 s and 30 MB, so off the event loop. Raises ImportError without the extra `ledger`."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - heavy, and optional

    return TablePrices(declared, get_snapshot(), now)


def _plain(stated: Any) -> int | None:
    """A rate without its tiers. Raises ValueError."""
    if stated is None:
        return None
    return nano_usd(stated if isinstance(stated, Decimal) else stated.base)
