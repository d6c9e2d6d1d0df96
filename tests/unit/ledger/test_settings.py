"""Settings: safe defaults, exact prices, and sentences that say what to do."""

from __future__ import annotations

import pytest

from meshkit.settings import SettingsError, load
from services.ledger.core.limits import Mode, Scope, Unit
from services.ledger.core.operations import OnExpiry
from services.ledger.core.prices import nano_usd
from services.ledger.core.windows import Period
from services.ledger.settings import LedgerSettings


def read(**section: object) -> LedgerSettings:
    return load(LedgerSettings, section, "ledger", {})


def test_a_fresh_laptop_is_safe_and_the_built_in_model_is_free() -> None:
    settings = read()
    caps = {(x.scope, x.period): (x.organisation, x.cap_nano_usd) for x in settings.declared_limits()}
    assert caps == {
        (Scope.ORGANISATION, Period.QUERY): ("*", 10**9),
        (Scope.USER, Period.HOUR): ("*", 5 * 10**9),
        (Scope.ORGANISATION, Period.DAY): ("*", 50 * 10**9),
    }
    assert all((x.alert_basis_points, x.stop_basis_points) == (8000, 9500) for x in settings.declared_limits())
    price = settings.declared_prices()["local", "extractive"]
    assert price[3:] == (0, 0, 0, 0)


def test_rates_calls_at_once_shadow_and_zones_are_declared() -> None:
    rows = [
        {"unit": "requests", "period": "minute", "scope": "key", "max_count": 600, "burst_count": 50, "mode": "shadow"},
        {"unit": "concurrency", "period": "moment", "max_count": 0},
        {"cap_usd": "5", "time_zone": "Europe/Berlin"},
    ]
    rate, slots, day = read(limits=rows).declared_limits()
    assert (rate.unit, rate.rate, rate.mode) == (Unit.REQUESTS, (600, 50), Mode.SHADOW)
    assert (slots.unit, slots.max_count, day.time_zone) == (Unit.CONCURRENCY, 0, "Europe/Berlin")


def test_a_subject_is_named_as_callers_name_their_end_users() -> None:
    rows = [{"cap_usd": "5", "scope": "user", "subject": name} for name in (" ada", "ada lovelace ")]
    assert [x.subject for x in read(limits=rows).declared_limits()] == [" ada", "ada lovelace "]


def test_what_the_end_of_a_sent_hold_charges_is_declared() -> None:
    settings = read(on_expiry="charge_all", on_expiry_by_organisation={"acme": "release"})
    assert (settings.on_expiry, settings.expiry_policies()) == ("charge_all", {"acme": OnExpiry.RELEASE})


def test_declared_prices_are_exact_and_leave_the_built_in_one_alone() -> None:
    row = {"input_usd_per_million": "0.15", "output_usd_per_million": "0.60", "cached_input_usd_per_million": "0.0375"}
    prices = read(prices={"openai/org/model-x": row}).declared_prices()
    assert prices["openai", "org/model-x"][3:] == (150_000_000, 600_000_000, 37_500_000, 150_000_000)
    assert ("local", "extractive") in prices


def test_the_version_of_a_price_changes_with_the_price() -> None:
    def version(output: str) -> str:
        row = {"input_usd_per_million": "1", "output_usd_per_million": output}
        return read(prices={"a/b": row}).declared_prices()["a", "b"].version

    assert version("2") == version("2.0")
    assert version("2") != version("3")


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"limits": [{"scope": "user", "period": "hour"}]}, "cap_usd is missing"),
        ({"limits": [{"cap_usd": "5", "alert": 0.99}]}, "alert must not be above stop"),
        ({"limits": [{"cap_usd": "5", "subject": "acme"}]}, "subject must be empty"),
        ({"limits": [{"cap_usd": "5"}, {"cap_usd": "6"}]}, "keep one"),
        ({"limits": [{"cap_usd": "9000000001"}]}, "at most"),
        ({"limits": [{"cap_usd": "five"}]}, "not a decimal number"),
        ({"limits": [{"cap_usd": "5", "stop": 1.5}]}, "stop must be a part of the cap"),
        ({"limits": [{"cap_usd": "5", "scope": "usr"}]}, "did you mean 'user'"),
        ({"prices": {"gpt": {"free": True}}}, "must be written provider/model"),
        ({"prices": {"a/b": {"input_usd_per_million": "1"}}}, "both needed"),
        ({"prices": {"a/b": {"input_usd_per_million": "0", "output_usd_per_million": "0"}}}, "declare `free: true`"),
        ({"prices": {"a/b": {"free": True, "input_usd_per_million": "1"}}}, "a free model has no prices"),
        ({"prices": {"a/b": {"input_usd_per_million": "0.0000000001", "output_usd_per_million": "1"}}}, "exactly"),
        ({"default_ttl_s": 901.0}, "default_ttl_s <= max_ttl_s"),
        ({"reservation_retention_s": 60.0}, "late commits"),
        ({"max_lent": 0.0}, "max_lent must be a part of the cap"),
        ({"max_batch": 0}, "max_batch must be at least 1"),
        ({"sweep_interval_s": 0.0}, "above 0"),
        ({"watch_poll_interval_s": 0.0}, "above 0"),
        ({"limits": [{"unit": "tokens", "period": "minute"}]}, "max_count must be from 0"),
        ({"limits": [{"unit": "tokens", "period": "day", "max_count": 5}]}, "TOKENS is not counted per DAY"),
        ({"limits": [{"unit": "tokens", "period": "minute", "max_count": 5, "cap_usd": "1"}]}, "cap_usd is for money"),
        ({"limits": [{"cap_usd": "5", "max_count": 5}]}, "money has cap_nano_usd"),
        ({"limits": [{"unit": "requests", "period": "minute", "max_count": 5, "burst_count": 6}]}, "burst_count"),
        ({"limits": [{"cap_usd": "5", "time_zone": "Europe/Atlantis"}]}, "not known here"),
        ({"limits": [{"cap_usd": "5", "organisation": ""}]}, "organisation is empty"),
        ({"limits": [{"cap_usd": "5", "organisation": "acme "}]}, "a name has no spaces"),
        ({"limits": [{"cap_usd": "5", "organisation": "ac me"}]}, "a name has no spaces"),
        ({"limits": [{"cap_usd": "5", "scope": "user", "subject": "ada\0"}]}, "is no name"),
        ({"limits": [{"cap_usd": "5", "scope": "user", "subject": "x" * 257}]}, "at most 256 bytes"),
        ({"max_amount_usd": "0"}, "nothing could be reserved"),
        ({"lock_timeout_s": 0.0009}, "lock_timeout_s must be from"),
        ({"lock_timeout_s": 61.0}, "lock_timeout_s must be from"),
        ({"on_expiry": "charge"}, "charge_known"),
        ({"on_expiry_by_organisation": {"acme": "charge"}}, "charge_known"),
        ({"max_watchers_per_organisation": 0}, "max_watchers_per_organisation must be at least 1"),
        ({"default_output_tokens": 0}, "default_output_tokens must be at least 1"),
    ],
)
def test_mistakes_are_named(section: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        read(**section)


@pytest.mark.parametrize(
    ("usd", "nano"), [("0.15", 150_000_000), ("15", 15 * 10**9), ("0.000000001", 1), ("1e-3", 10**6)]
)
def test_decimals_convert_exactly(usd: str, nano: int) -> None:
    assert nano_usd(usd) == nano


@pytest.mark.parametrize(
    "usd",
    [
        "",
        "x",
        "-1",
        "NaN",
        "Infinity",
        "0.18000000000000002",
        "1e10",
        f"0.1{'0' * 30}1",
        "1_000",
        "１２",
        "- 5",
        "1e9999999",
    ],
)
def test_what_is_not_exact_is_refused(usd: str) -> None:
    with pytest.raises(ValueError, match=r"decimal|amount"):
        nano_usd(usd)
