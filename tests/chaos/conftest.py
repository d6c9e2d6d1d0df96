"""A mesh of processes to be broken, and healed after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.callers import MeshCallers, prompts_arrived
from tests.support.deployments import Deployment, separate_processes
from tests.support.faults import Faults


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: breaks processes at length; `make chaos` runs it, `make test` does not")


@pytest.fixture(scope="session")
async def deployment(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[Deployment]:
    async with separate_processes(tmp_path_factory.mktemp("chaos") / "home", postgres_url) as running:
        yield running


@pytest.fixture(scope="session")
async def callers(deployment: Deployment) -> AsyncIterator[MeshCallers]:
    made = MeshCallers(deployment)
    await prompts_arrived(made)
    yield made
    await made.close()


@pytest.fixture
async def faults(callers: MeshCallers) -> AsyncIterator[Faults]:
    made = Faults(callers)
    assert (await made.recovered()).error is None
    yield made
    await made.heal()
