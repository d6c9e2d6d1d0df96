"""Settings: bounds that are bounds, and sentences that say what to do."""

from __future__ import annotations

import pytest

from services.orchestrator.settings import IdempotencySettings


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
