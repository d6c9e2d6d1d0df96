"""The same tests against both deployments, and an account of every call they make."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.accounts import Accounts, Balance
from tests.support.callers import MeshCallers, prompts_arrived
from tests.support.deployments import Deployment, one_process, separate_processes

DEPLOYMENTS = {"one-process": one_process, "processes": separate_processes}


@pytest.fixture(scope="session", params=list(DEPLOYMENTS))
async def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_url: str
) -> AsyncIterator[Deployment]:
    home = tmp_path_factory.mktemp("mesh") / "home"
    async with DEPLOYMENTS[request.param](home, postgres_url) as running:
        yield running


@pytest.fixture(scope="session")
async def callers(deployment: Deployment) -> AsyncIterator[MeshCallers]:
    made = MeshCallers(deployment)
    await prompts_arrived(made)
    yield made
    await made.close()


@pytest.fixture(scope="session")
def balances(deployment: Deployment) -> list[Balance]:
    """The accounts of every test against a deployment that left nothing to estimate."""
    return []


@pytest.fixture
async def accounts(callers: MeshCallers, balances: list[Balance]) -> AsyncIterator[Accounts]:
    """Reports, ledger and provider agree to the nano-USD about whatever the test sent."""
    made = Accounts(callers)
    await made.open()
    yield made
    balance = await made.close()
    assert balance.reported == balance.booked, balance
    if made.estimated:
        assert balance.booked >= balance.charged, balance
    else:
        assert balance.booked == balance.charged, balance
        balances.append(balance)
