"""L9: calendar windows of a time zone, over changes of clocks and leap days. litellm#38938, #24675, #8364."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.core.errors import InvalidRequest, ZoneUnknown
from services.ledger.core.limit_changes import declare_and_keep, left_windows
from services.ledger.core.limits import CounterKey, Limit, LimitSet, Scope
from services.ledger.core.windows import Period, window_at, zone_of
from tests.unit.ledger.builders import ADA, START, Desk, TurnableClock, done, limit

ZONES = ["", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Apia"]


def at(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        ("2026-03-29T12:00", "Europe/Berlin", 23),
        ("2026-10-25T12:00", "Europe/Berlin", 25),
        ("2026-11-24T12:00", "Europe/Berlin", 24),
        ("2026-11-01T00:30", "America/New_York", 25),
        ("2018-11-04T12:00", "America/Sao_Paulo", 23),  # midnight itself was skipped
        ("2028-02-29T23:59", "Asia/Kathmandu", 24),
    ],
)
def test_days_have_the_hours_that_their_clocks_show(day: str, zone: str, hours: int) -> None:
    start, end = window_at(Period.DAY, at(day, zone), zone)
    assert end is not None
    assert end - start == hours * 3600


@given(st.sampled_from([Period.HOUR, Period.DAY, Period.MONTH]), st.integers(0, 2**32), st.sampled_from(ZONES))
def test_windows_of_every_zone_follow_each_other(period: Period, now: int, zone: str) -> None:
    start, end = window_at(period, now, zone)
    assert end is not None
    assert start <= now < end
    assert window_at(period, end, zone).start_s == end
    assert window_at(period, end - 1, zone).start_s == start
    assert window_at(period, start, zone).end_s == end


@given(st.integers(0, 2**32), st.lists(st.integers(1, 7200), max_size=6))
def test_what_is_remembered_of_a_payer_is_what_is_true(now: int, steps: list[int]) -> None:
    """A day that begins at half past an hour of UTC must not be missed by a memory that lasts an hour."""
    rows = [replace(limit(Scope.USER, Period.DAY, 1), time_zone="Asia/Kolkata"), limit(Scope.KEY, Period.MONTH, 1)]
    remembering = LimitSet(1, rows)
    for step in [0, *steps]:
        now += step
        assert remembering.bindings(ADA, now) == LimitSet(1, rows).bindings(ADA, now)


def test_a_budget_of_the_day_begins_at_local_midnight() -> None:
    """BerriAI/litellm#38938, #8364: windows that began late, or at the midnight of another zone."""
    clock = TurnableClock(datetime(2026, 3, 28, 22, 59, 59, tzinfo=UTC))
    desk = Desk([replace(limit(Scope.ORGANISATION, Period.DAY, 100), time_zone="Europe/Berlin")], clock=clock)
    desk.commit(desk.reserve(100).reservation_id, 100)
    denied = desk.reserve(1)
    assert denied.retry_after_us == 10**6
    clock.turn(1)
    desk.commit(desk.reserve(100).reservation_id, 100)
    # The next day begins 23 hours later.
    assert desk.reserve(1).retry_after_us == 23 * 3600 * 10**6


def test_an_unknown_zone_is_named() -> None:
    for name in ("Europe/Atlantis", "Europe", "../etc/passwd", "x\0y"):
        with pytest.raises(ValueError, match="not known here"):
            zone_of(name)


@pytest.mark.parametrize("owner", ["acme", "*"])
def test_review_8_another_zone_does_not_forget_what_was_spent_today(owner: str) -> None:
    """`llmops budget set` without --zone made a day of UTC of one of Los Angeles, and the day began anew."""
    pacific = replace(limit(Scope.ORGANISATION, Period.DAY, 100, organisation=owner), time_zone="America/Los_Angeles")
    desk = Desk([pacific])
    wanted = replace(pacific, organisation="acme", limit_id="", time_zone="")
    desk.commit(desk.reserve(100).reservation_id, 100)
    with pytest.raises(InvalidRequest, match="suspend the limit"):
        done(desk.ledger.set_limit(ADA, "s1", wanted))
    assert not desk.reserve(1).granted
    raised = done(desk.ledger.set_limit(ADA, "s2", replace(wanted, time_zone=pacific.time_zone, cap_nano_usd=150)))
    assert raised.cap_nano_usd == 150
    assert not desk.reserve(51).granted
    # Nothing is counted in a window that nobody has used yet.
    desk.clock.turn(86_400)
    assert done(desk.ledger.set_limit(ADA, "s3", wanted)).time_zone == ""


DAY = limit(Scope.ORGANISATION, Period.DAY, 100)
EACH_USER = limit(Scope.USER, Period.DAY, 100)
TOKYO = "Asia/Tokyo"


def in_force(desk: Desk, scope: Scope = Scope.ORGANISATION, subject: str = "") -> Limit:
    found = desk.memory.books.limits.in_force("acme", scope, subject, Period.DAY)
    assert found is not None
    return found


def test_a_declared_zone_waits_for_a_window_that_nobody_used_and_the_rest_of_the_limit_does_not() -> None:
    desk = Desk([DAY])
    desk.commit(desk.reserve(90).reservation_id, 90)
    lowered = replace(DAY, cap_nano_usd=95, time_zone=TOKYO)
    done(desk.memory.declare_limits([lowered]))
    assert not desk.reserve(6).granted
    assert desk.reserve(5).granted
    version = desk.memory.books.limits.version
    done(desk.memory.declare_limits([lowered]))
    assert (in_force(desk).time_zone, desk.memory.books.limits.version) == ("", version)
    desk.clock.turn(86_400)
    done(desk.memory.declare_limits([lowered]))
    assert in_force(desk).time_zone == TOKYO


def test_who_is_suspended_and_asks_on_keeps_no_zone() -> None:
    """A denial opens a counter, and counts nothing on it."""
    desk = Desk([DAY])
    desk.commit(desk.reserve(90).reservation_id, 90)
    done(desk.memory.declare_limits([replace(DAY, cap_nano_usd=0)]))
    desk.clock.turn(86_400)
    assert not desk.reserve(1).granted
    done(desk.memory.declare_limits([replace(DAY, time_zone=TOKYO)]))
    assert in_force(desk).time_zone == TOKYO


@pytest.mark.parametrize("zone", ["UTC", "Africa/Abidjan"])
def test_another_name_for_the_same_days_is_no_other_zone(zone: str) -> None:
    desk = Desk([DAY])
    desk.reserve(10)
    wanted = replace(DAY, organisation="acme", limit_id="", time_zone=zone)
    assert done(desk.ledger.set_limit(ADA, "s", wanted)).time_zone == zone
    hour = replace(limit(Scope.USER, Period.HOUR, 50, organisation="acme"), limit_id="")
    done(desk.ledger.set_limit(ADA, "h1", hour))
    desk.reserve(10)
    assert done(desk.ledger.set_limit(ADA, "h2", replace(hour, time_zone=TOKYO))).time_zone == TOKYO
    assert not desk.reserve(41).granted


def test_a_limit_on_each_does_not_forget_whom_a_limit_of_every_organisation_named() -> None:
    """The organisation's own limit comes first: it is now ada's, and its days are others."""
    ada = limit(Scope.USER, Period.DAY, 100, subject="ada")
    desk = Desk([ada])
    desk.commit(desk.reserve(90).reservation_id, 90)
    own = replace(EACH_USER, organisation="acme", limit_id="", time_zone=TOKYO)
    with pytest.raises(InvalidRequest, match="for 'ada'; set a limit of that subject in UTC first"):
        done(desk.ledger.set_limit(ADA, "s", own))
    done(desk.ledger.set_limit(ADA, "a", replace(ada, organisation="acme", limit_id="")))
    assert done(desk.ledger.set_limit(ADA, "s", own)).time_zone == TOKYO
    assert not desk.reserve(11).granted


def test_a_declared_limit_that_takes_anothers_place_has_its_own_days_and_says_what_that_leaves() -> None:
    """Copies in the old zone would hide what the new limits say, a suspension among them."""
    ada = limit(Scope.USER, Period.DAY, 100, subject="ada")
    own = replace(limit(Scope.USER, Period.DAY, 100, organisation="acme"), time_zone=TOKYO)
    suspended = limit(Scope.USER, Period.DAY, 0, subject="mallory", organisation="acme")
    desk = Desk([ada])
    desk.commit(desk.reserve(90).reservation_id, 90)
    before, now_us = desk.memory.books.limits, int(START.timestamp()) * 10**6
    used = [counter.key for counter in desk.memory.books.counters.values()]
    after, forgotten = declare_and_keep(before, [own, suspended], used, now_us)
    assert (set(after.by_id), forgotten) == ({own.limit_id, suspended.limit_id}, 1)
    assert declare_and_keep(before, [replace(ada, time_zone=TOKYO)], used, now_us)[1] == 0


def test_many_limits_change_their_zone_in_one_look() -> None:
    """Each was looked for anew: a start with ten thousand of them held its locks until it was cut, for ever."""
    names = [f"u{n}" for n in range(3000)]
    before = LimitSet(1, [limit(Scope.USER, Period.DAY, 100, subject=name) for name in names])
    declared = [replace(each, time_zone=TOKYO) for each in before.by_id.values()]
    now_us = int(START.timestamp()) * 10**6
    start_s = window_at(Period.DAY, now_us // 10**6).start_s
    used = [CounterKey("acme", Scope.USER, name, Period.DAY, start_s) for name in names]
    after, forgotten = declare_and_keep(before, declared, used, now_us)
    assert (after, forgotten) == (before, 0)
    assert len(left_windows(before, LimitSet(2, declared), now_us)) == 1


def test_a_zone_that_is_not_known_here_hides_no_other_usage() -> None:
    """GetUsage was an internal error as long as one limit of the organisation was cut by such a zone."""
    desk = Desk([limit(Scope.USER, Period.HOUR, 100), limit(Scope.TEAM, Period.DAY, 100)])
    assert desk.reserve(10).granted
    kept = desk.memory.books.limits.by_id.values()
    # The hour is one of UTC whatever its zone says: it counts, and is shown.
    desk.memory.books.limits = LimitSet(9, [replace(x, time_zone="Mars/Olympus") for x in kept])
    usages, _ = done(desk.ledger.reports.usage("acme", None, "", None, 100, ""))
    assert [(u.limit.scope, u.counter.held_nano_usd) for u in usages] == [(Scope.USER, 10)]
    with pytest.raises(ZoneUnknown, match=r"'Mars/Olympus' of limit lim-\w+ is not known to this ledger"):
        desk.reserve(1)
