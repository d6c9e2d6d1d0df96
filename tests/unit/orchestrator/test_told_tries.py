"""What the router tells of a call on its way, as the orchestrator notes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from llmops.common.v1 import usage_pb2
from llmops.router.v1 import router_pb2

from meshkit.errors import CallError, Failure
from services.orchestrator.adapters.router import RemoteRouter
from services.orchestrator.core.errors import ModelFailed
from services.orchestrator.core.model import UNCHECKED, Candidate, Plan, Progress, Usage, UsageLine
from tests.unit.orchestrator.test_router_adapter import ROUTER, StreamOf, any_turn

REFUSED = router_pb2.Attempt(provider="a", model="one", outcome=router_pb2.ATTEMPT_OUTCOME_REFUSED)
BROKEN = router_pb2.Attempt(
    provider="a", model="one", outcome=router_pb2.ATTEMPT_OUTCOME_BROKEN, usage=usage_pb2.Usage(input_tokens=3)
)
TWO, THREE = (router_pb2.Attempt(provider="b", model=model) for model in ("two", "three"))

WAITING = router_pb2.Attempt(provider="b", model="two", cause="waits-for-connection")


async def test_a_whole_answer_comes_after_the_tries_that_were_told() -> None:
    answer = router_pb2.CompleteResponse(
        completion={"content": "hi"}, attempts=[REFUSED, TWO], usage={"input_tokens": 2}
    )
    told = router_pb2.TriesSoFar(attempts=[REFUSED, TWO, THREE])
    steps = [router_pb2.CompleteWithTriesResponse(tries=told), router_pb2.CompleteWithTriesResponse(answer=answer)]
    progress = Progress()
    plan = Plan((), ("one", "two", "three"), 0, "")
    got = await RemoteRouter(StreamOf(*steps)).complete(any_turn(), plan, UNCHECKED, progress)
    assert (got.completion, got.usage.input_tokens, list(got.attempts)) == (answer.completion, 2, [REFUSED, TWO])
    assert (progress.running, progress.ended) == ((Candidate("b", "two"), Candidate("b", "three")), 1)
    with pytest.raises(ModelFailed, match="without an answer") as caught:
        await RemoteRouter(StreamOf(*steps[:1])).complete(any_turn(), Plan((), (), 0, ""), UNCHECKED, Progress())
    assert ROUTER.billed_lines(caught.value) is None


@pytest.mark.parametrize("ending", [None, CallError(Failure("UNAVAILABLE", "SERVICE_UNAVAILABLE", "broke"))])
async def test_who_has_the_answer_stays_until_the_end(ending: CallError | None) -> None:
    """Each answer of a router in the same process was counted there as a caller who left."""
    answer = router_pb2.CompleteResponse(completion={"content": "hi"})
    heard: list[str] = []

    class Heard(StreamOf):
        async def _stream(self) -> AsyncGenerator[Any, None]:
            yield router_pb2.CompleteWithTriesResponse(answer=answer)
            heard.append("the end")
            if ending is not None:
                raise ending

    got = await RemoteRouter(Heard()).complete(any_turn(), Plan((), ("one", "two"), 0, ""), UNCHECKED, Progress())
    assert (got.completion, heard) == (answer.completion, ["the end"])


async def test_what_came_before_a_model_that_is_waited_for_is_not_its_own() -> None:
    told = router_pb2.CompleteStreamResponse(tries=router_pb2.TriesSoFar(attempts=[BROKEN, TWO]))
    progress = Progress()
    with pytest.raises(ModelFailed, match="before it was complete"):
        async for _ in RemoteRouter(StreamOf("text", told)).stream(
            any_turn(), Plan((), (), 0, ""), UNCHECKED, progress
        ):
            pass
    assert (progress.earlier_bytes, progress.running) == (4, (Candidate("b", "two"),))
    assert progress.lines == (UsageLine(Candidate("a", "one"), Usage(3, 0), 1),)


async def test_who_waits_for_a_connection_is_not_at_work() -> None:
    told = router_pb2.CompleteWithTriesResponse(tries=router_pb2.TriesSoFar(attempts=[BROKEN, WAITING, THREE]))
    progress, plan = Progress(), Plan((), ("one", "two", "three"), 0, "")
    with pytest.raises(ModelFailed):
        await RemoteRouter(StreamOf(told)).complete(any_turn(), plan, UNCHECKED, progress)
    assert (progress.running, progress.ended) == ((Candidate("b", "three"),), 1)


@pytest.mark.parametrize("told", [WAITING, REFUSED])
async def test_that_nobody_is_at_work_is_told_of_one_model_too(told: router_pb2.Attempt) -> None:
    """Who left while his call waited for a connection, or in the pause after a refusal, paid for it."""
    step = router_pb2.CompleteWithTriesResponse(tries=router_pb2.TriesSoFar(attempts=[told]))
    plan = Plan((Candidate("a", "one"),), ("one",), 0, "")
    progress = Progress()
    with pytest.raises(ModelFailed):
        await RemoteRouter(StreamOf(step)).complete(any_turn(), plan, UNCHECKED, progress)
    assert progress.at_work(plan) == ()
