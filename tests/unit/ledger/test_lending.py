"""Allotments: what is lent with them is fixed, what comes back is booked whatever happened meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.ledger.adapters.memory import DeclaredPrices
from services.ledger.core.errors import ModelUnpriced, NotFound, RequestIdReused, ReservationEnded
from services.ledger.core.identities import id_bound
from services.ledger.core.limits import Mode, Payer, Scope, Unit
from services.ledger.core.operations import AllotAnswer, CommitAnswer, Kept, LeaseTerms
from services.ledger.core.prices import Price
from services.ledger.core.service import Rules
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, OTHER, UNIT, Desk, count_limit, done, limit, used_tokens

HOUR = limit(Scope.USER, Period.HOUR, 1000)
BOTH = (("acme-ai", "unit"), ("other-ai", "double"))


def lend(desk: Desk, terms: LeaseTerms, request_id: str = "a") -> AllotAnswer:
    return done(desk.ledger.allot(ADA, request_id, 400, 10 * MICROSECONDS, "edge-1", terms))


def reprice(desk: Desk, *prices: Price) -> None:
    """The price list that holds from now on."""
    desk.ledger._prices = DeclaredPrices({(p.provider, p.model): p for p in prices})


def test_l11_what_comes_back_is_booked_at_the_prices_of_the_allotment() -> None:
    desk = Desk([HOUR])
    lent = lend(desk, LeaseTerms(BOTH))
    assert lent.prices == (UNIT, OTHER)
    reprice(desk, UNIT._replace(output_nano_usd_per_million_tokens=9 * 10**6))
    back = done(
        desk.ledger.commit(ADA, "b", lent.allotment_id, [used_tokens(20), used_tokens(3, 1, "double", "other-ai")])
    )
    assert (back.amount_nano_usd, desk.used()["USER", "ada"]) == (20 + 6, (26, 0))


def test_an_unknown_model_that_comes_back_is_booked_at_the_dearest_and_says_so() -> None:
    """It was refused with everything beside it: the provider was paid and the ledger never knew."""
    desk = Desk([HOUR])
    lent = lend(desk, LeaseTerms(BOTH))
    back = done(desk.ledger.commit(ADA, "b", lent.allotment_id, [used_tokens(7, 1, "stranger", "new-ai")]))
    assert back.amount_nano_usd == 14
    [line] = desk.memory.journal[-1].lines
    assert (line.price_version, line.provider) == ("dearest", "new-ai")


def test_l13_nothing_is_lent_for_a_model_without_a_price() -> None:
    desk = Desk([HOUR])
    with pytest.raises(ModelUnpriced):
        lend(desk, LeaseTerms((("new-ai", "stranger"),)))
    assert desk.used() == {}


def test_the_money_stays_held_until_calls_of_the_lease_have_settled() -> None:
    desk = Desk([HOUR])
    lent = lend(desk, LeaseTerms(BOTH, settle_us=30 * MICROSECONDS))
    assert lent.expire_us == desk.clock.ns // 1000 + 10 * MICROSECONDS, "when the replica stops deciding"
    desk.clock.turn(39)
    assert not desk.reserve(601).granted
    back = done(desk.ledger.commit(ADA, "b", lent.allotment_id, [used_tokens(400)]))
    assert (back.late, back.overrun_nano_usd, desk.used()["USER", "ada"]) == (False, 0, (400, 0))


def test_after_that_it_is_free_and_a_return_is_late_but_booked() -> None:
    desk = Desk([HOUR])
    lent = lend(desk, LeaseTerms(BOTH, settle_us=30 * MICROSECONDS))
    desk.clock.turn(40)
    assert desk.reserve(1000).granted
    back = done(desk.ledger.commit(ADA, "b", lent.allotment_id, [used_tokens(300)]))
    assert (back.late, back.amount_nano_usd, desk.used()["USER", "ada"]) == (True, 300, (300, 1000))
    assert (back.overrun_nano_usd, desk.told()[-1:]) == (300, [("OVERRUN", 300)]), "others took it"
    assert not desk.reserve(1).granted, "the overrun blocks the next request"


def test_l3_giving_back_twice_books_once() -> None:
    desk = Desk([HOUR])
    lent = lend(desk, LeaseTerms(BOTH))
    first, again = (done(desk.ledger.commit(ADA, "b", lent.allotment_id, [used_tokens(5)])) for _ in range(2))
    assert (first, desk.used()["USER", "ada"]) == (again, (5, 0))
    with pytest.raises(RequestIdReused):
        done(desk.ledger.commit(ADA, "b", lent.allotment_id, [used_tokens(6)]))


def test_the_same_allotment_with_other_models_is_another_request() -> None:
    desk = Desk([HOUR])
    lend(desk, LeaseTerms(BOTH))
    with pytest.raises(RequestIdReused):
        lend(desk, LeaseTerms(BOTH[:1]))


def test_limits_on_a_query_and_on_anything_but_money_are_told() -> None:
    tight, wide = limit(Scope.USER, Period.QUERY, 40), limit(Scope.ORGANISATION, Period.QUERY, 50)
    shadow = replace(limit(Scope.KEY, Period.QUERY, 3), mode=Mode.SHADOW)
    rate, ignored = count_limit(Unit.REQUESTS, 7), count_limit(Unit.TOKENS, 9, mode=Mode.SHADOW)
    lent = lend(Desk([HOUR, tight, wide, shadow, rate, ignored]), LeaseTerms(BOTH))
    assert (lent.most_per_call_nano_usd, lent.not_lent) == (40, (rate,))
    free = lend(Desk([HOUR]), LeaseTerms(BOTH))
    assert (free.most_per_call_nano_usd, free.not_lent) == (None, ())


def test_an_allotment_that_the_ledger_lost_is_booked_for_its_subject() -> None:
    desk = Desk([HOUR])
    lost = id_bound(desk.clock.ns // 1000) + "-lost"
    with pytest.raises(NotFound):
        done(desk.ledger.commit(Payer("acme", "", "", "", ""), "b", lost, [used_tokens(5)]))
    back = done(desk.ledger.commit(ADA, "b", lost, [used_tokens(5)], accept_orphan=True))
    assert (back.orphan, desk.used()["USER", "ada"]) == (True, (5, 0))


def give_back(desk: Desk, allotment_id: str, *amounts: int, number: int = 0, kept: Kept | None = None) -> CommitAnswer:
    used = [used_tokens(amount) for amount in amounts]
    return done(desk.ledger.commit(ADA, f"{allotment_id}:{number}", allotment_id, used, lent=True, kept=kept))


def test_what_has_ended_is_booked_while_other_calls_run() -> None:
    desk = Desk([HOUR])
    lent = lend(desk, LeaseTerms(BOTH, settle_us=30 * MICROSECONDS))
    part = give_back(desk, lent.allotment_id, 100, 50, kept=Kept(400, 0))
    assert (part.amount_nano_usd, part.overrun_nano_usd, desk.used()["USER", "ada"]) == (150, 0, (150, 250))
    assert give_back(desk, lent.allotment_id, 100, 50, kept=Kept(400, 0)) == part
    give_back(desk, lent.allotment_id, 10, number=1, kept=Kept(60, 0))
    assert desk.used()["USER", "ada"] == (160, 60), "only what the running calls may need"
    last = give_back(desk, lent.allotment_id, 250, number=2)
    assert (last.amount_nano_usd, last.overrun_nano_usd, desk.used()["USER", "ada"]) == (250, 10, (410, 0))
    with pytest.raises(ReservationEnded):
        give_back(desk, lent.allotment_id, 1, number=3, kept=Kept(60, 0))
    postings = [posting for entry in desk.memory.journal for posting in entry.postings]
    assert sum(p.amount_nano_usd for p in postings) == 0
    assert sum(p.amount_nano_usd for p in postings if p.account == "provider:acme-ai") == -410


def test_l8_a_hold_of_which_a_part_came_back_ends_and_what_was_booked_stays() -> None:
    desk = Desk([HOUR])
    lent = lend(desk, LeaseTerms(BOTH, settle_us=30 * MICROSECONDS))
    give_back(desk, lent.allotment_id, 150, kept=Kept(100, 0))
    desk.clock.turn(40)
    desk.sweep()
    assert desk.used()["USER", "ada"] == (150, 0)
    late = give_back(desk, lent.allotment_id, 20, number=1, kept=Kept(100, 900 * MICROSECONDS))
    assert (late.late, late.amount_nano_usd, desk.used()["USER", "ada"]) == (True, 20, (170, 0))
    last = give_back(desk, lent.allotment_id, 30, number=2)
    assert (last.late, last.amount_nano_usd, desk.used()["USER", "ada"]) == (True, 30, (200, 0))
    spent = [entry.spent_delta_nano_usd for entry in desk.memory.journal if entry.reservation_id == lent.allotment_id]
    assert desk.memory.books.reservations[lent.allotment_id].booked_nano_usd == sum(spent), "L2"


def test_a_hold_outlives_its_end_while_parts_of_it_come_back() -> None:
    desk = Desk([HOUR])
    lent = lend(desk, LeaseTerms(BOTH, settle_us=30 * MICROSECONDS))
    desk.clock.turn(39)
    give_back(desk, lent.allotment_id, kept=Kept(100, 30 * MICROSECONDS))
    desk.clock.turn(29)
    assert not desk.reserve(901).granted
    desk.clock.turn(1)
    assert desk.reserve(1000).granted


def test_parts_of_an_allotment_that_the_ledger_lost_are_booked_one_by_one() -> None:
    desk = Desk([HOUR])
    lost = id_bound(desk.clock.ns // 1000) + "-lost"
    for number, (amount, kept) in enumerate(((5, Kept(9, 0)), (5, Kept(9, 0)), (1, None))):
        used = [used_tokens(amount)]
        done(desk.ledger.commit(ADA, f"{number}", lost, used, accept_orphan=True, lent=True, kept=kept))
    assert desk.used()["USER", "ada"] == (11, 0)


def test_idle_leases_keep_no_more_than_their_part_of_a_limit() -> None:
    """A thousand payers that did nothing kept half of the budget, and a call that it covered was denied."""
    desk = Desk([limit(Scope.ORGANISATION, Period.DAY, 100_000, stop=9500)], rules=Rules())
    lent = 0
    for number in range(300):
        payer = Payer("acme", "search", f"end-user-{number}", "key-1", "")
        asked = desk.ledger.allot(payer, f"a{number}", 500, 60 * MICROSECONDS, "edge", LeaseTerms(BOTH))
        lent += done(asked).granted_nano_usd
    assert lent == 19_000, "a fifth of what requests may come to"
    assert desk.reserve(76_000).granted
    assert not desk.reserve(1).granted


def test_l10_what_is_lent_raises_no_alert_and_what_is_spent_of_it_does() -> None:
    desk = Desk([HOUR])
    desk.commit(desk.reserve(700).reservation_id, 700)
    lent = lend(desk, LeaseTerms(BOTH))
    assert (lent.granted_nano_usd, lent.alerts, desk.told()) == (150, (), [])
    part = give_back(desk, lent.allotment_id, 120, kept=Kept(30, 0))
    assert [alert.used_nano_usd for alert in part.alerts] == [850]
    assert give_back(desk, lent.allotment_id, 30, number=1).alerts == (), "once"
    whole = Desk([HOUR])
    whole.commit(whole.reserve(700).reservation_id, 700)
    lent = lend(whole, LeaseTerms(BOTH))
    assert [alert.used_nano_usd for alert in give_back(whole, lent.allotment_id, 120).alerts] == [820]


def test_a_lease_that_comes_back_unused_raises_no_alert() -> None:
    desk = Desk([HOUR])
    desk.commit(desk.reserve(700).reservation_id, 700)
    first, second = lend(desk, LeaseTerms(BOTH)), lend(desk, LeaseTerms(BOTH), "b")
    assert second.granted_nano_usd
    assert give_back(desk, second.allotment_id).alerts == ()
    assert give_back(desk, first.allotment_id).alerts == ()


def test_l14_a_limit_in_shadow_mode_bounds_nothing_that_is_lent() -> None:
    shadow = replace(limit(Scope.USER, Period.DAY, 100), mode=Mode.SHADOW)
    desk = Desk([limit(Scope.ORGANISATION, Period.DAY, 1000), shadow])
    desk.commit(desk.reserve(100).reservation_id, 100)
    # Half of the 900 that the enforced limit leaves; both count what is lent.
    assert done(desk.ledger.allot(ADA, "a", 900, 10 * MICROSECONDS, "edge-1")).granted_nano_usd == 450
    assert desk.used() == {("ORGANISATION", ""): (100, 450), ("USER", "ada"): (100, 450)}
