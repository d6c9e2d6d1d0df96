"""Allotments: what is lent with them is fixed, what comes back is booked whatever happened meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.ledger.adapters.memory import DeclaredPrices
from services.ledger.core.errors import ModelUnpriced, NotFound, RequestIdReused
from services.ledger.core.identities import id_bound
from services.ledger.core.limits import Mode, Payer, Scope, Unit
from services.ledger.core.operations import AllotAnswer, LeaseTerms
from services.ledger.core.prices import Price
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
