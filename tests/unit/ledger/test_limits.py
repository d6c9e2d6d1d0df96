"""Which limit is in force, what changes at run time, and what the configuration takes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.ledger.core.errors import InvalidRequest, NotFound, RequestIdReused
from services.ledger.core.limits import (
    EVERY_ORGANISATION,
    CounterKey,
    Limit,
    LimitSet,
    Payer,
    Scope,
    declare,
    limit_id_of,
)
from services.ledger.core.windows import Period
from tests.unit.ledger.builders import ADA, Desk, done, limit

EACH_USER = limit(Scope.USER, Period.HOUR, 100)


def wanted(scope: Scope, period: Period, cap: int, subject: str = "", limit_id: str = "") -> Limit:
    return Limit(limit_id, "acme", scope, subject, period, cap)


def test_the_organisations_own_limit_comes_before_everyones() -> None:
    desk = Desk([EACH_USER, limit(Scope.USER, Period.HOUR, 500, organisation="acme")])
    assert desk.reserve(500).granted
    assert not desk.reserve(101, payer=Payer("globex", "", "bob", "key-9", "")).granted


def test_a_named_subject_comes_before_each_by_itself() -> None:
    desk = Desk([EACH_USER, limit(Scope.USER, Period.HOUR, 500, subject="ada")])
    assert desk.reserve(500).granted
    assert not desk.reserve(101, payer=ADA._replace(user="bob")).granted


def test_scopes_and_periods_do_not_replace_each_other() -> None:
    desk = Desk([EACH_USER, limit(Scope.USER, Period.DAY, 150), limit(Scope.TEAM, Period.HOUR, 120)])
    found = {(v.limit.scope, v.limit.period) for v in desk.reserve(200).violations}
    assert found == {(Scope.USER, Period.HOUR), (Scope.USER, Period.DAY), (Scope.TEAM, Period.HOUR)}


def test_calls_without_a_user_share_one_subject_and_without_team_or_feature_have_none() -> None:
    desk = Desk([limit(scope, Period.DAY, 100) for scope in Scope])
    anonymous = Payer("acme", "", "", "key-1", "")
    desk.reserve(10, payer=anonymous)
    desk.reserve(10, payer=anonymous._replace(key_id="key-2"))
    used = desk.used()
    assert used["USER", ""] == (0, 20)
    assert used["KEY", "key-2"] == (0, 10)
    assert {scope for scope, _ in used} == {"ORGANISATION", "USER", "KEY"}


def test_counters_of_different_subjects_never_meet() -> None:
    keys = {
        CounterKey(organisation, scope, subject, Period.DAY, 0).counter_id()
        for organisation, subject in [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("a.1", "b")]
        for scope in Scope
    }
    assert len(keys) == 25


def test_a_change_keeps_the_usage_of_the_running_window() -> None:
    desk = Desk([EACH_USER])
    desk.commit(desk.reserve(90).reservation_id, 90)
    changed = done(desk.ledger.set_limit(ADA, "s", wanted(Scope.USER, Period.HOUR, 95)))
    assert changed.version == 1
    assert not desk.reserve(6).granted
    named = done(desk.ledger.set_limit(ADA, "t", wanted(Scope.USER, Period.HOUR, 120, subject="ada")))
    assert named.limit_id != changed.limit_id
    assert desk.reserve(20).granted
    assert not desk.reserve(20).granted


def test_versions_grow_with_each_change_and_only_then() -> None:
    desk = Desk()
    versions = [
        done(desk.ledger.set_limit(ADA, f"s{i}", wanted(Scope.TEAM, Period.DAY, cap))).version
        for i, cap in enumerate([10, 10, 20])
    ]
    assert versions == [1, 1, 2]


def test_l3_set_limit_is_once_only() -> None:
    desk = Desk()
    first = done(desk.ledger.set_limit(ADA, "s", wanted(Scope.TEAM, Period.DAY, 10)))
    done(desk.ledger.set_limit(ADA, "t", wanted(Scope.TEAM, Period.DAY, 20)))
    assert done(desk.ledger.set_limit(ADA, "s", wanted(Scope.TEAM, Period.DAY, 10))) == first
    with pytest.raises(RequestIdReused):
        done(desk.ledger.set_limit(ADA, "s", wanted(Scope.TEAM, Period.DAY, 30)))


def test_refuses_limits_that_contradict_themselves() -> None:
    desk = Desk([EACH_USER, limit(Scope.KEY, Period.DAY, 1, organisation="globex")])
    own = done(desk.ledger.set_limit(ADA, "own", wanted(Scope.TEAM, Period.DAY, 1)))
    cases = [
        wanted(Scope.ORGANISATION, Period.DAY, 1, subject="acme"),
        replace(wanted(Scope.USER, Period.DAY, 1), alert_basis_points=9600),
        wanted(Scope.USER, Period.HOUR, 1, limit_id=EACH_USER.limit_id),
        wanted(Scope.USER, Period.DAY, 1, limit_id=own.limit_id),
    ]
    for number, case in enumerate(cases):
        with pytest.raises(InvalidRequest):
            done(desk.ledger.set_limit(ADA, f"bad-{number}", case))
    for limit_id in (limit_id_of("globex", Scope.KEY, "", Period.DAY), "lim-unknown"):
        with pytest.raises(NotFound):
            done(desk.ledger.set_limit(ADA, "foreign", wanted(Scope.KEY, Period.DAY, 1, limit_id=limit_id)))


def test_an_organisation_has_a_bounded_number_of_limits() -> None:
    desk = Desk()
    desk.memory._max_limits = 2
    for number in range(2):
        done(desk.ledger.set_limit(ADA, f"s{number}", wanted(Scope.USER, Period.DAY, 1, subject=f"u{number}")))
    with pytest.raises(InvalidRequest, match="at most 2"):
        done(desk.ledger.set_limit(ADA, "s2", wanted(Scope.USER, Period.DAY, 1, subject="u2")))


def test_the_configuration_is_authoritative_for_what_it_names_and_takes_back() -> None:
    declared = limit(Scope.TEAM, Period.DAY, 10, organisation="acme")
    dropped = limit(Scope.KEY, Period.DAY, 10)
    first = declare(LimitSet(0, ()), [declared, dropped])
    by_hand = replace(wanted(Scope.USER, Period.DAY, 5), limit_id=limit_id_of("acme", Scope.USER, "", Period.DAY))
    edited = first.replaced_with(replace(declared, cap_nano_usd=99, version=2)).replaced_with(by_hand)
    restarted = declare(edited, [declared])
    assert restarted.by_id[declared.limit_id] == replace(declared, version=3)
    assert dropped.limit_id not in restarted.by_id
    assert restarted.by_id[by_hand.limit_id] == by_hand
    assert declare(restarted, [declared]) is restarted


def test_lists_what_an_organisation_lives_under() -> None:
    shared = [EACH_USER, limit(Scope.TEAM, Period.DAY, 1)]
    own = limit(Scope.USER, Period.HOUR, 500, organisation="acme")
    desk = Desk([*shared, own, limit(Scope.KEY, Period.DAY, 1, organisation="globex")])
    limits, token = done(desk.ledger.reports.list_limits("acme", 0, ""))
    assert token == ""
    assert {x.limit_id for x in limits} == {own.limit_id, shared[1].limit_id}
    assert [x.limit_id for x in limits] == sorted(x.limit_id for x in limits)


def test_lists_page_by_page() -> None:
    desk = Desk([limit(scope, Period.DAY, 1) for scope in Scope])
    seen, token, pages = [], "", 0
    while pages == 0 or token:
        page, token = done(desk.ledger.reports.list_limits("acme", 2, token))
        assert len(page) <= 2
        seen += [x.scope for x in page]
        pages += 1
    assert (pages, sorted(seen)) == (3, sorted(Scope))
    with pytest.raises(InvalidRequest):
        done(desk.ledger.reports.list_limits("acme", 2, "not-a-token"))


def test_usage_by_scope_subject_and_moment_page_by_page() -> None:
    desk = Desk([EACH_USER, limit(Scope.ORGANISATION, Period.DAY, 10_000)])
    for user in ("ada", "bob", "eve"):
        desk.commit(desk.reserve(10, payer=ADA._replace(user=user)).reservation_id, 7)
    desk.reserve(5)
    desk.reserve(3, payer=Payer("globex", "", "zoe", "key-9", ""))
    usages, _ = done(desk.ledger.reports.usage("acme", Scope.USER, "ada", None, 0, ""))
    assert [(u.counter.spent_nano_usd, u.counter.held_nano_usd) for u in usages] == [(7, 5)]
    assert usages[0].limit.period is Period.HOUR
    seen, token, pages = [], "", 0
    while pages == 0 or token:
        page, token = done(desk.ledger.reports.usage("acme", None, "", None, 3, token))
        seen += [(u.limit.scope.name, u.counter.key.subject) for u in page]
        pages += 1
    assert pages == 2
    assert sorted(seen) == [("ORGANISATION", ""), ("USER", "ada"), ("USER", "bob"), ("USER", "eve")]
    desk.clock.turn(3600)
    usages, _ = done(desk.ledger.reports.usage("acme", None, "", None, 0, ""))
    assert [u.limit.scope for u in usages] == [Scope.ORGANISATION]
    an_hour_ago = desk.clock.ns // 1000 - 3_600_000_000
    assert len(done(desk.ledger.reports.usage("acme", Scope.USER, "", an_hour_ago, 0, ""))[0]) == 3


def test_review_4b_nobody_sets_limits_of_every_organisation() -> None:
    """A credential of organisation "*" could deny everyone."""
    desk = Desk()
    star = ADA._replace(organisation=EVERY_ORGANISATION)
    suspend = Limit("", EVERY_ORGANISATION, Scope.ORGANISATION, "", Period.QUERY, 0)
    with pytest.raises(InvalidRequest, match=r"mesh\.yaml"):
        done(desk.ledger.set_limit(star, "s", suspend))
    assert desk.reserve(1).granted
