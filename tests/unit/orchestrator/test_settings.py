"""Settings: bounds that are bounds, and sentences that say what to do."""

from __future__ import annotations

import pytest

from meshkit.settings import SettingsError, load
from services.orchestrator.settings import IdempotencySettings, LeaseSettings, OrchestratorSettings


def test_defaults_are_valid() -> None:
    IdempotencySettings().validate()


def test_a_lock_outlives_renewals_that_the_database_did_not_take() -> None:
    IdempotencySettings(lock_s=2, storage_timeout_s=0.5).validate()
    with pytest.raises(ValueError, match="raise lock_s or lower storage_timeout_s"):
        IdempotencySettings(lock_s=2, storage_timeout_s=1).validate()


@pytest.mark.parametrize("name", ["max_call_s", "max_kept_per_organisation", "retention_s"])
def test_no_limit_is_no_setting(name: str) -> None:
    with pytest.raises(ValueError, match=f"idempotency.{name} must be greater than 0"):
        IdempotencySettings(**{name: 0}).validate()


def test_without_a_word_an_outage_of_the_ledger_closes() -> None:
    assert OrchestratorSettings().leases.on_ledger_outage == "closed"


def test_an_amount_is_exact() -> None:
    assert LeaseSettings(amount_usd="0.000000001").amount_nano_usd == 1
    assert LeaseSettings(amount_usd="12.5").amount_nano_usd == 12_500_000_000


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("on_ledger_outage", "open", "on_ledger_outage"),
        ("amount_usd", "0", "set on_ledger_outage to closed"),
        ("amount_usd", "-1", "above 0"),
        ("amount_usd", "much", "write it like '0.5'"),
        ("amount_usd", "0.0000000001", "nine decimals"),
        ("amount_usd", "NaN", "write it like '0.5'"),
        ("amount_usd", "Infinity", "write it like '0.5'"),
        ("amount_usd", "1e30", "write it like '0.5'"),
        ("lease_s", 61, "between 1 and 60"),
        ("lease_s", 0.5, "between 1 and 60"),
        ("settle_within_s", 901, "between 0 and 900"),
        ("max_payers", 0, "leases.max_payers must be at least 1"),
        ("max_payers_per_organisation", 0, "leases.max_payers_per_organisation must be at least 1"),
        ("max_input_tokens", 0, "leases.max_input_tokens must be at least 1"),
        ("drain_s", 0, "leases.drain_s must be positive"),
    ],
)
def test_what_is_no_setting_is_told(key: str, value: object, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load(OrchestratorSettings, {"leases": {key: value}}, "orchestrator", {})


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("shadows", "max_at_once", 0, "take `shadow` out of the routes"),
        ("shadows", "timeout_s", 0, "above 0 and at most 900"),
        ("shadows", "timeout_s", 901, "above 0 and at most 900"),
        ("drains", "max_at_once", 0, "take `drain_on_cancel` out of router.providers"),
        ("drains", "timeout_s", 0, "above 0 and at most 900"),
        ("drains", "timeout_s", 901, "above 0 and at most 900"),
    ],
)
def test_what_is_no_setting_of_shadows_and_drains_is_told(section: str, key: str, value: object, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load(OrchestratorSettings, {section: {key: value}}, "orchestrator", {})
