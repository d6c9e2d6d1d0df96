"""Limits on requests, tokens and concurrency: R1 to R7 of the research, and what peers got wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ledger.core import rates
from services.ledger.core.limits import Mode, Scope, Unit
from services.ledger.core.rates import MINUTE_NS, Rate
from services.ledger.core.service import Model
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, NANO, Desk, count_limit, done, limit, used_tokens

SECOND = MINUTE_NS // 60
all_rates = st.builds(
    lambda most, part: Rate(most, max(1, most * part // 100)), st.integers(1, 10**7), st.integers(1, 100)
)


@given(all_rates, st.lists(st.tuples(st.integers(0, 3 * MINUTE_NS), st.integers(0, 2000)), max_size=40))
def test_r1_never_more_than_the_rate_times_the_time_plus_the_burst(rate: Rate, steps: list[tuple[int, int]]) -> None:
    tat, now, admitted = 0, 10**18, [(0, 0)]
    for wait, count in steps:
        now += wait
        if rates.fits(tat, now, count, rate):
            tat = rates.move(tat, now, rates.cost_ns(count, rate.per_minute))
            admitted.append((now, count))
    for first in range(1, len(admitted)):
        total = 0
        for at, count in admitted[first:]:
            total += count
            elapsed = at - admitted[first][0] + 1  # to the nanosecond
            assert (total - rate.burst) * MINUTE_NS <= elapsed * rate.per_minute


waits = st.sampled_from([0, 0, SECOND, 20 * SECOND, MINUTE_NS])
# A wait, a part of the burst in percent, and which call ends (none below 5).
steps_with_ends = st.lists(st.tuples(waits, st.sampled_from([0, 10, 50, 100]), st.integers(0, 9)), max_size=40)


@given(all_rates, steps_with_ends)
@example(Rate(100, 100), [*[(MINUTE_NS, 100, 0)] * 4, *[(0, 100, 0), (0, 0, 5)] * 4])
def test_review_7_r1_with_what_is_given_back(rate: Rate, steps: list[tuple[int, int, int]]) -> None:
    """What was taken and kept exceeds the rate times the time by two bursts at most, whenever voids and commits come.

    One is the burst. The other is what was under way: only what has not drained is given back, and that is never more.
    """
    tat, now = 0, 10**18
    kept: list[tuple[int, int]] = []
    under_way: list[tuple[int, int]] = []
    for wait, percent, which in steps:
        now, count = now + wait, rate.burst * percent // 100
        if under_way and which >= 5:  # the end of a call that used a part of what it took
            index, tat_after = under_way.pop(which % len(under_way))
            at, taken = kept[index]
            used = min(count, taken)
            back = rates.cost_ns(taken, rate.per_minute) - rates.cost_ns(used, rate.per_minute)
            tat = rates.move(tat, now, -rates.refundable(back, tat_after, now))
            kept[index] = (at, used)
        elif rates.fits(tat, now, count, rate):
            tat = rates.move(tat, now, rates.cost_ns(count, rate.per_minute))
            under_way.append((len(kept), tat))
            kept.append((now, count))
        for first in range(len(kept)):
            total = sum(count for _, count in kept[first:])
            elapsed = now - kept[first][0] + len(steps)  # each is rounded to the nanosecond
            assert (total - 2 * rate.burst) * MINUTE_NS <= elapsed * rate.per_minute


def test_review_7_a_void_gives_back_nothing_that_has_drained() -> None:
    """120 old calls were voided, and 120 new ones came at once through 60 per minute with a burst of one."""
    desk = Desk([count_limit(Unit.REQUESTS, 60, burst=1)])
    holds = []
    for _ in range(120):
        holds.append(desk.reserve(1, ttl_s=900))
        desk.clock.turn(1)
    admitted = 0
    for hold in holds:
        admitted += desk.reserve(1).granted
        desk.void(hold.reservation_id)
    assert admitted == 1


@pytest.mark.parametrize("end", ["commit", "expiry"])
def test_review_7_a_late_end_gives_back_nothing_that_has_drained(end: str) -> None:
    desk = Desk([count_limit(Unit.TOKENS, 1000)])
    holds = []
    for _ in range(5):
        holds.append(desk.reserve(1000, ttl_s=890))
        desk.clock.turn(60)
    if end == "expiry":
        desk.clock.turn(580)
    assert desk.reserve(1000).granted
    if end == "expiry":
        desk.clock.turn(11)
    else:
        for hold in holds:
            desk.commit(hold.reservation_id, 5)
    assert not desk.reserve(1000).granted


def test_review_10_a_full_debt_stays_for_a_replica_whose_clock_is_behind() -> None:
    """A microsecond of skew forgave ten minutes of debt."""
    now, rate = 10**18, Rate(1000, 1000)
    tat = rates.move(0, now, rates.cost_ns(50_000, 1000))
    assert tat == now + rates.MAX_DEBT_NS
    for behind_ns in (0, 1000, rates.MAX_SKEW_NS):
        assert rates.pending_ns(tat, now - behind_ns) == rates.MAX_DEBT_NS
        assert not rates.fits(tat, now - behind_ns, 1, rate)
    assert rates.pending_ns(tat, now - rates.MAX_SKEW_NS - 1) == 0


def test_review_6_a_priced_call_without_tokens_passes_no_exhausted_limit() -> None:
    """A hold of zero tokens was granted for ever, and its commit cost what it liked and took nothing of the rate."""
    desk = Desk([limit(Scope.USER, Period.DAY, 100), count_limit(Unit.TOKENS, 100, scope=Scope.KEY)])
    first = desk.reserve(0)
    assert first.granted
    desk.commit(first.reservation_id, 100)
    denied = desk.reserve(0)
    assert [v.limit.unit for v in denied.violations] == [Unit.MONEY, Unit.TOKENS]
    assert denied.violations[0].retry_after_us is not None
    why = done(desk.ledger.reports.why_blocked("acme", ""))
    assert not why.would_pass_now
    # What has no price fits every budget; tokens it takes all the same.
    desk.clock.turn(60)
    free = [Model("local", "free")]
    assert done(desk.ledger.reserve(ADA, "free", free, 0, 0, 60 * MICROSECONDS)).granted
    assert not desk.reserve(0).granted


@given(all_rates, st.integers(0, 10**8), st.integers(0, rates.MAX_DEBT_NS))
def test_r4_the_wait_is_sufficient_and_tight(rate: Rate, count: int, ahead: int) -> None:
    now = 10**18
    wait = rates.retry_after_ns(now + ahead, now, count, rate)
    if wait is None:
        assert count > rate.burst
        return
    assert rates.fits(now + ahead, now + wait, count, rate)
    if wait:
        assert not rates.fits(now + ahead, now + wait - 1, count, rate)


@given(all_rates, st.integers(0, rates.MAX_DEBT_NS))
def test_the_remaining_count_fits_and_one_more_does_not(rate: Rate, ahead: int) -> None:
    now = 10**18
    left = rates.remaining(now + ahead, now, rate)
    if ahead <= rate.tolerance_ns:
        assert rates.fits(now + ahead, now, left, rate)
    assert not rates.fits(now + ahead, now, left + 1, rate)


def test_r3_a_clock_that_is_set_back_blocks_for_minutes_at_most() -> None:
    desk = Desk([count_limit(Unit.REQUESTS, 1)])
    assert desk.reserve(1).granted
    desk.clock.turn(-300)
    denied = desk.reserve(1)
    assert not denied.granted
    assert denied.retry_after_us is not None
    assert denied.retry_after_us <= rates.MAX_DEBT_NS // 1000
    desk.clock.turn(denied.retry_after_us / MICROSECONDS)
    assert desk.reserve(1).granted
    desk.clock.turn(-3600)
    assert [desk.reserve(1).granted for _ in range(2)] == [True, False]


def test_requests_per_minute() -> None:
    desk = Desk([count_limit(Unit.REQUESTS, 60, burst=3)])
    assert [desk.reserve(1).granted for _ in range(4)] == [True, True, True, False]
    denied = desk.reserve(1)
    (violation,) = denied.violations
    assert (violation.limit.unit, violation.remaining, violation.requested) == (Unit.REQUESTS, 0, 1)
    assert denied.retry_after_us == violation.retry_after_us == MICROSECONDS
    desk.clock.ns += SECOND
    granted = desk.reserve(1)
    assert granted.granted
    assert [(r.remaining, r.reset_us) for r in granted.rates] == [(0, 3 * MICROSECONDS)]


def test_litellm_39309_a_denial_burns_no_rate() -> None:
    """R2 and R6: one limit denies, the others have spent nothing."""
    desk = Desk([limit(Scope.USER, Period.HOUR, 10), count_limit(Unit.REQUESTS, 2), count_limit(Unit.TOKENS, 100)])
    before = dict(desk.memory.books.counters)
    for _ in range(5):
        denied = desk.reserve(50)
        assert [v.limit.unit for v in denied.violations] == [Unit.MONEY]
        assert [r.remaining for r in denied.rates] == [2, 100]
    assert {i: c for i, c in desk.memory.books.counters.items() if i in before} == before
    assert desk.reserve(10).granted


def test_a_denial_names_every_limit_and_the_longest_wait() -> None:
    desk = Desk([count_limit(Unit.REQUESTS, 1), count_limit(Unit.TOKENS, 60), limit(Scope.USER, Period.HOUR, 100)])
    desk.commit(desk.reserve(60).reservation_id, 60)
    denied = desk.reserve(50)
    waits = {v.limit.unit: v.retry_after_us for v in denied.violations}
    assert waits == {Unit.MONEY: 2400 * MICROSECONDS, Unit.REQUESTS: 60 * MICROSECONDS, Unit.TOKENS: 50 * MICROSECONDS}
    assert denied.retry_after_us == 2400 * MICROSECONDS
    # More than the burst never fits: waiting does not help.
    assert desk.reserve(61).retry_after_us is None


def test_a_commit_puts_tokens_right() -> None:
    desk = Desk([count_limit(Unit.TOKENS, 100)])
    hold = desk.reserve(90)
    assert not desk.reserve(20).granted
    desk.commit(hold.reservation_id, 30)
    second = desk.reserve(70)
    assert second.granted
    desk.commit(second.reservation_id, 120)
    assert desk.reserve(1).retry_after_us == 51 * (MINUTE_NS // 100) // 1000


def test_an_estimated_usage_gives_no_tokens_back() -> None:
    desk = Desk([count_limit(Unit.TOKENS, 100)])
    hold = desk.reserve(90)
    done(desk.ledger.commit(ADA, "c", hold.reservation_id, [used_tokens(30, estimated=True)]))
    assert not desk.reserve(20).granted


@pytest.mark.parametrize("end", ["void", "expiry"])
def test_what_was_not_sent_gives_its_rates_back(end: str) -> None:
    desk = Desk([count_limit(Unit.REQUESTS, 1, scope=Scope.KEY), count_limit(Unit.TOKENS, 10**6)])
    hold = desk.reserve(900_000, ttl_s=5)
    if end == "void":
        desk.void(hold.reservation_id)
    else:
        desk.clock.turn(6)
    again = desk.reserve(900_000)
    assert again.granted
    booked = desk.commit(hold.reservation_id, 50_000)
    assert booked.late is (end == "expiry")
    assert {v.limit.unit for v in desk.reserve(100_000).violations} == {Unit.REQUESTS, Unit.TOKENS}


def test_what_was_sent_and_forgotten_keeps_its_rates() -> None:
    desk = Desk([count_limit(Unit.REQUESTS, 1)])
    desk.dispatch(desk.reserve(1, ttl_s=5).reservation_id)
    desk.clock.turn(6)
    assert not desk.reserve(1).granted


def test_free_calls_count_as_calls() -> None:
    """litellm#14004, #29912: a model without a price has no rate limit."""
    desk = Desk([limit(Scope.USER, Period.HOUR, 0 + 1), count_limit(Unit.REQUESTS, 1)])
    assert desk.reserve(0).granted
    assert [v.limit.unit for v in desk.reserve(0).violations] == [Unit.REQUESTS]


def test_litellm_20256_a_slot_comes_back_by_itself() -> None:
    """Also litellm#27955, #28160, shenyu#6646: a counter of calls under way that is never released."""
    desk = Desk([count_limit(Unit.CONCURRENCY, 2)])
    first, second = desk.reserve(1, ttl_s=30), desk.reserve(1, ttl_s=900)
    denied = desk.reserve(1)
    (violation,) = denied.violations
    assert (violation.remaining, denied.retry_after_us) == (0, MICROSECONDS)
    desk.commit(second.reservation_id, 1)
    assert desk.reserve(1, ttl_s=30).granted
    assert not desk.reserve(1).granted
    desk.clock.turn(30)
    assert [desk.reserve(1).granted for _ in range(3)] == [True, True, False]
    desk.commit(first.reservation_id, 1)
    assert not desk.reserve(1).granted


@pytest.mark.parametrize("unit", [Unit.REQUESTS, Unit.TOKENS, Unit.CONCURRENCY])
def test_zero_suspends(unit: Unit) -> None:
    denied = Desk([count_limit(unit, 0)]).reserve(0)
    assert [v.limit.unit for v in denied.violations] == [unit]
    assert denied.retry_after_us is None


def test_an_edited_rate_gives_back_at_the_rate_it_was_taken() -> None:
    """L11: a limit edited in mid-flight neither leaks nor gives back twice."""
    desk = Desk([count_limit(Unit.TOKENS, 100), count_limit(Unit.CONCURRENCY, 9)])
    hold = desk.reserve(100)
    done(desk.memory.declare_limits([count_limit(Unit.TOKENS, 1000)]))
    desk.void(hold.reservation_id)
    left = {c.key.unit: (c.tat_ns, c.held_nano_usd) for c in desk.memory.books.counters.values()}
    assert left == {Unit.TOKENS: (desk.clock.ns, 0), Unit.CONCURRENCY: (0, 0)}


def test_an_edit_of_a_rate_keeps_the_time_that_is_owed_and_not_the_count() -> None:
    desk = Desk([count_limit(Unit.TOKENS, 10)])
    desk.commit(desk.reserve(10).reservation_id, 40)
    done(desk.memory.declare_limits([count_limit(Unit.TOKENS, 1000)]))
    assert desk.reserve(10).retry_after_us == 180_600_000
    usages, _ = done(desk.ledger.reports.usage("acme", None, "", None, 0, ""))
    assert [u.used_count for u in usages] == [4000]
    done(desk.memory.declare_limits([count_limit(Unit.TOKENS, 1000, mode=Mode.SHADOW)]))
    assert desk.reserve(10).granted
    desk.clock.turn(240)
    done(desk.memory.declare_limits([count_limit(Unit.TOKENS, 1000)]))
    assert desk.reserve(1000).granted


def test_l14_r7_shadow_denies_nothing_and_counts_what_it_would_have_denied() -> None:
    shadowed = [
        count_limit(Unit.REQUESTS, 2, mode=Mode.SHADOW),
        count_limit(Unit.CONCURRENCY, 3, mode=Mode.SHADOW),
    ]
    enforced = [count_limit(Unit.REQUESTS, 2), count_limit(Unit.CONCURRENCY, 3)]
    shadow, strict = Desk(shadowed), Desk(enforced)
    for seconds in (0, 0, 0, 30, 1, 1, 60):
        shadow.clock.turn(seconds)
        strict.clock.turn(seconds)
        lenient, denied = shadow.reserve(1, ttl_s=20), strict.reserve(1, ttl_s=20)
        assert lenient.granted
        rate = [v for v in lenient.shadow_violations if v.limit.unit is Unit.REQUESTS]
        assert [v.remaining for v in rate] == [v.remaining for v in denied.violations if v.limit.unit is Unit.REQUESTS]
    assert len(shadow.events.shadow_denials) == sum(not granted for _, granted in strict.events.decisions)


def test_a_shadow_budget_counts_alerts_and_lets_pass() -> None:
    desk = Desk([replace(limit(Scope.USER, Period.HOUR, 100), mode=Mode.SHADOW), limit(Scope.KEY, Period.DAY, 500)])
    first, second = desk.reserve(90), desk.reserve(90)
    assert (first.granted, second.granted) == (True, True)
    assert [v.limit.scope for v in second.shadow_violations] == [Scope.USER]
    assert len(desk.events.alerts) == 1
    assert desk.used()["USER", "ada"] == (0, 180)
    extended = done(desk.ledger.extend(ADA, "e", second.reservation_id, 90, 0, 0))
    assert extended.granted


def test_rates_are_counted_in_usage() -> None:
    desk = Desk([count_limit(Unit.TOKENS, 100), count_limit(Unit.CONCURRENCY, 3)])
    desk.reserve(40)
    desk.clock.ns += 6 * NANO
    usages, _ = done(desk.ledger.reports.usage("acme", None, "", None, 0, ""))
    assert {u.limit.unit: u.used_count for u in usages} == {Unit.TOKENS: 30, Unit.CONCURRENCY: 1}
