"""An outage of the ledger with `orchestrator.leases`: calls go on within what was lent, and the books are right after.

A mesh of processes of its own: the ledger is killed, or stopped in its tracks, and comes back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.accounts import Accounts, usage
from tests.support.callers import MeshCallers, prompts_arrived
from tests.support.deployments import separate_processes
from tests.support.faults import Faults
from tests.support.mesh_settings import ACME, GLOBEX, HURRIED, Caller, mesh_yaml
from tests.support.outcomes import Outcome

pytestmark = pytest.mark.timeout(180)

LENT_USD, LENT_NANO_USD = "0.001", 1_000_000
LEASES = {"on_ledger_outage": "leases", "amount_usd": LENT_USD, "lease_s": 16, "settle_within_s": 60}
# A call is held for its input and 32 tokens of output; less than that was left when one was refused.
HOLD_NANO_USD = 300_000
# Half of a lease later at most what nobody wants is given back; then nothing is held.
WITHIN_S = 30.0
LEDGER_PATIENCE_S = 2.0


@pytest.fixture(scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[Faults]:
    extra = {"orchestrator": {**mesh_yaml("")["orchestrator"], "leases": LEASES}}
    async with separate_processes(tmp_path_factory.mktemp("leases") / "home", postgres_url, extra=extra) as running:
        callers = MeshCallers(running)
        await prompts_arrived(callers)
        yield Faults(callers)
        await callers.close()


@pytest.fixture
async def faults(mesh: Faults) -> AsyncIterator[Faults]:
    yield mesh
    await mesh.heal()


async def ask(callers: MeshCallers, text: str, caller: Caller = ACME) -> Outcome:
    return await callers.chat("alpha/words", text, caller, max_tokens=32, llmops={"cache": {"bypass": True}})


async def lent(callers: MeshCallers, caller: Caller = ACME) -> int:
    """Waits until the payer's lease is all that is held."""
    assert (await ask(callers, "Before.", caller)).http_status == 200
    async with asyncio.timeout(WITHIN_S):
        while (await usage(callers, caller))[1] != LENT_NANO_USD:
            await asyncio.sleep(0.05)
    return LENT_NANO_USD


async def opened(callers: MeshCallers) -> Accounts:
    accounts = Accounts(callers)
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                await accounts.open()
            except TimeoutError:
                continue
            return accounts


async def test_calls_go_on_within_the_lease_then_are_refused_and_the_books_are_right(faults: Faults) -> None:
    callers = faults.callers
    sim = callers.deployment.sim
    accounts = await opened(callers)
    await lent(callers)
    faults.kill("ledger")
    streamed = await callers.chat_stream("alpha/words", "While it is dead.", max_tokens=32)
    assert (streamed.error, streamed.report["degraded"]) == (None, ["ledger"])
    assert streamed.headers["x-llmops-degraded"] == "ledger"
    costs = [streamed.cost_nano_usd]
    while (outcome := await ask(callers, f"While it is dead: {len(costs)}.")).http_status == 200:
        assert outcome.report["degraded"] == [outcome.headers["x-llmops-degraded"]] == ["ledger"]
        costs.append(outcome.cost_nano_usd)
    assert len(costs) > 3
    assert LENT_NANO_USD - HOLD_NANO_USD < sum(costs) <= LENT_NANO_USD
    calls = len(sim.billing)
    for caller in (ACME, GLOBEX):
        refused = await ask(callers, "One more.", caller)
        assert (refused.http_status, refused.reason) == (503, "BUDGET_UNAVAILABLE")
        assert refused.headers["retry-after"]
    assert len(sim.billing) == calls, "beyond the lease nothing leaves"
    await faults.restart("ledger")
    await faults.recovered()
    balance = await accounts.close(within_s=WITHIN_S)
    assert balance.reported == balance.booked == balance.charged, balance


async def test_a_silent_ledger_is_waited_for_and_nothing_is_booked_twice(faults: Faults) -> None:
    callers = faults.callers
    accounts = await opened(callers)
    await lent(callers)
    faults.pause("ledger")
    began_s = time.monotonic()
    outcome = await ask(callers, "While it is silent.")
    assert (outcome.http_status, outcome.report["degraded"]) == (200, ["ledger"])
    assert time.monotonic() - began_s >= LEDGER_PATIENCE_S
    faults.resume("ledger")
    await faults.recovered()
    balance = await accounts.close(within_s=WITHIN_S + 60)
    assert balance.reported == balance.booked == balance.charged, balance


async def test_limits_that_a_lease_does_not_keep_close(faults: Faults) -> None:
    callers = faults.callers
    assert (await ask(callers, "Before.", HURRIED)).http_status == 200
    await asyncio.sleep(1)
    faults.kill("ledger")
    refused = await ask(callers, "While it is dead.", HURRIED)
    assert (refused.http_status, refused.reason) == (503, "BUDGET_UNAVAILABLE")
