"""The dated price table: exact rows, the dearest alternative, and refusals that say why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from services.ledger.adapters.genai_prices import GenaiPrices, load_genai_prices
from services.ledger.core.errors import ModelUnpriced
from services.ledger.core.prices import Price

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def us(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**6


def row(**prices: str) -> ModelPrice:
    return ModelPrice(**{f"{key}_mtok": Decimal(value) for key, value in prices.items()})


def book(prices: ModelPrice | Sequence[ConditionalPrice], declared: Price | None = None) -> GenaiPrices:
    stated = prices if isinstance(prices, ModelPrice) else list(prices)
    model = ModelInfo(id="m", match=ClauseEquals("m"), prices=stated)
    provider = Provider(id="p", name="P", api_pattern="p", models=[model])
    known = {} if declared is None else {("p", "m"): declared}
    return GenaiPrices(known, DataSnapshot([provider], from_auto_update=False), "1.2")


def test_converts_a_row_and_names_its_table() -> None:
    price = book(row(input="0.15", output="0.6", cache_read="0.075")).price("p", "m", us(NOON), 10)
    assert price == Price("p", "m", "genai-prices/1.2", 150_000_000, 600_000_000, 75_000_000, 150_000_000)


def test_cache_writes_take_the_dearest_lifetime() -> None:
    prices = row(input="3", output="15", cache_read="0.3", cache_write="3.75", cache_write_1h="6")
    assert book(prices).price("p", "m", us(NOON), 10).cache_write_input_nano_usd_per_million_tokens == 6 * 10**9


@pytest.mark.parametrize(
    ("input_tokens", "input_usd", "output_usd"),
    [(0, "1.25", "10"), (99_999, "1.25", "10"), (100_000, "2.5", "15"), (500_000, "2.5", "15"), (600_000, "4", "15")],
)
def test_a_tier_counts_from_half_its_start(input_tokens: int, input_usd: str, output_usd: str) -> None:
    inputs = TieredPrices(Decimal("1.25"), [Tier(200_000, Decimal("2.5")), Tier(1_200_000, Decimal(4))])
    outputs = TieredPrices(Decimal(10), [Tier(200_000, Decimal(15))])
    prices = book(ModelPrice(input_mtok=inputs, output_mtok=outputs))
    price = prices.price("p", "m", us(NOON), input_tokens)
    assert price.input_nano_usd_per_million_tokens == Decimal(input_usd) * 10**9
    assert price.output_nano_usd_per_million_tokens == Decimal(output_usd) * 10**9


def test_times_of_day_are_priced_as_their_dearest() -> None:
    night = TimeOfDateConstraint(time(16, 30), time(0, 30))
    prices = [
        ConditionalPrice(prices=row(input="2", output="8")),
        ConditionalPrice(night, prices=row(input="1", output="9")),
    ]
    for moment in (NOON, NOON.replace(hour=20)):
        price = book(prices).price("p", "m", us(moment), 10)
        assert price[3:5] == (2 * 10**9, 9 * 10**9)


def test_a_row_holds_from_its_date_and_the_memory_ends_at_midnight() -> None:
    prices = book(
        [
            ConditionalPrice(prices=row(input="4", output="8")),
            ConditionalPrice(StartDateConstraint(date(2026, 11, 25)), prices=row(input="2", output="4")),
        ]
    )
    assert prices.price("p", "m", us(NOON), 10).input_nano_usd_per_million_tokens == 4 * 10**9
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    assert prices.price("p", "m", us(midnight) - 1, 10).input_nano_usd_per_million_tokens == 4 * 10**9
    assert prices.price("p", "m", us(midnight), 10).input_nano_usd_per_million_tokens == 2 * 10**9


def test_declared_prices_come_first() -> None:
    declared = Price("p", "m", "mesh.yaml/1", 1, 2, 3, 4)
    assert book(row(input="4", output="8"), declared).price("p", "m", us(NOON), 10) is declared


@pytest.mark.parametrize(
    ("prices", "why"),
    [
        (row(input="1"), "no input or no output price"),
        (row(input="0", output="0"), "no input or no output price"),
        (row(input="0.18000000000000002", output="1"), "more than nine decimals"),
        (ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1), requests_kcount=Decimal(12)), "fee per request"),
    ],
)
def test_l13_what_cannot_be_booked_exactly_is_unpriced(prices: ModelPrice, why: str) -> None:
    with pytest.raises(ModelUnpriced, match=why):
        book(prices).price("p", "m", us(NOON), 10)


def test_l13_unknown_models_and_providers_are_unpriced() -> None:
    prices = book(row(input="1", output="1"))
    for provider, model in (("p", "other"), ("nobody", "m")):
        with pytest.raises(ModelUnpriced, match="does not know it"):
            prices.price(provider, model, us(NOON), 10)


def test_the_packaged_table_knows_common_models() -> None:
    prices = load_genai_prices({})
    for provider, model in (("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4-5")):
        price = prices.price(provider, model, us(NOON), 10)
        assert price.version.startswith("genai-prices/")
        assert 0 < price.input_nano_usd_per_million_tokens < price.output_nano_usd_per_million_tokens
