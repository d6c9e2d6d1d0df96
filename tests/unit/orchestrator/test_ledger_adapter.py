from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from llmops.common.v1 import chat_pb2, context_pb2
from llmops.common.v1.usage_pb2 import TokenPrice
from llmops.ledger.v1 import ledger_pb2
from llmops.orchestrator.v1 import orchestrator_pb2

from meshkit.errors import CallError, Failure
from meshkit.testing import call_context
from services.orchestrator.adapters.conversation import Conversation
from services.orchestrator.core.errors import BudgetExhausted, BudgetUnavailable, RateLimited
from services.orchestrator.core.model import CacheWish, Candidate, Plan, Rate, Reservation, Turn, Usage, UsageLine
from tests.support.unbooked import remote

LINE = UsageLine(Candidate("acme-ai", "cheap-1"), Usage(input_tokens=1), 1)
HOLD = Reservation("r-1", {})
CONVERSATION = Conversation(
    [], [], chat_pb2.GenerationParameters(), context_pb2.CallLabels(), "", "", "", orchestrator_pb2.CacheControl()
)


class FlakyLedger:
    """A channel on which every call fails the first `failures` times."""

    def __init__(self, status: str, failures: int) -> None:
        self._status = status
        self._failures = failures
        self.requests: list[Any] = []

    def __getattr__(self, arity: str) -> Callable[..., Callable[..., Any]]:
        return lambda *_, **__: self._call

    async def _call(self, request: Any) -> object:
        self.requests.append(request)
        if len(self.requests) <= self._failures:
            raise CallError(Failure(self._status, "SERVICE_UNAVAILABLE", "away"))
        return object()


async def test_a_commit_waits_for_a_ledger_that_restarts() -> None:
    """One failed try lost the commit: the provider was paid and the ledger never knew."""
    channel = FlakyLedger("UNAVAILABLE", 3)
    with call_context(deadline_s=asyncio.get_running_loop().time() + 5):
        await remote(channel, retry_pause_s=0).commit(HOLD, [LINE])
    assert len(channel.requests) == 4
    assert {request.request_id for request in channel.requests} == {"r-1:commit"}


async def test_what_the_ledger_refuses_is_not_repeated() -> None:
    channel = FlakyLedger("FAILED_PRECONDITION", 9)
    with call_context(deadline_s=asyncio.get_running_loop().time() + 5), pytest.raises(CallError):
        await remote(channel, retry_pause_s=0).commit(HOLD, [LINE])
    assert len(channel.requests) == 1


def test_a_line_without_a_price_costs_what_the_dearest_model_costs() -> None:
    """It raised: the provider was paid, the caller got an internal error, and nothing was booked."""
    dear = TokenPrice(provider="acme-ai", model="dear-1", input_nano_usd_per_million_tokens=9_000_000_000)
    cheap = TokenPrice(provider="acme-ai", model="cheap-1", input_nano_usd_per_million_tokens=1_000_000_000)
    hold = Reservation("r-1", {(price.provider, price.model): price for price in (dear, cheap)})
    stranger = UsageLine(Candidate("other", "model"), Usage(input_tokens=1), 1)
    assert remote(FlakyLedger("OK", 0)).cost_nano_usd(hold, [LINE, stranger]) == 1_000 + 9_000


async def test_accounting_ends_with_its_time() -> None:
    channel = FlakyLedger("UNAVAILABLE", 10**9)
    with call_context(deadline_s=asyncio.get_running_loop().time() + 0.02), pytest.raises(CallError):
        await remote(channel, retry_pause_s=0).void(HOLD, "not-sent")
    assert channel.requests


class LateLedger:
    """A channel on which the first reservation is made and its answer lost."""

    def __init__(self, error: CallError) -> None:
        self.requests: list[Any] = []
        self._error = error

    def __getattr__(self, arity: str) -> Callable[..., Callable[..., Any]]:
        return lambda *_, **__: self._call

    async def _call(self, request: Any) -> object:
        self.requests.append(request)
        if len(self.requests) == 1:
            raise self._error
        return ledger_pb2.ReserveResponse(decision=ledger_pb2.RESERVE_DECISION_GRANTED, reservation_id="r-7")


def ended(status: str, reason: str, *, unheard: bool) -> CallError:
    error = CallError(Failure(status, reason, "lost"))
    error.unheard = unheard
    return error


@pytest.mark.parametrize(
    "error",
    [
        ended("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", unheard=False),
        ended("UNAVAILABLE", "SERVICE_UNAVAILABLE", unheard=True),
    ],
)
async def test_a_reservation_whose_answer_was_lost_is_withdrawn(error: CallError) -> None:
    """The ledger made it when its tables were free again, or before it died; money was held until the hold expired."""
    channel = LateLedger(error)
    ledger = remote(channel, retry_pause_s=0)
    turn = Turn("q-1", CONVERSATION, "default", 3, None, "", "", CacheWish(lookup=True, store=True, semantic=True))
    with call_context(deadline_s=asyncio.get_running_loop().time() + 5):
        with pytest.raises(BudgetUnavailable) as caught:
            await ledger.reserve(turn, Plan((LINE.candidate,), ("cheap",), 10, "route#1"), 1, 1)
        await ledger.withdraw(caught.value.unanswered)
    lost, again, void = channel.requests
    assert lost == again
    assert void.reservation_id == "r-7"


async def test_a_reservation_that_never_left_is_not_withdrawn() -> None:
    """While the ledger is away every request would leave work behind that asks it again and again."""
    channel = LateLedger(ended("UNAVAILABLE", "SERVICE_UNAVAILABLE", unheard=False))
    turn = Turn("q-1", CONVERSATION, "default", 3, None, "", "", CacheWish(lookup=True, store=True, semantic=True))
    with call_context(deadline_s=asyncio.get_running_loop().time() + 5), pytest.raises(BudgetUnavailable) as caught:
        await remote(channel).reserve(turn, Plan((LINE.candidate,), ("cheap",), 10, "route#1"), 1, 1)
    assert caught.value.unanswered is None


class AnsweringLedger:
    """A channel on which every call gets the same answer, or fails with it."""

    def __init__(self, answer: object) -> None:
        self._answer = answer
        self.requests: list[Any] = []

    def __getattr__(self, arity: str) -> Callable[..., Callable[..., Any]]:
        return lambda *_, **__: self._call

    async def _call(self, request: Any) -> object:
        self.requests.append(request)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def limit(unit: Any, count: int = 60, subject: str = "") -> ledger_pb2.Limit:
    return ledger_pb2.Limit(scope=4, period=6, unit=unit, max_count=count, subject=subject)


def turn(max_output_tokens: int | None = None) -> Turn:
    wish = CacheWish(lookup=True, store=True, semantic=True)
    return Turn("q-1", CONVERSATION, "default", 3, max_output_tokens, "", "", wish)


async def reserve(answer: object, max_output_tokens: int | None = None) -> tuple[Reservation, Any]:
    channel = AnsweringLedger(answer)
    with call_context(deadline_s=asyncio.get_running_loop().time() + 5):
        hold = await remote(channel).reserve(
            turn(max_output_tokens), Plan((LINE.candidate,), ("cheap",), 10, "route#1"), 1, 7
        )
    return hold, channel.requests[0]


async def test_an_answer_without_a_maximum_is_estimated_by_the_ledger() -> None:
    granted = ledger_pb2.ReserveResponse(decision=ledger_pb2.RESERVE_DECISION_GRANTED, covered_output_tokens=5)
    hold, sent = await reserve(granted)
    assert (sent.estimate_output, sent.max_output_tokens, hold.covered_output_tokens) == (True, 7, 5)
    _, sent = await reserve(granted, max_output_tokens=7)
    assert not sent.estimate_output


async def test_a_reservation_has_an_id_of_its_own_that_begins_with_the_callers() -> None:
    """Nobody who was denied could ask the ledger why: the id that he had was never there."""
    granted = ledger_pb2.ReserveResponse(decision=ledger_pb2.RESERVE_DECISION_GRANTED)
    sent = [(await reserve(granted))[1].request_id for _ in range(2)]
    assert sent[0] != sent[1]
    assert [request_id.rpartition(":")[0] for request_id in sent] == ["q-1", "q-1"]
    for too_long_or_odd in ("q" * 96, "q\0", "\N{LATIN SMALL LETTER E WITH ACUTE}"):
        channel = AnsweringLedger(granted)
        asked = replace(turn(), request_id=too_long_or_odd)
        with call_context(deadline_s=asyncio.get_running_loop().time() + 5):
            await remote(channel).reserve(asked, Plan((LINE.candidate,), ("cheap",), 10, "route#1"), 1, 7)
        assert len(channel.requests[0].request_id) == 32


async def test_the_tightest_rates_travel_with_the_hold() -> None:
    rates = [
        ledger_pb2.RateStatus(limit=limit(ledger_pb2.LIMIT_UNIT_REQUESTS, count), remaining_count=left)
        for count, left in ((600, 500), (60, 3), (6000, 70))
    ]
    rates.append(ledger_pb2.RateStatus(limit=limit(ledger_pb2.LIMIT_UNIT_TOKENS, 9000), remaining_count=8000))
    rates[1].reset_after.FromMilliseconds(1500)
    hold, _ = await reserve(ledger_pb2.ReserveResponse(decision=ledger_pb2.RESERVE_DECISION_GRANTED, rates=rates))
    assert hold.rates == (Rate("requests", 60, 3, 1.5), Rate("tokens", 9000, 8000, 0.0))


async def test_limits_in_shadow_mode_are_not_told_to_callers() -> None:
    """A client that obeys its headers waited for a limit that denies nothing."""
    rates = [
        ledger_pb2.RateStatus(limit=limit(ledger_pb2.LIMIT_UNIT_REQUESTS, 1), remaining_count=0),
        ledger_pb2.RateStatus(limit=limit(ledger_pb2.LIMIT_UNIT_REQUESTS), remaining_count=9),
        ledger_pb2.RateStatus(limit=limit(ledger_pb2.LIMIT_UNIT_TOKENS), remaining_count=0),
    ]
    for shadowed in (rates[0], rates[2]):
        shadowed.limit.mode = ledger_pb2.LIMIT_MODE_SHADOW
    hold, _ = await reserve(ledger_pb2.ReserveResponse(decision=ledger_pb2.RESERVE_DECISION_GRANTED, rates=rates))
    assert hold.rates == (Rate("requests", 60, 9, 0.0),)
    denied = ledger_pb2.ReserveResponse(
        decision=ledger_pb2.RESERVE_DECISION_DENIED,
        violations=[ledger_pb2.LimitViolation(limit=rates[1].limit)],
        rates=rates,
    )
    with pytest.raises(RateLimited) as caught:
        await reserve(denied)
    assert caught.value.metadata["x-ratelimit-limit-requests"] == "60"
    assert not any("tokens" in name for name in caught.value.metadata)


async def test_a_rate_is_no_budget_and_says_how_long_to_wait() -> None:
    violation = ledger_pb2.LimitViolation(
        limit=limit(ledger_pb2.LIMIT_UNIT_REQUESTS), remaining_count=0, requested_count=1
    )
    denied = ledger_pb2.ReserveResponse(decision=ledger_pb2.RESERVE_DECISION_DENIED, violations=[violation])
    denied.retry_after.FromMilliseconds(1500)
    denied.rates.add(limit=violation.limit, remaining_count=0).reset_after.FromSeconds(60)
    with pytest.raises(RateLimited, match="1 requests asked, 0 left of 60 per minute") as caught:
        await reserve(denied)
    assert caught.value.retry_after_s == 1.5
    assert caught.value.metadata == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60000ms",
    }
    assert caught.value.quota_violations[0][0] == "key"


async def test_a_budget_beside_a_rate_is_the_budget() -> None:
    money = ledger_pb2.LimitViolation(limit=ledger_pb2.Limit(scope=1, period=3, cap_nano_usd=10**9))
    rate = ledger_pb2.LimitViolation(limit=limit(ledger_pb2.LIMIT_UNIT_CONCURRENCY))
    for violations in ([rate, money], []):
        with pytest.raises(BudgetExhausted):
            await reserve(
                ledger_pb2.ReserveResponse(decision=ledger_pb2.RESERVE_DECISION_DENIED, violations=violations)
            )


@pytest.mark.parametrize(("periods", "by_size"), [([3], False), ([1], True), ([3, 1], True)])
async def test_a_denial_says_whose_limits_they_are_and_whether_lent_money_matters(
    periods: list[Any], *, by_size: bool
) -> None:
    violations = [
        ledger_pb2.LimitViolation(limit=ledger_pb2.Limit(scope=scope, subject=name, period=period, cap_nano_usd=1))
        for period in periods
        for scope, name in ((1, ""), (3, "a:b"))
    ]
    with pytest.raises(BudgetExhausted) as denied:
        await reserve(ledger_pb2.ReserveResponse(decision=ledger_pb2.RESERVE_DECISION_DENIED, violations=violations))
    assert (denied.value.scopes, denied.value.by_size) == ({"organisation", "user"}, by_size)


async def test_a_commit_is_taken_also_when_the_reservation_is_lost() -> None:
    channel = AnsweringLedger(ledger_pb2.CommitResponse())
    labels = context_pb2.CallLabels(feature="search")
    with call_context(deadline_s=asyncio.get_running_loop().time() + 5):
        await remote(channel).commit(Reservation("r-1", {}, labels=labels), [LINE])
    [sent] = channel.requests
    assert sent.accept_orphan
    assert sent.labels.feature == "search"


async def test_a_mark_names_its_reservation() -> None:
    channel = AnsweringLedger(ledger_pb2.MarkDispatchedResponse())
    await remote(channel).mark_dispatched(HOLD)
    [sent] = channel.requests
    assert (sent.request_id, sent.reservation_id) == ("r-1:dispatched", "r-1")


async def test_a_raise_tells_what_is_held_now_and_that_the_hold_lives_on() -> None:
    granted = ledger_pb2.ExtendResponse(decision=ledger_pb2.RESERVE_DECISION_GRANTED, reserved_nano_usd=900)
    channel = AnsweringLedger(granted)
    hold = Reservation("r-1", {}, held_nano_usd=500, ttl_s=75.5)
    assert await remote(channel).extend(hold, 2, 400, 450) == 900
    [sent] = channel.requests
    assert (sent.request_id, sent.reservation_id) == ("r-1:extend:2", "r-1")
    assert (sent.add_nano_usd, sent.spent_so_far_nano_usd, sent.ttl.seconds) == (400, 450, 75)


async def test_a_refused_raise_names_the_limit_and_an_absent_ledger_is_absent() -> None:
    violation = ledger_pb2.LimitViolation(limit=ledger_pb2.Limit(scope=1, period=3, cap_nano_usd=10**9))
    denied = ledger_pb2.ExtendResponse(decision=ledger_pb2.RESERVE_DECISION_DENIED, violations=[violation])
    with pytest.raises(BudgetExhausted, match="organisation"):
        await remote(AnsweringLedger(denied)).extend(HOLD, 1, 400, 450)
    for status in ("UNAVAILABLE", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED"):
        with pytest.raises(BudgetUnavailable):
            await remote(AnsweringLedger(CallError(Failure(status, "X", "x")))).extend(HOLD, 1, 400, 450)


async def test_a_hold_that_has_ended_is_raised_no_more() -> None:
    """The ledger had been away for longer than the hold lived: the stream went on, and no limit stopped it."""
    ended = AnsweringLedger(CallError(Failure("FAILED_PRECONDITION", "RESERVATION_STATE", "it is expired")))
    with pytest.raises(BudgetExhausted, match="it has ended"):
        await remote(ended).extend(HOLD, 1, 400, 450)


async def test_the_money_of_every_call_that_may_be_billed_is_held() -> None:
    """A hedge was an overrun: the hold covered one of the two calls that were billed."""
    for calls in (1, 3):
        channel = LateLedger(ended("UNAVAILABLE", "SERVICE_UNAVAILABLE", unheard=False))
        channel.requests.append(None)
        plan = Plan((LINE.candidate,), ("cheap",), 10, "route#1", max_billed_calls=calls)
        turn = Turn("q-1", CONVERSATION, "default", 3, None, "", "", CacheWish(lookup=True, store=True, semantic=True))
        with call_context(deadline_s=asyncio.get_running_loop().time() + 5):
            await remote(channel).reserve(turn, plan, 1, 1)
        assert channel.requests[1].calls == calls
