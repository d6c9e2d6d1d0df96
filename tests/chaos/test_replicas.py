"""Two guards: one dies, and callers do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.callers import MeshCallers, prompts_arrived
from tests.support.deployments import PLACEMENT, separate_processes
from tests.support.faults import Faults

pytestmark = [pytest.mark.timeout(180), pytest.mark.chaos]

_ROUNDS, _TOGETHER = 12, 4


@pytest.fixture
async def pair(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[Faults]:
    placement = {**PLACEMENT, "guard-2": ("guard",)}
    async with separate_processes(tmp_path_factory.mktemp("pair") / "home", postgres_url, placement) as running:
        callers = MeshCallers(running)
        await prompts_arrived(callers)
        yield Faults(callers)
        await callers.close()


async def _served(pair: Faults, name: str) -> float:
    """Input checks that a guard has answered, by its own count."""
    url = f"http://{pair.callers.deployment.admin[name]}/metrics"
    async with pair.callers.http.get(url) as response:
        text = await response.text()
    lines = [line for line in text.splitlines() if "CheckInput" in line and "_count" in line.partition("{")[0]]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def test_one_of_two_guards_dies_and_no_call_fails(pair: Faults) -> None:
    async def round_of(number: int) -> list[str]:
        asked = (pair.callers.chat("alpha/words", f"Round {number}, question {i}.") for i in range(_TOGETHER))
        return [outcome.reason for outcome in await asyncio.gather(*asked)]

    reasons = [reason for number in range(_ROUNDS) for reason in await round_of(number)]
    both = [await _served(pair, name) for name in ("guard", "guard-2")]
    assert min(both) > 0, "both guards were at work before one died"
    pair.kill("guard")
    reasons += [reason for number in range(_ROUNDS) for reason in await round_of(_ROUNDS + number)]
    assert set(reasons) == {""}
    assert await _served(pair, "guard-2") > both[1]
    pair.kill("guard-2")
    assert (await pair.callers.chat("alpha/words", "And without any?")).reason == "GUARD_UNAVAILABLE"
    await pair.restart("guard")
    assert (await pair.recovered()).http_status == 200
