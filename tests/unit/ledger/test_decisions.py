"""Decisions by example: what is held, refused, booked and released."""

from __future__ import annotations

import pytest

from services.ledger.core.errors import InvalidRequest, ModelUnpriced, NotFound, RequestIdReused, ReservationEnded
from services.ledger.core.identities import id_bound
from services.ledger.core.limits import Payer, Scope
from services.ledger.core.operations import Kind
from services.ledger.core.prices import Tokens
from services.ledger.core.service import Model, UsedTokens
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, START, Desk, done, limit, used_tokens

ORG_DAY = limit(Scope.ORGANISATION, Period.DAY, 1000)
USER_HOUR = limit(Scope.USER, Period.HOUR, 100)
QUERY = limit(Scope.ORGANISATION, Period.QUERY, 60)


def test_holds_the_estimate_and_books_what_was_used() -> None:
    desk = Desk([ORG_DAY, USER_HOUR])
    hold = desk.reserve(50)
    assert (hold.granted, hold.reserved_nano_usd) == (True, 50)
    assert desk.used() == {("ORGANISATION", ""): (0, 50), ("USER", "ada"): (0, 50)}
    booked = desk.commit(hold.reservation_id, 30)
    assert (booked.amount_nano_usd, booked.overrun_nano_usd, booked.late) == (30, 0, False)
    assert desk.used() == {("ORGANISATION", ""): (30, 0), ("USER", "ada"): (30, 0)}


def test_reserves_the_dearest_of_the_candidates_and_fixes_every_price() -> None:
    desk = Desk([ORG_DAY])
    models = [Model("acme-ai", "unit"), Model("other-ai", "double")]
    hold = done(desk.ledger.reserve(ADA, "r", models, 0, 50, 0))
    assert hold.reserved_nano_usd == 100
    assert [price.model for price in hold.prices] == ["unit", "double"]


def test_l6_a_denial_names_every_violated_limit_and_holds_nothing() -> None:
    desk = Desk([ORG_DAY, USER_HOUR, QUERY, limit(Scope.KEY, Period.DAY, 10_000)])
    desk.commit(desk.reserve(50).reservation_id, 50)
    before = desk.used()
    denied = desk.reserve(61)
    assert not denied.granted
    assert denied.reservation_id == ""
    found = {(v.limit.scope, v.limit.period): (v.remaining, v.requested) for v in denied.violations}
    assert found == {(Scope.ORGANISATION, Period.QUERY): (60, 61), (Scope.USER, Period.HOUR): (50, 61)}
    assert desk.used() == before


def test_violations_carry_the_end_of_their_window() -> None:
    desk = Desk([USER_HOUR, QUERY, limit(Scope.KEY, Period.LIFETIME, 10)])
    ends = {v.limit.period: v.window_end_s for v in desk.reserve(101).violations}
    assert ends == {Period.HOUR: int(START.timestamp()) + 2400, Period.QUERY: None, Period.LIFETIME: None}


def test_retry_after_is_when_the_last_violated_window_ends() -> None:
    desk = Desk([limit(Scope.ORGANISATION, Period.DAY, 100), USER_HOUR])
    desk.commit(desk.reserve(90).reservation_id, 90)
    denied = desk.reserve(50)
    assert denied.retry_after_us == (10 * 3600 + 2400) * MICROSECONDS
    desk.clock.turn(denied.retry_after_us / MICROSECONDS)
    assert desk.reserve(50).granted


def test_retry_after_of_the_hour_alone() -> None:
    desk = Desk([ORG_DAY, USER_HOUR])
    desk.commit(desk.reserve(90).reservation_id, 90)
    denied = desk.reserve(50)
    assert denied.retry_after_us == 2400 * MICROSECONDS
    desk.clock.turn(2399)
    assert not desk.reserve(50).granted
    desk.clock.turn(1)
    assert desk.reserve(50).granted


@pytest.mark.parametrize("period", [Period.DAY, Period.LIFETIME])
def test_what_calls_under_way_hold_may_come_back_before_any_window_ends(period: Period) -> None:
    desk = Desk([limit(Scope.ORGANISATION, period, 100)])
    under_way = desk.reserve(90).reservation_id
    assert desk.reserve(50).retry_after_us == MICROSECONDS
    desk.commit(under_way, 60)
    assert desk.reserve(50).retry_after_us != MICROSECONDS


@pytest.mark.parametrize(
    "hopeless",
    [
        limit(Scope.USER, Period.HOUR, 49),
        limit(Scope.USER, Period.HOUR, 0),
        limit(Scope.USER, Period.LIFETIME, 49),
        limit(Scope.USER, Period.QUERY, 49),
    ],
)
def test_no_retry_after_when_waiting_does_not_help(hopeless: object) -> None:
    desk = Desk([hopeless])  # type: ignore[list-item]
    denied = desk.reserve(50)
    assert not denied.granted
    assert denied.retry_after_us is None


def test_stops_at_the_stop_line_and_not_at_the_cap() -> None:
    desk = Desk([limit(Scope.ORGANISATION, Period.DAY, 100, stop=9500)])
    assert not desk.reserve(96).granted
    assert desk.reserve(95).granted
    assert desk.reserve(1).violations[0].remaining == 0


def test_one_query_is_compared_with_the_cap_itself() -> None:
    desk = Desk([limit(Scope.ORGANISATION, Period.QUERY, 100, stop=9500)])
    assert desk.reserve(100).granted
    assert not desk.reserve(101).granted


def test_zero_suspends_and_free_calls_fit_any_other_cap() -> None:
    desk = Desk([limit(Scope.USER, Period.DAY, 0, subject="eve"), limit(Scope.USER, Period.DAY, 100)])
    free = [Model("local", "free")]
    assert not done(desk.ledger.reserve(ADA._replace(user="eve"), "a", free, 10, 10, 0)).granted
    desk.commit(desk.reserve(100).reservation_id, 500)
    assert not desk.reserve(1).granted
    assert done(desk.ledger.reserve(ADA, "b", free, 10, 10, 0)).granted


def test_l10_alerts_once_per_window_when_the_line_is_passed() -> None:
    """maximhq/bifrost#5770: what a rule took for the used part of a budget was not it."""
    desk = Desk([limit(Scope.ORGANISATION, Period.DAY, 100)])
    assert desk.reserve(79).alerts == ()
    crossing = desk.reserve(1)
    assert [a.used_nano_usd for a in crossing.alerts] == [80]
    assert desk.reserve(5).alerts == ()
    desk.clock.turn(86_400)
    assert len(desk.reserve(90).alerts) == 1
    assert len(desk.events.alerts) == 2


def test_l10_an_overrun_alerts_too() -> None:
    desk = Desk([limit(Scope.ORGANISATION, Period.DAY, 100)])
    desk.commit(desk.reserve(10).reservation_id, 85)
    assert [a.used_nano_usd for a in desk.events.alerts] == [85]
    assert desk.reserve(1).alerts == ()


def test_a_repeated_answer_alerts_nobody_twice() -> None:
    desk = Desk([limit(Scope.ORGANISATION, Period.DAY, 100)])
    first = desk.reserve(90, request_id="same")
    assert desk.reserve(90, request_id="same") == first
    assert len(desk.events.alerts) == 1
    assert desk.events.decisions == [("reserve", True)]


def test_l7_commit_never_fails_for_funds_and_the_overrun_blocks_the_next() -> None:
    desk = Desk([USER_HOUR])
    booked = desk.commit(desk.reserve(10).reservation_id, 150)
    assert (booked.amount_nano_usd, booked.overrun_nano_usd) == (150, 140)
    denied = desk.reserve(1)
    assert denied.violations[0].remaining == -50


def test_l3_denied_stays_denied_under_its_id() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(100)
    denied = desk.reserve(50, request_id="again")
    desk.void(hold.reservation_id)
    assert desk.reserve(50, request_id="again") == denied
    assert desk.reserve(50, request_id="fresh").granted


def test_l3_another_payload_under_a_used_id_is_refused() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(10, request_id="id")
    with pytest.raises(RequestIdReused):
        desk.reserve(11, request_id="id")
    with pytest.raises(RequestIdReused):
        desk.reserve(10, request_id="id", payer=ADA._replace(user="eve"))
    desk.commit(hold.reservation_id, 5, request_id="id")
    with pytest.raises(RequestIdReused):
        desk.commit(hold.reservation_id, 6, request_id="id")


def test_request_ids_are_the_organisations_own() -> None:
    desk = Desk([USER_HOUR])
    first = desk.reserve(10, request_id="id")
    second = desk.reserve(20, request_id="id", payer=Payer("globex", "", "bob", "key-9", ""))
    assert second.granted
    assert first.reservation_id != second.reservation_id


def test_reservations_of_others_do_not_exist() -> None:
    desk = Desk()
    hold = desk.reserve(10)
    with pytest.raises(NotFound):
        desk.commit(hold.reservation_id, 5, payer=Payer("globex", "", "bob", "key-9", ""))


def test_l4_a_reservation_ends_once() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(10)
    desk.commit(hold.reservation_id, 5, request_id="first")
    with pytest.raises(ReservationEnded):
        desk.commit(hold.reservation_id, 5)
    with pytest.raises(ReservationEnded):
        desk.void(hold.reservation_id)
    assert desk.commit(hold.reservation_id, 5, request_id="first").amount_nano_usd == 5
    assert desk.used()["USER", "ada"] == (5, 0)


def test_void_releases_all_and_a_second_one_nothing() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(10)
    assert desk.void(hold.reservation_id) == 10
    assert desk.void(hold.reservation_id) == 0
    assert desk.used()["USER", "ada"] == (0, 0)


def test_l7_commit_after_void_is_booked_and_raises_the_alarm() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(10)
    desk.void(hold.reservation_id)
    assert desk.commit(hold.reservation_id, 7).amount_nano_usd == 7
    assert desk.used()["USER", "ada"] == (7, 0)
    assert desk.events.committed_after_voids == [hold.reservation_id]
    assert desk.memory.journal[-1].note == "after-void"


def test_expiry_releases_what_nobody_reported_as_spent() -> None:
    desk = Desk([USER_HOUR])
    desk.reserve(100, ttl_s=30)
    desk.clock.turn(29)
    assert not desk.reserve(1).granted
    desk.clock.turn(1)
    assert desk.reserve(1).granted
    assert desk.events.expiries == [(1, 0)]


def test_expiry_charges_what_was_reported_and_l4_a_late_commit_nets_to_the_actual_amount() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50, ttl_s=30)
    done(desk.ledger.extend(ADA, "e", hold.reservation_id, 0, 20, 30 * MICROSECONDS))
    desk.clock.turn(30)
    assert done(desk.ledger.sweep(10)) == 1
    assert desk.used()["USER", "ada"] == (20, 0)
    booked = desk.commit(hold.reservation_id, 35)
    assert (booked.amount_nano_usd, booked.late) == (35, True)
    assert desk.used()["USER", "ada"] == (35, 0)
    assert sum(p.amount_nano_usd for e in desk.memory.journal for p in e.postings) == 0
    credited = [p for e in desk.memory.journal for p in e.postings if p.account == "provider:unattributed"]
    assert sum(p.amount_nano_usd for p in credited) == 0


def test_a_late_commit_may_cost_less_than_expiry_charged() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50, ttl_s=30)
    done(desk.ledger.extend(ADA, "e", hold.reservation_id, 0, 40, 30 * MICROSECONDS))
    desk.clock.turn(31)
    assert desk.commit(hold.reservation_id, 10).late
    assert desk.used()["USER", "ada"] == (10, 0)


def test_late_depends_on_the_time_and_not_on_the_sweeper() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50, ttl_s=30)
    desk.clock.turn(30)
    assert desk.commit(hold.reservation_id, 10).late


def test_extend_raises_the_hold_and_pushes_the_expiry() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50, ttl_s=30)
    desk.clock.turn(20)
    extended = done(desk.ledger.extend(ADA, "e", hold.reservation_id, 25, 10, 30 * MICROSECONDS))
    assert (extended.granted, extended.reserved_nano_usd) == (True, 75)
    assert extended.expire_us == hold.expire_us + 20 * MICROSECONDS
    desk.clock.turn(29)
    assert not desk.commit(hold.reservation_id, 75).late


def test_a_refused_extension_leaves_the_hold_and_names_every_limit() -> None:
    desk = Desk([USER_HOUR, QUERY])
    hold = desk.reserve(50)
    refused = done(desk.ledger.extend(ADA, "e", hold.reservation_id, 60, 45, 0))
    assert (refused.granted, refused.reserved_nano_usd) == (False, 50)
    found = {v.limit.period: (v.remaining, v.requested) for v in refused.violations}
    assert found == {Period.HOUR: (50, 60), Period.QUERY: (10, 60)}
    assert desk.used()["USER", "ada"] == (0, 50)


def test_extend_never_pulls_the_expiry_in_nor_takes_a_report_back() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50, ttl_s=600)
    done(desk.ledger.extend(ADA, "e1", hold.reservation_id, 0, 30, 60 * MICROSECONDS))
    extended = done(desk.ledger.extend(ADA, "e2", hold.reservation_id, 0, 10, 60 * MICROSECONDS))
    assert extended.expire_us == hold.expire_us
    desk.clock.turn(600)
    done(desk.ledger.sweep(10))
    assert desk.used()["USER", "ada"] == (30, 0)


def test_extend_of_an_ended_hold_is_refused() -> None:
    desk = Desk()
    hold = desk.reserve(50, ttl_s=30)
    desk.clock.turn(30)
    with pytest.raises(ReservationEnded):
        done(desk.ledger.extend(ADA, "e", hold.reservation_id, 1, 0, 0))


def test_usage_counts_in_the_window_of_its_reservation() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50, ttl_s=900)
    desk.clock.turn(2399)
    late_hold = desk.reserve(20, ttl_s=900)
    desk.clock.turn(2)
    desk.commit(late_hold.reservation_id, 20)
    desk.commit(hold.reservation_id, 10)
    starts = sorted((c.key.window_start_s, c.spent_nano_usd) for c in desk.memory.books.counters.values())
    assert [spent for _, spent in starts] == [30]
    assert desk.reserve(100).granted


def test_prices_are_those_of_the_reservation() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50)
    reservation = desk.memory.books.reservations[hold.reservation_id]
    dearer = reservation.terms.prices[0]._replace(output_nano_usd_per_million_tokens=3 * 10**6)
    desk.memory.books.put(reservation._replace(terms=reservation.terms._replace(prices=(dearer,))))
    assert desk.commit(hold.reservation_id, 10).amount_nano_usd == 30


def test_a_model_that_was_not_reserved_is_booked_all_the_same() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50)
    used = [used_tokens(10, 1), used_tokens(10, 2, "double", "other-ai"), used_tokens(10, 3, "unheard-of", "nowhere")]
    booked = done(desk.ledger.commit(ADA, "c", hold.reservation_id, used))
    assert booked.amount_nano_usd == 10 + 20 + 10
    accounts = {p.account: p.amount_nano_usd for p in desk.memory.journal[-1].postings}
    assert accounts == {"key:key-1": 40, "provider:acme-ai": -10, "provider:other-ai": -20, "provider:nowhere": -10}


def test_l13_an_unpriced_model_is_never_admitted_and_the_error_says_what_to_write() -> None:
    desk = Desk([USER_HOUR])
    with pytest.raises(ModelUnpriced) as refused:
        done(desk.ledger.reserve(ADA, "r", [Model("acme-ai", "unit"), Model("acme-ai", "new")], 1, 1, 0))
    assert refused.value.metadata == {"provider": "acme-ai", "model": "new"}
    assert '"acme-ai/new": {input_usd_per_million:' in str(refused.value)
    assert "mesh.yaml" in str(refused.value)


def test_l17_amounts_beyond_64_bits_are_refused_before_they_reach_a_counter() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50)
    huge = UsedTokens(Model("acme-ai", "unit"), Tokens(0, 2**63 - 1), 1)
    with pytest.raises(InvalidRequest) as refused:
        done(desk.ledger.commit(ADA, "c", hold.reservation_id, [huge, huge, huge]))
    assert refused.value.field_violations[0][0] == "lines"
    assert desk.used()["USER", "ada"] == (0, 50)


def test_l17_an_absurd_report_cannot_overflow_a_counter_at_expiry() -> None:
    desk = Desk([USER_HOUR])
    first = desk.reserve(50, ttl_s=30)
    reported = desk.memory.books.reservations[first.reservation_id]
    desk.memory.books.put(reported._replace(spent_so_far_nano_usd=2**63 - 1, dispatched=True))
    other = desk.reserve(20, ttl_s=900)
    desk.clock.turn(31)
    done(desk.ledger.sweep(10))
    spent, held = desk.used()["USER", "ada"]
    assert (spent + held, held) == (2**63 - 1, 20)
    with pytest.raises(InvalidRequest):
        desk.commit(other.reservation_id, 21)


def test_text_that_a_database_cannot_hold_is_the_callers_mistake() -> None:
    desk = Desk()
    with pytest.raises(InvalidRequest):
        desk.reserve(1, request_id="a\0b")
    with pytest.raises(InvalidRequest):
        desk.reserve(1, payer=ADA._replace(user="a\0b"))
    with pytest.raises(InvalidRequest):
        desk.reserve(1, payer=ADA._replace(feature="a\0b"))
    with pytest.raises(InvalidRequest):
        done(desk.ledger.reserve(ADA, "r", [Model("acme-ai", "unit\0")], 0, 1, 0))
    lost = f"{id_bound(desk.clock.ns // 1000)}-lost"
    with pytest.raises(InvalidRequest):
        done(desk.ledger.commit(ADA._replace(feature="a\0b"), "c", lost, [used_tokens(1)], accept_orphan=True))


def test_the_journal_says_everything() -> None:
    desk = Desk([USER_HOUR])
    hold = desk.reserve(50)
    done(desk.ledger.extend(ADA, "e", hold.reservation_id, 10, 5, 0))
    desk.commit(hold.reservation_id, 42)
    desk.void(desk.reserve(1).reservation_id)
    desk.reserve(1, ttl_s=1)
    desk.clock.turn(2)
    done(desk.ledger.sweep(10))
    kinds = [entry.key.kind for entry in desk.memory.journal]
    assert kinds == [Kind.RESERVE, Kind.EXTEND, Kind.COMMIT, Kind.RESERVE, Kind.VOID, Kind.RESERVE, Kind.EXPIRE]
    line = desk.memory.journal[2].lines[0]
    assert (line.amount_nano_usd, line.price_version) == (42, "test/1")
