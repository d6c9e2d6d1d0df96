"""Why a request was denied, the feed of events, expected outputs, allotments, an invoice against the journal."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.ledger.core.errors import InvalidRequest, NotFound, ShuttingDown, TooManyWatchers
from services.ledger.core.estimates import ENOUGH, MAX_KEYS, WINDOW, OutputEstimates, Writer
from services.ledger.core.events import EventKind
from services.ledger.core.limits import Limit, Mode, Scope, Unit
from services.ledger.core.operations import AllotAnswer
from services.ledger.core.service import Model, Rules
from services.ledger.core.watching import Watches, WatchRules
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, START, Desk, count_limit, done, limit, used_tokens

HOUR = limit(Scope.USER, Period.HOUR, 100)
DAY_US = 86_400 * MICROSECONDS
TODAY_US = int(START.timestamp()) * MICROSECONDS // DAY_US * DAY_US


def test_why_blocked_tells_then_and_now() -> None:
    desk = Desk([HOUR, count_limit(Unit.REQUESTS, 1)])
    hold = desk.reserve(80)
    desk.reserve(50, request_id="denied")
    why = done(desk.ledger.reports.why_blocked("acme", "denied"))
    assert [(v.limit.unit, v.remaining) for v in why.decision.answer.violations] == [
        (Unit.MONEY, 20),
        (Unit.REQUESTS, 0),
    ]
    assert [(u.counter.used_nano_usd, u.used_count) for u in why.usages] == [(80, 0), (0, 1)]
    assert not why.would_pass_now
    desk.commit(hold.reservation_id, 10)
    assert not done(desk.ledger.reports.why_blocked("acme", "denied")).would_pass_now
    desk.clock.turn(60)
    assert done(desk.ledger.reports.why_blocked("acme", "denied")).would_pass_now


def test_without_an_id_the_latest_denial_is_meant() -> None:
    desk = Desk([HOUR])
    hold = desk.reserve(80)
    desk.reserve(50, request_id="first")
    desk.reserve(60, request_id="second")
    done(desk.ledger.extend(ADA, "e", hold.reservation_id, 90, 0, 0))
    assert done(desk.ledger.reports.why_blocked("acme", "")).decision.request_id == "second"
    for organisation, request_id in (("globex", ""), ("globex", "first"), ("acme", "reserve-1"), ("acme", "unknown")):
        with pytest.raises(NotFound):
            done(desk.ledger.reports.why_blocked(organisation, request_id))


def test_events_say_what_happened_to_money() -> None:
    desk = Desk([HOUR])
    hold = desk.reserve(85, ttl_s=30)
    desk.reserve(50)
    desk.commit(hold.reservation_id, 90)
    assert desk.told() == [("ALERT", 85), ("DENIED", 50), ("OVERRUN", 5)]


async def seen(watches: Watches, after: int, count: int) -> list[tuple[int, EventKind | None]]:
    found: list[tuple[int, EventKind | None]] = []
    async with aclosing(watches.watch("acme", after)) as feed:
        async for revision, event in feed:
            found.append((revision, event.kind if event else None))
            if len(found) == count:
                break
    return found


async def test_watch_continues_after_a_revision_and_shows_signs_of_life() -> None:
    desk = Desk([HOUR])
    desk.reserve(85)
    desk.reserve(50)
    watches = Watches(desk.memory, WatchRules(poll_interval_s=0.001, silent_polls=2))
    assert await seen(watches, 0, 2) == [(2, None), (2, None)]
    assert await seen(watches, 1, 2) == [(2, EventKind.DENIED), (2, None)]
    feed = asyncio.create_task(seen(watches, 0, 2))
    while not watches.watchers:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    hold = await desk.ledger.reserve(ADA, "r", [Model("acme-ai", "unit")], 0, 90, 0)
    assert not hold.granted
    assert (await feed)[-1] == (3, EventKind.DENIED)
    assert watches.watchers == 0


async def test_watchers_are_limited_and_end_with_the_process() -> None:
    watches = Watches(Desk([HOUR]).memory, WatchRules(max_watchers=1, poll_interval_s=60))
    feed = watches.watch("acme", 0)
    assert await anext(feed) == (0, None)
    with pytest.raises(TooManyWatchers):
        await anext(watches.watch("acme", 0))
    rest = asyncio.ensure_future(anext(feed))
    await asyncio.sleep(0)
    await watches.close()
    with pytest.raises(ShuttingDown):
        await rest


def test_litellm_27509_no_maximum_does_not_hold_the_ceiling() -> None:
    """Also litellm#38647: worst-case holds pin a budget that nobody spends."""
    desk = Desk([limit(Scope.USER, Period.HOUR, 100_000)], rules=Rules(default_output_tokens=500))
    models = [Model("acme-ai", "unit")]

    def held(request_id: str, ceiling: int = 90_000) -> int:
        answer = done(desk.ledger.reserve(ADA, request_id, models, 0, ceiling, 0, estimate_output=True))
        desk.void(answer.reservation_id)
        assert answer.covered_output_tokens == answer.reserved_nano_usd
        return answer.reserved_nano_usd

    assert (held("a"), held("b", 60)) == (500, 60)
    for number in range(100):
        desk.commit(desk.reserve(200).reservation_id, number + 1)
    assert held("c") == 119  # the 95th of 1..100, times 1.25
    assert held("d", 90) == 90
    # A retry is the same request, whatever was learned meanwhile.
    assert done(desk.ledger.reserve(ADA, "a", models, 0, 90_000, 0, estimate_output=True)).reserved_nano_usd == 500


def test_estimates_keep_the_latest_answers_of_each_writer_in_bounded_memory() -> None:
    estimates = OutputEstimates(1000)
    unit, chat = Writer("acme", "p", "m", ""), Writer("acme", "p", "m", "chat")
    for _ in range(ENOUGH - 1):
        estimates.observe(unit, 8)
    assert estimates.expect([unit], 10**6) == 1000
    estimates.observe(unit, 8)
    assert estimates.expect([unit], 10**6) == 10
    assert estimates.expect([unit, chat], 10**6) == 1000
    for _ in range(WINDOW):
        estimates.observe(unit, 80)
    assert estimates.expect([unit], 10**6) == 100
    for number in range(MAX_KEYS):
        estimates.observe(Writer(f"org-{number}", "p", "m", ""), 1)
    assert estimates.expect([unit], 10**6) == 1000


def test_review_9_an_organisations_answers_change_nobody_elses_holds() -> None:
    """Short answers of one tenant shrank the holds of all, and its features drove others' estimates out."""
    desk = Desk(rules=Rules(default_output_tokens=77))
    evil = ADA._replace(organisation="evil")
    for _ in range(ENOUGH):
        hold = desk.reserve(1, evil)
        desk.commit(hold.reservation_id, 1, payer=evil)
    for payer, expected in ((evil, 2), (ADA, 77)):
        answer = desk.ledger.reserve(payer, "r", [Model("acme-ai", "unit")], 0, 99, 0, estimate_output=True)
        assert done(answer).covered_output_tokens == expected
    estimates = OutputEstimates(1000)
    victim, first = Writer("victim", "p", "m", ""), Writer("evil", "p", "m", "0")
    for _ in range(ENOUGH):
        estimates.observe(victim, 8)
        estimates.observe(first, 8)
    for number in range(2 * MAX_KEYS):
        estimates.observe(Writer("evil", "p", "m", f"feature-{number}"), 1)
    assert (estimates.expect([victim], 10**6), estimates.expect([first], 10**6)) == (10, 1000)


def test_review_16_a_nul_in_the_id_of_why_blocked_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidRequest, match="request_id"):
        done(Desk([HOUR]).ledger.reports.why_blocked("acme", "a\0b"))


def test_estimated_usage_and_failed_attempts_teach_nothing() -> None:
    desk = Desk([limit(Scope.USER, Period.HOUR, 1000)], rules=Rules(default_output_tokens=77))
    for number in range(ENOUGH):
        hold = desk.reserve(1)
        used = [used_tokens(0), used_tokens(3, 2, estimated=True)]
        done(desk.ledger.commit(ADA, f"c{number}", hold.reservation_id, used))
    answer = desk.ledger.reserve(ADA, "r", [Model("acme-ai", "unit")], 0, 99, 0, estimate_output=True)
    assert done(answer).covered_output_tokens == 77


@pytest.mark.parametrize(
    "suspended",
    [limit(Scope.KEY, Period.QUERY, 0), count_limit(Unit.REQUESTS, 0), count_limit(Unit.CONCURRENCY, 0)],
    ids=["query", "rate", "concurrency"],
)
def test_review_22_nothing_is_lent_where_a_limit_is_suspended(suspended: Limit) -> None:
    desk = Desk([HOUR, suspended])
    refused = done(desk.ledger.allot(ADA, "a", 80, 10 * MICROSECONDS, "edge-1"))
    assert (refused.allotment_id, refused.granted_nano_usd) == ("", 0)
    shadow = Desk([HOUR, replace(suspended, mode=Mode.SHADOW)])
    assert done(shadow.ledger.allot(ADA, "a", 80, 10 * MICROSECONDS, "edge-1")).granted_nano_usd == 50


def test_an_allotment_is_a_hold_of_half_of_what_is_left() -> None:
    desk = Desk([HOUR, limit(Scope.ORGANISATION, Period.QUERY, 5)])
    lent = done(desk.ledger.allot(ADA, "a", 80, 10 * MICROSECONDS, "edge-1"))
    assert (lent.granted_nano_usd, desk.used()["USER", "ada"]) == (50, (0, 50))
    assert done(desk.ledger.allot(ADA, "a", 80, 10 * MICROSECONDS, "edge-1")) == lent
    assert lent.most_per_call_nano_usd == 5, "a limit on a query is about each call of it"
    second = done(desk.ledger.allot(ADA, "b", 10, 10 * MICROSECONDS, "edge-2"))
    assert second.granted_nano_usd == 10
    returned = done(desk.ledger.commit(ADA, "ra", lent.allotment_id, [used_tokens(20), used_tokens(15, 2)]))
    assert (returned.amount_nano_usd, returned.overrun_nano_usd) == (35, 0)
    assert desk.used()["USER", "ada"] == (35, 10)


def test_l15_a_crashed_replica_strands_one_allotment_for_one_lease() -> None:
    desk = Desk([HOUR])
    lent = done(desk.ledger.allot(ADA, "a", 80, 10 * MICROSECONDS, "edge-1"))
    assert not desk.reserve(60).granted
    desk.clock.turn(10)
    assert desk.reserve(60).granted
    late = done(desk.ledger.commit(ADA, "ra", lent.allotment_id, [used_tokens(30)]))
    assert (late.late, desk.used()["USER", "ada"]) == (True, (30, 60))


def test_near_the_stop_line_nothing_is_lent() -> None:
    desk = Desk([HOUR])
    desk.commit(desk.reserve(90).reservation_id, 90)
    assert done(desk.ledger.allot(ADA, "a", 80, 10 * MICROSECONDS, "edge-1")) == AllotAnswer("", 0, 0, ())


def test_reconcile_tells_booked_estimated_and_unattributed() -> None:
    desk = Desk([HOUR])
    first, second = desk.reserve(20, ttl_s=30), desk.reserve(20, ttl_s=30)
    used = [used_tokens(5), used_tokens(7, 2, estimated=True), used_tokens(2, 3, "double", "other-ai")]
    done(desk.ledger.commit(ADA, "c", first.reservation_id, used))
    desk.adjust(first.reservation_id, -1)
    done(desk.ledger.extend(ADA, "e", second.reservation_id, 0, 3, 30 * MICROSECONDS))
    desk.clock.turn(31)
    desk.sweep()
    days = done(desk.ledger.reports.reconcile("acme", "acme-ai", [TODAY_US, TODAY_US - DAY_US]))
    assert [tuple(day) for day in days] == [(11, 7, 3), (0, 0, 0)]
    assert done(desk.ledger.reports.reconcile("globex", "acme-ai", [TODAY_US]))[0] == (0, 0, 0)
    for wrong in ([TODAY_US + 1], [TODAY_US, TODAY_US], [-DAY_US]):
        with pytest.raises(InvalidRequest):
            done(desk.ledger.reports.reconcile("acme", "acme-ai", wrong))


async def test_no_organisation_takes_every_place_of_a_watch() -> None:
    watches = Watches(Desk([HOUR]).memory, WatchRules(max_watchers=3, max_per_organisation=2, poll_interval_s=60))
    acme = [watches.watch("acme", 0) for _ in range(3)]
    for each in acme[:2]:
        assert (await anext(each))[1] is None
    with pytest.raises(TooManyWatchers, match="2 watches open.*end one of them") as refused:
        await anext(acme[2])
    assert (refused.value.status, refused.value.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    globex = [watches.watch("globex", 0) for _ in range(2)]
    assert (await anext(globex[0]))[1] is None
    with pytest.raises(TooManyWatchers, match="3 watchers, its limit; try another replica"):
        await anext(globex[1])
    assert watches.watchers == 3
    # A place is free again when its watch ends.
    await acme[0].aclose()
    again = watches.watch("acme", 0)
    assert (await anext(again))[1] is None
    for each in (again, acme[1], globex[0]):
        await each.aclose()
    assert watches.watchers == 0
