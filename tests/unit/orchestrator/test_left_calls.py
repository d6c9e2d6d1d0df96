"""What is booked of a call that its caller gave up: every model that was at work, at its own price."""

from __future__ import annotations

import asyncio

import pytest

from services.orchestrator.core.model import Candidate, Usage, UsageLine
from tests.support.orchestrator_ports import CHEAP, Script
from tests.unit.orchestrator.test_coordinator import Case

OTHER = Candidate("other-ai", "big-1")


@pytest.mark.parametrize(
    ("running", "tries", "booked"),
    [
        (None, (), [(CHEAP, 1)]),
        ((OTHER,), (), [(OTHER, 2)]),
        ((CHEAP, OTHER), (), [(CHEAP, 2), (OTHER, 3)]),
        ((OTHER,), (UsageLine(CHEAP, Usage(7, 0, estimated=True), 1),), [(CHEAP, 1), (OTHER, 2)]),
        ((), (), []),
    ],
    ids=["nobody-told", "after-a-refusal", "side-by-side", "after-a-timeout", "between-two-tries"],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_who_leaves_pays_for_the_models_that_run(
    running: tuple[Candidate, ...] | None,
    tries: tuple[UsageLine, ...],
    booked: list[tuple[Candidate, int]],
    *,
    streamed: bool,
) -> None:
    """It was the plan's first candidate alone, whoever ran: a hundredth of the bill where a dearer one stood in."""
    case = Case(Script(model_gate=asyncio.Event()))
    asking = asyncio.ensure_future(case.stream() if streamed else case.complete())
    async with asyncio.timeout(5):
        while "model" not in case.script.log:
            await asyncio.sleep(0)
    progress = case.ports.progress
    progress.running, progress.lines, progress.ended = running, tries, 1
    if running is None:
        progress.ended = 0
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await case.ports.settled()
    lines = [(line.candidate, line.attempt) for each in case.script.committed for line in each]
    assert lines == booked
    assert case.script.voided == ([] if booked else ["upstream-refused"])
