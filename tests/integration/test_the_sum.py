"""Runs after the other modules: the sum of everything that was sent."""

from __future__ import annotations

import pytest

from tests.support.accounts import Accounts, Balance
from tests.support.callers import MeshCallers

pytestmark = pytest.mark.timeout(120)


async def test_reports_ledger_and_provider_differ_by_nothing(
    callers: MeshCallers, accounts: Accounts, balances: list[Balance]
) -> None:
    # One request of its own, so that the sum is of something also when this test runs alone.
    outcome = await callers.chat("alpha/words", "The last of them.", llmops={"cache": {"bypass": True}})
    balances.append(await accounts.close())
    await accounts.open()
    assert outcome.cost_nano_usd > 0
    reported = sum(balance.reported for balance in balances)
    booked = sum(balance.booked for balance in balances)
    charged = sum(balance.charged for balance in balances)
    assert reported > 0
    assert (reported - booked, booked - charged) == (0, 0)
