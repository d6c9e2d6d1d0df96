"""Adjustments and orphans: what is booked without a hold, or after one."""

from __future__ import annotations

import pytest

from services.ledger.core.errors import ModelUnpriced, NotFound, NothingToCorrect, RequestIdReused, ReservationEnded
from services.ledger.core.identities import id_bound
from services.ledger.core.limits import Scope, Unit
from services.ledger.core.operations import CommitAnswer
from services.ledger.core.service import UsedTokens
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, Desk, count_limit, done, limit, used_tokens

HOUR = limit(Scope.USER, Period.HOUR, 100)


def test_l12_refunds_never_exceed_what_was_booked() -> None:
    desk = Desk([HOUR])
    hold = desk.reserve(50).reservation_id
    desk.commit(hold, 40)
    assert desk.adjust(hold, -30) == 10
    with pytest.raises(NothingToCorrect):
        desk.adjust(hold, -11)
    assert desk.adjust(hold, -10) == 0
    assert desk.used()["USER", "ada"] == (0, 0)


def test_lago_5870_the_same_correction_twice_is_booked_once() -> None:
    """Also getlago/lago-api#3618: a repeated request was decided again."""
    desk = Desk([HOUR])
    hold = desk.reserve(50).reservation_id
    desk.commit(hold, 40)
    assert [desk.adjust(hold, -15, request_id="a"), desk.adjust(hold, -15, request_id="a")] == [25, 25]
    with pytest.raises(RequestIdReused):
        desk.adjust(hold, -16, request_id="a")
    assert desk.used()["USER", "ada"] == (25, 0)


def test_a_dearer_invoice_is_booked_and_alerts() -> None:
    desk = Desk([HOUR])
    hold = desk.reserve(50).reservation_id
    desk.commit(hold, 40)
    assert desk.adjust(hold, 45, "reseller") == 85
    assert [alert.used_nano_usd for alert in desk.events.alerts] == [85]
    entry = desk.memory.journal[-1]
    assert [tuple(p) for p in entry.postings] == [("key:key-1", 45), ("provider:reseller", -45)]
    assert not desk.reserve(20).granted


def test_the_other_side_is_whom_the_first_line_paid() -> None:
    desk = Desk([HOUR])
    hold = desk.reserve(50).reservation_id
    done(desk.ledger.commit(ADA, "c", hold, [used_tokens(4, 1, "double", "other-ai"), used_tokens(9, 2)]))
    desk.adjust(hold, -5)
    assert desk.memory.journal[-1].postings[1].account == "provider:other-ai"


def test_what_was_not_booked_cannot_be_corrected() -> None:
    desk = Desk([HOUR])
    held, voided = desk.reserve(10).reservation_id, desk.reserve(10).reservation_id
    desk.void(voided)
    for reservation_id in (held, voided):
        with pytest.raises(NothingToCorrect):
            desk.adjust(reservation_id, 5)
    with pytest.raises(NotFound):
        desk.adjust("nowhere", 5)


def test_a_corrected_expiry_still_nets_to_its_late_commit() -> None:
    desk = Desk([HOUR])
    hold = desk.reserve(50, ttl_s=30).reservation_id
    done(desk.ledger.extend(ADA, "e", hold, 0, 30, 0))
    desk.clock.turn(61)
    desk.sweep()
    assert desk.adjust(hold, -10, "acme-ai") == 20
    desk.commit(hold, 26)
    assert desk.used()["USER", "ada"] == (26, 0)
    accounts: dict[str, int] = {}
    for entry in desk.memory.journal:
        for account, amount in entry.postings:
            accounts[account] = accounts.get(account, 0) + amount
    assert accounts == {"key:key-1": 26, "provider:unattributed": 0, "provider:acme-ai": -26}


def lost(desk: Desk, seconds_ago: float = 5, name: str = "lost") -> str:
    return id_bound(desk.clock.ns // 1000 - int(seconds_ago * MICROSECONDS)) + f"-{name}"


def orphan(desk: Desk, reservation_id: str, used: list[UsedTokens], request_id: str = "o") -> CommitAnswer:
    return done(desk.ledger.commit(ADA, request_id, reservation_id, used, accept_orphan=True))


def test_an_orphan_is_booked_said_and_ended() -> None:
    desk = Desk([HOUR, count_limit(Unit.TOKENS, 100)])
    booked = orphan(desk, lost(desk), [used_tokens(90)])
    assert (booked.orphan, booked.amount_nano_usd, booked.overrun_nano_usd) == (True, 90, 90)
    assert desk.used()["USER", "ada"] == (90, 0)
    assert desk.events.orphans == [lost(desk)]
    assert desk.told() == [("ORPHAN_COMMIT", 90), ("ALERT", 90)]
    assert {v.limit.unit for v in desk.reserve(20).violations} == {Unit.MONEY, Unit.TOKENS}
    assert orphan(desk, lost(desk), [used_tokens(90)]) == booked
    with pytest.raises(ReservationEnded):
        orphan(desk, lost(desk), [used_tokens(90)], "o2")
    assert desk.adjust(lost(desk), -60) == 30


def test_a_known_reservation_is_no_orphan() -> None:
    desk = Desk([HOUR])
    hold = desk.reserve(50).reservation_id
    assert not orphan(desk, hold, [used_tokens(10)]).orphan


def test_only_young_ids_of_ours_can_be_orphans() -> None:
    """One that could have been booked and forgotten would be booked twice."""
    desk = Desk([HOUR])
    for reservation_id in (
        "made-up",
        "",
        lost(desk, 8 * 86_400),
        lost(desk, -3600),
        lost(desk, -120),
        id_bound(desk.clock.ns // 1000),
    ):
        with pytest.raises(NotFound):
            orphan(desk, reservation_id, [used_tokens(1)])
    with pytest.raises(NotFound):
        desk.commit(lost(desk), 1)


def test_another_organisations_reservation_is_no_orphan() -> None:
    desk = Desk([HOUR])
    hold = desk.reserve(50).reservation_id
    stranger = ADA._replace(organisation="globex")
    with pytest.raises(NotFound):
        done(desk.ledger.commit(stranger, "o", hold, [used_tokens(1)], accept_orphan=True))


def test_an_orphan_of_an_unknown_model_has_no_price() -> None:
    desk = Desk([HOUR])
    with pytest.raises(ModelUnpriced):
        orphan(desk, lost(desk), [used_tokens(1, 1, "unheard-of", "nowhere")])
