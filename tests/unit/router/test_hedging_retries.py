"""Which try is repeated when a first try and the second one beside it have both failed."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from services.router.core.errors import UpstreamUnavailable
from services.router.core.failure import OUTCOMES, FailureKind, Outcome
from services.router.core.fallback import RetryPolicy
from services.router.core.ports import Chunk, ProviderAnswer, ProviderRequest
from tests.support.router_engine import ANSWER, Engine, Timed, failing, real_time
from tests.unit.router.test_hedging import RULE, STREAM


class Turns:
    """A model that does something else each time."""

    def __init__(self, *turns: Timed) -> None:
        self.turns = list(turns)

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        return await self.turns.pop(0).complete(request)

    def stream(self, request: ProviderRequest) -> AsyncGenerator[Chunk, None]:
        return self.turns.pop(0).stream(request)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", [FailureKind.CREDENTIAL, FailureKind.BROKEN, FailureKind.RATE_LIMITED])
async def test_a_second_try_that_fails_last_leaves_the_first_its_retry(kind: FailureKind, streamed: bool) -> None:  # noqa: FBT001
    """The last failure alone decided: with a hedge the call failed that its retry would have answered."""
    step = STREAM if streamed else ANSWER
    first = Turns(Timed(failing(FailureKind.UNAVAILABLE, 0.0), after_s=0.05), Timed(step))
    engine = Engine(
        {"first": first, "other": Timed(failing(kind, 60.0), after_s=0.1)},
        route={"hedge": RULE},
        retries=1,
        clock=real_time(),
    )
    await (engine.stream() if streamed else engine.complete())
    assert engine.tries() == [
        ("first", "FIRST", Outcome.REFUSED),
        ("other", "HEDGE", OUTCOMES[kind]),
        ("first", "RETRY", Outcome.SUCCEEDED),
    ]


async def test_without_retry_budget_the_first_gets_none_after_both_failed() -> None:
    first = Turns(Timed(failing(FailureKind.UNAVAILABLE), after_s=0.05), Timed(ANSWER))
    others = {"other": Timed(failing(FailureKind.CREDENTIAL), after_s=0.1), "third": Timed(ANSWER)}
    policy = RetryPolicy(retry_share=1e-9, cooldown_s=0.001)
    engine = Engine({"first": first, **others}, route={"hedge": RULE}, retries=1, clock=real_time(), policy=policy)
    while engine.router.shared["default"].retries.take():
        pass
    await engine.complete()
    assert [name for name, _, _ in engine.tries()] == ["first", "other", "third"]
    assert engine.log.events["retry-refused default"] == 1


async def test_a_limit_that_the_second_met_stops_the_retry_of_a_first_that_shares_it() -> None:
    first = Turns(Timed(failing(FailureKind.UNAVAILABLE, 0.0), after_s=0.05), Timed(ANSWER))
    engine = Engine(
        {"first": first, "other": Timed(failing(FailureKind.RATE_LIMITED, 60.0), after_s=0.1)},
        route={"hedge": RULE},
        specs={"first": {"quota": "account"}, "other": {"quota": "account"}},
        retries=1,
        clock=real_time(),
    )
    with pytest.raises(UpstreamUnavailable):
        await engine.complete()
    assert [name for name, _, _ in engine.tries()] == ["first", "other"]
