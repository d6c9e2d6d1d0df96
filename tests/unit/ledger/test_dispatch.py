"""What the end of a forgotten hold means: it depends on whether its call was sent, and on the tenant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.ledger.core.errors import NotFound
from services.ledger.core.limits import Mode, Scope, Unit
from services.ledger.core.operations import OnExpiry
from services.ledger.core.service import Model, Rules
from services.ledger.core.windows import MICROSECONDS, Period
from tests.unit.ledger.builders import ADA, Desk, count_limit, done, limit

HOUR = limit(Scope.USER, Period.HOUR, 1000)


def hold_of(desk: Desk, read: int = 40, written: int = 60, request_id: str = "r") -> str:
    """A hold on a model whose input costs as well."""
    models = [Model("acme-ai", "read")]
    return done(desk.ledger.reserve(ADA, request_id, models, read, written, 30 * MICROSECONDS)).reservation_id


def after_expiry(desk: Desk) -> tuple[int, int]:
    desk.clock.turn(31)
    desk.sweep()
    return desk.used()["USER", "ada"]


def test_a_hold_that_was_never_sent_is_released() -> None:
    desk = Desk([HOUR])
    hold_of(desk)
    assert after_expiry(desk) == (0, 0)
    assert desk.told() == []


@pytest.mark.parametrize(
    ("policy", "charged"), [(OnExpiry.CHARGE_KNOWN, 40), (OnExpiry.CHARGE_ALL, 100), (OnExpiry.RELEASE, 0)]
)
def test_a_sent_hold_is_charged_as_its_tenant_wants(policy: OnExpiry, charged: int) -> None:
    desk = Desk([HOUR], rules=Rules(on_expiry=OnExpiry.RELEASE, on_expiry_of={"acme": policy}))
    assert desk.dispatch(hold_of(desk))
    assert after_expiry(desk) == (charged, 0)
    assert desk.told() == ([("EXPIRED_CHARGED", charged)] if charged else [])


@pytest.mark.parametrize(("reported", "charged"), [(10, 40), (70, 70), (130, 130)])
def test_what_was_reported_is_charged_but_at_least_the_input(reported: int, charged: int) -> None:
    desk = Desk([HOUR])
    done(desk.ledger.extend(ADA, "e", hold_of(desk), 0, reported, 30 * MICROSECONDS))
    assert after_expiry(desk) == (charged, 0)


def test_the_policy_is_that_of_the_reservation() -> None:
    """L11: who changes the configuration meanwhile does not change what was agreed."""
    desk = Desk([HOUR], rules=Rules(on_expiry=OnExpiry.CHARGE_ALL))
    desk.dispatch(hold_of(desk))
    desk.ledger._rules = Rules(on_expiry=OnExpiry.RELEASE)
    assert after_expiry(desk) == (100, 0)


def test_l4_a_late_commit_nets_to_the_actual_amount() -> None:
    desk = Desk([HOUR])
    hold = hold_of(desk)
    desk.dispatch(hold)
    assert after_expiry(desk) == (40, 0)
    booked = desk.commit(hold, 25)
    assert (booked.late, booked.amount_nano_usd) == (True, 25)
    assert desk.used()["USER", "ada"] == (25, 0)


def test_dispatch_changes_no_counter_and_is_remembered() -> None:
    desk = Desk([HOUR])
    hold = hold_of(desk)
    before = dict(desk.memory.books.counters)
    assert [desk.dispatch(hold, "d"), desk.dispatch(hold, "d"), desk.dispatch(hold, "d2")] == [True, True, True]
    assert desk.memory.books.counters == before
    desk.commit(hold, 5)
    assert desk.dispatch(hold, "d3") is False
    with pytest.raises(NotFound):
        desk.dispatch("nowhere")


def test_a_commit_after_void_is_said() -> None:
    desk = Desk([HOUR])
    hold = hold_of(desk)
    desk.void(hold)
    assert desk.commit(hold, 7).after_void
    assert desk.told() == [("COMMIT_AFTER_VOID", 7)]
    assert desk.used()["USER", "ada"] == (7, 0)


@pytest.mark.parametrize("policy", list(OnExpiry))
def test_l4_what_expiry_charged_for_a_call_that_was_not_executed_comes_back(policy: OnExpiry) -> None:
    """The provider refused it, and the ledger was away until the hold had ended: the charge stayed."""
    limits = [HOUR, count_limit(Unit.REQUESTS, 1), count_limit(Unit.TOKENS, 100), count_limit(Unit.CONCURRENCY, 1)]
    desk = Desk(limits, rules=Rules(on_expiry=policy))
    hold = hold_of(desk)
    desk.dispatch(hold)
    charged, _ = after_expiry(desk)
    assert desk.void(hold, "v") == charged
    assert desk.used()["USER", "ada"] == (0, 0)
    assert [sum(p.amount_nano_usd for p in e.postings) for e in desk.memory.journal] == [0] * len(desk.memory.journal)
    assert [desk.void(hold, "v"), desk.void(hold, "v2")] == [charged, 0], "L3, L4"
    assert hold_of(desk, request_id="again"), "rates and the place are free again"


def test_a_call_that_was_executed_after_such_a_void_is_booked() -> None:
    desk = Desk([HOUR])
    hold = hold_of(desk)
    desk.dispatch(hold)
    after_expiry(desk)
    desk.void(hold)
    assert desk.commit(hold, 7).after_void
    assert desk.used()["USER", "ada"] == (7, 0)


def test_a_late_void_takes_a_correction_of_the_charge_back_too() -> None:
    desk = Desk([HOUR])
    hold = hold_of(desk)
    desk.dispatch(hold)
    after_expiry(desk)
    desk.adjust(hold, -10, "acme-ai")
    assert (desk.void(hold), desk.used()["USER", "ada"]) == (30, (0, 0))


@pytest.mark.parametrize(("stop", "cap", "overrun"), [(10_000, 100, 40), (5000, 100, 60), (10_000, 200, 0)])
def test_l1_a_late_commit_that_finds_its_money_taken_is_an_overrun(stop: int, cap: int, overrun: int) -> None:
    """It passed the line without a word: what was recorded as overruns did not explain what was spent."""
    desk = Desk([limit(Scope.USER, Period.HOUR, cap, stop=stop), limit(Scope.ORGANISATION, Period.DAY, 10**6)])
    first = desk.reserve(50, ttl_s=30).reservation_id
    desk.clock.turn(31)
    assert desk.reserve(50 if stop < 10_000 else 80).granted
    booked = desk.commit(first, 60)
    assert (booked.late, booked.overrun_nano_usd) == (True, max(overrun, 10))
    assert ("OVERRUN", max(overrun, 10)) in desk.told()


def test_a_late_commit_in_shadow_or_without_limits_overruns_its_hold_alone() -> None:
    desk = Desk([replace(limit(Scope.USER, Period.HOUR, 10), mode=Mode.SHADOW)])
    first = desk.reserve(50, ttl_s=30).reservation_id
    desk.clock.turn(31)
    assert desk.commit(first, 50).overrun_nano_usd == 0
