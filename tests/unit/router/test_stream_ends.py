"""Streams that end beside the road: at any event, by a fault of ours, or after the answer was complete."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence

import pytest

from services.router.core.chat import Completion, Delta, Usage
from services.router.core.failure import FailureKind, Outcome
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from services.router.core.router import Continued, Finished, Started, StreamEvent
from tests.support.router_engine import ANSWER, CALL, DONE, Engine, Timed, failing, real_time, text

CUT = [*text("a", "b"), failing(FailureKind.BROKEN)]


@pytest.mark.parametrize("event", [Started, Delta, Continued, Finished])
async def test_whoever_leaves_at_any_event_ends_the_providers_call_at_once(event: type[StreamEvent]) -> None:
    """Not when memory is tidied up: until then the provider writes on, and bills."""
    first, second = Timed(CUT), Timed([*text("c"), DONE, *text("more")])
    engine = Engine({"first": first, "second": second}, route={"continue_on_another": True})
    stream = engine.router.stream(CALL, "r", 60.0)
    gc.disable()
    try:
        async for found in stream:
            if isinstance(found, event):
                break
        await stream.aclose()
        assert (first.running, second.running) == (0, 0)
    finally:
        gc.enable()
    assert [engine.router.deployments.calls_under_way(name) for name in engine.specs] == [0, 0]


class Winding:
    """Answers, and then its connection ends in one way or another."""

    def __init__(self, after: Exception | None) -> None:
        self.after = after

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        return ANSWER

    async def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        yield text("a")[0]  # type: ignore[misc]
        yield DONE
        if self.after is None:
            await asyncio.sleep(60)
        else:
            raise self.after


async def test_a_connection_that_breaks_after_the_end_spoils_no_answer() -> None:
    """Servers close without the last chunk of HTTP; the answer was complete before."""
    engine = Engine({"m": Winding(failing(FailureKind.BROKEN))})
    events = await engine.stream()
    assert isinstance(events[-1], Finished)
    assert engine.tries() == [("m", "FIRST", Outcome.SUCCEEDED)]


async def test_a_connection_that_stays_open_after_the_end_is_waited_for_no_longer_than_for_a_piece() -> None:
    engine = Engine({"m": Winding(None)}, specs={"m": {"idle_timeout_s": 0.05}}, clock=real_time())
    async with asyncio.timeout(5):
        events = await engine.stream()
    assert isinstance(events[-1], Finished)


class FaultyCounter:
    async def count(self, texts: Sequence[str]) -> int:
        raise KeyError


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_fault_of_ours_is_on_record_as_billed(streamed: bool) -> None:  # noqa: FBT001
    uncounted = [*text("four"), Chunk(None, finished=True)] if streamed else ProviderAnswer(Completion("four"))
    engine = Engine({"m": Timed(uncounted)}, counter=FaultyCounter())
    with pytest.raises(KeyError):
        await (engine.stream() if streamed else engine.complete())
    (attempt,) = engine.log.attempts
    assert (attempt.outcome, attempt.cause, attempt.usage) == (Outcome.BROKEN, "internal", Usage(20, 2, estimated=True))
    assert engine.router.deployments.calls_under_way("m") == 0
