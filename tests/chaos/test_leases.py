"""One budget, a ledger that is killed again and again in mid-traffic, and leases: calls go on, the budget holds.

The provider's billing log is the truth: what the ledger booked in the end differs from it by nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.support.accounts import Accounts, settled
from tests.support.callers import MeshCallers, prompts_arrived
from tests.support.deployments import PLACEMENT, separate_processes
from tests.support.faults import Faults
from tests.support.mesh_settings import ACME, mesh_yaml

pytestmark = [pytest.mark.timeout(400), pytest.mark.chaos]

_CALLERS, _PAUSE_S, _DEATHS, _DEAD_S, _ALIVE_S = 8, 0.1, 4, 1.0, 1.5
# A call is billed about 116,000 nano-USD: the budget ends after some 400, a lease after some 15.
_CAP_USD, _STOP_NANO_USD, _LENT_USD = "0.05", 47_500_000, "0.002"
# A hold whose answer the kill took is not sent back: it ends with its TTL, 30 s after the request's deadline of 120 s.
_SETTLED_WITHIN_S = 165
_LEASES = {"on_ledger_outage": "leases", "amount_usd": _LENT_USD, "lease_s": 10, "settle_within_s": 60}


@pytest.fixture
async def faults(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[Faults]:
    plain = mesh_yaml("")
    budget = {"scope": "organisation", "period": "day", "cap_usd": _CAP_USD, "organisation": ACME.organisation}
    extra = {
        "ledger": {**plain["ledger"], "limits": [*plain["ledger"]["limits"], budget]},
        "orchestrator": {**plain["orchestrator"], "leases": _LEASES},
    }
    home = tmp_path_factory.mktemp("leases") / "home"
    async with separate_processes(home, postgres_url, PLACEMENT, extra) as running:
        callers = MeshCallers(running)
        await prompts_arrived(callers)
        yield Faults(callers)
        await callers.close()


async def test_the_budget_holds_and_no_granted_call_is_lost(faults: Faults) -> None:
    callers, reasons, lent = faults.callers, Counter[str](), 0
    before = await settled(callers, within_s=60)
    accounts = Accounts(callers)
    await accounts.open()
    over = asyncio.Event()

    async def caller(number: int) -> None:
        nonlocal lent
        for question in range(10**6):
            outcome = await callers.chat("alpha/words", f"{number}, {question}", max_tokens=32)
            reasons[outcome.reason] += 1
            lent += outcome.report.get("degraded") == ["ledger"]
            if over.is_set() and outcome.reason == "BUDGET_EXHAUSTED":
                return
            await asyncio.sleep(_PAUSE_S)

    asking = asyncio.gather(*(caller(number) for number in range(_CALLERS)))
    for _ in range(_DEATHS):
        await asyncio.sleep(_ALIVE_S)
        faults.kill("ledger")
        await asyncio.sleep(_DEAD_S)
        await faults.restart("ledger")
    over.set()
    await asking
    balance = await accounts.close(within_s=_SETTLED_WITHIN_S)
    assert balance.booked == balance.charged, "not a nano-USD apart"
    assert lent > 0
    assert set(reasons) <= {"", "BUDGET_EXHAUSTED", "BUDGET_UNAVAILABLE"}
    assert before + balance.booked <= _STOP_NANO_USD
