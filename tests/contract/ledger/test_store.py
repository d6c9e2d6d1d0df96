"""What every store promises, in memory and on PostgreSQL alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.ledger.adapters.memory import RecordedEvents
from services.ledger.core.errors import InvalidRequest, NotFound, RequestIdReused, ReservationEnded
from services.ledger.core.identities import id_bound
from services.ledger.core.limits import Limit, Payer, Scope, Unit
from services.ledger.core.operations import CommitAnswer, Kept, LeaseTerms
from services.ledger.core.pages import page_token
from services.ledger.core.ports import Store
from services.ledger.core.service import Ledger, Model
from services.ledger.core.windows import MICROSECONDS, Period, SteadyClock
from tests.unit.ledger.builders import ADA, TurnableClock, count_limit, desk_ledger, limit, used_tokens

UNIT = [Model("acme-ai", "unit")]
LIMITS = [
    limit(Scope.USER, Period.HOUR, 100),
    limit(Scope.ORGANISATION, Period.DAY, 10_000),
    limit(Scope.ORGANISATION, Period.QUERY, 90),
]


@pytest.fixture
def events() -> RecordedEvents:
    return RecordedEvents()


@pytest.fixture
async def ledger(store: Store, clock: TurnableClock, events: RecordedEvents) -> Ledger:
    await store.declare_limits(LIMITS)
    return desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), events)


async def usage(ledger: Ledger, organisation: str = "acme") -> dict[tuple[str, str], tuple[int, int]]:
    found, _ = await ledger.reports.usage(organisation, None, "", None, 1000, "")
    return {
        (u.limit.scope.name, u.counter.key.subject): (u.counter.spent_nano_usd, u.counter.held_nano_usd) for u in found
    }


async def test_reserve_extend_commit(ledger: Ledger) -> None:
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 40, 0)
    assert await usage(ledger) == {("USER", "ada"): (0, 40), ("ORGANISATION", ""): (0, 40)}
    extended = await ledger.extend(ADA, "e", hold.reservation_id, 20, 30, 0)
    assert (extended.granted, extended.reserved_nano_usd) == (True, 60)
    booked = await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(30), used_tokens(40, 2)])
    assert (booked.amount_nano_usd, booked.overrun_nano_usd) == (70, 10)
    assert await usage(ledger) == {("USER", "ada"): (70, 0), ("ORGANISATION", ""): (70, 0)}


async def test_a_sent_hold_is_charged_and_corrected(store: Store, ledger: Ledger, clock: TurnableClock) -> None:
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 40, 30 * MICROSECONDS)
    assert (await ledger.mark_dispatched(ADA, "d", hold.reservation_id)).noted
    assert (await ledger.mark_dispatched(ADA, "d", hold.reservation_id)).noted
    await ledger.extend(ADA, "e", hold.reservation_id, 0, 15, 30 * MICROSECONDS)
    clock.turn(31)
    await ledger.sweep(10)
    assert (await usage(ledger))["USER", "ada"] == (15, 0)
    assert (await ledger.adjust(ADA, "a", hold.reservation_id, -5, "", "credit-note")).booked_nano_usd == 10
    assert (await ledger.adjust(ADA, "a", hold.reservation_id, -5, "", "credit-note")).booked_nano_usd == 10
    assert not (await ledger.mark_dispatched(ADA, "d2", hold.reservation_id)).noted
    told = await store.events("acme", 0, 10)
    assert [(e.revision, e.event.kind.name, e.event.amount_nano_usd) for e in told] == [(1, "EXPIRED_CHARGED", 15)]


async def test_events_are_numbered_and_forgotten(store: Store, ledger: Ledger, clock: TurnableClock) -> None:
    stranger = ADA._replace(organisation="globex")
    await ledger.reserve(stranger, "s", UNIT, 0, 95, 0)
    await asyncio.gather(*(ledger.reserve(ADA, f"r{n}", UNIT, 0, 95, 0) for n in range(5)))
    told = await store.events("acme", 0, 10)
    assert [e.revision for e in told] == [1, 2, 3, 4, 5]
    assert [e.event.request_id for e in told] == [f"r{n}" for n in range(5)]
    assert await store.events("acme", 3, 1) == told[3:4]
    assert (await store.events_head("acme"), await store.events_head("nobody")) == (5, 0)
    decision = await store.decision("acme", "")
    assert decision is not None
    assert decision.request_id == "r4"
    assert not (await ledger.reports.why_blocked("acme", "r0")).would_pass_now
    clock.turn(60)
    await ledger.forget(59 * MICROSECONDS, 100)
    await ledger.reserve(ADA, "r5", UNIT, 0, 95, 0)
    assert (await store.events("acme", 0, 10))[-1].revision == 6


async def test_a_denial_is_found_by_what_its_id_begins_with(ledger: Ledger) -> None:
    """Who was denied through the mesh has the id of the call, and the reservations have ids of their own."""
    for request_id, amount in (("call:1", 95), ("call:2", 96), ("call-2:3", 97), ("whole", 98), ("whole:4", 99)):
        await ledger.reserve(ADA, request_id, UNIT, 0, amount, 0)
    for asked, found in (("call", "call:2"), ("call:1", "call:1"), ("whole", "whole"), ("", "whole:4")):
        assert (await ledger.reports.why_blocked("acme", asked)).decision.request_id == found
    for organisation, asked in (("acme", "cal"), ("acme", "call%"), ("globex", "call"), ("acme", "call:")):
        with pytest.raises(NotFound):
            await ledger.reports.why_blocked(organisation, asked)


async def test_l10_a_cap_that_is_lowered_below_what_is_used_alerts_once(store: Store, ledger: Ledger) -> None:
    """It denied from then on, and nobody was told for the rest of the window."""
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 70, 0)
    lowered = Limit("", "acme", Scope.USER, "", Period.HOUR, 60)
    await ledger.set_limit(ADA, "s", lowered)
    raised = await ledger.extend(ADA, "e", hold.reservation_id, 1, 0, 0)
    denials = [await ledger.reserve(ADA, f"r{n}", UNIT, 0, 5, 0) for n in range(3)]
    assert [raised.granted, *(denial.granted for denial in denials)] == [False] * 4
    assert [[a.used_nano_usd for a in answer.alerts] for answer in (raised, *denials)] == [[70], [], [], []]
    await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(65)])
    await ledger.set_limit(ADA, "s2", replace(lowered, scope=Scope.ORGANISATION, period=Period.DAY))
    denial = await ledger.reserve(ADA, "again", UNIT, 0, 5, 0)
    assert [(a.limit.scope, a.used_nano_usd) for a in denial.alerts] == [(Scope.ORGANISATION, 65)]
    assert (await ledger.reserve(ADA, "and-again", UNIT, 0, 5, 0)).alerts == ()
    told = [e.event.kind.name for e in await store.events("acme", 0, 20)]
    assert told == ["DENIED", "ALERT", "DENIED", "DENIED", "DENIED", "DENIED", "ALERT", "DENIED"]


async def test_alerts_survive_the_feed(store: Store, ledger: Ledger) -> None:
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 85, 0)
    (told,) = await store.events("acme", 0, 10)
    assert told.event.alerts == hold.alerts


async def test_orphans_are_booked_once_whoever_books_them(ledger: Ledger, clock: TurnableClock) -> None:
    lost = id_bound(clock.ns // 1000) + "-lost"
    commits = [ledger.commit(ADA, f"o{n}", lost, [used_tokens(30)], accept_orphan=True) for n in range(3)]
    results = await asyncio.gather(*commits, return_exceptions=True)
    assert [type(r) for r in results] == [CommitAnswer, ReservationEnded, ReservationEnded]
    assert (await usage(ledger))["USER", "ada"] == (30, 0)


async def test_rates_and_slots(store: Store, ledger: Ledger, clock: TurnableClock) -> None:
    meters = [count_limit(Unit.TOKENS, 100), count_limit(Unit.CONCURRENCY, 2), count_limit(Unit.REQUESTS, 50)]
    await store.declare_limits([*LIMITS, *meters])
    first = await ledger.reserve(ADA, "r1", UNIT, 0, 40, 30 * MICROSECONDS)
    assert [(r.limit.unit.name, r.remaining) for r in first.rates] == [("REQUESTS", 49), ("TOKENS", 60)]
    assert (await ledger.reserve(ADA, "r2", UNIT, 0, 10, 30 * MICROSECONDS)).granted
    denied = await ledger.reserve(ADA, "r3", UNIT, 0, 60, 0)
    assert {v.limit.unit for v in denied.violations} == {Unit.MONEY, Unit.TOKENS, Unit.CONCURRENCY}
    booked = await ledger.commit(ADA, "c", first.reservation_id, [used_tokens(5)])
    assert booked.amount_nano_usd == 5
    usages, _ = await ledger.reports.usage("acme", None, "", None, 100, "")
    used = {u.limit.unit: u.used_count for u in usages if u.limit.unit is not Unit.MONEY}
    assert used == {Unit.TOKENS: 15, Unit.CONCURRENCY: 1, Unit.REQUESTS: 2}
    clock.turn(31)
    assert await ledger.sweep(10) == 1
    usages, _ = await ledger.reports.usage("acme", None, "", None, 100, "")
    assert [u.used_count for u in usages if u.limit.unit is Unit.CONCURRENCY] == [0]


async def test_an_allotment_and_an_invoice(ledger: Ledger, clock: TurnableClock) -> None:
    lent = await ledger.allot(ADA, "a", 1000, 10 * MICROSECONDS, "edge-1")
    assert lent.granted_nano_usd == 50
    await ledger.commit(ADA, "ra", lent.allotment_id, [used_tokens(20), used_tokens(3, 2, estimated=True)])
    assert (await usage(ledger))["USER", "ada"] == (23, 0)
    day_us = clock.ns // 1000 // (86_400 * MICROSECONDS) * 86_400 * MICROSECONDS
    days = await ledger.reports.reconcile("acme", "acme-ai", [day_us, day_us - 86_400 * MICROSECONDS])
    assert [tuple(day) for day in days] == [(23, 3, 0), (0, 0, 0)]


async def test_a_correction_counts_on_the_day_of_its_call(ledger: Ledger, clock: TurnableClock) -> None:
    """Else a difference would stay with the day it was found on, and another come up on the day it was corrected."""
    day_us = 86_400 * MICROSECONDS
    first_us = clock.ns // 1000 // day_us * day_us
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 20, 0)
    await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(12)])
    clock.turn(86_400)
    await ledger.adjust(ADA, "a1", hold.reservation_id, 5, "", "invoice")
    await ledger.adjust(ADA, "a2", hold.reservation_id, 2, "other-ai", "invoice")
    days = [first_us - day_us, first_us, first_us + day_us]
    booked = await ledger.reports.reconcile("acme", "acme-ai", days)
    assert [tuple(day) for day in booked] == [(0, 0, 0), (17, 0, 0), (0, 0, 0)]
    assert [day.booked_nano_usd for day in await ledger.reports.reconcile("acme", "other-ai", days)] == [0, 2, 0]
    assert [tuple(day) for day in await ledger.reports.reconcile("zenith", "acme-ai", days)] == [(0, 0, 0)] * 3


async def test_an_allotment_keeps_its_prices_until_it_comes_back_late(ledger: Ledger, clock: TurnableClock) -> None:
    terms = LeaseTerms((("other-ai", "double"),), settle_us=20 * MICROSECONDS)
    lent = await ledger.allot(ADA, "a", 40, 10 * MICROSECONDS, "edge-1", terms)
    assert ([p.model for p in lent.prices], lent.most_per_call_nano_usd) == (["double"], 90)
    assert await ledger.allot(ADA, "a", 40, 10 * MICROSECONDS, "edge-1", terms) == lent
    clock.turn(29)
    assert await ledger.sweep(10) == 0
    clock.turn(1)
    assert await ledger.sweep(10) == 1
    used = [used_tokens(6, 1, "double", "other-ai"), used_tokens(4, 1, "stranger", "new-ai")]
    back = await ledger.commit(ADA, "ra", lent.allotment_id, used)
    assert (back.amount_nano_usd, back.late) == (20, True)
    assert (await usage(ledger))["USER", "ada"] == (20, 0)


async def test_an_allotment_that_comes_back_in_parts(ledger: Ledger, clock: TurnableClock) -> None:
    lent = await ledger.allot(ADA, "a", 50, 10 * MICROSECONDS, "edge-1", LeaseTerms((("acme-ai", "unit"),)))
    kept = Kept(40, 30 * MICROSECONDS)
    for number, spent, held in ((1, 7, 40), (1, 7, 40), (2, 14, 33)):
        part = await ledger.commit(ADA, f"p{number}", lent.allotment_id, [used_tokens(7)], lent=True, kept=kept)
        assert (part.amount_nano_usd, part.late) == (7, False)
        assert (await usage(ledger))["USER", "ada"] == (spent, held)
    clock.turn(29)
    assert await ledger.sweep(10) == 0
    clock.turn(1)
    assert await ledger.sweep(10) == 1
    assert (await usage(ledger))["USER", "ada"] == (14, 0)
    last = await ledger.commit(ADA, "last", lent.allotment_id, [used_tokens(5)], lent=True)
    assert (last.amount_nano_usd, last.late) == (5, True)
    assert (await usage(ledger))["USER", "ada"] == (19, 0)


async def test_void(ledger: Ledger) -> None:
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 40, 0)
    assert (await ledger.void(ADA, "v", hold.reservation_id, "cache-hit")).released_nano_usd == 40
    assert await usage(ledger) == {("USER", "ada"): (0, 0), ("ORGANISATION", ""): (0, 0)}


async def test_l6_a_denial_changes_nothing_and_names_all(ledger: Ledger) -> None:
    await ledger.reserve(ADA, "r1", UNIT, 0, 80, 0)
    before = await usage(ledger)
    denied = await ledger.reserve(ADA, "r2", UNIT, 0, 95, 0)
    assert [v.limit.period for v in denied.violations] == [Period.QUERY, Period.HOUR]
    assert denied.retry_after_us is None
    assert (await ledger.reserve(ADA, "r3", UNIT, 0, 30, 0)).retry_after_us == MICROSECONDS
    assert await usage(ledger) == before


async def test_l3_every_verb_answers_the_same_again(ledger: Ledger, events: RecordedEvents) -> None:
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 85, 0)
    denied = await ledger.reserve(ADA, "d", UNIT, 0, 50, 0)
    extended = await ledger.extend(ADA, "e", hold.reservation_id, 50, 1, 0)
    booked = await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(10)])
    other = await ledger.reserve(ADA, "r2", UNIT, 0, 5, 0)
    voided = await ledger.void(ADA, "v", other.reservation_id, "not-sent")
    assert not denied.granted
    assert not extended.granted
    assert len(hold.alerts) == 1
    assert await ledger.reserve(ADA, "r", UNIT, 0, 85, 0) == hold
    assert await ledger.reserve(ADA, "d", UNIT, 0, 50, 0) == denied
    assert await ledger.extend(ADA, "e", hold.reservation_id, 50, 1, 0) == extended
    assert await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(10)]) == booked
    assert await ledger.void(ADA, "v", other.reservation_id, "not-sent") == voided
    assert len(events.alerts) == 1
    with pytest.raises(RequestIdReused):
        await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(11)])
    with pytest.raises(RequestIdReused):
        await ledger.reserve(ADA, "r", UNIT, 0, 84, 0)


async def test_the_same_request_twice_at_once_is_decided_once(ledger: Ledger) -> None:
    """getlago/lago-api#2664: two settlements within milliseconds."""
    answers = await asyncio.gather(*(ledger.reserve(ADA, "r", UNIT, 0, 10, 0) for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert await usage(ledger) == {("USER", "ada"): (0, 10), ("ORGANISATION", ""): (0, 10)}


async def test_concurrent_reserves_never_overshoot(ledger: Ledger) -> None:
    answers = await asyncio.gather(*(ledger.reserve(ADA, f"r{n}", UNIT, 0, 7, 0) for n in range(40)))
    assert sum(answer.granted for answer in answers) == 14
    assert (await usage(ledger))["USER", "ada"] == (0, 98)


async def test_errors_belong_to_their_request_alone(ledger: Ledger) -> None:
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 10, 0)
    stranger = Payer("globex", "", "bob", "key-9", "")
    results = await asyncio.gather(
        ledger.commit(ADA, "c1", "no-such-reservation", []),
        ledger.commit(stranger, "c2", hold.reservation_id, []),
        ledger.commit(ADA, "c3", hold.reservation_id, [used_tokens(4)]),
        ledger.commit(ADA, "c4", hold.reservation_id, [used_tokens(5)]),
        return_exceptions=True,
    )
    assert [type(r) for r in results[:2]] == [NotFound, NotFound]
    assert getattr(results[2], "amount_nano_usd", None) == 4
    assert isinstance(results[3], ReservationEnded)


async def test_expiry_lets_the_next_one_in_without_a_sweeper(
    ledger: Ledger, clock: TurnableClock, events: RecordedEvents
) -> None:
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 90, 30 * MICROSECONDS)
    await ledger.extend(ADA, "e", hold.reservation_id, 0, 15, 30 * MICROSECONDS)
    assert not (await ledger.reserve(ADA, "r2", UNIT, 0, 20, 0)).granted
    clock.turn(30)
    assert (await ledger.reserve(ADA, "r3", UNIT, 0, 20, 0)).granted
    assert (await usage(ledger))["USER", "ada"] == (15, 20)
    assert events.expiries == [(1, 15)]
    late = await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(12)])
    assert (late.late, late.amount_nano_usd) == (True, 12)
    assert (await usage(ledger))["USER", "ada"] == (12, 20)


async def test_sweep_ends_what_is_due_and_no_more_than_asked(ledger: Ledger, clock: TurnableClock) -> None:
    for n in range(3):
        await ledger.reserve(ADA, f"r{n}", UNIT, 0, 10, 30 * MICROSECONDS)
    await ledger.reserve(ADA, "live", UNIT, 0, 10, 60 * MICROSECONDS)
    assert await ledger.sweep(10) == 0
    clock.turn(31)
    assert [await ledger.sweep(2), await ledger.sweep(2), await ledger.sweep(2)] == [2, 1, 0]
    assert (await usage(ledger))["USER", "ada"] == (0, 10)


async def test_old_reservations_are_forgotten_and_live_ones_never(ledger: Ledger, clock: TurnableClock) -> None:
    ended = await ledger.reserve(ADA, "r1", UNIT, 0, 10, 30 * MICROSECONDS)
    live = await ledger.reserve(ADA, "r2", UNIT, 0, 10, 900 * MICROSECONDS)
    await ledger.void(ADA, "v", ended.reservation_id, "not-sent")
    assert await ledger.forget(60 * MICROSECONDS, 10) == 0
    clock.turn(61)
    assert await ledger.forget(60 * MICROSECONDS, 10) == 1
    with pytest.raises(NotFound):
        await ledger.commit(ADA, "c1", ended.reservation_id, [])
    await ledger.commit(ADA, "c2", live.reservation_id, [])


async def test_a_new_window_starts_empty(ledger: Ledger, clock: TurnableClock) -> None:
    """BerriAI/litellm#24675: a window that never began again."""
    await ledger.reserve(ADA, "r1", UNIT, 0, 90, 900 * MICROSECONDS)
    clock.turn(2400)
    assert (await ledger.reserve(ADA, "r2", UNIT, 0, 90, 0)).granted
    assert (await usage(ledger))["USER", "ada"] == (0, 90)


async def test_set_limit_applies_to_the_next_request_and_keeps_usage(ledger: Ledger) -> None:
    await ledger.reserve(ADA, "r1", UNIT, 0, 60, 0)
    wanted = Limit("", "acme", Scope.USER, "", Period.HOUR, 200, 8000, 10_000)
    saved = await ledger.set_limit(ADA, "s", wanted)
    assert await ledger.set_limit(ADA, "s", wanted) == saved
    assert (await ledger.reserve(ADA, "r2", UNIT, 0, 90, 0)).granted
    assert not (await ledger.reserve(ADA, "r3", UNIT, 0, 60, 0)).granted
    with pytest.raises(RequestIdReused):
        await ledger.set_limit(ADA, "s", Limit("", "acme", Scope.USER, "", Period.HOUR, 300))
    listed, _ = await ledger.reports.list_limits("acme", 0, "")
    assert saved in listed
    assert LIMITS[0].limit_id not in {x.limit_id for x in listed}


async def test_review_a_repeated_change_of_a_zone_gets_its_first_answer(ledger: Ledger) -> None:
    """The zone was checked before the id was looked up: the second try was refused for what was counted meanwhile."""
    wanted = Limit("", "acme", Scope.ORGANISATION, "", Period.DAY, 200, 8000, 10_000, time_zone="Europe/Berlin")
    saved = await ledger.set_limit(ADA, "s", wanted)
    other = replace(wanted, time_zone="Asia/Kolkata")
    moved = await ledger.set_limit(ADA, "s2", other)
    await ledger.reserve(ADA, "r", UNIT, 0, 10, 0)
    # A third zone is refused, and the two changes that were made are told again.
    with pytest.raises(InvalidRequest, match="would forget"):
        await ledger.set_limit(ADA, "s3", replace(wanted, time_zone=""))
    assert await ledger.set_limit(ADA, "s", wanted) == saved
    assert await ledger.set_limit(ADA, "s2", other) == moved


async def test_a_restart_with_another_configuration(store: Store, ledger: Ledger) -> None:
    by_hand = await ledger.set_limit(ADA, "s", Limit("", "acme", Scope.TEAM, "", Period.DAY, 5, 8000, 10_000))
    before = {x.limit_id: x for x in (await ledger.reports.list_limits("acme", 0, ""))[0]}
    dearer = limit(Scope.USER, Period.HOUR, 500)
    await store.declare_limits([dearer, LIMITS[1]])
    after = {x.limit_id: x for x in (await ledger.reports.list_limits("acme", 0, ""))[0]}
    assert after.keys() == {dearer.limit_id, LIMITS[1].limit_id, by_hand.limit_id}
    assert (after[dearer.limit_id].cap_nano_usd, after[dearer.limit_id].version) == (500, 2)
    assert after[LIMITS[1].limit_id] == before[LIMITS[1].limit_id]
    assert after[by_hand.limit_id] == by_hand


async def test_names_of_any_script_and_with_quotes_are_kept_apart(ledger: Ledger) -> None:
    names = ["o'brien", 'a"b', "{x,y}", "\\", "日本", "a\x1fb", " ", "\U0001f600", "null"]
    for number, name in enumerate(names):
        hold = await ledger.reserve(ADA._replace(user=name, feature=name), f'r"{number}{name}', UNIT, 0, 10, 0)
        await ledger.commit(ADA, f"c'{number}{name}", hold.reservation_id, [used_tokens(number)])
    found = await usage(ledger)
    assert {name: found["USER", name] for name in names} == {name: (n, 0) for n, name in enumerate(names)}


async def test_a_token_of_another_list_is_the_callers_mistake(ledger: Ledger) -> None:
    _, token = await ledger.reports.list_limits("acme", 1, "")
    for wrong in (token, page_token("lim-"), page_token(""), "x"):
        with pytest.raises(InvalidRequest, match="page_token"):
            await ledger.reports.usage("acme", None, "", None, 1, wrong)
    await ledger.reserve(ADA, "r", UNIT, 0, 1, 0)
    first, token = await ledger.reports.usage("acme", None, "", None, 1, "")
    assert len(first) == 1
    with pytest.raises(InvalidRequest, match="page_token"):
        await ledger.reports.list_limits("acme", 1, token)


@pytest.mark.parametrize("at_us", [-(10**17), -1, 253_402_300_799 * 10**6, 2**63 - 1])
async def test_a_moment_without_a_calendar_is_the_callers_mistake(ledger: Ledger, store: Store, at_us: int) -> None:
    await store.declare_limits([limit(Scope.ORGANISATION, Period.MONTH, 1)])
    with pytest.raises(InvalidRequest, match="at_time"):
        await ledger.reports.usage("acme", None, "", at_us, 1, "")


async def test_l17_a_cost_beyond_64_bits_is_refused_also_where_nothing_is_limited(
    store: Store, clock: TurnableClock
) -> None:
    ledger = desk_ledger(store, SteadyClock(clock.time_ns, clock.elapsed_ns), RecordedEvents())
    hold = await ledger.reserve(ADA, "r", UNIT, 0, 1, 0)
    with pytest.raises(InvalidRequest, match="lines"):
        await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(2**63 - 1), used_tokens(1, 2)])
    assert (await ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(1)])).amount_nano_usd == 1
