"""From mesh.yaml to the register, the prices and the routes."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Literal

import pytest
from genai_prices.data_snapshot import get_snapshot

from meshkit.settings import Secret
from services.router.adapters.memory import DeclaredPrices
from services.router.adapters.prices import TablePrices
from services.router.core.catalogue import ModelSpec
from services.router.core.conditions import check
from services.router.core.facts import Facts, Origin
from services.router.core.ports import PriceList
from services.router.core.prices import ModelPrice, nano_usd
from services.router.provider_settings import ModelConfig, Provider, TokenPrice
from services.router.route_settings import Candidate, DataClass, Route, Vendor, When
from services.router.settings import DEFAULT_MODEL, RouterSettings

NOON = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)
REMOTE = Provider(base_url="https://api.example.com/v1", api_key=Secret("sk-unit-test"))
SETTINGS = RouterSettings(
    providers={"local": Provider(dialect="local"), "north": REMOTE, "openai": REMOTE},
    models={
        "big": ModelConfig(provider="north", model="big-1", price=TokenPrice("0.15", "2.5")),
        "mini": ModelConfig(provider="openai", model="gpt-4o-mini"),
        "own": ModelConfig(provider="openai", model="nobody-knows-it"),
        **RouterSettings().models,
    },
    routes={"default": Route(("big", DEFAULT_MODEL))},
    vendors={"north": Vendor(dpa=True, regions=("eu",), retention_days=30, trains=False, expires="2026-11-29")},
    data_classes={"health": DataClass(dpa=True, organisations=("clinic",)), "public": DataClass()},
    default_data_class="public",
)


def test_the_register_says_what_the_file_says() -> None:
    SETTINGS.validate()
    today = [NOON]
    register = SETTINGS.vendor_register(lambda: today[0])
    specs = {spec.name: spec for spec in SETTINGS.catalogue().resolve("").candidates}
    gate = register.gate("clinic", "")
    assert (gate.classes, register.gate("else", "").classes) == (("health",), ("public",))
    assert gate.refusal(specs["big"]) is None
    assert gate.refusal(specs[DEFAULT_MODEL]) is None, "what the built-in model reads leaves the router for nobody"
    today[0] += dt.timedelta(hours=12)
    found = gate.refusal(specs["big"])
    assert found is not None
    assert found.detail == "What is agreed with 'north' ended on 2026-11-29."


@pytest.mark.parametrize("language", ["pt-BR", "pt_BR", "PT_br"])
def test_languages_are_named_in_any_spelling(language: str) -> None:
    condition = When(languages=(language,)).condition()
    for spoken in ("pt-BR", "pt_BR"):
        assert check(condition, Facts(Origin(language=spoken)), ()).holds
    assert check(condition, Facts(Origin(language="pt-PT")), ()).holds is False


def test_an_entry_for_the_built_in_model_counts() -> None:
    settings = dataclasses.replace(SETTINGS, vendors={"local": Vendor()})
    found = settings.vendor_register(lambda: NOON).gate("clinic", "").refusal(ModelSpec("x", "local", "x"))
    assert found is not None
    assert found.reason == "vendor-without-dpa"


@pytest.mark.parametrize("strategy", ["weighted", "cheapest"])
def test_a_route_that_is_nothing_but_fallbacks_is_refused(strategy: Literal["weighted", "cheapest"]) -> None:
    assert "no candidate with a weight above zero" in Route((Candidate("big", 0),), strategy).problem()


@pytest.mark.parametrize("price", [TokenPrice("0.15"), TokenPrice("cheap", "1"), TokenPrice("-1", "1")])
def test_a_price_that_cannot_be_read_is_named(price: TokenPrice) -> None:
    models = {**SETTINGS.models, "big": dataclasses.replace(SETTINGS.models["big"], price=price)}
    with pytest.raises(ValueError, match=r"router\.models\.big has a price that cannot be read"):
        dataclasses.replace(SETTINGS, models=models).validate()


@pytest.mark.parametrize(("text", "nano"), [("0.15", 150_000_000), ("0", 0), ("1000000", 10**15)])
def test_prices_are_exact(text: str, nano: int) -> None:
    assert nano_usd(text) == nano
    for wrong in ("0.0000000001", "NaN", "1000000.1"):
        with pytest.raises(ValueError, match="USD|decimals"):
            nano_usd(wrong)


@pytest.mark.parametrize("kind", ["memory", "table"])
def test_both_price_lists_know_what_was_declared_and_no_unknown_model(kind: str) -> None:
    declared = SETTINGS.declared_prices()
    prices: PriceList = DeclaredPrices(declared)
    if kind == "table":
        prices = TablePrices(declared, get_snapshot(), lambda: NOON)
    assert prices.price(ModelSpec("big", "north", "big-1")) == ModelPrice(150_000_000, 2_500_000_000)
    assert prices.price(ModelSpec(DEFAULT_MODEL, "local", "extractive")) == ModelPrice(0, 0)
    assert prices.price(ModelSpec("own", "openai", "nobody-knows-it")) is None


def test_the_table_has_prices_of_the_day() -> None:
    today = [NOON]
    prices = TablePrices({}, get_snapshot(), lambda: today[0])
    mini = ModelSpec("mini", "openai", "gpt-4o-mini")
    assert prices.price(mini) == ModelPrice(150_000_000, 600_000_000)
    assert prices.price(mini) is prices.price(mini)
    remembered = prices.price(mini)
    today[0] += dt.timedelta(days=1)
    assert prices.price(mini) is not remembered, "a new day has its own row"
