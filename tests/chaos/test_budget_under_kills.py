"""One budget, two ledgers that die right before and right after their commits, two hundred callers at once.

The provider's billing log is the truth: what the ledger booked differs from it by nothing, and the budget holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from tests.support.accounts import Accounts
from tests.support.callers import MeshCallers, prompts_arrived
from tests.support.deployments import PLACEMENT, separate_processes
from tests.support.faults import Faults
from tests.support.mesh_settings import ACME, mesh_yaml
from tests.support.outcomes import Outcome

pytestmark = [pytest.mark.timeout(300), pytest.mark.chaos]

_CALLERS, _TURNS, _TIMEOUT_S = 200, 3, 10
# A call is billed about 116,000 nano-USD, so the budget stops more than half of them.
_CAP_USD, _STOP_NANO_USD = "0.03", 28_500_000
_LEDGERS = ("ledger", "ledger-2")
# Where each ledger dies next, and after how many batches; both run on in the end.
_DEATHS = ("ledger-before-commit:8", "ledger-after-commit:8", "ledger-before-commit:15", "ledger-after-commit:15")


@pytest.fixture
async def faults(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[Faults]:
    ledger = mesh_yaml("")["ledger"]
    budget = {"scope": "organisation", "period": "day", "cap_usd": _CAP_USD, "organisation": ACME.organisation}
    limits = [*ledger["limits"], budget]
    home = tmp_path_factory.mktemp("budget") / "home"
    placement = {**PLACEMENT, "ledger-2": ("ledger",)}
    extra = {"ledger": {**ledger, "limits": limits}}
    async with separate_processes(home, postgres_url, placement, extra) as running:
        callers = MeshCallers(running)
        await prompts_arrived(callers)
        yield Faults(callers)
        await callers.close()


@contextmanager
def armed(faults: Faults, point: str) -> Iterator[None]:
    """Processes that start in the block die at the point."""
    environ = faults.mesh._environ
    environ["LLMOPS_FAILPOINT"] = point
    yield
    del environ["LLMOPS_FAILPOINT"]


@asynccontextmanager
async def dying_ledgers(faults: Faults) -> AsyncIterator[list[str]]:
    """Whenever a ledger has died it is started again, to die at the next point; yields the deaths so far."""
    deaths: list[str] = []
    points = iter(_DEATHS)

    async def start_again(name: str) -> None:
        point = next(points, "")
        if not point:
            await faults.restart(name)
            return
        with armed(faults, point):
            faults.mesh.start(name)
        await asyncio.to_thread(faults.mesh.wait_ready, name)

    async def watch() -> None:
        while True:
            for name in _LEDGERS:
                if faults.mesh.children[name].poll() is not None:
                    deaths.append(name)
                    await start_again(name)
            await asyncio.sleep(0.02)

    for name in _LEDGERS:
        faults.kill(name)
        await start_again(name)
    watching = asyncio.create_task(watch())
    try:
        yield deaths
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_the_budget_holds_and_nothing_is_booked_that_was_not_billed(faults: Faults) -> None:
    callers = faults.callers
    accounts = Accounts(callers)
    await accounts.open()

    async def asked(text: str) -> Outcome:
        return await callers.chat("alpha/words", text, headers={"x-llmops-timeout-s": str(_TIMEOUT_S)}, max_tokens=32)

    async def caller(number: int) -> list[str]:
        reasons: list[str] = []
        while len(reasons) - reasons.count("BUDGET_UNAVAILABLE") < _TURNS:
            outcome = await asked(f"Caller {number}, question {len(reasons)}.")
            reasons.append(outcome.reason)
            if outcome.reason == "BUDGET_UNAVAILABLE":
                await asyncio.sleep(0.1)
        return reasons

    async with dying_ledgers(faults) as deaths:
        answered = await asyncio.gather(*(caller(number) for number in range(_CALLERS)))
        reasons = [reason for of_one in answered for reason in of_one]
        # Whatever was left of the deaths: requests go on until the last one has happened.
        async with asyncio.timeout(120):
            while len(deaths) < len(_DEATHS):
                reasons.append((await asked(f"One more: {len(reasons)}.")).reason)
    for name in _LEDGERS:
        if faults.mesh.children[name].poll() is not None:
            faults.mesh.start(name)
        await asyncio.to_thread(faults.mesh.wait_ready, name)
    # A hold whose answer was lost with its ledger is given back by its expiry, at most this much later.
    balance = await accounts.close(within_s=_TIMEOUT_S + 30 + 15)
    assert balance.booked == balance.charged, "not a nano-USD apart"
    assert reasons.count("") > 0
    assert reasons.count("BUDGET_EXHAUSTED") > 0
    assert set(reasons) <= {"", "BUDGET_EXHAUSTED", "BUDGET_UNAVAILABLE"}
    # Holds were no smaller than calls cost, so nothing overran; holds that were lost kept some of it unspent.
    assert _STOP_NANO_USD // 2 < balance.booked <= _STOP_NANO_USD
