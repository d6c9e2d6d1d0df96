"""A simulator per test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llmops_cli.provider_sim import ProviderSim, SimSettings


@pytest.fixture
async def sim() -> AsyncIterator[ProviderSim]:
    async with ProviderSim(settings=SimSettings(max_hang_s=30)) as simulator:
        yield simulator
