"""A limit of nothing stops whatever would cost: new calls, and raises of those that run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.ledger.core.limits import Limit, Mode, Scope, Unit
from services.ledger.core.operations import ExtendAnswer
from services.ledger.core.windows import Period
from tests.unit.ledger.builders import ADA, Desk, TurnableClock, done, limit

LIFETIME = limit(Scope.ORGANISATION, Period.LIFETIME, 10**6)
KEY_DAY = Limit("", "acme", Scope.KEY, "key-1", Period.DAY, 0)
SUSPENSIONS = [
    KEY_DAY,
    Limit("", "acme", Scope.USER, "", Period.QUERY, 0),
    Limit("", "acme", Scope.ORGANISATION, "", Period.MINUTE, 0, unit=Unit.REQUESTS),
    Limit("", "acme", Scope.ORGANISATION, "", Period.MINUTE, 0, unit=Unit.TOKENS),
    Limit("", "acme", Scope.TEAM, "search", Period.MOMENT, 0, unit=Unit.CONCURRENCY),
]


def raised(desk: Desk, reservation_id: str, add: int, request_id: str = "e") -> ExtendAnswer:
    return done(desk.ledger.extend(ADA, request_id, reservation_id, add, 1, 0))


def set_limit(desk: Desk, wanted: Limit, request_id: str = "s") -> None:
    done(desk.ledger.set_limit(ADA, request_id, wanted))


@pytest.mark.parametrize("suspension", SUSPENSIONS, ids=lambda x: f"{x.scope.name}-{x.unit.name}-{x.period.name}")
def test_a_suspension_that_came_after_the_call_stops_its_raises(suspension: Limit) -> None:
    """A key that is suspended because it leaked must not go on spending through the streams that it runs."""
    desk = Desk([LIFETIME])
    running = desk.reserve(10).reservation_id
    set_limit(desk, suspension)
    refused = raised(desk, running, 1000)
    assert (refused.granted, refused.reserved_nano_usd) == (False, 10)
    assert [(v.limit.scope, v.limit.unit) for v in refused.violations] == [(suspension.scope, suspension.unit)]
    # What was spent is taken over all the same, and booked at the end.
    assert raised(desk, running, 0, "e2").granted
    assert desk.commit(running, 12).amount_nano_usd == 12


@pytest.mark.parametrize("minutes", [0, 14])
def test_a_suspension_is_named_once_whatever_day_the_call_began_on(minutes: int) -> None:
    before_midnight = TurnableClock(datetime(2026, 11, 24, 23, 50, tzinfo=UTC))
    desk = Desk([LIFETIME, limit(Scope.KEY, Period.DAY, 10**6)], clock=before_midnight)
    running = desk.reserve(10, ttl_s=900).reservation_id
    set_limit(desk, KEY_DAY)
    desk.clock.turn(60 * minutes)
    assert [v.limit.period for v in raised(desk, running, 1).violations] == [Period.DAY]


def test_only_what_suspends_is_asked_of_limits_that_came_after_the_call() -> None:
    desk = Desk([LIFETIME])
    running = desk.reserve(10).reservation_id
    set_limit(desk, replace(KEY_DAY, cap_nano_usd=5))
    set_limit(desk, replace(SUSPENSIONS[2], mode=Mode.SHADOW), "s2")
    assert raised(desk, running, 1000).granted
