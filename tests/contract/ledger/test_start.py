"""A ledger that cannot keep its books does not start, and says what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llmops_cli.configuration import build_configuration
from meshkit.settings import SettingsError
from services.ledger.main import build
from tests.contract.ledger.test_service import SETTINGS
from tests.support.one_service import running_service


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "database.url is empty; set LLMOPS_DATABASE_URL"),
        ("postgresql://nobody@127.0.0.1:1/none", "is PostgreSQL running there"),
    ],
)
async def test_without_a_database_nothing_is_accounted_for_in_secret(url: str, sentence: str) -> None:
    """BerriAI/litellm#19163: settings that did not go together switched the books off without a word.

    envoyproxy/ratelimit#1143: without its store the process began and crashed again and again; here the launcher gets
    one sentence, within the patience for a connection.
    """
    async with asyncio.timeout(30):
        with pytest.raises(SettingsError, match=sentence):
            async with running_service("ledger", build, SETTINGS, "local", url, None):
                pass


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"limits": [{"scope": "user", "unit": "tokens", "period": "minute", "cap_usd": "5"}]}, "cap_usd is for money"),
        ({"prices": {"a/m": {"free": True, "input_usd_per_million": "1"}}}, "a free model has no prices"),
        ({"prices": {"a/m": {"input_usd_per_million": "0", "output_usd_per_million": "0"}}}, "declare `free: true`"),
        ({"reservation_retention_s": 10}, "late commits find nothing"),
        ({"limit": []}, "limit"),
    ],
)
def test_what_would_switch_a_limit_off_is_refused(section: dict[str, object], sentence: str, tmp_path: Path) -> None:
    """BerriAI/litellm#19163 again: no combination of settings is read as "no limit"."""
    environ = {"LLMOPS_HOME": str(tmp_path)}
    with pytest.raises(SettingsError, match=sentence):
        build_configuration("test", {"ledger": section}, environ)
